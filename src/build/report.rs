//! What a worker tells of a build, and to whom.

use crate::model::{Event, Status};
use crate::queue::{CREATEREPO, NOTIFY, NewJob, PRIORITY_FOLLOW_UP};

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
