//! The engine of our own: of a state it writes anew what changed, and copies the rest from the last one.
//!
//! Each list is a row of chunks of some 64 packages that are compressed by themselves; an index in the cache says
//! where each package stands. New packages fill up the last chunk; one that leaves has its chunk written anew. So
//! what takes time is reading the new RPMs and compressing a chunk or two; copying and hashing the rest goes as fast
//! as the disk and the processor can.
//!
//! No `open-checksum` is written: the lists begin with the number of packages, so the digest of what is in them could
//! only be computed from all of it, unpacked. Readers check the digest of the file (librepo, libzypp, yum).

mod chunk;
mod index;
mod lists;
mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use self::chunk::{Lists, Maker, Written};
use self::index::{Base, Below, Change, Chunk, Index, Refused, Row};
use self::plan::{Candidate, Plan};
use super::package::Kind;
use super::repomd::Repomd;
use super::{Excluded, Live, MetadataError, Repository, Wanted, excluded, publish};
use crate::sys::fs::FileError;
use crate::sys::rpm::Stat;

/// How much of what is known is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The index, where it fits the files that are there; else the digests in it, of files that have not changed.
    Index,
    /// Nothing: every file is read from end to end.
    Nothing,
}

/// A state whose files are written, and that nobody sees yet.
#[derive(Debug)]
pub struct Prepared {
    pub repomd: Repomd,
    pub number: u64,
    pub packages: usize,
    /// Those set aside by this run.
    pub newly_excluded: Vec<Excluded>,
    pub runs: u64,
    index: Index,
    change: Change,
}

/// What a run came to.
#[derive(Debug)]
pub enum Outcome {
    /// The repository is what it is to be.
    Same {
        state: u64,
        packages: usize,
        excluded: Vec<Excluded>,
    },
    New(Box<Prepared>),
}

/// Writes the files of the next state, if there is to be one. With `anew` there is one though nothing changed.
pub fn prepare(
    repository: &Repository,
    wanted: &Wanted,
    live: &Live,
    trust: Trust,
    anew: bool,
) -> Result<Outcome, MetadataError> {
    let index = Index::open(&repository.cache)?;
    let base = usable(repository, &index, trust)?;
    let is_live = base.as_ref().is_some_and(|(base, _)| base.repomd == live.text);
    let differences = match (&base, &wanted.only) {
        // Where another engine made the live state, it was asked for builds that are not known here.
        (Some(_), Some(only)) if is_live => within_folders(&repository.tree, &index, only)?,
        _ => everywhere(repository, wanted, &index, base.is_some(), trust)?,
    };
    let (chunks, last) = match &base {
        Some((base, files)) => known(&index, base, files)?,
        None => (Vec::new(), None),
    };
    let packages = chunks.iter().map(|chunk| chunk.packages).sum();
    if let Some((base, _)) = &base
        && is_live
        && !anew
        && differences.is_none()
    {
        let excluded = index.refused(Below::Everything)?.iter().map(shown).collect();
        return Ok(Outcome::Same { state: base.number, packages, excluded });
    }
    let work = Work { repository, live, index, chunks, last, differences };
    Ok(Outcome::New(Box::new(work.prepare(base.as_ref().map(|(base, _)| base))?)))
}

/// What a state is made from.
struct Work<'a> {
    repository: &'a Repository,
    live: &'a Live,
    index: Index,
    chunks: Vec<Chunk>,
    last: Option<Lists>,
    differences: Differences,
}

