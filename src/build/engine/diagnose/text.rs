//! Logs as text: their end, their lines, and the part of the spec that a line belongs to.

use std::borrow::Cow;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of a log is looked at, however long it is: an error can be a hundred thousand lines before the end.
pub const TAIL: u64 = 16 << 20;
const LONGEST_LINE: usize = 300;
pub const MOST_LINES: usize = 5;

/// What rpmbuild prints before it runs a part of a spec: `Executing(%build): /bin/sh -e /var/tmp/rpm-tmp.x`.
const PART: &str = "Executing(%";
/// What it prints when it begins to make a package.
const PACKING: &str = "Processing files: ";

/// The end of a log past `from`, with what is no text replaced. An unreadable log is an empty one.
pub fn read_tail(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        // One that was shortened since has its end where it has it.
        let from = if from > length { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The beginning of a log, likewise.
pub fn read_head(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|file| file.take(TAIL).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A log's lines, without escape sequences and control characters. A progress bar's states are lines, too.
pub fn lines(text: &str) -> impl DoubleEndedIterator<Item = Cow<'_, str>> {
    text.split(['\n', '\r']).map(plain)
}

fn plain(line: &str) -> Cow<'_, str> {
    let line = line.trim_end();
    if !line.contains(char::is_control) {
        return Cow::Borrowed(line);
    }
    let text: String = console::strip_ansi_codes(line)
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    Cow::Owned(text.trim_end().to_owned())
}

/// A line as it may be shown: plain, and not too long.
pub fn clean(line: &str) -> String {
    fit(&plain(line), 0)
}

/// A line of a length that may be shown, with what begins at byte `at` in sight.
pub fn fit(line: &str, at: usize) -> String {
    let longest = |text: &str| -> String {
        if text.chars().count() <= LONGEST_LINE {
            return text.to_owned();
        }
        text.chars().take(LONGEST_LINE - 1).chain(['…']).collect()
    };
    let before = line.get(..at).map_or(0, |before| before.chars().count());
    if before < LONGEST_LINE / 2 || line.chars().count() <= LONGEST_LINE {
        return longest(line);
    }
    longest(&['…'].into_iter().chain(line.chars().skip(before - LONGEST_LINE / 4)).collect::<String>())
}

/// The last part of the spec that a log saw begin; `package` is what comes after the last of them.
pub fn last_part(tail: &str) -> Option<String> {
    let begun = |mark: &str| {
        let at = if tail.starts_with(mark) { Some(0) } else { None };
        tail.rfind(&format!("\n{mark}")).map(|at| at + 1).or(at)
    };
    let (part, packing) = (begun(PART), begun(PACKING));
    if packing > part {
        return Some("package".to_owned());
    }
    let (part, _) = tail[part? + PART.len()..].split_once(')')?;
    part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| part.to_owned())
}

/// The last line of a log that says what was being done.
pub fn last_said(tail: &str) -> Option<String> {
    last_lines(tail, 1).pop()
}

/// The last few lines of a log that say something.
pub fn last_lines(tail: &str, most: usize) -> Vec<String> {
    let said = tail.rsplit(['\n', '\r']).map(clean).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = said.take(most).collect();
    lines.reverse();
    lines
}

/// The output of the last part of the spec that was run, without rpmbuild's summary after it.
pub fn part_of<'a>(tail: &'a str, part: Option<&str>) -> &'a str {
    let from = part.and_then(|_| tail.rfind("\nExecuting(%")).map_or(0, |at| at + 1);
    body(&tail[from..])
}

/// A log without rpmbuild's summary at its end.
pub fn body(text: &str) -> &str {
    let summary = ["RPM build errors:", "RPM build warnings:"].iter().filter_map(|title| {
        let at = text.rfind(title)?;
        (at == 0 || text[..at].ends_with('\n')).then_some(at)
    });
    &text[..summary.min().unwrap_or(text.len())]
}

/// rpmbuild's own last words about a part that failed.
pub fn epilogue(line: &str) -> bool {
    line.starts_with("error: Bad exit status from ") || line.starts_with("Bad exit status from ")
}

/// The first few, each once.
pub fn distinct(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for line in lines {
        if kept.len() < MOST_LINES && !line.is_empty() && !kept.contains(&line) {
            kept.push(line);
        }
    }
    kept
}
