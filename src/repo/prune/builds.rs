//! The builds of a target: which of them stay, and in which step of their going the others are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Item, What};
use crate::config::{Keep, PruneOptions};
use crate::model::record::{FILE, PROTECTED, UNLISTED, Unlisted};
use crate::model::{BuildPath, BuildRecord, Status, Target};
use crate::sys::fs::{self, FileError};
use crate::sys::rpm::Nevra;
use crate::upload::finished;

const DAY: u64 = 86_400;

/// A finished build.
#[derive(Debug)]
pub struct Found {
    pub path: BuildPath,
    folder: PathBuf,
    record: BuildRecord,
    unlisted: Option<Unlisted>,
    protected: bool,
    /// Bytes of its RPMs; none where it has none (any more).
    rpms: Option<u64>,
}

/// The builds below `tree`. What is no build of ours, or an old worker's, is passed over, and so stays.
pub fn scan(tree: &Path, target: &Target) -> Result<Vec<Found>, FileError> {
    Ok(finished::builds(tree)?.into_iter().filter_map(|build| one(tree, target, build)).collect())
}

fn one(tree: &Path, target: &Target, folder: PathBuf) -> Option<Found> {
    let below = folder.strip_prefix(tree).ok()?.to_str()?;
    let path: BuildPath = format!("{target}/{below}").parse().ok()?;
    let record: BuildRecord = serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()?;
    let files = rpms(&folder);
    let bytes = files.iter().map(|file| fs::bytes_below(file)).sum();
    Some(Found {
        path,
        record,
        unlisted: unlisted(&folder),
        protected: folder.join(PROTECTED).exists(),
        rpms: (!files.is_empty()).then_some(bytes),
        folder,
    })
}

/// One that cannot be read is as good as one that was just made.
fn unlisted(folder: &Path) -> Option<Unlisted> {
    let text = std::fs::read(folder.join(UNLISTED)).ok()?;
    Some(serde_json::from_slice(&text).unwrap_or(Unlisted {
        since: super::now(),
        published: None,
        gone: false,
    }))
}

/// The RPMs in a folder.
pub fn rpms(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "rpm")).collect()
}

impl Found {
    fn age(&self) -> Duration {
        let finished: Option<jiff::Timestamp> = self.record.finished.parse().ok();
        let age = finished.map(|finished| jiff::Timestamp::now().duration_since(finished));
        age.map_or_else(|| self.path.timestamp.age(), |age| age.try_into().unwrap_or_default())
    }

    fn is_older(&self, days: u64) -> bool {
        self.age() >= Duration::from_secs(days * DAY)
    }

    /// The packages that it has in the repository.
    fn published(&self) -> impl Iterator<Item = &str> {
        let counts = |file: &str| self.path.target.publishes(self.path.arch, file);
        let there = |file: &str| self.folder.join(file).exists();
        let results = self.record.results.iter();
        results.filter(move |one| counts(&one.file) && there(&one.file)).map(|one| one.nevra.as_str())
    }

    /// Whether it counts among the versions of its packages.
    fn is_candidate(&self) -> bool {
        let event = &self.record.event;
        event.status == Status::Success
            && !event.scratch
            && self.rpms.is_some()
            && !self.unlisted.is_some_and(|unlisted| unlisted.gone)
    }

    fn item(&self, what: What) -> Item {
        let bytes = match what {
            What::Logs | What::Scratch => fs::bytes_below(&self.folder),
            _ => self.rpms.unwrap_or_default(),
        };
        Item {
            what,
            name: self.path.to_string(),
            days: self.age().as_secs() / DAY,
            bytes,
            path: self.folder.clone(),
            target: Some(self.path.target.clone()),
        }
    }
}

/// What becomes of a target's builds; nothing of most. `followed`: the ids of builds that waiting ones follow.
pub fn decide(
    found: &[Found],
    target: &Target,
    options: &PruneOptions,
    followed: &BTreeSet<String>,
) -> Vec<Item> {
    let policy = options.policy(target);
    let newest = newest(found, policy);
    let mut items = Vec::new();
    for (index, build) in found.iter().enumerate() {
        let id = build.record.event.build_id.as_ref();
        let is_needed = build.protected || id.is_some_and(|id| followed.contains(id.as_str()));
        let stays = is_needed || newest.contains(&index) || !build.is_older(days(build, policy, options));
        items.extend(fate(build, stays, policy, options.grace, is_needed).map(|what| build.item(what)));
    }
    items
}

/// How long its RPMs stay, whatever is newer.
fn days(build: &Found, policy: Keep, options: &PruneOptions) -> u64 {
    if build.record.event.scratch { options.scratch_days } else { policy.days }
}

fn fate(build: &Found, stays: bool, policy: Keep, grace: Duration, is_needed: bool) -> Option<What> {
    match (build.rpms, build.unlisted, stays) {
        (None, _, _) => (build.is_older(policy.log_days) && !is_needed).then_some(What::Logs),
        (Some(_), None, true) => None,
        (Some(_), None, false) => Some(What::Unlist),
        (Some(_), Some(unlisted), true) if !unlisted.gone => Some(What::Relist),
        (Some(_), Some(unlisted), _) => {
            let since = unlisted.published.map(|then| super::now().saturating_sub(then));
            let is_over = since.is_some_and(|since| since >= 0 && since.unsigned_abs() >= grace.as_secs());
            Some(if unlisted.gone || is_over { What::Rpms } else { What::Grace })
        }
    }
}

/// The builds that have one of the newest versions of a package and arch. Of two builds of one version the later one
/// counts.
fn newest(found: &[Found], policy: Keep) -> BTreeSet<usize> {
    let mut versions: BTreeMap<(String, String), Vec<(Nevra, usize)>> = BTreeMap::new();
    let mut stay = BTreeSet::new();
    for (index, build) in found.iter().enumerate().filter(|(_, build)| build.is_candidate()) {
        for nevra in build.published() {
            match Nevra::parse(nevra) {
                Some(nevra) => {
                    let key = (nevra.name.clone(), nevra.arch.clone());
                    versions.entry(key).or_default().push((nevra, index));
                }
                // What cannot be compared is not called old.
                None => drop(stay.insert(index)),
            }
        }
    }
    for mut list in versions.into_values() {
        list.sort_by(|(a, one), (b, other)| {
            b.compare(a)
                .then_with(|| Reverse(found[*one].path.timestamp).cmp(&Reverse(found[*other].path.timestamp)))
        });
        list.dedup_by(|(later, _), (first, _)| first.compare(later).is_eq());
        stay.extend(list.into_iter().take(policy.newest).map(|(_, index)| index));
    }
    stay
}

/// The scratch builds that go.
pub fn scratch(found: &[Found], days: u64) -> Vec<Item> {
    let old = found.iter().filter(|build| build.is_older(days) && !build.protected);
    old.map(|build| build.item(What::Scratch)).collect()
}
