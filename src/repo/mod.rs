//! Repository metadata, role `repogen`: made anew for every target that something was built into.
//!
//! Requests for one target that wait together are served by one run; those that arrive during a run wait for
//! the next. So none is dropped, and metadata is never older than the last finished request.

mod createrepo;
mod snapshot;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::model::{Layout, Target};
use crate::queue::{CREATEREPO, NewJob, PRIORITY_FOLLOW_UP, Queue};
use crate::shutdown::Shutdown;
use crate::sys::fs::{self, FileError, Lock};
use crate::sys::process::ProcessError;

/// Metadata that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("createrepo_c for {target} ended with {end}: {said}")]
    Failed { target: Target, end: String, said: String },
}

/// A request for metadata. Workers send the whole event; a target is all that is needed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub target: Target,
    #[serde(default)]
    pub scratch: bool,
}

/// The request as a job.
pub fn request(target: &Target) -> NewJob {
    NewJob::new(CREATEREPO, &Request { target: target.clone(), scratch: false }, PRIORITY_FOLLOW_UP)
}

const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Everything a repogen works with.
#[derive(Debug, Clone)]
pub struct Repogen {
    pub layout: Layout,
    /// Whether scratch builds lie in the repositories.
    pub scratch_in_repo: bool,
}

impl Repogen {
    /// Serves requests until told to stop.
    pub async fn run(&self, queue: &Queue, shutdown: &Shutdown) {
        consumer::run(queue, &[CREATEREPO.to_owned()], shutdown, self).await;
    }
}

impl Handler for Repogen {
    // Each is a reserved job that must be kept alive.
    const MOST: usize = 200;

    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let requests: Vec<Result<Request, serde_json::Error>> =
            jobs.iter().map(|delivery| serde_json::from_slice(&delivery.job.body)).collect();
        let mut done: BTreeMap<&Target, Verdict> = BTreeMap::new();
        for request in requests.iter().flatten() {
            // Scratch builds are in no repository.
            let nothing_to_do = request.scratch && !self.scratch_in_repo;
            if !nothing_to_do && !done.contains_key(&request.target) {
                done.insert(&request.target, regenerate(&self.layout, &request.target).await);
            }
        }
        requests
            .iter()
            .map(|request| match request {
                Ok(request) => done.get(&request.target).cloned().unwrap_or(Verdict::Done),
                Err(error) => {
                    Verdict::Bury { reason: format!("its body is no request for metadata: {error}") }
                }
            })
            .collect()
    }
}

async fn regenerate(layout: &Layout, target: &Target) -> Verdict {
    let begun = std::time::Instant::now();
    match generate(layout, target).await {
        Ok(packages) => {
            tracing::info!(
                "{target}: metadata made in {:.2} s, RPMs: {packages}",
                begun.elapsed().as_secs_f64()
            );
            Verdict::Done
        }
        Err(error) => {
            tracing::error!("{target}: {error}; trying again in {} s", RETRY.as_secs());
            Verdict::Release { delay: RETRY, reason: error.to_string() }
        }
    }
}

/// Makes the metadata of one target and switches to it. Returns the number of packages in it.
async fn generate(layout: &Layout, target: &Target) -> Result<usize, RepoError> {
    let (tree, cache) = (layout.repository(target, false), layout.metadata_cache(target));
    fs::make_dir(&tree)?;
    fs::make_dir(&cache)?;
    // It dies with its owner, so no stale lock can block a target.
    let _lock = Lock::take(&cache.join("lock")).await?;
    let packages = createrepo::packages(target, &tree)?;
    createrepo::run(target, &tree, &cache, &packages).await?;
    snapshot::publish(&cache.join("repodata"), &tree)?;
    Ok(packages.len())
}