impl Work<'_> {
    fn prepare(self, base: Option<&Base>) -> Result<Prepared, MetadataError> {
        let Work { repository, live, index, chunks, last, differences } = self;
        let Repository { tree, options, .. } = repository;
        let Differences { fresh, gone, readmitted, mut refused } = differences;
        let Plan { units, dropped } = plan::plan(&chunks, &gone, fresh, |id| index.packages_of(id))?;
        let maker = Maker { tree: tree.clone(), compression: options.compression, last };
        let stale = |source| MetadataError::Index { reason: format!("the last state's files: {source}") };
        let written = maker.make(units).map_err(stale)?;
        refused.extend(written.iter().flat_map(|written| written.refused.iter().cloned()));
        // What was to be read anew and could not be is gone.
        let gone: Vec<String> = gone.into_iter().map(|row| row.location).collect();
        let (written, empty): (Vec<Written>, Vec<Written>) =
            written.into_iter().partition(|written| written.chunk.packages > 0);
        let dropped: BTreeSet<i64> =
            dropped.into_iter().chain(empty.iter().map(|empty| empty.chunk.id)).collect();
        let written: BTreeMap<i64, Written> =
            written.into_iter().map(|written| (written.chunk.id, written)).collect();
        let chunks = merged(chunks, &written, &dropped);
        let state = lists::State {
            compression: options.compression,
            chunks: &chunks,
            written: &written,
            last: maker.last.as_ref(),
        };
        let made = lists::write(&tree.join("repodata"), &state)?;
        let last_number = live.repomd.revision.max(base.map(|base| base.number));
        let number = publish::next_number(tree, last_number)?;
        let heads = [0, 1, 2].map(|list: usize| made[list].head);
        let mut repomd =
            Repomd { revision: Some(number), data: made.into_iter().map(|list| list.data).collect() };
        publish::carry_on(tree, &live.repomd, &mut repomd);
        let runs = base.map_or(0, |base| base.runs) + 1;
        let change = Change {
            base: Base { compression: options.compression, number, runs, repomd: repomd.to_xml(), heads },
            reset: base.is_none(),
            gone,
            rows: written.values().flat_map(|written| written.rows.iter().cloned()).collect(),
            dropped: dropped.into_iter().collect(),
            chunks: written.values().map(|written| written.chunk).collect(),
            readmitted,
            refused,
        };
        Ok(Prepared {
            repomd,
            number,
            packages: chunks.iter().map(|chunk| chunk.packages).sum(),
            newly_excluded: change.refused.iter().map(shown).collect(),
            runs,
            index,
            change,
        })
    }
}

impl Prepared {
    /// Makes the index one of this state. Returns all that is excluded.
    pub fn commit(&mut self) -> Result<Vec<Excluded>, MetadataError> {
        self.index.commit(&self.change)?;
        Ok(self.index.refused(Below::Everything)?.iter().map(shown).collect())
    }
}

fn shown(refused: &Refused) -> Excluded {
    Excluded { file: PathBuf::from(&refused.location), reason: refused.reason.clone() }
}

/// The chunks of the new state, in their order.
fn merged(old: Vec<Chunk>, written: &BTreeMap<i64, Written>, dropped: &BTreeSet<i64>) -> Vec<Chunk> {
    let mut all: BTreeMap<i64, Chunk> = old.into_iter().map(|chunk| (chunk.id, chunk)).collect();
    all.retain(|id, _| !dropped.contains(id));
    all.extend(written.values().map(|written| (written.chunk.id, written.chunk)));
    all.into_values().collect()
}

/// Forgets what is known of the repository, so that the next run reads all of it.
pub fn forget(cache: &Path) -> Result<(), MetadataError> {
    Ok(Index::forget(cache)?)
}

/// The index's state, and its lists, where it may be gone on from.
fn usable(
    repository: &Repository,
    index: &Index,
    trust: Trust,
) -> Result<Option<(Base, [File; 3])>, MetadataError> {
    if trust != Trust::Index {
        return Ok(None);
    }
    let Some(base) = index.base()?.filter(|base| base.compression == repository.options.compression) else {
        return Ok(None);
    };
    let Ok(repomd) = Repomd::parse(&base.repomd) else { return Ok(None) };
    let open = |kind: Kind| {
        let data = repomd.of(kind.as_str())?;
        let file = File::open(repository.tree.join("repodata").join(data.file()?)).ok()?;
        (file.metadata().ok()?.len() == data.size?).then_some(file)
    };
    let [primary, filelists, other] = Kind::ALL.map(open);
    Ok(primary
        .zip(filelists)
        .zip(other)
        .map(|((primary, filelists), other)| (base, [primary, filelists, other])))
}

