//! The newest entries of a package's changelog.

use std::io;

use crate::sys::rpm::Tags;

/// What an entry of the changelog says.
#[derive(Debug)]
pub struct Entry<'a> {
    pub author: &'a [u8],
    /// Seconds since 1970; entries of one time are told apart by a second each.
    pub date: i64,
    pub text: &'a [u8],
}

const TIME: u32 = 1080;
const NAME: u32 = 1081;
const TEXT: u32 = 1082;
/// createrepo_c's `--changelog-limit`.
const MOST: usize = 10;

/// The newest, the oldest of them first.
pub fn of(header: &Tags) -> io::Result<Vec<Entry<'_>>> {
    let (times, names, texts) = (header.numbers(TIME), header.strings(NAME)?, header.strings(TEXT)?);
    let all = times.into_iter().zip(names).zip(texts).take(MOST);
    let mut entries: Vec<Entry> = Vec::new();
    let mut last = 0;
    for ((time, author), text) in all {
        let time = i64::try_from(time).unwrap_or_default();
        if time == last {
            set_apart(&mut entries, time);
        }
        last = time;
        entries.push(Entry { author: trimmed(author), date: time, text });
    }
    entries.reverse();
    Ok(entries)
}

/// Entries stand newest first: those of one time before the next of it move on by a second each.
fn set_apart(entries: &mut [Entry], time: i64) {
    for (next, entry) in (time..).zip(entries.iter_mut().rev()) {
        if entry.date != next {
            break;
        }
        entry.date += 1;
    }
}

/// Without blanks at the end; the first byte stays.
fn trimmed(author: &[u8]) -> &[u8] {
    let length = author.iter().rposition(|byte| *byte != b' ').map_or(1, |last| last + 1);
    &author[..length.min(author.len())]
}
