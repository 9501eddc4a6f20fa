//! The files of a state: chunks of the last one copied, new ones between them, under names that carry their digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::chunk::{Lists, Written, pack};
use super::index::Chunk;
use crate::config::Compression;
use crate::metadata::package::Kind;
use crate::metadata::repomd::{Checksum, Data};
use crate::sys::fs::{self, FileError};

/// What a new state consists of.
#[derive(Debug)]
pub struct State<'a> {
    pub compression: Compression,
    /// In their order.
    pub chunks: &'a [Chunk],
    /// Those of them that were written anew.
    pub written: &'a BTreeMap<i64, Written>,
    pub last: Option<&'a Lists>,
}

/// One list's file.
#[derive(Debug)]
pub struct List {
    pub data: Data,
    /// Bytes before the first chunk.
    pub head: u64,
}

/// Writes the three lists into `repodata`, durably but for their names.
pub fn write(repodata: &Path, state: &State) -> Result<[List; 3], FileError> {
    let one = |list: usize| write_list(repodata, state, list);
    let [primary, filelists, other] = std::thread::scope(|scope| {
        let filelists = scope.spawn(|| one(1));
        let other = scope.spawn(|| one(2));
        let panicked = || Err(FileError::at("write to", repodata)(io::Error::other("a thread panicked")));
        [one(0), filelists.join().unwrap_or_else(|_| panicked()), other.join().unwrap_or_else(|_| panicked())]
    });
    Ok([primary?, filelists?, other?])
}

fn write_list(repodata: &Path, state: &State, list: usize) -> Result<List, FileError> {
    let kind = Kind::ALL[list];
    let temporary = repodata.join(format!(".{}.{}.tmp", kind.as_str(), uuid::Uuid::new_v4().simple()));
    let written = write_into(&temporary, state, list).and_then(|(list, name)| {
        std::fs::rename(&temporary, repodata.join(name))?;
        Ok(list)
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        FileError::at("write", &temporary)(error)
    })
}

fn write_into(path: &Path, state: &State, list: usize) -> io::Result<(List, String)> {
    let kind = Kind::ALL[list];
    let packages = state.chunks.iter().map(|chunk| chunk.packages).sum();
    let (head, tail) = (kind.head(packages), kind.tail());
    let packed_head = pack(state.compression, head.as_bytes())?;
    let mut out = Hashing { file: File::create_new(path)?, digest: Sha256::new(), size: 0 };
    out.write(&packed_head)?;
    write_chunks(&mut out, state, list)?;
    out.write(&pack(state.compression, tail.as_bytes())?)?;
    out.file.sync_data()?;
    let open = state.chunks.iter().map(|chunk| chunk.open[list]).sum::<u64>();
    let sha256 = fs::hex(&out.digest.finalize());
    let name = format!("{sha256}-{}.xml.{}", kind.as_str(), state.compression.extension());
    let data = Data {
        kind: kind.as_str().into(),
        href: format!("repodata/{name}"),
        checksum: Some(Checksum { kind: "sha256".into(), hex: sha256 }),
        timestamp: Some(seconds_now().to_string()),
        size: Some(out.size),
        open_size: Some(open + (head.len() + tail.len()) as u64),
        ..Data::default()
    };
    Ok((List { data, head: packed_head.len() as u64 }, name))
}

/// Chunks that stood side by side are copied at a stretch.
fn write_chunks(out: &mut Hashing, state: &State, list: usize) -> io::Result<()> {
    let mut stretch: Option<(u64, u64)> = None;
    for chunk in state.chunks {
        let old = match state.written.get(&chunk.id) {
            None => {
                Some(state.last.and_then(|last| last.places.get(&chunk.id)).ok_or(io::ErrorKind::NotFound)?)
            }
            Some(_) => None,
        };
        let from = old.map(|(from, _)| from[list]);
        match (stretch, from) {
            (Some((begin, end)), Some(from)) if from == end => {
                stretch = Some((begin, end + chunk.packed[list]));
            }
            (_, from) => {
                copy(out, state, list, stretch.take())?;
                stretch = from.map(|from| (from, from + chunk.packed[list]));
            }
        }
        if let Some(new) = state.written.get(&chunk.id) {
            out.write(&new.packed[list])?;
        }
    }
    copy(out, state, list, stretch)
}

const BLOCK: usize = 1 << 18;

fn copy(out: &mut Hashing, state: &State, list: usize, stretch: Option<(u64, u64)>) -> io::Result<()> {
    let (Some((mut at, end)), Some(last)) = (stretch, state.last) else { return Ok(()) };
    let mut block = vec![0; BLOCK];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
        last.files[list].read_exact_at(&mut block[..length], at)?;
        out.write(&block[..length])?;
        at += length as u64;
    }
    Ok(())
}

/// A file, and the digest of what was written to it.
struct Hashing {
    file: File,
    digest: Sha256,
    size: u64,
}

impl Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

fn seconds_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}
