//! Chunks: compressed each by itself, so that one can be written anew while the others are copied as they are.
//! Concatenated gzip members are a gzip file (RFC 1952, section 2.2), zstd frames a zstd file (RFC 8878, section 3).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;

use super::index::{Chunk, Refused, Row};
use super::plan::{Candidate, Item, Unit};
use crate::config::Compression;
use crate::metadata::package::{self, Refusal};
use crate::sys::rpm::Stat;

/// No RPM is like this: it would be empty.
const NEVER: Stat = Stat { size: 0, mtime: -1 };
/// Half a megabyte a chunk at zlib's usual level takes some milliseconds.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 9;

pub fn pack(compression: Compression, text: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        Compression::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(text)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::stream::encode_all(text, ZSTD_LEVEL),
    }
}

fn unpack(compression: Compression, packed: &[u8], length: u64) -> io::Result<String> {
    let mut text = String::with_capacity(usize::try_from(length).unwrap_or_default());
    match compression {
        Compression::Gzip => flate2::read::MultiGzDecoder::new(packed).read_to_string(&mut text)?,
        Compression::Zstd => zstd::stream::Decoder::new(packed)?.read_to_string(&mut text)?,
    };
    if text.len() as u64 == length { Ok(text) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The last state's lists.
#[derive(Debug)]
pub struct Lists {
    pub compression: Compression,
    pub files: [File; 3],
    /// Where each chunk begins in them.
    pub places: BTreeMap<i64, ([u64; 3], Chunk)>,
}

impl Lists {
    /// A chunk's fragments, list by list.
    fn chunk(&self, id: i64) -> io::Result<[String; 3]> {
        let (from, chunk) = self.places.get(&id).ok_or(io::ErrorKind::NotFound)?;
        let list = |list: usize| {
            let mut packed = vec![0; usize::try_from(chunk.packed[list]).unwrap_or_default()];
            self.files[list].read_exact_at(&mut packed, from[list])?;
            unpack(self.compression, &packed, chunk.open[list])
        };
        Ok([list(0)?, list(1)?, list(2)?])
    }
}

/// A chunk that was written.
#[derive(Debug)]
pub struct Written {
    pub chunk: Chunk,
    pub packed: [Vec<u8>; 3],
    pub rows: Vec<Row>,
    /// Those that it was to hold, and cannot.
    pub refused: Vec<Refused>,
}

/// What chunks are made of.
#[derive(Debug)]
pub struct Maker {
    pub tree: PathBuf,
    pub compression: Compression,
    pub last: Option<Lists>,
}

impl Maker {
    /// Makes all of them, on as many threads as there are processors.
    pub fn make(&self, units: Vec<Unit>) -> io::Result<Vec<Written>> {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(units.len());
        if threads < 2 {
            return units.into_iter().map(|unit| self.unit(unit)).collect();
        }
        let (waiting, done) = (Mutex::new(units.into_iter()), Mutex::new(Vec::new()));
        // Nothing panics while it holds one of these.
        let next = || waiting.lock().ok()?.next();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(unit) = next() {
                        let made = self.unit(unit);
                        let Ok(mut done) = done.lock() else { return };
                        done.push(made);
                    }
                });
            }
        });
        let mut made = done.into_inner().unwrap_or_default().into_iter().collect::<io::Result<Vec<_>>>()?;
        made.sort_by_key(|written: &Written| written.chunk.id);
        Ok(made)
    }

    fn unit(&self, unit: Unit) -> io::Result<Written> {
        let mut texts = [String::new(), String::new(), String::new()];
        let (mut rows, mut refused) = (Vec::new(), Vec::new());
        let mut chunks = BTreeMap::new();
        for item in unit.items {
            let (row, fragments) = match item {
                Item::Kept { row, from } => {
                    let fragments = self.kept(&mut chunks, &row, from)?;
                    (row, fragments)
                }
                Item::Fresh(candidate) => match self.fresh(&candidate) {
                    Ok(read) => read,
                    Err(Refusal { reason, may_pass }) => {
                        let Candidate { location, stat, .. } = candidate;
                        // What another time may be read is looked at every time.
                        let stat = if may_pass { NEVER } else { stat };
                        refused.push(Refused { location, stat, reason });
                        continue;
                    }
                },
            };
            texts.iter_mut().zip(&fragments).for_each(|(text, fragment)| text.push_str(fragment));
            rows.push(Row { chunk: unit.id, place: rows.len(), ..row });
        }
        let packed = [0, 1, 2].map(|list: usize| pack(self.compression, texts[list].as_bytes()));
        let [one, two, three] = packed;
        let packed = [one?, two?, three?];
        let chunk = Chunk {
            id: unit.id,
            packages: rows.len(),
            packed: [0, 1, 2].map(|list: usize| packed[list].len() as u64),
            open: [0, 1, 2].map(|list: usize| texts[list].len() as u64),
        };
        Ok(Written { chunk, packed, rows, refused })
    }

    fn kept(
        &self,
        chunks: &mut BTreeMap<i64, [String; 3]>,
        row: &Row,
        from: [usize; 3],
    ) -> io::Result<[String; 3]> {
        let texts = match chunks.entry(row.chunk) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let last = self.last.as_ref().ok_or(io::ErrorKind::NotFound)?;
                unknown.insert(last.chunk(row.chunk)?)
            }
        };
        let fragment = |list: usize| -> io::Result<String> {
            let found = texts[list].get(from[list]..from[list] + row.lengths[list]);
            found.map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        Ok([fragment(0)?, fragment(1)?, fragment(2)?])
    }

    fn fresh(&self, candidate: &Candidate) -> Result<(Row, [String; 3]), Refusal> {
        let Candidate { location, stat, sha256 } = candidate;
        let read = package::read(&self.tree, location, *stat, sha256.as_deref())?;
        let lengths = [0, 1, 2].map(|list: usize| read.xml[list].len());
        let row =
            Row { location: location.clone(), stat: *stat, sha256: read.sha256, chunk: 0, place: 0, lengths };
        Ok((row, read.xml))
    }
}
