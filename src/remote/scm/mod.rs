//! From a git branch to a source RPM: cloned, checked out, its sources fetched and verified, its disttag found, and
//! packed by rpmbuild in a sandbox.
//!
//! Everything in a checkout is hostile: nothing of it is run but by rpmbuild in the sandbox, and no link in it is one.

mod checkout;
mod disttag;
mod pack;
mod sources;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Scm};
use crate::model::request::Request;
use crate::model::{Disttag, PkgName};
use crate::sys::fs::{self, FileError};
use crate::sys::http::Http;
use crate::sys::process::{self, ProcessError};
use crate::sys::sandbox::Launcher;
use crate::sys::tls::Tls;

/// Made source RPMs and fetched sources are kept this long since they were last of use.
const KEPT: Duration = Duration::from_secs(14 * 86_400);
/// How many are made at a time.
const AT_A_TIME: usize = 2;

/// Why there is no source RPM.
#[derive(Debug, thiserror::Error)]
pub enum ScmError {
    /// For who asked: a sentence.
    #[error("{0}")]
    Refused(String),
    /// The bridge is told to stop; asked again it goes on.
    #[error("it was interrupted")]
    Interrupted,
}

impl ScmError {
    fn refused(why: impl Into<String>) -> ScmError {
        ScmError::Refused(why.into())
    }
}

impl From<FileError> for ScmError {
    fn from(error: FileError) -> ScmError {
        ScmError::Refused(format!("the controller failed: {error}"))
    }
}

impl From<ProcessError> for ScmError {
    fn from(error: ProcessError) -> ScmError {
        ScmError::Refused(format!("the controller failed: {error}"))
    }
}

/// Makes source RPMs.
#[derive(Debug)]
pub struct Maker {
    scm: Scm,
    http: Http,
    launcher: Launcher,
    folder: PathBuf,
    /// One at a time makes those of a package, so that another arch's request finds what the first has made.
    turns: Mutex<HashMap<PkgName, Arc<tokio::sync::Mutex<()>>>>,
    room: tokio::sync::Semaphore,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub srpm: PathBuf,
    /// Of git's, in full.
    pub commit: String,
    pub disttag: Disttag,
}

impl Maker {
    /// An error says what is missing on this machine.
    pub fn open(config: &Config, launcher: Launcher) -> Result<Maker, String> {
        let scm = config.scm.clone().ok_or("set git_url in section [scm]")?;
        let tls = Tls::open(&scm.tls).map_err(|error| error.to_string())?;
        let folder = config.layout.builder_cache().join("requests");
        for part in ["srpms", "sources", "work"] {
            fs::make_private_dir(&folder.join(part)).map_err(|error| error.to_string())?;
        }
        Ok(Maker {
            scm,
            http: Http::new(&tls).map_err(|error| format!("HTTP cannot be used: {error}"))?,
            launcher,
            folder,
            turns: Mutex::default(),
            room: tokio::sync::Semaphore::new(AT_A_TIME),
        })
    }

    /// Removes what a bridge before us has left.
    pub async fn sweep(&self) {
        for left in entries(&self.folder.join("work")) {
            self.remove(&left).await;
        }
    }

