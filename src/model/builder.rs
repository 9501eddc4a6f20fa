//! What a worker tells of itself in tube `builders`, and what is kept of it: its last sign of life. A repogen tells of
//! the store that it works on in the same way: it has no slots.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::text::plain;
use super::{Arch, Limits, Size, Target};

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Builder {
    /// The node's name, as events have it.
    pub builder: String,
    /// Tells several workers of one name apart, be they on one machine or not.
    pub worker: String,
    /// Tells machines of one name apart.
    #[serde(default)]
    pub machine: String,
    pub arch: Arch,
    /// Where it takes jobs from.
    pub tubes: Vec<String>,
    /// Builds at a time; 0: it is a store.
    pub slots: usize,
    /// Paths of the builds it is at.
    pub running: Vec<String>,
    /// Of the last minute.
    pub load: f64,
    /// Bytes, where it builds, or where the store is.
    pub free: Size,
    /// Below this it takes no jobs.
    pub min_free: Size,
    /// Per build.
    pub limits: Limits,
    pub takes_jobs: bool,
    /// Why it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// It has ended as it should: no more signs will come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// What the repositories of a store leave out, for each that does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Unix time, seconds.
    pub time: i64,
}

/// RPMs of a target that are not in its repository, since they cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub target: Target,
    pub count: usize,
    /// The first of them: as many as a sign has room for.
    pub files: Vec<Excluded>,
}

/// A file that is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// Relative to the repository.
    pub file: PathBuf,
    pub reason: String,
}

impl Excluded {
    /// A sentence without a line end, whatever the file is called.
    pub fn told(&self) -> String {
        plain(&format!("{} is left out: {}", self.file.display(), self.reason))
    }
}

/// How often a sign comes at least, in seconds.
pub const INTERVAL: i64 = 30;

impl Builder {
    /// Whether it tells of a store.
    pub fn is_store(&self) -> bool {
        self.slots == 0
    }

    /// Seconds of silence, where that is too long for one that runs.
    pub fn silent_for(&self, now: i64) -> Option<i64> {
        let silence = now - self.time;
        (!self.stopped && silence > 3 * INTERVAL).then_some(silence)
    }
}

/// What comes a little late is no silence yet.
const GRACE: i64 = 15;

/// Names under which more than one machine builds. One that was cut off and started anew is taken for two until its
/// former sign is old.
pub fn shared_names(signs: &[Builder], now: i64) -> Vec<&str> {
    let mut machines: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sign in signs.iter().filter(|sign| !sign.stopped && now - sign.time <= INTERVAL + GRACE) {
        machines.entry(&sign.builder).or_default().insert(&sign.machine);
    }
    machines.into_iter().filter(|(_, machines)| machines.len() > 1).map(|(name, _)| name).collect()
}

/// What to do about it.
pub fn told_of_shared(name: &str) -> String {
    format!(
        "more than one machine is called {name}: who fails at a job cannot leave it to the other; give each a name of its own"
    )
}
