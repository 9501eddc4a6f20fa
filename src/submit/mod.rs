//! Submitting: a source RPM is checked, kept in `incoming/`, and becomes a job in the tube of its arch.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::model::arch::UnknownArch;
use crate::model::event::MAIL;
use crate::model::job::Predecessor;
use crate::model::name::BadName;
use crate::model::{
    Arch, BuildJob, BuildPath, Disttag, Layout, PkgName, SrpmName, Submitter, Target, VersionRelease,
};
use crate::queue::{NewJob, PRIORITY, PRIORITY_NOW, Queue, QueueError, WAITING};
use crate::stamp::Stamps;
use crate::sys::fs::{self, FileError, Lock};
use crate::sys::rpm::{self, RpmError, Whole};
use crate::sys::sqlite::DatabaseError;
use crate::targets::{self, UnknownTarget};

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
    #[error("{} is {kind}, not a source RPM", path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("{name} is in incoming/ already with other content: files there never change; raise its release")]
    Changed { name: SrpmName },
    #[error(transparent)]
    Target(#[from] UnknownTarget),
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
    /// The submitter is to be mailed of a scratch build.
    pub mail: bool,
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

/// A request that was found good.
#[derive(Debug, Clone)]
pub struct Accepted {
    request: Request,
    pub srpm: SrpmName,
    arch: Arch,
    target: Target,
    pub pkgname: PkgName,
    pub evr: VersionRelease,
    sha256: String,
    /// Where it lies; none where that is `incoming/`.
    from: Option<PathBuf>,
    /// The builds that it follows.
    after: Vec<Predecessor>,
}

/// Checks the request and reads its source RPM from end to end. Nothing is kept or queued yet.
pub fn accept(layout: &Layout, request: &Request) -> Result<Accepted, SubmitError> {
    let (arch, target) = accept_target(layout, request)?;
    let Found { srpm, whole, from } = find(layout, &request.srpm)?;
    let Whole { header, sha256, .. } = whole;
    let request = request.clone();
    let (pkgname, evr) = (header.name, header.evr);
    Ok(Accepted { request, srpm, arch, target, pkgname, evr, sha256, from, after: Vec::new() })
}

/// What the request asks to build for.
pub fn accept_target(layout: &Layout, request: &Request) -> Result<(Arch, Target), SubmitError> {
    let arch: Arch = request.arch.parse()?;
    let target = request.target.with_arch(&request.arch)?;
    check_target(layout, &request.srpm, &target, arch)?;
    Ok((arch, target))
}

impl SubmitError {
    /// Whether it is no fault of the request, which could be tried again as it is.
    pub fn is_ours(&self) -> bool {
        matches!(self, SubmitError::Queue(_) | SubmitError::Database(_) | SubmitError::File(_))
    }
}

impl Accepted {
    /// The same, to be begun only once those builds are in their repositories.
    pub fn following(self, after: Vec<Predecessor>) -> Accepted {
        Accepted { after, ..self }
    }

    /// Puts the source RPM into `incoming/` if it is not there.
    pub fn keep(&self, layout: &Layout) -> Result<(), SubmitError> {
        fs::make_dir(&layout.incoming())?;
        // Two submitters of the same name must not both find it absent, nor it be pruned meanwhile.
        let _lock = Lock::take_blocking(&layout.incoming_lock())?;
        let place = layout.srpm(&self.srpm);
        match (is_kept(layout, &self.srpm, &self.sha256)?, &self.from) {
            // Its age counts from here. What is another user's he may not let us touch.
            (true, _) => drop(fs::touch(&place)),
            (false, Some(from)) => {
                fs::copy_whole(from, &place)?;
                // Builders get it from a server that is another user, whatever its submitter's mode says.
                fs::open_to_all(&place)?;
            }
            (false, None) => {
                let (name, incoming) = (self.srpm.as_str().into(), layout.incoming());
                return Err(SubmitError::NotFound { name, incoming });
            }
        }
        Ok(())
    }
}

/// Whether `incoming/` has it. With other content it would have to change, and files there never do.
fn is_kept(layout: &Layout, name: &SrpmName, sha256: &str) -> Result<bool, SubmitError> {
    let place = layout.srpm(name);
    if !place.exists() {
        return Ok(false);
    }
    let (there, _) = fs::sha256(&place)?;
    if there == sha256 { Ok(true) } else { Err(SubmitError::Changed { name: name.clone() }) }
}

/// Queues an accepted request whose source RPM is kept: every call makes a build of its own.
pub async fn enqueue(queue: &Queue, stamps: &Stamps, accepted: &Accepted) -> Result<Submitted, SubmitError> {
    let (job, path) = prepare(stamps, accepted, Map::new()).await?;
    let job_id = put(queue, &job, accepted.request.now).await?;
    Ok(Submitted { job, job_id, path })
}

/// The job of an accepted request, stamped as a build of its own, with more fields; yet to be [`put`].
pub async fn prepare(
    stamps: &Stamps,
    accepted: &Accepted,
    mut extra: Map<String, Value>,
) -> Result<(BuildJob, BuildPath), SubmitError> {
    let Accepted { request, srpm, arch, target, pkgname, evr, sha256, from: _, after } = accepted.clone();
    let stamp = stamps.next(&target, pkgname.clone(), evr.clone(), sha256).await?;
    let path = BuildPath { target: target.clone(), pkgname, timestamp: stamp.timestamp, evr, arch };
    if request.mail {
        extra.insert(MAIL.to_owned(), true.into());
    }
    let job = BuildJob {
        srpm,
        arch,
        target,
        disttag: request.disttag,
        scratch: request.scratch,
        submitter: request.submitter,
        stamp: Some(stamp),
        after,
        tried: Vec::new(),
        last_failure: None,
        extra,
    };
    Ok((job, path))
}

/// Puts a job into the tube of its arch, or where it waits for others; returns its id. Put twice it is still one build, made by whoever is first.
pub async fn put(queue: &Queue, job: &BuildJob, now: bool) -> Result<u64, SubmitError> {
    let priority = if now { PRIORITY_NOW } else { PRIORITY };
    let tube = if job.after.is_empty() { job.arch.tube() } else { WAITING };
    let ids = queue.put(vec![NewJob::new(tube, job, priority)]).await?;
    Ok(ids.first().copied().unwrap_or_default())
}

/// Accepts, keeps and queues.
pub async fn submit(
    layout: &Layout,
    queue: &Queue,
    stamps: &Stamps,
    request: &Request,
) -> Result<Submitted, SubmitError> {
    let accepted = accept(layout, request)?;
    accepted.keep(layout)?;
    enqueue(queue, stamps, &accepted).await
}

/// A machine that has target files or configurations for mock can tell a wrong target before it is queued. A
/// package may have a configuration of its own, under the name that its file bears.
pub fn check_target(layout: &Layout, srpm: &Path, target: &Target, arch: Arch) -> Result<(), UnknownTarget> {
    let name: Option<SrpmName> = srpm.file_name().and_then(|name| name.to_string_lossy().parse().ok());
    let package = name.map(|name| name.split());
    targets::check(layout, package.as_ref().map(|(pkgname, evr)| (pkgname, evr)), target, arch)
}

/// A source RPM that was read from end to end.
struct Found {
    srpm: SrpmName,
    whole: Whole,
    /// None where it is in `incoming/`.
    from: Option<PathBuf>,
}

fn find(layout: &Layout, given: &Path) -> Result<Found, SubmitError> {
    let incoming = layout.incoming();
    // Where both are meant by a bare name, the file at hand: if it is another than the one kept, that is refused
    // below, and the old one is not built in its stead.
    let in_incoming = given.components().count() == 1 && !given.exists();
    let path = if in_incoming { incoming.join(given) } else { given.to_owned() };
    let found = std::fs::metadata(&path);
    if let Some(kind) = found.as_ref().ok().and_then(|found| fs::kind(found.file_type())) {
        return Err(SubmitError::NotAFile { path, kind });
    }
    let srpm: SrpmName = given.file_name().unwrap_or_default().to_string_lossy().parse()?;
    match found {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(SubmitError::NotFound { name: given.to_owned(), incoming });
        }
        // Why it cannot be read, reading it says best.
        _ => {}
    }
    let whole = rpm::whole(&path)?;
    if !whole.header.is_source() {
        return Err(SubmitError::Binary { path, arch: whole.header.arch });
    }
    if !in_incoming {
        is_kept(layout, &srpm, &whole.sha256)?;
    }
    Ok(Found { srpm, whole, from: (!in_incoming).then_some(path) })
}
