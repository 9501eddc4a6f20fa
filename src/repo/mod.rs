//! Repository metadata, role `repogen`: made anew for every target that something was built into.
//!
//! Requests for one target that wait together are served by one run; those that arrive during a run wait for
//! the next. So none is dropped, and metadata is never older than the last finished request. Targets are worked on
//! side by side.

mod life;
mod line;
mod packages;
pub mod prune;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use self::line::{Line, Where};
use self::waiting::Mover;
use crate::config::RepoOptions;
use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::metadata::{Made, MetadataError, Repository, Verified, Wanted};
use crate::model::{Arch, Event, Layout, PkgName, Target, Timestamp, VersionRelease};
use crate::queue::{CREATEREPO, NewJob, PRIORITY_FOLLOW_UP, Queue};
use crate::shutdown::Shutdown;
use crate::sys::fs::FileError;
use crate::upload::finished;

/// A request for metadata. Workers send the whole event, so that it is known where something is new; a target is all
/// that is needed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub target: Target,
    #[serde(default)]
    pub scratch: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkgname: Option<PkgName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evr: Option<VersionRelease>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
}

impl Request {
    /// The build it names, if it names one, and else all of them.
    fn place(&self) -> Where {
        match (&self.pkgname, &self.timestamp, &self.evr, &self.arch) {
            (Some(name), Some(timestamp), Some(evr), Some(arch)) => {
                Where::of(PathBuf::from(format!("{name}/{timestamp}/{evr}.{arch}")))
            }
            _ => Where::Everywhere,
        }
    }
}

/// The request, for all of a target, as a job.
pub fn request(target: &Target) -> NewJob {
    let request = Request {
        target: target.clone(),
        scratch: false,
        pkgname: None,
        timestamp: None,
        evr: None,
        arch: None,
    };
    NewJob::new(CREATEREPO, &request, PRIORITY_FOLLOW_UP)
}

const RETRY: std::time::Duration = std::time::Duration::from_secs(5);
/// Batches of requests in hand at a time: a target that takes long has no more of them than that.
const BATCHES: usize = 16;

/// Everything a repogen works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repogen {
    layout: Layout,
    /// Whether scratch builds lie in the repositories.
    scratch_in_repo: bool,
    options: RepoOptions,
    lines: Arc<Mutex<HashMap<Target, Arc<Line>>>>,
}

impl Repogen {
    pub fn new(layout: Layout, scratch_in_repo: bool, options: RepoOptions) -> Repogen {
        Repogen { layout, scratch_in_repo, options, lines: Arc::default() }
    }

    /// Serves requests, and moves waiting jobs on, until told to stop.
    pub async fn run(&self, queue: &Queue, shutdown: &Shutdown) {
        let (tubes, mover) = ([CREATEREPO.to_owned()], Mover::new(self, queue));
        let this = Arc::new(self.clone());
        tokio::join!(
            consumer::run_side_by_side(queue, &tubes, shutdown, this, BATCHES),
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
        let requests: Vec<Result<Request, Verdict>> =
            jobs.iter().map(|delivery| delivery.body("request for metadata")).collect();
        // Scratch builds are in no repository.
        let is_served = |request: &&Request| !request.scratch || self.scratch_in_repo;
        let done = self.serve_all(requests.iter().flatten().filter(is_served)).await;
        requests
            .iter()
            .map(|request| match request {
                Ok(request) => done.get(&request.target).cloned().unwrap_or(Verdict::Done),
                Err(verdict) => verdict.clone(),
            })
            .collect()
    }
}

impl Repogen {
    /// What came of each target that is asked for.
    async fn serve_all(&self, requests: impl Iterator<Item = &Request>) -> BTreeMap<Target, Verdict> {
        let mut places: BTreeMap<Target, Where> = BTreeMap::new();
        for request in requests {
            let before = places.remove(&request.target);
            let place = before.map_or(request.place(), |before| before.and(request.place()));
            places.insert(request.target.clone(), place);
        }
        let mut serving = JoinSet::new();
        for (target, place) in places {
            let this = self.clone();
            serving.spawn(async move {
                let verdict = this.line(&target).serve(place, |place| this.regenerate(&target, place)).await;
                (target, verdict)
            });
        }
        serving.join_all().await.into_iter().collect()
    }

    fn line(&self, target: &Target) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lines.entry(target.clone()).or_default())
    }

    async fn regenerate(&self, target: &Target, place: Where) -> Verdict {
        let begun = std::time::Instant::now();
        match self.generate(target, place).await {
            Ok(made) => {
                for file in &made.newly_excluded {
                    tracing::warn!("{target}: {}", file.told());
                }
                tracing::info!(
                    "{target}: metadata {} in {:.3} s, RPMs: {}, state {}",
                    if made.is_new { "made" } else { "found up to date" },
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
    async fn generate(&self, target: &Target, place: Where) -> Result<Made, MetadataError> {
        let repository = self.repository(target);
        let locked = repository.lock().await?;
        finished::adopt(&repository.tree, &repository.cache)?;
        let only = match place {
            Where::Everywhere => None,
            Where::In(folders) if folders.iter().all(|folder| is_found(&repository.tree, folder)) => {
                Some(in_folders(target, &repository.tree, folders)?)
            }
            Where::In(_) => None,
        };
        let made = locked.update(Wanted { only, ..everything(target, &repository.tree) }, None).await?;
        let every = self.options.verify_every as u64;
        if made.is_new && every > 0 && made.runs > 0 && made.runs % every == 0 {
            tell(target, &locked.verify(everything(target, &repository.tree), None).await?);
        }
        Ok(made)
    }

    /// Compares the metadata of a target with what createrepo_c makes of its builds, and repairs it.
    pub async fn verify(&self, target: &Target) -> Result<Verified, MetadataError> {
        let repository = self.repository(target);
        let locked = repository.lock().await?;
        locked.verify(everything(target, &repository.tree), None).await
    }

    fn repository(&self, target: &Target) -> Repository {
        Repository {
            tree: self.layout.repository(target, false),
            cache: self.layout.metadata_cache(target),
            options: self.options.clone(),
        }
    }
}

/// Old workers may spell the arch in a folder's name in their own way, and what was removed is found nowhere: then
/// everything is looked at.
fn is_found(tree: &Path, folder: &Path) -> bool {
    finished::is_finished(&tree.join(folder))
}

/// Those that have a folder in `repo/`, say.
fn targets(trees: &Path) -> BTreeSet<Target> {
    let entries = std::fs::read_dir(trees).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn tell(target: &Target, verified: &Verified) {
    for difference in &verified.found {
        tracing::warn!("{target}: {difference}");
    }
    for difference in &verified.wrong_anew {
        tracing::error!("{target}: even when the built-in engine makes it anew: {difference}");
    }
    if !verified.wrong_anew.is_empty() {
        tracing::error!("{target}: createrepo_c makes its metadata from now on; please report that");
    }
    for difference in &verified.left {
        tracing::error!("{target}: even as createrepo_c makes it: {difference}");
    }
}

fn everything(target: &Target, tree: &Path) -> Wanted {
    let (target, tree) = (target.clone(), tree.to_owned());
    Wanted { all: Arc::new(move || packages::all(&target, &tree)), only: None }
}

fn in_folders(
    target: &Target,
    tree: &Path,
    folders: BTreeSet<PathBuf>,
) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>, FileError> {
    let files = |folder: PathBuf| Ok((folder.clone(), packages::of_build(target, tree, &tree.join(folder))?));
    folders.into_iter().map(files).collect()
}
