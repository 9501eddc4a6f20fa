//! What of an RPM is signed, and an RPM with signatures put in.
//!
//! Signatures lie in the signature header, before the header and the payload, which stay as they are (rpm's
//! `docs/manual/format.md`). They are of the header, which holds a digest of the payload; or, where it holds none
//! (rpm before 4.14), of header and payload as well.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rpm::IndexTag;

use super::{Rpm, RpmError, not_an_rpm, vet};
use crate::sys::fs::FileError;

/// What of an RPM is to be signed.
#[derive(Debug)]
pub struct Signable {
    /// The header as it is in the file: what every signature is of.
    pub header: Vec<u8>,
    /// Where it begins in the file. All from there on is to be signed as well if `whole`.
    pub at: u64,
    pub whole: bool,
}

/// OpenPGP signature packets for an RPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    pub header: Vec<u8>,
    pub whole: Option<Vec<u8>>,
}

/// What is to be signed of the RPM at `path`.
pub fn signable(path: &Path) -> Result<Signable, RpmError> {
    let rpm = Rpm::open(path)?;
    rpm.check_size()?;
    let offsets = rpm.metadata.get_package_segment_offsets();
    let header = rpm.metadata.header.get_entry_data_as_string_array(IndexTag::RPMTAG_PAYLOADSHA256);
    let whole = header.map_or(true, |digests| digests.is_empty());
    let mut file = &rpm.file;
    let mut header = vec![0; usize::try_from(offsets.payload - offsets.header).unwrap_or_default()];
    file.seek(SeekFrom::Start(offsets.header))
        .and_then(|_| file.read_exact(&mut header))
        .map_err(FileError::at("read", path))?;
    Ok(Signable { header, at: offsets.header, whole })
}

/// Writes the RPM `built` to `to`, a new file, with these signatures and no others.
pub fn write_signed(built: &Path, to: &Path, signatures: &Signatures) -> Result<(), RpmError> {
    let rpm = Rpm::open(built)?;
    rpm.check_size()?;
    let at = rpm.metadata.get_package_segment_offsets().header;
    let (mut file, _) = rpm.into_file().map_err(FileError::at("read", built))?;
    let mut front = vec![0; usize::try_from(at).unwrap_or_default()];
    file.read_exact(&mut front).map_err(FileError::at("read", built))?;
    let damaged = || not_an_rpm(built, &io::Error::other("its signature header is damaged").into());
    let header = Entries::parse(&front[vet::LEAD_SIZE..])
        .ok_or_else(damaged)?
        .signed(signatures)
        .ok_or_else(damaged)?;
    let mut write = || -> io::Result<()> {
        let mut out = File::options().write(true).create_new(true).open(to)?;
        out.write_all(&front[..vet::LEAD_SIZE])?;
        out.write_all(&header)?;
        io::copy(&mut file, &mut out)?;
        out.sync_all()
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(to);
        FileError::at("write", to)(error).into()
    })
}

/// The magic of a header, its version, and four bytes that are reserved.
const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
const ENTRY: usize = 16;

/// Tags of a signature header (rpm's rpmtag.h). The region names what belongs to it: all.
const REGION: u32 = 62;
const DSA_HEADER: u32 = 267;
const RSA_HEADER: u32 = 268;
const OPENPGP: u32 = 278;
const RESERVED: u32 = 999;
const PGP: u32 = 1002;
const GPG: u32 = 1005;
const PGP5: u32 = 1006;
const RESERVED_SPACE: u32 = 1008;
/// Former signatures, and the room that was left for them.
const REPLACED: [u32; 9] =
    [REGION, DSA_HEADER, RSA_HEADER, OPENPGP, RESERVED, PGP, GPG, PGP5, RESERVED_SPACE];
const BINARY: u32 = 7;

/// The entries of a header.
struct Entries(Vec<Entry>);

struct Entry {
    tag: u32,
    kind: u32,
    count: u32,
    data: Vec<u8>,
}

