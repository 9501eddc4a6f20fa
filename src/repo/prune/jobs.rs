//! What the jobs in the queue still need.

use std::collections::BTreeSet;

use super::PruneError;
use crate::model::{BuildId, BuildJob, PkgName, SrpmName, Target, Timestamp};
use crate::queue::{Entry, Queue};

/// How often the queue is listed before it counts as too long.
const TRIES: usize = 5;

/// See the module.
#[derive(Debug, Default)]
pub struct Jobs {
    pub sources: BTreeSet<SrpmName>,
    /// Of their builds.
    pub ids: BTreeSet<String>,
    pub builds: BTreeSet<(Target, PkgName, Timestamp)>,
    /// Builds that waiting ones follow: they must stay in their repositories.
    pub followed: BTreeSet<String>,
}

impl Jobs {
    /// Fails where not all of them can be seen.
    pub async fn of(queue: &Queue) -> Result<Jobs, PruneError> {
        for _ in 0..TRIES {
            let before = count(queue).await?;
            let entries = queue.list(None).await?;
            // Meanwhile some may have ended.
            if entries.len() as u64 >= before.min(count(queue).await?) {
                return Ok(Jobs::in_list(&entries));
            }
        }
        Err(PruneError::TooManyJobs)
    }

    fn in_list(entries: &[Entry]) -> Jobs {
        let mut jobs = Jobs::default();
        // Events and requests may read as jobs, and what they name stays a little longer.
        for job in entries.iter().filter_map(|entry| serde_json::from_slice::<BuildJob>(&entry.body).ok()) {
            if let Some(stamp) = &job.stamp {
                jobs.ids.insert(stamp.build_id.to_string());
                jobs.builds.insert((job.target.clone(), stamp.pkgname.clone(), stamp.timestamp));
            }
            jobs.followed.extend(job.after.iter().map(|one| one.build_id.to_string()));
            jobs.sources.insert(job.srpm);
        }
        jobs
    }

    pub fn has(&self, id: &BuildId) -> bool {
        self.ids.contains(id.as_str())
    }
}

async fn count(queue: &Queue) -> Result<u64, PruneError> {
    let stats = queue.stats().await?;
    Ok(stats.iter().map(|tube| tube.ready + tube.reserved + tube.delayed + tube.buried).sum())
}
