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
mod publish;
pub mod repomd;
mod xml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::config::RepoOptions;
use crate::sys::fs::{self, FileError, Lock};
use crate::sys::process::ProcessError;
pub use excluded::Excluded;
use repomd::Repomd;

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
    /// Files that are not in it, though they were wanted.
    pub excluded: Vec<Excluded>,
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
        Ok(live(tree)?.and_then(|repomd| repomd.revision))
    }
}

/// The repomd.xml that readers see; none where there is none that can be read as one.
fn live(tree: &Path) -> Result<Option<Repomd>, FileError> {
    let path = publish::live(tree);
    match std::fs::read(&path) {
        Ok(text) => Ok(Repomd::parse(&text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::at("read", &path)(error)),
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
        let Repository { tree, cache, options } = &self.repository;
        fs::make_dir(&tree.join("repodata"))?;
        let old = live(tree)?.unwrap_or_default();
        let (packages, excluded) = excluded::sort_out(tree, (wanted.all)()?);
        let number = publish::next_number(tree, old.revision)?;
        let made = createrepo::make(&self.repository, &packages, number, &old).await?;
        self.switch(number, &made, sign).await?;
        excluded::write(cache, &excluded)?;
        publish::prune(tree, options.keep, options.keep_for)?;
        publish::sweep(tree, options.keep_for)?;
        Ok(Made { state: number, packages: packages.len(), is_new: true, excluded })
    }

    async fn switch(
        &self,
        number: u64,
        repomd: &Repomd,
        sign: Option<Sign<'_>>,
    ) -> Result<(), MetadataError> {
        let tree = &self.repository.tree;
        let repomd = repomd.to_xml();
        let signature = match sign {
            None => None,
            Some(sign) => {
                let unsigned = |reason| MetadataError::Unsigned { tree: tree.clone(), reason };
                Some(sign(repomd.clone()).await.map_err(unsigned)?)
            }
        };
        let state = publish::State { number, repomd: &repomd, signature: signature.as_deref() };
        Ok(publish::switch(tree, &state)?)
    }
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("only", &self.only).finish_non_exhaustive()
    }
}
