//! What the last state's files hold, and where: an SQLite file in the repository's cache.
//!
//! It is a cache: it is true of the files that its `base` names, as long as they are there, and can be made anew from
//! the tree. It is committed before the switch. So after a crash between the two it is one state ahead of what readers
//! see, and the next run goes on from it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row as Found, params};

use crate::config::Compression;
use crate::sys::fs::FileError;
use crate::sys::rpm::Stat;
use crate::sys::sqlite::{self, DatabaseError};

/// The version of this format and of what is written by it: another one's index is not used.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS base (
  id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, compression TEXT NOT NULL,
  number INTEGER NOT NULL, runs INTEGER NOT NULL, repomd BLOB NOT NULL,
  head0 INTEGER NOT NULL, head1 INTEGER NOT NULL, head2 INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS package (
  location TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL, sha256 TEXT NOT NULL,
  chunk INTEGER NOT NULL, place INTEGER NOT NULL,
  length0 INTEGER NOT NULL, length1 INTEGER NOT NULL, length2 INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS package_by_chunk ON package (chunk, place);
CREATE TABLE IF NOT EXISTS chunk (
  id INTEGER PRIMARY KEY, packages INTEGER NOT NULL,
  packed0 INTEGER NOT NULL, packed1 INTEGER NOT NULL, packed2 INTEGER NOT NULL,
  open0 INTEGER NOT NULL, open1 INTEGER NOT NULL, open2 INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS excluded (
  location TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL, reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The state that the index is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub compression: Compression,
    pub number: u64,
    /// Runs since the index was made.
    pub runs: u64,
    /// The state's repomd.xml.
    pub repomd: Vec<u8>,
    /// Bytes before the first chunk, in each list.
    pub heads: [u64; 3],
}

/// A listed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Relative to the tree.
    pub location: String,
    pub stat: Stat,
    pub sha256: String,
    pub chunk: i64,
    /// Among those of the chunk.
    pub place: usize,
    /// Bytes of its fragments.
    pub lengths: [usize; 3],
}

/// Packages whose fragments are compressed together: a gzip member or a zstd frame in each list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Chunks stand in the lists in the order of their ids.
    pub id: i64,
    pub packages: usize,
    /// Bytes, compressed.
    pub packed: [u64; 3],
    /// Bytes, unpacked.
    pub open: [u64; 3],
}

/// A file that cannot be listed, as long as it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub location: String,
    pub stat: Stat,
    pub reason: String,
}

/// What a run changes.
#[derive(Debug)]
pub struct Change {
    pub base: Base,
    /// Whether all that was known is forgotten first.
    pub reset: bool,
    pub gone: Vec<String>,
    pub rows: Vec<Row>,
    pub dropped: Vec<i64>,
    pub chunks: Vec<Chunk>,
    /// No longer excluded.
    pub readmitted: Vec<String>,
    pub refused: Vec<Refused>,
}

/// Where of the tree packages are looked up.
#[derive(Debug, Clone, Copy)]
pub enum Below<'a> {
    Everything,
    Folder(&'a str),
}

/// The open index. Needs the repository's lock.
#[derive(Debug)]
pub struct Index(Connection);

impl Index {
    pub fn open(cache: &Path) -> Result<Index, DatabaseError> {
        Ok(Index(sqlite::open_cache(&cache.join("index.db"), SCHEMA)?))
    }

