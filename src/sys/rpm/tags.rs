//! A header's entries as they stand in the file. Strings stay bytes: the `rpm` crate replaces what is no UTF-8, and
//! repository metadata has to say it.

use std::collections::BTreeMap;
use std::io::{Read, Result, Seek, SeekFrom};

use super::vet::{self, lie};

/// The entries of one header. [`vet::vet`] has looked at it before.
#[derive(Debug, Default)]
pub struct Tags {
    entries: BTreeMap<u32, Entry>,
    data: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u32,
    offset: usize,
    count: usize,
}

/// Both headers of an RPM, and where the second one lies.
#[derive(Debug)]
pub struct Headers {
    pub signature: Tags,
    pub header: Tags,
    /// Offset of the header's first byte, and of the first one after it, which is the payload's.
    pub start: u64,
    pub end: u64,
}

const LEAD: u64 = 96;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// Reads the headers of an RPM of `size` bytes.
pub fn read(input: &mut (impl Read + Seek), size: u64) -> Result<Headers> {
    input.seek(SeekFrom::Start(0))?;
    vet::vet(input, size)?;
    input.seek(SeekFrom::Start(LEAD))?;
    let signature = Tags::read(input)?;
    let padding = (signature.data.len() as u64).wrapping_neg() % 8;
    let start = input.seek(SeekFrom::Current(i64::try_from(padding).unwrap_or_default()))?;
    let header = Tags::read(input)?;
    let end = input.stream_position()?;
    Ok(Headers { signature, header, start, end })
}

impl Tags {
    fn read(input: &mut impl Read) -> Result<Tags> {
        let mut head = [0; 16];
        input.read_exact(&mut head)?;
        let (count, length) = (number(&head[8..12]), number(&head[12..16]));
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let mut entry = [0; 16];
            input.read_exact(&mut entry)?;
            let [tag, kind, offset, count] = [0, 4, 8, 12].map(|at| number(&entry[at..at + 4]));
            let entry = Entry { kind, offset: offset as usize, count: count as usize };
            // Of a tag that is there twice librpm finds one; which, is its secret.
            entries.entry(tag).or_insert(entry);
        }
        let mut data = vec![0; length as usize];
        input.read_exact(&mut data)?;
        Ok(Tags { entries, data })
    }

    pub fn has(&self, tag: u32) -> bool {
        self.entries.contains_key(&tag)
    }

    /// The numbers of an entry, whatever their width; none where there is no such entry, or one of another kind.
    pub fn numbers(&self, tag: u32) -> Vec<u64> {
        let Some(entry) = self.entries.get(&tag) else { return Vec::new() };
        let width = match entry.kind {
            1 | 2 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            _ => return Vec::new(),
        };
        let bytes = self.data.get(entry.offset..).unwrap_or_default();
        let value = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        bytes.chunks_exact(width).take(entry.count).map(value).collect()
    }

    pub fn number(&self, tag: u32) -> Option<u64> {
        self.numbers(tag).first().copied()
    }

    /// The strings of an entry; none where there is no such entry, or one of another kind.
    pub fn strings(&self, tag: u32) -> Result<Vec<&[u8]>> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(Vec::new()) };
        if !matches!(entry.kind, STRING | STRING_ARRAY | I18N_STRING) {
            return Ok(Vec::new());
        }
        let mut rest = self.data.get(entry.offset..).unwrap_or_default();
        let mut found = Vec::with_capacity(entry.count.min(rest.len()));
        for _ in 0..entry.count {
            let end = rest.iter().position(|byte| *byte == 0);
            let end = end.ok_or_else(|| lie("a string of a header has no end"))?;
            found.push(&rest[..end]);
            rest = &rest[end + 1..];
        }
        Ok(found)
    }

    /// The first string of an entry; of one in several languages, the one that is in none.
    pub fn string(&self, tag: u32) -> Result<&[u8]> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(b"") };
        if !matches!(entry.kind, STRING | STRING_ARRAY | I18N_STRING) || entry.count == 0 {
            return Ok(b"");
        }
        let bytes = self.data.get(entry.offset..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0);
        end.map(|end| &bytes[..end]).ok_or_else(|| lie("a string of a header has no end"))
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
