//! Logs that stay short, whatever is written to them: past a limit a log keeps its beginning and its end, and a line
//! between them that says how much was left out. Done in place, while it is written, in pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Room for the line, whose length must not depend on the number in it.
const MARK: usize = 80;
const PIECE: usize = 1 << 16;

/// Leaves out the middle of a log: a quarter of `limit` stays at its beginning, a quarter at its end. Returns its
/// new length. `file` must be open to read and write, and not to append.
pub fn shorten(file: &File, limit: u64) -> io::Result<u64> {
    let (length, kept, mark) = (file.metadata()?.len(), limit / 4, MARK as u64);
    if length <= 2 * kept + mark {
        return Ok(length);
    }
    let before = left_out(file, kept)?;
    let middle = kept + if before > 0 { mark } else { 0 };
    let tail = length - kept;
    file.write_all_at(&line(before + (tail - middle)), kept)?;
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < kept {
        let read = file.read_at(&mut buffer, tail + done)?;
        if read == 0 {
            break;
        }
        file.write_all_at(&buffer[..read], kept + mark + done)?;
        done += read as u64;
    }
    file.set_len(kept + mark + done)?;
    Ok(kept + mark + done)
}

/// `\n`, the line filled up with blanks, `\n`.
fn line(bytes: u64) -> Vec<u8> {
    let said = format!("{BEGIN}{bytes} bytes of this log are left out here (log_limit)]");
    format!("\n{said:<width$}\n", width = MARK - 2).into_bytes()
}

const BEGIN: &str = "[reimzul: ";

/// How much was left out by former calls, if there were any. A build can print such a line where it counts, and so
/// make us count wrong.
fn left_out(file: &File, at: u64) -> io::Result<u64> {
    let mut found = [0; MARK];
    file.read_exact_at(&mut found, at)?;
    let number = || {
        let rest = std::str::from_utf8(&found).ok()?.strip_prefix('\n')?.strip_prefix(BEGIN)?;
        rest.split_once(' ')?.0.parse::<u64>().ok()
    };
    // One that no file can have leaves room for the sum.
    Ok(number().filter(|number| *number < 1 << 60).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    fn text(file: &mut File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn both_ends_stay_and_the_line_between_counts_the_rest() {
        let mut file = tempfile::tempfile().unwrap();
        let limit = 4000;
        let mut written = 0;
        for n in 0..2000 {
            let line = format!("line {n}\n");
            written += line.len();
            file.seek(io::SeekFrom::End(0)).unwrap();
            file.write_all(line.as_bytes()).unwrap();
            if file.metadata().unwrap().len() > limit {
                assert_eq!(shorten(&file, limit).unwrap(), file.metadata().unwrap().len());
            }
            assert!(file.metadata().unwrap().len() <= limit);
        }
        let text = text(&mut file);
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("line 1998\nline 1999\n"));
        let marks: Vec<&str> = text.lines().filter(|line| line.starts_with(BEGIN)).collect();
        let [mark] = marks.as_slice() else { panic!("{marks:?}") };
        let number: usize = mark[BEGIN.len()..].split(' ').next().unwrap().parse().unwrap();
        assert_eq!(number, written - (text.len() - MARK), "{mark}");
    }

    #[test]
    fn a_short_log_stays_as_it_is_and_a_forged_line_does_no_harm() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short\n").unwrap();
        shorten(&file, 4000).unwrap();
        assert_eq!(text(&mut file), "short\n");
        file.write_all(&[b'x'; 994]).unwrap();
        file.write_all(format!("\n{BEGIN}{} ", u64::MAX).as_bytes()).unwrap();
        file.write_all(&[b'y'; 5000]).unwrap();
        shorten(&file, 4000).unwrap();
        assert!(text(&mut file).contains(" bytes of this log are left out here"));
    }
}