    /// Removes what nobody has asked for of late.
    pub async fn forget_old(&self) {
        for kept in ["srpms", "sources"].iter().flat_map(|part| entries(&self.folder.join(part))) {
            let age = std::fs::metadata(&kept).and_then(|found| found.modified());
            if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT)) {
                self.remove(&kept).await;
            }
        }
    }

    /// The source RPM that a request asks for: made, or as it was made for another arch.
    pub async fn make(&self, request: &Request, cancel: &CancellationToken) -> Result<Made, ScmError> {
        let turn = self.turn(&request.pkg);
        let _turn = turn.lock().await;
        let Ok(_room) = self.room.acquire().await else { return Err(ScmError::Interrupted) };
        if cancel.is_cancelled() {
            return Err(ScmError::Interrupted);
        }
        let work = self.folder.join("work").join(uuid::Uuid::new_v4().simple().to_string());
        fs::make_private_dir(&work)?;
        let made = self.make_in(&work, request, cancel).await;
        self.remove(&work).await;
        made
    }

    async fn make_in(
        &self,
        work: &Path,
        request: &Request,
        cancel: &CancellationToken,
    ) -> Result<Made, ScmError> {
        let git = checkout::Git::new(&self.scm, work);
        // The tip of a branch is known without a clone.
        if let Some(made) = git.tip(request).await.and_then(|tip| self.kept(request, &tip)) {
            return Ok(made);
        }
        let checkout = match git.check_out(request, cancel).await {
            Ok(checkout) => checkout,
            Err(error) => return Err(self.explained(error, request).await),
        };
        if let Some(made) = self.kept(request, &checkout.commit) {
            return Ok(made);
        }
        let disttag = match request.disttag.as_str() {
            "" => disttag::find(&git, &checkout, &request.git_branch).await?,
            _ => request.disttag.clone(),
        };
        let layout = sources::Layout::of(&checkout.folder, &request.pkg)?;
        let fetcher = sources::Fetcher {
            http: &self.http,
            lookaside: &self.scm.lookaside,
            cache: &self.folder.join("sources"),
        };
        fetcher.fetch_all(&layout, &request.pkg, sources_below(request), cancel).await?;
        let srpm = pack::pack(&self.launcher, work, &checkout, &layout, &disttag, cancel).await?;
        let folder = self.place(request, &checkout.commit);
        Ok(Made { srpm: keep(&srpm, &disttag, &folder)?, commit: checkout.commit, disttag })
    }

    /// What git says of a certificate tells neither whose it is nor what to do about it; our own TLS does.
    async fn explained(&self, error: ScmError, request: &Request) -> ScmError {
        let url = Url::parse(&self.scm.repository(&request.pkg));
        match (error, url) {
            (ScmError::Refused(why), Ok(url)) if why.contains("certificate") => {
                match self.http.answers(&url).await {
                    Ok(_) => ScmError::Refused(why),
                    Err(told) => ScmError::Refused(format!("{why}; {told}")),
                }
            }
            (error, _) => error,
        }
    }

    /// Where the source RPM of a commit is kept, for requests that differ in nothing that goes into it.
    fn place(&self, request: &Request, commit: &str) -> PathBuf {
        let parts = [
            request.pkg.as_str(),
            request.git_branch.as_str(),
            commit,
            request.disttag.as_str(),
            sources_below(request),
        ];
        self.folder.join("srpms").join(fs::hex(&Sha256::digest(parts.join("\n").as_bytes())))
    }

    fn kept(&self, request: &Request, commit: &str) -> Option<Made> {
        let folder = self.place(request, commit);
        let is_srpm = |path: &PathBuf| path.extension().is_some_and(|end| end == "rpm");
        let srpm = entries(&folder).into_iter().find(is_srpm)?;
        let disttag = std::fs::read_to_string(folder.join(DISTTAG)).ok()?.parse().ok()?;
        touch(&folder);
        Some(Made { srpm, commit: commit.to_owned(), disttag })
    }

    /// A copy of a source RPM under a name that tells its content from another's.
    pub fn renamed(&self, srpm: &Path) -> Result<PathBuf, ScmError> {
        let (digest, _) = fs::sha256(srpm)?;
        let name = srpm.file_name().unwrap_or_default().to_string_lossy();
        let folder = self.folder.join("work").join(uuid::Uuid::new_v4().simple().to_string());
        fs::make_private_dir(&folder)?;
        let to = folder.join(format!("{}.{}.src.rpm", name.trim_end_matches(".src.rpm"), &digest[..8]));
        fs::copy_whole(srpm, &to)?;
        Ok(to)
    }

    /// Removes such a copy.
    pub fn discard(&self, renamed: &Path) {
        let folder = renamed.parent().filter(|folder| folder.starts_with(&self.folder));
        if let Some(Err(error)) = folder.map(fs::remove_dir) {
            tracing::warn!("{error}");
        }
    }

    fn turn(&self, pkg: &PkgName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(pkg.clone()).or_default())
    }

    /// Also what belongs to subordinate ids.
    async fn remove(&self, path: &Path) {
        if self.launcher.rootless() {
            // Fails only where the folder stays, which the lines below see.
            let _ = process::output(&self.launcher.remove(&[path])).await;
        }
        let removed =
            if path.is_dir() { fs::remove_dir(path).is_ok() } else { std::fs::remove_file(path).is_ok() };
        if !removed && path.exists() {
            tracing::warn!("{} cannot be removed", path.display());
        }
    }
}

/// Where the lookaside has the sources of a package in `.metadata`'s way.
fn sources_below(request: &Request) -> &str {
    match request.sources_dir.as_str() {
        "" => request.git_branch.as_str(),
        folder => folder,
    }
}

/// Beside a kept source RPM: what its disttag was found to be.
const DISTTAG: &str = "disttag";

/// Puts a source RPM where it is found again: the folder appears with it.
fn keep(srpm: &Path, disttag: &Disttag, folder: &Path) -> Result<PathBuf, ScmError> {
    let name = srpm.file_name().unwrap_or_default();
    let beside = folder.with_extension("new");
    fs::remove_dir(&beside)?;
    fs::make_dir(&beside)?;
    fs::write_whole(&beside.join(DISTTAG), disttag.as_str().as_bytes())?;
    fs::copy_whole(srpm, &beside.join(name))?;
    std::fs::rename(&beside, folder).map_err(FileError::at("write", folder))?;
    Ok(folder.join(name))
}

fn touch(path: &Path) {
    if let Ok(folder) = std::fs::File::open(path) {
        // It is only kept for less long otherwise.
        let _ = folder.set_modified(std::time::SystemTime::now());
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
