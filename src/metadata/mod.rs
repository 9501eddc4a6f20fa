//! Repository metadata: for any tree of RPMs, of a list of them, switched to in one step.
//!
//! Every state of a repository has a number, which only grows and is the `<revision>` of its repomd.xml: so any copy
//! of that file, however old, says which state it is of. Each of the states before that are kept has its repomd.xml
//! as `repodata/<number>-repomd.xml`.
//!
//! Two engines make the files: createrepo_c, or ours, which writes anew only what changed. What they have in common
//! is here: the lock, the number, the signature, the switch, and what becomes of files that cannot be listed.
//!
//! **Locks.** One run works on a tree at a time; the lock is flock(2)'s and ends with its owner, however that ends.
//! Across hosts that holds on file systems where flock is everybody's: NFSv4 (Linux makes byte-range locks of it),
//! CephFS, GFS2, OCFS2; not on NFS mounted with `nolock` or `local_lock=flock`.

mod createrepo;
pub mod excluded;
mod incremental;
mod package;
mod publish;
pub mod repomd;
mod verify;
mod xml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::config::{RepoEngine, RepoOptions};
use crate::sys::fs::{self, FileError, Lock};
use crate::sys::process::ProcessError;
use crate::sys::sqlite::DatabaseError;
pub use excluded::Excluded;
use incremental::{Outcome, Prepared, Trust};
use repomd::Repomd;
pub use verify::{Difference, Verified};

/// Metadata that could not be made. The repository is in the state it was in.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("createrepo_c for {} ended with {end}: {said}", tree.display())]
    Createrepo { tree: PathBuf, end: String, said: String },
    #[error("createrepo_c wrote {}, which cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("what is known of the last state is of no use: {reason}")]
    Index { reason: String },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("making metadata was broken off: the program is ending")]
    Ending,
    #[error("the metadata of {} could not be signed: {reason}", tree.display())]
    Unsigned { tree: PathBuf, reason: String },
}

/// Lists the RPMs that are to be in a repository, relative to its tree.
pub type List = Arc<dyn Fn() -> Result<Vec<PathBuf>, FileError> + Send + Sync>;

/// Makes a detached signature of a repomd.xml; an error is a part of a sentence.
pub type Sign<'a> = &'a (dyn Fn(Vec<u8>) -> Signing + Send + Sync);
pub type Signing = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// What is to be in a repository.
#[derive(Clone)]
pub struct Wanted {
    /// All of it: takes time that grows with the tree.
    pub all: List,
    /// Where it is enough to look at some folders: each with the RPMs that are to be listed of those in it. What lies
    /// elsewhere is taken to be as it was.
    pub only: Option<BTreeMap<PathBuf, Vec<PathBuf>>>,
}

/// A repository's latest state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub state: u64,
    /// RPMs in it.
    pub packages: usize,
    /// Whether it is a new one: one that would say the same is not made.
    pub is_new: bool,
    /// How many new ones the built-in engine made since it last read everything.
    pub runs: u64,
    /// Files that are not in it, though they were wanted.
    pub excluded: Vec<Excluded>,
    /// Those of them that this run set aside.
    pub newly_excluded: Vec<Excluded>,
}

/// A tree of RPMs that has metadata, or is to have it.
#[derive(Debug, Clone)]
pub struct Repository {
    /// `repodata/` is in it.
    pub tree: PathBuf,
    /// What is kept between runs: the lock, and what can be made anew from the tree.
    pub cache: PathBuf,
    pub options: RepoOptions,
}

impl Repository {
    /// Waits for the lock of this repository.
    pub async fn lock(&self) -> Result<Locked, MetadataError> {
        fs::make_dir(&self.tree)?;
        fs::make_dir(&self.cache)?;
        let lock = Lock::take(&self.cache.join("lock")).await?;
        Ok(Locked { repository: self.clone(), _lock: lock })
    }

    /// The number of the state that readers see; none where there is no metadata, or none with a number.
    pub fn state(tree: &Path) -> Result<Option<u64>, FileError> {
        Ok(Live::read(tree)?.repomd.revision)
    }
}

/// The repomd.xml that readers see; an empty one where there is none that can be read as one.
#[derive(Debug, Default)]
struct Live {
    text: Vec<u8>,
    repomd: Repomd,
}

impl Live {
    fn read(tree: &Path) -> Result<Live, FileError> {
        let path = publish::live(tree);
        match std::fs::read(&path) {
            Ok(text) => Ok(Live { repomd: Repomd::parse(&text).unwrap_or_default(), text }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Live::default()),
            Err(error) => Err(FileError::at("read", &path)(error)),
        }
    }
}

/// A repository that nobody else works on.
#[derive(Debug)]
pub struct Locked {
    repository: Repository,
    _lock: Lock,
}

impl Locked {
    /// Makes the repository hold what is wanted, and switches to it. With `sign`, its repomd.xml is signed, and both
    /// appear together. What it fails at leaves the old state.
    pub async fn update(&self, wanted: Wanted, sign: Option<Sign<'_>>) -> Result<Made, MetadataError> {
        fs::make_dir(&self.repository.tree.join("repodata"))?;
        match self.engine() {
            RepoEngine::CreaterepoC => self.by_createrepo(wanted, sign).await,
            RepoEngine::Incremental => self.incrementally(wanted, Trust::Index, sign).await,
        }
    }

