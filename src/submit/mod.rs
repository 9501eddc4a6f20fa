//! Submitting: a source RPM is checked, kept in `incoming/`, and becomes a job in the tube of its arch.

use std::path::{Path, PathBuf};

use serde_json::Map;

use crate::model::arch::UnknownArch;
use crate::model::name::BadName;
use crate::model::{
    Arch, BuildJob, BuildPath, Disttag, Layout, PkgName, SrpmName, Submitter, Target, VersionRelease,
};
use crate::queue::{NewJob, PRIORITY, PRIORITY_NOW, Queue, QueueError};
use crate::stamp::Stamps;
use crate::sys::fs::{self, FileError, Lock};
use crate::sys::rpm::{self, RpmError, Whole};
use crate::sys::sqlite::DatabaseError;

/// Why a submission was refused. Nothing is queued then, and nothing half written.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Name(#[from] BadName),
    #[error(transparent)]
    Arch(#[from] UnknownArch),
    #[error(transparent)]
    Rpm(#[from] RpmError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("{}: no such source RPM, neither in {} nor as a path", name.display(), incoming.display())]
    NotFound { name: PathBuf, incoming: PathBuf },
    #[error("{} is a binary RPM ({arch}): give a source RPM", path.display())]
    Binary { path: PathBuf, arch: String },
    #[error("{} names its package badly in its header: {reason}", path.display())]
    BadHeader { path: PathBuf, reason: BadName },
    #[error("{name} is in incoming/ already with other content: files there never change; raise its release")]
    Changed { name: SrpmName },
    #[error("no target file {}; the targets here are: {known}", path.display())]
    NoTarget { path: PathBuf, known: String },
}

/// What a submitter asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// A name in `incoming/`, or a path.
    pub srpm: PathBuf,
    /// As it was typed: it also stands in the target's name on the wire.
    pub arch: String,
    /// Without arch.
    pub target: Target,
    pub disttag: Disttag,
    pub scratch: bool,
    /// Ahead of the others.
    pub now: bool,
    pub submitter: Submitter,
}

/// A job in the queue.
#[derive(Debug, Clone)]
pub struct Submitted {
    pub job: BuildJob,
    pub job_id: u64,
    pub path: BuildPath,
}

/// A request that was found good, with its source RPM kept in `incoming/`.
#[derive(Debug, Clone)]
pub struct Accepted {
    request: Request,
    pub srpm: SrpmName,
    arch: Arch,
    target: Target,
    pub pkgname: PkgName,
    pub evr: VersionRelease,
    sha256: String,
}

/// Checks the request and keeps its source RPM. Nothing is queued yet.
pub fn accept(layout: &Layout, request: &Request) -> Result<Accepted, SubmitError> {
    let arch: Arch = request.arch.parse()?;
    let target = request.target.with_arch(&request.arch)?;
    check_target(layout, &target)?;
    let Received { srpm, pkgname, evr, sha256 } = receive(layout, &request.srpm)?;
    Ok(Accepted { request: request.clone(), srpm, arch, target, pkgname, evr, sha256 })
}

/// Queues an accepted request: every call makes a build of its own.
pub async fn enqueue(queue: &Queue, stamps: &Stamps, accepted: &Accepted) -> Result<Submitted, SubmitError> {
    let Accepted { request, srpm, arch, target, pkgname, evr, sha256 } = accepted.clone();
    let stamp = stamps.next(&target, pkgname.clone(), evr.clone(), sha256).await?;
    let path = BuildPath { target: target.clone(), pkgname, timestamp: stamp.timestamp, evr, arch };
    let job = BuildJob {
        srpm,
        arch,
        target,
        disttag: request.disttag,
        scratch: request.scratch,
        submitter: request.submitter,
        stamp: Some(stamp),
        tried: Vec::new(),
        last_failure: None,
        extra: Map::new(),
    };
    let priority = if request.now { PRIORITY_NOW } else { PRIORITY };
    let ids = queue.put(vec![NewJob::new(arch.as_str(), &job, priority)]).await?;
    Ok(Submitted { job, job_id: ids.first().copied().unwrap_or_default(), path })
}

/// [`accept`] and [`enqueue`].
pub async fn submit(
    layout: &Layout,
    queue: &Queue,
    stamps: &Stamps,
    request: &Request,
) -> Result<Submitted, SubmitError> {
    enqueue(queue, stamps, &accept(layout, request)?).await
}

/// A machine that has target files can tell a wrong target before it is queued.
pub fn check_target(layout: &Layout, target: &Target) -> Result<(), SubmitError> {
    let path = layout.target_file(target);
    if path.exists() || !layout.targets().exists() {
        return Ok(());
    }
    let mut known: Vec<String> = std::fs::read_dir(layout.targets())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".repo").map(str::to_owned))
        .collect();
    known.sort();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(SubmitError::NoTarget { path, known })
}

/// A source RPM in `incoming/`.
struct Received {
    srpm: SrpmName,
    pkgname: PkgName,
    evr: VersionRelease,
    sha256: String,
}

/// Finds the source RPM, reads it from end to end, and puts it into `incoming/` if it is not there.
fn receive(layout: &Layout, given: &Path) -> Result<Received, SubmitError> {
    let incoming = layout.incoming();
    // Where both are meant by a bare name, the file at hand: if it is another than the one kept, that is refused
    // below, and the old one is not built in its stead.
    let in_incoming = given.components().count() == 1 && !given.is_file();
    let path = if in_incoming { incoming.join(given) } else { given.to_owned() };
    let name: SrpmName = given.file_name().unwrap_or_default().to_string_lossy().parse()?;
    if !path.is_file() {
        return Err(SubmitError::NotFound { name: given.to_owned(), incoming });
    }
    let whole = rpm::whole(&path)?;
    if !whole.header.is_source() {
        return Err(SubmitError::Binary { path, arch: whole.header.arch });
    }
    let bad_header = |reason| SubmitError::BadHeader { path: path.clone(), reason };
    let pkgname = whole.header.name.parse().map_err(bad_header)?;
    let evr = whole.header.version_release().parse().map_err(bad_header)?;
    if !in_incoming {
        keep(layout, &path, &name, &whole)?;
    }
    Ok(Received { srpm: name, pkgname, evr, sha256: whole.sha256 })
}

fn keep(layout: &Layout, path: &Path, name: &SrpmName, whole: &Whole) -> Result<(), SubmitError> {
    let to = layout.srpm(name);
    fs::make_dir(&layout.incoming())?;
    // Two submitters of the same name must not both find it absent.
    let _lock = Lock::take_blocking(&layout.incoming().join(".lock"))?;
    if to.exists() {
        let (there, _) = fs::sha256(&to)?;
        return if there == whole.sha256 { Ok(()) } else { Err(SubmitError::Changed { name: name.clone() }) };
    }
    Ok(fs::copy_whole(path, &to)?)
}
