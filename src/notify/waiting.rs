//! The sink of builds that follow another: when that has failed, they are reported too, and wait no longer.
//!
//! A failed build need not leave anything in the bstore, where those who move waiting jobs on look for results:
//! it may have been put aside, dropped, or been an old worker's.

use crate::model::{BuildJob, Event};
use crate::queue::{NOTIFY, NewJob, PRIORITY_FOLLOW_UP, Queue, QueueError, State, TubeStats, WAITING};
use crate::sys::process::node_name;

/// Jobs that could not be taken out of the queue.
#[derive(Debug, thiserror::Error)]
pub enum WaitingError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("jobs that wait for it are being looked at: {0}")]
    Held(usize),
}

/// Takes every job out of the queue that follows the failed build of `event`, and tells of it.
pub async fn fail_followers(queue: &Queue, event: &Event) -> Result<(), WaitingError> {
    if !queue.stats().await?.iter().any(somebody_waits) {
        return Ok(());
    }
    let mut held = 0;
    for entry in queue.list(Some(WAITING)).await? {
        let Ok(job) = serde_json::from_slice::<BuildJob>(&entry.body) else { continue };
        let Some(told) = told(&job, event) else { continue };
        // Who looks at it may be about to tell of it as well.
        if entry.state == State::Reserved {
            held += 1;
            continue;
        }
        // First: who dies in between tells of it again.
        queue.put(vec![NewJob::new(NOTIFY, &told, PRIORITY_FOLLOW_UP)]).await?;
        held += usize::from(!queue.withdraw(entry.id).await?);
    }
    if held == 0 { Ok(()) } else { Err(WaitingError::Held(held)) }
}

fn somebody_waits(tube: &TubeStats) -> bool {
    tube.tube == WAITING && tube.ready + tube.reserved + tube.delayed + tube.buried > 0
}

/// What is to be told of a job, if it follows that build.
fn told(job: &BuildJob, failed: &Event) -> Option<Event> {
    let is_it = |id, arch| failed.build_id.as_ref() == Some(id) && failed.arch == arch;
    let predecessor = job.after.iter().find(|one| is_it(&one.build_id, one.build.arch))?;
    job.not_begun(&node_name(), &predecessor.build, "failed")
}
