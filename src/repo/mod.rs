//! Repository metadata, role `repogen`: made anew for every target that something was built into.
//!
//! Requests for one target that wait together are served by one run; those that arrive during a run wait for
//! the next. So none is dropped, and metadata is never older than the last finished request.

mod life;
mod packages;
pub mod prune;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::RepoOptions;
use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::metadata::{Made, MetadataError, Repository, Wanted};
use crate::model::{Event, Layout, Target};
use crate::queue::{CREATEREPO, NewJob, PRIORITY_FOLLOW_UP, Queue};
use crate::shutdown::Shutdown;
use crate::sys::fs::FileError;
use crate::upload::finished;
use waiting::Mover;

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
    pub options: RepoOptions,
}

impl Repogen {
    /// Serves requests, and moves waiting jobs on, until told to stop.
    pub async fn run(&self, queue: &Queue, shutdown: &Shutdown) {
        let (tubes, mover) = ([CREATEREPO.to_owned()], Mover::new(self, queue));
        tokio::join!(
            consumer::run(queue, &tubes, shutdown, self),
            mover.run(shutdown),
            life::give_signs(&self.layout, queue, shutdown)
        );
    }
}

impl Repogen {
    /// Old workers ask for metadata with the event that tells of their success.
    fn note_old_successes(&self, jobs: &[Delivery]) -> Result<(), FileError> {
        let events = jobs.iter().filter_map(|job| serde_json::from_slice::<Event>(&job.job.body).ok());
        let mut listed = events.filter(|event| self.scratch_in_repo || !event.scratch);
        listed.try_for_each(|event| finished::note(&self.layout, &event))
    }
}

impl Handler for Repogen {
    // Each is a reserved job that must be kept alive.
    const MOST: usize = 200;

    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        if let Err(error) = self.note_old_successes(jobs) {
            tracing::error!("{error}; trying again in {} s", RETRY.as_secs());
            return vec![Verdict::Release { delay: RETRY, reason: error.to_string() }; jobs.len()];
        }
        let requests: Vec<Result<Request, serde_json::Error>> =
            jobs.iter().map(|delivery| serde_json::from_slice(&delivery.job.body)).collect();
        let mut done: BTreeMap<&Target, Verdict> = BTreeMap::new();
        for request in requests.iter().flatten() {
            // Scratch builds are in no repository.
            let nothing_to_do = request.scratch && !self.scratch_in_repo;
            if !nothing_to_do && !done.contains_key(&request.target) {
                done.insert(&request.target, self.regenerate(&request.target).await);
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

impl Repogen {
    async fn regenerate(&self, target: &Target) -> Verdict {
        let begun = std::time::Instant::now();
        match self.generate(target).await {
            Ok(made) => {
                for file in &made.excluded {
                    tracing::warn!("{target}: {} is left out: {}", file.file.display(), file.reason);
                }
                tracing::info!(
                    "{target}: metadata made in {:.2} s, RPMs: {}, state {}",
                    begun.elapsed().as_secs_f64(),
                    made.packages,
                    made.state
                );
                Verdict::Done
            }
            Err(error) => {
                tracing::error!("{target}: {error}; trying again in {} s", RETRY.as_secs());
                Verdict::Release { delay: RETRY, reason: error.to_string() }
            }
        }
    }

    /// Makes the metadata of one target and switches to it.
    async fn generate(&self, target: &Target) -> Result<Made, MetadataError> {
        let tree = self.layout.repository(target, false);
        let repository = Repository {
            tree: tree.clone(),
            cache: self.layout.metadata_cache(target),
            options: self.options.clone(),
        };
        let locked = repository.lock().await?;
        finished::adopt(&tree, &self.layout.metadata_cache(target))?;
        let target = target.clone();
        let all = Arc::new(move || packages::all(&target, &tree));
        locked.update(Wanted { all, only: None }, None).await
    }
}
