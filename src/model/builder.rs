//! What a worker tells of itself in tube `builders`, and what is kept of it: its last sign of life.

use serde::{Deserialize, Serialize};

use super::{Arch, Limits, Size};

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Builder {
    /// The node's name, as events have it.
    pub builder: String,
    /// Tells several workers on one node apart.
    pub worker: String,
    pub arch: Arch,
    /// Where it takes jobs from.
    pub tubes: Vec<String>,
    /// Builds at a time.
    pub slots: usize,
    /// Paths of the builds it is at.
    pub running: Vec<String>,
    /// Of the last minute.
    pub load: f64,
    /// Bytes, where it builds.
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
    /// Unix time, seconds.
    pub time: i64,
}

/// How often a sign comes at least, in seconds.
pub const INTERVAL: i64 = 30;

impl Builder {
    /// Seconds of silence, where that is too long for one that runs.
    pub fn silent_for(&self, now: i64) -> Option<i64> {
        let silence = now - self.time;
        (!self.stopped && silence > 3 * INTERVAL).then_some(silence)
    }
}
