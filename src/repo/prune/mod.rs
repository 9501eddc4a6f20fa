//! Pruning: old builds leave their repositories and are deleted, by a policy per target.
//!
//! A build's RPMs go in two steps, since clients may be in the middle of a download: first the build is marked (a
//! file in its folder), and metadata without it is published; its RPMs are deleted by a later run, once that is long
//! enough ago. Its logs and its `build.json` stay longer. What goes as a whole is moved out of the way in one step and
//! then deleted. So a run can end at any point; the next one goes on.

mod builds;
mod jobs;
mod leftovers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::Repogen;
use super::line::Where;
use crate::config::PruneOptions;
use crate::metadata::MetadataError;
use crate::model::record::{UNLISTED, Unlisted};
use crate::model::{Layout, Target};
use crate::queue::{Queue, QueueError};
use crate::sys::fs::{self, FileError, Lock};
use jobs::Jobs;

/// Why nothing could be pruned, or something not.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("another prune runs on this root; wait for its end")]
    Busy,
    #[error(
        "the queue holds more jobs than it can list, so what they need is not known, and nothing is pruned; try again when there are fewer"
    )]
    TooManyJobs,
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A build's RPMs leave the repository; the files are deleted later.
    Unlist,
    /// A build's RPMs that left it, not long enough ago: nothing is done.
    Grace,
    /// The same, long enough ago: the files are deleted.
    Rpms,
    /// A build that was to go and is to stay after all is listed again.
    Relist,
    /// All that is left of a build is deleted: logs and `build.json`.
    Logs,
    /// A scratch build is deleted.
    Scratch,
    /// A source RPM in `incoming/` is deleted.
    Source,
    /// What an upload left is deleted.
    Upload,
    /// What a builder left is deleted.
    Results,
}

/// Something that is pruned.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    pub what: What,
    /// A build's path, or a file's name.
    pub name: String,
    /// Its age.
    pub days: u64,
    /// What it occupies.
    pub bytes: u64,
    #[serde(skip)]
    path: PathBuf,
    /// Whose repository it is in.
    #[serde(skip)]
    target: Option<Target>,
}

/// What is to be done, while nobody else prunes.
#[derive(Debug)]
pub struct Plan {
    pub items: Vec<Item>,
    /// Whose builds were looked at.
    pub targets: Vec<Target>,
    made: SystemTime,
    _lock: Lock,
}

/// What was done of a plan.
#[derive(Debug, Serialize)]
pub struct Done {
    #[serde(flatten)]
    pub item: Item,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Who prunes.
#[derive(Debug)]
pub struct Pruner {
    pub repogen: Repogen,
    pub options: PruneOptions,
    pub queue: Queue,
}

impl Pruner {
    /// Looks at what is there: of these targets, or of all and at what was left elsewhere.
    pub async fn plan(&self, only: &[Target]) -> Result<Plan, PruneError> {
        let layout = &self.repogen.layout;
        fs::make_dir(&layout.locks())?;
        let lock = Lock::try_take(&layout.locks().join("prune"))?.ok_or(PruneError::Busy)?;
        let made = SystemTime::now();
        let jobs = Jobs::of(&self.queue).await?;
        let (mut items, mut targets) = (Vec::new(), targets(layout));
        targets.retain(|target| only.is_empty() || only.contains(target));
        for target in &targets {
            let found = builds::scan(&layout.repository(target, false), target)?;
            items.extend(builds::decide(&found, target, &self.options, &jobs.followed));
            let scratch = builds::scan(&layout.repository(target, true), target)?;
            items.extend(builds::scratch(&scratch, self.options.scratch_days));
        }
        if only.is_empty() {
            items.extend(leftovers::sources(layout, self.options.source_days, &jobs));
            items.extend(leftovers::uploads(layout, self.options.leftover_days, &jobs));
            items.extend(leftovers::results(layout, self.options.leftover_days, &jobs));
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Plan { items, targets: targets.into_iter().collect(), made, _lock: lock })
    }