    /// Removes the index of a cache: the next run makes it anew.
    pub fn forget(cache: &Path) -> Result<(), FileError> {
        for name in ["index.db", "index.db-journal"] {
            let path = cache.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FileError::at("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// None where nothing was made yet, or by another version.
    pub fn base(&self) -> Result<Option<Base>, DatabaseError> {
        let sql = "SELECT compression, number, runs, repomd, head0, head1, head2 FROM base WHERE format = ?1";
        let found = self.0.query_row(sql, [FORMAT], |row| {
            let compression: String = row.get(0)?;
            Ok(Base {
                compression: if compression == "zst" { Compression::Zstd } else { Compression::Gzip },
                number: row.get(1)?,
                runs: row.get(2)?,
                repomd: row.get(3)?,
                heads: three(row, 4)?,
            })
        });
        Ok(found.optional()?)
    }

    pub fn packages(&self, below: Below) -> Result<Vec<Row>, DatabaseError> {
        let sql =
            "SELECT location, size, mtime, sha256, chunk, place, length0, length1, length2 FROM package";
        match below {
            Below::Everything => self.rows(sql, [], package),
            Below::Folder(folder) => {
                let sql = format!("{sql} WHERE location >= ?1 AND location < ?2");
                self.rows(&sql, within(folder), package)
            }
        }
    }

    pub fn packages_of(&self, chunk: i64) -> Result<Vec<Row>, DatabaseError> {
        let sql = "SELECT location, size, mtime, sha256, chunk, place, length0, length1, length2 FROM package \
                   WHERE chunk = ?1 ORDER BY place";
        self.rows(sql, [chunk], package)
    }

    pub fn chunks(&self) -> Result<Vec<Chunk>, DatabaseError> {
        let sql =
            "SELECT id, packages, packed0, packed1, packed2, open0, open1, open2 FROM chunk ORDER BY id";
        self.rows(sql, [], |row| {
            Ok(Chunk { id: row.get(0)?, packages: row.get(1)?, packed: three(row, 2)?, open: three(row, 5)? })
        })
    }

    pub fn refused(&self, below: Below) -> Result<Vec<Refused>, DatabaseError> {
        let sql = "SELECT location, size, mtime, reason FROM excluded";
        let refused =
            |row: &Found| Ok(Refused { location: row.get(0)?, stat: stat(row)?, reason: row.get(3)? });
        match below {
            Below::Everything => self.rows(sql, [], refused),
            Below::Folder(folder) => {
                let sql = format!("{sql} WHERE location >= ?1 AND location < ?2");
                self.rows(&sql, within(folder), refused)
            }
        }
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Found) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, DatabaseError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map(values, read)?.collect::<Result<Vec<T>, _>>()?;
        Ok(rows)
    }

    /// All of it, or nothing.
    pub fn commit(&mut self, change: &Change) -> Result<(), DatabaseError> {
        let transaction = self.0.transaction()?;
        if change.reset {
            transaction.execute_batch("DELETE FROM package; DELETE FROM chunk; DELETE FROM excluded;")?;
        }
        let each = |sql: &str, locations: &[String]| -> Result<(), rusqlite::Error> {
            let mut statement = transaction.prepare_cached(sql)?;
            locations.iter().try_for_each(|location| statement.execute([location]).map(drop))
        };
        each("DELETE FROM package WHERE location = ?1", &change.gone)?;
        each("DELETE FROM excluded WHERE location = ?1", &change.readmitted)?;
        for id in &change.dropped {
            transaction.prepare_cached("DELETE FROM chunk WHERE id = ?1")?.execute([id])?;
        }
        let sql = "INSERT OR REPLACE INTO package VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        for Row { location, stat, sha256, chunk, place, lengths: [one, two, three] } in &change.rows {
            let values = params![location, stat.size, stat.mtime, sha256, chunk, place, one, two, three];
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        let sql = "INSERT OR REPLACE INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        for Chunk { id, packages, packed, open } in &change.chunks {
            let values = params![id, packages, packed[0], packed[1], packed[2], open[0], open[1], open[2]];
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        let sql = "INSERT OR REPLACE INTO excluded VALUES (?1, ?2, ?3, ?4)";
        for Refused { location, stat, reason } in &change.refused {
            transaction.prepare_cached(sql)?.execute(params![location, stat.size, stat.mtime, reason])?;
        }
        let Base { compression, number, runs, repomd, heads } = &change.base;
        transaction.execute(
            "INSERT OR REPLACE INTO base VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![FORMAT, compression.extension(), number, runs, repomd, heads[0], heads[1], heads[2]],
        )?;
        Ok(transaction.commit()?)
    }
}

/// The bounds of what lies in a folder: `0` follows `/`.
fn within(folder: &str) -> [String; 2] {
    [format!("{folder}/"), format!("{folder}0")]
}

fn package(row: &Found) -> Result<Row, rusqlite::Error> {
    Ok(Row {
        location: row.get(0)?,
        stat: stat(row)?,
        sha256: row.get(3)?,
        chunk: row.get(4)?,
        place: row.get(5)?,
        lengths: [row.get(6)?, row.get(7)?, row.get(8)?],
    })
}

fn stat(row: &Found) -> Result<Stat, rusqlite::Error> {
    Ok(Stat { size: row.get(1)?, mtime: row.get(2)? })
}

fn three(row: &Found, from: usize) -> Result<[u64; 3], rusqlite::Error> {
    Ok([row.get(from)?, row.get(from + 1)?, row.get(from + 2)?])
}
