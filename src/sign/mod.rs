//! Staging for signing, role `signer`: the RPMs of successful builds are copied to `tosign/<target>/`.

use serde::{Deserialize, Serialize};

use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::model::record::{BuildRecord, FILE};
use crate::model::{Arch, Event, Layout, PkgName, Status, Target, Timestamp};
use crate::queue::{NewJob, PRIORITY_FOLLOW_UP, Queue, TOSIGN};
use crate::shutdown::Shutdown;
use crate::sys::fs::{self, FileError};
use crate::upload::finished;

/// The body of a job in tube `tosign`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub pkgname: PkgName,
    pub status: Status,
    pub target: Target,
    pub arch: Arch,
    pub timestamp: Timestamp,
}

/// The job that an event sets off; none for a failed or a scratch build.
pub fn request(event: &Event) -> Option<NewJob> {
    let body = Request {
        pkgname: event.pkgname.clone(),
        status: event.status,
        target: event.target.clone(),
        arch: event.arch,
        timestamp: event.timestamp,
    };
    let wanted = event.status == Status::Success && !event.scratch;
    wanted.then(|| NewJob::new(TOSIGN, &body, PRIORITY_FOLLOW_UP))
}

const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Everything a signer works with.
#[derive(Debug, Clone)]
pub struct Signer {
    pub layout: Layout,
}

impl Signer {
    /// Stages until told to stop.
    pub async fn run(&self, queue: &Queue, shutdown: &Shutdown) {
        consumer::run(queue, &[TOSIGN.to_owned()], shutdown, self).await;
    }

    fn verdict(&self, delivery: &Delivery) -> Verdict {
        let request: Request = match serde_json::from_slice(&delivery.job.body) {
            Ok(request) => request,
            Err(error) => {
                return Verdict::Bury { reason: format!("its body is no request for signing: {error}") };
            }
        };
        match stage(&self.layout, &request) {
            Ok(staged) => {
                tracing::info!(
                    "{}: staged for signing, RPMs of {}: {staged}",
                    request.target,
                    request.pkgname
                );
                Verdict::Done
            }
            // Waiting does not bring it back.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                Verdict::Bury { reason: format!("what is to be signed is not there: {error}") }
            }
            Err(error) => Verdict::Release { delay: RETRY, reason: error.to_string() },
        }
    }
}

impl Handler for Signer {
    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        jobs.iter().map(|delivery| self.verdict(delivery)).collect()
    }
}

/// Copies the RPMs of the request's builds, each whole or not at all. Says how many.
fn stage(layout: &Layout, request: &Request) -> Result<usize, FileError> {
    let to = layout.tosign(&request.target);
    fs::make_dir(&to)?;
    let builds = layout
        .repository(&request.target, false)
        .join(request.pkgname.as_str())
        .join(request.timestamp.to_string());
    let mut staged = 0;
    for folder in std::fs::read_dir(&builds).map_err(FileError::at("read", &builds))?.flatten() {
        for result in signable(&folder.path(), request) {
            fs::copy_whole(&folder.path().join(&result), &to.join(&result))?;
            staged += 1;
        }
    }
    Ok(staged)
}

/// The RPMs in a build's folder, if it is a successful build of that arch, not a failed sibling or a scratch
/// build. Old workers leave no record: of theirs, the request itself tells.
fn signable(folder: &std::path::Path, request: &Request) -> Vec<String> {
    let record = std::fs::read(folder.join(FILE)).ok();
    let record: Option<BuildRecord> = record.and_then(|text| serde_json::from_slice(&text).ok());
    match record {
        Some(record)
            if record.event.arch == request.arch
                && record.event.status == Status::Success
                && !record.event.scratch =>
        {
            let files = record.results.into_iter().map(|result| result.file);
            files.filter(|file| request.target.publishes(request.arch, file)).collect()
        }
        None if request.status == Status::Success => finished::old_results(folder, request.arch)
            .into_iter()
            .filter(|file| request.target.publishes(request.arch, file))
            .collect(),
        _ => Vec::new(),
    }
}