fn known(
    index: &Index,
    base: &Base,
    files: &[File; 3],
) -> Result<(Vec<Chunk>, Option<Lists>), MetadataError> {
    let chunks = index.chunks()?;
    let mut from = base.heads;
    let mut places = BTreeMap::new();
    for chunk in &chunks {
        places.insert(chunk.id, (from, *chunk));
        from = [0, 1, 2].map(|list: usize| from[list] + chunk.packed[list]);
    }
    let again =
        |file: &File| file.try_clone().map_err(|error| MetadataError::Index { reason: error.to_string() });
    let files = [again(&files[0])?, again(&files[1])?, again(&files[2])?];
    Ok((chunks, Some(Lists { compression: base.compression, files, places })))
}

/// What is not as the index has it.
#[derive(Debug, Default)]
struct Differences {
    fresh: Vec<Candidate>,
    gone: Vec<Row>,
    readmitted: Vec<String>,
    refused: Vec<Refused>,
}

impl Differences {
    fn is_none(&self) -> bool {
        self.fresh.is_empty() && self.gone.is_empty() && self.readmitted.is_empty() && self.refused.is_empty()
    }

    /// Compares what is wanted with what was listed, and with what was refused.
    fn add(
        &mut self,
        tree: &Path,
        files: &[PathBuf],
        listed: Vec<Row>,
        refused: Vec<Refused>,
    ) -> Result<(), FileError> {
        let mut listed: HashMap<String, Row> =
            listed.into_iter().map(|row| (row.location.clone(), row)).collect();
        let mut old: HashMap<String, Refused> =
            refused.into_iter().map(|refused| (refused.location.clone(), refused)).collect();
        for file in files {
            let location = file.to_string_lossy().into_owned();
            let stat = match stat(tree, file) {
                Some(stat) => stat?,
                // It went away since it was found.
                None => continue,
            };
            let is_same = listed.get(&location).is_some_and(|row| row.stat == stat);
            if is_same {
                listed.remove(&location);
            } else if old.get(&location).is_some_and(|old| old.stat == stat) {
                old.remove(&location);
            } else if let Err(reason) = excluded::check_name(file) {
                self.refused.push(Refused { location, stat, reason });
            } else {
                self.fresh.push(Candidate { location, stat, sha256: None });
            }
        }
        self.gone.extend(listed.into_values());
        self.readmitted.extend(old.into_keys());
        self.gone.sort_by_key(|row| (row.chunk, row.place));
        Ok(())
    }
}

/// None where there is no such file. A link that leads nowhere is there: reading it says so.
fn stat(tree: &Path, file: &Path) -> Option<Result<Stat, FileError>> {
    let path = tree.join(file);
    match Stat::of(&path) {
        Err(_) if path.is_symlink() => Some(Ok(Stat { size: 0, mtime: 0 })),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found),
    }
}

fn within_folders(
    tree: &Path,
    index: &Index,
    only: &BTreeMap<PathBuf, Vec<PathBuf>>,
) -> Result<Differences, MetadataError> {
    let mut differences = Differences::default();
    for (folder, files) in only {
        let folder = folder.to_string_lossy();
        let below = Below::Folder(&folder);
        differences.add(tree, files, index.packages(below)?, index.refused(below)?)?;
    }
    Ok(differences)
}

/// Without a state to go on from everything is fresh, though its digest may be known.
fn everywhere(
    repository: &Repository,
    wanted: &Wanted,
    index: &Index,
    has_base: bool,
    trust: Trust,
) -> Result<Differences, MetadataError> {
    let files = (wanted.all)()?;
    let mut differences = Differences::default();
    if has_base {
        let (listed, refused) = (index.packages(Below::Everything)?, index.refused(Below::Everything)?);
        differences.add(&repository.tree, &files, listed, refused)?;
        return Ok(differences);
    }
    differences.add(&repository.tree, &files, Vec::new(), Vec::new())?;
    if trust != Trust::Nothing {
        let listed = index.packages(Below::Everything)?;
        let digests: HashMap<String, Row> =
            listed.into_iter().map(|row| (row.location.clone(), row)).collect();
        for candidate in &mut differences.fresh {
            let known = digests.get(&candidate.location).filter(|row| row.stat == candidate.stat);
            candidate.sha256 = known.map(|row| row.sha256.clone());
        }
    }
    Ok(differences)
}