impl Entries {
    fn parse(bytes: &[u8]) -> Option<Entries> {
        let entries = number(bytes, 8)? as usize;
        let length = number(bytes, 12)? as usize;
        let (index, rest) = bytes.get(16..)?.split_at_checked(entries.checked_mul(ENTRY)?)?;
        let store = rest.get(..length)?;
        let entry = |raw: &[u8]| {
            let (kind, count) = (number(raw, 4)?, number(raw, 12)?);
            let from = store.get(number(raw, 8)? as usize..)?;
            let data = from.get(..size(kind, count, from)?)?.to_vec();
            Some(Entry { tag: number(raw, 0)?, kind, count, data })
        };
        index.chunks_exact(ENTRY).map(entry).collect::<Option<_>>().map(Entries)
    }

    /// The header anew, with these signatures, filled up to eight bytes as it stands in a file.
    fn signed(mut self, signatures: &Signatures) -> Option<Vec<u8>> {
        self.0.retain(|entry| !REPLACED.contains(&entry.tag));
        let is_rsa = is_rsa(&signatures.header)?;
        let binary = |tag, data: &Vec<u8>| {
            Some(Entry { tag, kind: BINARY, count: u32::try_from(data.len()).ok()?, data: data.clone() })
        };
        self.0.push(binary(if is_rsa { RSA_HEADER } else { DSA_HEADER }, &signatures.header)?);
        if let Some(whole) = &signatures.whole {
            self.0.push(binary(if is_rsa { PGP } else { GPG }, whole)?);
        }
        self.0.sort_by_key(|entry| entry.tag);
        self.to_bytes()
    }

    /// In one region: its entry comes first in the index, its trailer last in the store.
    fn to_bytes(&self) -> Option<Vec<u8>> {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for entry in &self.0 {
            store.resize(usize::next_multiple_of(store.len(), alignment(entry.kind)), 0);
            index.extend(row(entry.tag, entry.kind, u32::try_from(store.len()).ok()?, entry.count));
            store.extend(&entry.data);
        }
        let count = u32::try_from(self.0.len()).ok()? + 1;
        let trailer = u32::try_from(store.len()).ok()?;
        // Its offset leads back over the index: it is negative.
        store.extend(row(REGION, BINARY, count.checked_mul(16)?.wrapping_neg(), 16));
        let mut bytes = MAGIC.to_vec();
        bytes.extend(count.to_be_bytes());
        bytes.extend(u32::try_from(store.len()).ok()?.to_be_bytes());
        bytes.extend(row(REGION, BINARY, trailer, 16));
        bytes.extend(index);
        bytes.extend(store);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Some(bytes)
    }
}

fn row(tag: u32, kind: u32, offset: u32, count: u32) -> Vec<u8> {
    [tag, kind, offset, count].iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes of an entry's data. Strings end in a zero byte each.
fn size(kind: u32, count: u32, from: &[u8]) -> Option<usize> {
    let count = count as usize;
    match kind {
        6 | 8 | 9 => {
            let mut ends = from.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at + 1);
            if count == 0 { Some(0) } else { ends.nth(count - 1) }
        }
        _ => count.checked_mul(alignment(kind)),
    }
}

fn alignment(kind: u32) -> usize {
    match kind {
        3 => 2,
        4 => 4,
        5 => 8,
        _ => 1,
    }
}

/// Whether a signature packet is by an RSA key, which has tags of its own: RFC 4880, 4.2 and 5.2.3.
fn is_rsa(packet: &[u8]) -> Option<bool> {
    let first = *packet.first()?;
    let body = if first & 0x40 == 0 {
        1 + (1 << (first & 3))
    } else {
        match *packet.get(1)? {
            0..192 => 2,
            192..=223 => 3,
            _ => 6,
        }
    };
    // Version, type, then the algorithm of the public key.
    (*packet.get(body)? == 4).then_some(())?;
    Some(matches!(*packet.get(body + 2)?, 1 | 3))
}