    /// What makes the metadata: as configured, but never the built-in engine where that was found to be wrong.
    fn engine(&self) -> RepoEngine {
        let Repository { cache, options, .. } = &self.repository;
        if verify::is_distrusted(cache) { RepoEngine::CreaterepoC } else { options.engine }
    }

    async fn by_createrepo(&self, wanted: Wanted, sign: Option<Sign<'_>>) -> Result<Made, MetadataError> {
        let Repository { tree, cache, .. } = &self.repository;
        let old = Live::read(tree)?.repomd;
        let before = excluded::read(cache);
        let (packages, mut excluded) = excluded::sort_out(tree, (wanted.all)()?);
        let number = publish::next_number(tree, old.revision)?;
        let (made, left_out) = createrepo::make(&self.repository, &packages, number, &old).await?;
        let packages = packages.len().saturating_sub(left_out.len());
        excluded.extend(left_out);
        let signature = self.sign(&made, sign).await?;
        excluded::write(cache, &excluded)?;
        let this = self.repository.clone();
        blocking(move || this.switch(number, &made, signature.as_deref(), true)).await?;
        let newly_excluded = excluded.iter().filter(|one| !before.contains(one)).cloned().collect();
        Ok(Made { state: number, packages, is_new: true, runs: 0, excluded, newly_excluded })
    }

    async fn incrementally(
        &self,
        wanted: Wanted,
        trust: Trust,
        sign: Option<Sign<'_>>,
    ) -> Result<Made, MetadataError> {
        let anew = sign.is_some() != publish::is_signed(&self.repository.tree);
        let is_full = wanted.only.is_none();
        let mut prepared = match self.prepare(wanted, trust, anew).await? {
            Outcome::Same { state, packages, excluded } => {
                let newly_excluded = Vec::new();
                return Ok(Made { state, packages, is_new: false, runs: 0, excluded, newly_excluded });
            }
            Outcome::New(prepared) => prepared,
        };
        let signature = self.sign(&prepared.repomd, sign).await?;
        let this = self.repository.clone();
        blocking(move || {
            let Prepared { number, packages, runs, .. } = *prepared;
            fs::sync_parent(&publish::live(&this.tree)).map_err(FileError::at("sync", &this.tree))?;
            let excluded = prepared.commit()?;
            this.switch(number, &prepared.repomd, signature.as_deref(), is_full)?;
            excluded::write(&this.cache, &excluded)?;
            let newly_excluded = prepared.newly_excluded;
            Ok(Made { state: number, packages, is_new: true, runs, excluded, newly_excluded })
        })
        .await
    }

    /// What is known of the last state is used; where it turns out to be of no use, everything is read.
    async fn prepare(&self, wanted: Wanted, trust: Trust, anew: bool) -> Result<Outcome, MetadataError> {
        let this = self.repository.clone();
        blocking(move || {
            let live = Live::read(&this.tree)?;
            match incremental::prepare(&this, &wanted, &live, trust, anew) {
                Err(error) if error.is_of_the_cache() => {
                    tracing::warn!("{}: {error}; reading all of it", this.tree.display());
                    incremental::forget(&this.cache)?;
                    incremental::prepare(&this, &wanted, &live, Trust::Nothing, anew)
                }
                outcome => outcome,
            }
        })
        .await
    }

    async fn sign(&self, repomd: &Repomd, sign: Option<Sign<'_>>) -> Result<Option<Vec<u8>>, MetadataError> {
        let Some(sign) = sign else { return Ok(None) };
        let tree = self.repository.tree.clone();
        let signature = sign(repomd.to_xml()).await;
        signature.map(Some).map_err(|reason| MetadataError::Unsigned { tree, reason })
    }
}

impl Repository {
    fn switch(
        &self,
        number: u64,
        repomd: &Repomd,
        signature: Option<&[u8]>,
        sweeps: bool,
    ) -> Result<(), MetadataError> {
        let Repository { tree, options, .. } = self;
        publish::switch(tree, &publish::State { number, repomd: &repomd.to_xml(), signature })?;
        publish::prune(tree, options.keep, options.keep_for)?;
        if sweeps {
            publish::sweep(tree, options.keep_for)?;
        }
        Ok(())
    }
}

impl MetadataError {
    /// Whether what is kept between runs is at fault, and nothing is lost but time by doing without it.
    fn is_of_the_cache(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            MetadataError::Index { .. } => true,
            MetadataError::Database(DatabaseError::Open { source, .. } | DatabaseError::Sql(source)) => {
                matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
                    || matches!(source, rusqlite::Error::SqliteFailure(error, _) if error.extended_code == 1)
            }
            _ => false,
        }
    }
}

/// Runs what waits for disks, and computes, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MetadataError> + Send + 'static,
) -> Result<T, MetadataError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| MetadataError::Ending)?
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("only", &self.only).finish_non_exhaustive()
    }
}
