//! Checks what the `rpm` crate trusts: it slices by the offsets and reserves by the counts that a header names,
//! and so panics, or takes all memory, on one that lies. librpm checks the same (`hdrblobVerifyInfo`).

use std::io::{Error, ErrorKind, Read, Result};

const LEAD: u64 = 96;
pub const LEAD_SIZE: usize = 96;
const ENTRY: u64 = 16;

/// librpm's own limits of a header (`hdrblobRead`): entries, and bytes of data.
const MOST_ENTRIES: u64 = 0xffff;
const MOST_DATA: u64 = 0x0fff_ffff;
/// Strings of a header: each takes many times the byte that an empty one has in the file. The largest packages
/// there are hold some hundred thousand files.
const MOST_STRINGS: u64 = 8 << 20;

/// Reads the lead and both headers of an RPM of `size` bytes.
pub fn vet(input: &mut impl Read, size: u64) -> Result<()> {
    skip(input, LEAD)?;
    let signature = header(input, size)?;
    // The signature header's data is filled up to eight bytes.
    skip(input, signature.wrapping_neg() % 8)?;
    header(input, size)?;
    Ok(())
}

/// One header; returns the length of its data.
fn header(input: &mut impl Read, size: u64) -> Result<u64> {
    let head: [u8; 16] = read(input)?;
    let (count, length) = (number(&head, 8), number(&head, 12));
    if count * ENTRY + length > size {
        return Err(lie("a header is larger than the file"));
    }
    if count > MOST_ENTRIES || length > MOST_DATA {
        return Err(lie("a header is larger than any RPM's"));
    }
    let (mut used, mut strings) = (0, 0);
    for _ in 0..count {
        let entry: [u8; 16] = read(input)?;
        let (kind, offset, items) = (number(&entry, 4), number(&entry, 8), number(&entry, 12));
        let bytes = width(kind).ok_or_else(|| lie("a header has an entry of an unknown type"))? * items;
        used += bytes;
        strings += if matches!(kind, STRING_ARRAY | I18N_STRING) { items } else { 0 };
        if offset + bytes > length {
            return Err(lie("an entry of a header lies outside of it"));
        }
    }
    // Entries do not share their data; where they do, what they hold is many times the file.
    if used > length {
        return Err(lie("the entries of a header hold more than it has"));
    }
    if strings > MOST_STRINGS {
        return Err(lie("a header holds more strings than any RPM's"));
    }
    skip(input, length)?;
    Ok(length)
}

const STRING_ARRAY: u64 = 8;
const I18N_STRING: u64 = 9;

/// The least number of bytes of an item. A string has at least its end.
fn width(kind: u64) -> Option<u64> {
    match kind {
        // Null
        0 => Some(0),
        // Char, Int8, String, Bin, StringArray, I18NString
        1 | 2 | 6 | 7 | STRING_ARRAY | I18N_STRING => Some(1),
        // Int16, Int32, Int64
        3 => Some(2),
        4 => Some(4),
        5 => Some(8),
        _ => None,
    }
}

fn number(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from(u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

fn read(input: &mut impl Read) -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(input: &mut impl Read, bytes: u64) -> Result<()> {
    let skipped = std::io::copy(&mut input.take(bytes), &mut std::io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

pub(super) fn lie(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
