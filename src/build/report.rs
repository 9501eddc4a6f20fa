//! What a worker tells of a build, and to whom.

use crate::model::event::carried_on;
use crate::model::job::Stamp;
use crate::model::{BuildJob, Event, Failure, Status};
use crate::queue::{CREATEREPO, NOTIFY, NewJob, PRIORITY_FOLLOW_UP};

/// An event about `job`, with the job's unknown fields kept.
pub fn event(
    job: &BuildJob,
    stamp: &Stamp,
    builder: &str,
    status: Status,
    failure: Option<Failure>,
) -> Event {
    Event {
        srpm: job.srpm.clone(),
        arch: job.arch,
        target: job.target.clone(),
        disttag: job.disttag.clone(),
        scratch: job.scratch,
        submitter: job.submitter.clone(),
        status,
        builder_fqdn: builder.to_owned(),
        evr: stamp.evr.clone(),
        pkgname: stamp.pkgname.clone(),
        timestamp: stamp.timestamp,
        build_id: Some(stamp.build_id.clone()),
        failure,
        arches: Vec::new(),
        warnings: Vec::new(),
        extra: carried_on(&job.extra),
    }
}

/// The event as a job for the notifier.
pub fn notify(event: &Event) -> NewJob {
    NewJob::new(NOTIFY, event, PRIORITY_FOLLOW_UP)
}

/// What a result sets off: a notification, and metadata where RPMs came into a repository.
///
/// Metadata is asked for before the notification, so that who hears of a success can wait for the repository.
pub fn follow_ups(event: &Event) -> Vec<NewJob> {
    let mut jobs = Vec::new();
    if event.status == Status::Success {
        jobs.push(NewJob::new(CREATEREPO, event, PRIORITY_FOLLOW_UP));
    }
    jobs.push(notify(event));
    jobs
}