    /// Does it. One thing that cannot be done keeps the others from nothing.
    pub async fn carry_out(&self, plan: Plan) -> Vec<Done> {
        let layout = &self.repogen.layout;
        // What a run that was ended had moved out of the way.
        let _ = fs::remove_dir(&layout.trash());
        let mut marked: BTreeMap<Target, Vec<&Item>> = BTreeMap::new();
        let mut errors: BTreeMap<&Path, String> = BTreeMap::new();
        for item in &plan.items {
            let done = match item.what {
                What::Unlist => unlist(&item.path),
                What::Relist => fs::remove_file(&item.path.join(UNLISTED)),
                // A run was ended between that and the publication.
                What::Grace if !is_published(&item.path) => Ok(()),
                _ => continue,
            };
            match (done, &item.target) {
                (Err(error), _) => drop(errors.insert(&item.path, error.to_string())),
                (Ok(()), Some(target)) => marked.entry(target.clone()).or_default().push(item),
                (Ok(()), None) => {}
            }
        }
        for (target, items) in marked {
            if let Err(error) = self.publish(&target, &items).await {
                errors.extend(items.iter().map(|item| (item.path.as_path(), error.to_string())));
            }
        }
        for item in &plan.items {
            if let Err(error) = delete(layout, item, plan.made) {
                errors.insert(&item.path, error.to_string());
            }
        }
        let error = |item: &Item| errors.get(item.path.as_path()).cloned();
        plan.items.iter().map(|item| Done { error: error(item), item: item.clone() }).collect()
    }

    /// Publishes the repository without what is marked, and notes that it was.
    async fn publish(&self, target: &Target, items: &[&Item]) -> Result<(), PruneError> {
        self.repogen.generate(target, Where::Everywhere).await?;
        for item in items.iter().filter(|item| item.what != What::Relist) {
            let now = now();
            let since = unlisted(&item.path).map_or(now, |unlisted| unlisted.since);
            note(&item.path, Unlisted { since, published: Some(now), gone: false })?;
        }
        Ok(())
    }
}

/// Those that have builds.
fn targets(layout: &Layout) -> BTreeSet<Target> {
    let trees = ["repo", "scratch"].map(|tree| layout.bstore().join(tree));
    trees.iter().flat_map(|tree| super::targets(tree)).collect()
}

fn unlist(build: &Path) -> Result<(), FileError> {
    note(build, Unlisted { since: now(), published: None, gone: false })
}

fn note(build: &Path, unlisted: Unlisted) -> Result<(), FileError> {
    // Numbers always serialize.
    fs::write_whole(&build.join(UNLISTED), &serde_json::to_vec(&unlisted).unwrap_or_default())
}

fn unlisted(build: &Path) -> Option<Unlisted> {
    serde_json::from_slice(&std::fs::read(build.join(UNLISTED)).ok()?).ok()
}

fn is_published(build: &Path) -> bool {
    unlisted(build).is_some_and(|unlisted| unlisted.published.is_some())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn delete(layout: &Layout, item: &Item, planned: SystemTime) -> Result<(), FileError> {
    match item.what {
        What::Unlist | What::Grace | What::Relist => Ok(()),
        What::Rpms => delete_rpms(&item.path),
        What::Logs => discard(layout, &item.path, &layout.bstore().join("repo")),
        What::Scratch => discard(layout, &item.path, &layout.bstore().join("scratch")),
        What::Upload => fs::remove_dir(&item.path),
        What::Source => leftovers::delete_source(layout, &item.path, planned),
        What::Results => {
            fs::remove_dir(&item.path)?;
            remove_empty_parents(&item.path, &layout.all_results());
            Ok(())
        }
    }
}

/// From here on it never is listed again, since some of it may be missing.
fn delete_rpms(build: &Path) -> Result<(), FileError> {
    let Some(unlisted) = unlisted(build) else { return Ok(()) };
    note(build, Unlisted { gone: true, ..unlisted })?;
    for rpm in builds::rpms(build) {
        fs::remove_file(&rpm)?;
    }
    Ok(())
}

/// Moves a build out of the way in one step, and deletes it.
fn discard(layout: &Layout, build: &Path, tree: &Path) -> Result<(), FileError> {
    let trash = layout.trash();
    fs::make_dir(&trash)?;
    let to = trash.join(uuid::Uuid::new_v4().simple().to_string());
    std::fs::rename(build, &to).map_err(FileError::at("move out of the way", build))?;
    remove_empty_parents(build, tree);
    fs::remove_dir(&to)
}

/// The folders between `path` and `stop`, as far as nothing is in them.
fn remove_empty_parents(path: &Path, stop: &Path) {
    let below = path.ancestors().skip(1).take_while(|parent| *parent != stop);
    // A target's folder stays: its metadata is in it.
    for parent in below.filter(|parent| parent.parent() != Some(stop)) {
        if std::fs::remove_dir(parent).is_err() {
            return;
        }
    }
}
