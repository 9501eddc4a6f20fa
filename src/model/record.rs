//! `build.json`: what is known of a finished build, beside its RPMs. It is the truth; the history is made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Resources;
use super::event::Event;

/// The file's name in a build's folder. A folder without one does not count.
pub const FILE: &str = "build.json";

/// The content of `build.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Version of this format: 1.
    pub format: u32,
    /// Identity and outcome, as the event told them.
    #[serde(flatten)]
    pub event: Event,
    pub attempt: String,
    pub source: Source,
    /// The RPMs, by file name. Empty for a failed build.
    pub results: Vec<ResultFile>,
    /// Seconds spent in each phase.
    pub durations: BTreeMap<String, f64>,
    /// What it used, as far as that is known.
    #[serde(default, skip_serializing_if = "Resources::is_unknown")]
    pub resources: Resources,
    /// When the build began and ended, UTC, RFC 3339.
    pub started: String,
    pub finished: String,
    pub engine: EngineName,
    /// NEVRAs of everything installed in the build root, sorted.
    pub buildroot: Vec<String>,
}

/// The source RPM that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub file: String,
    /// Bytes.
    pub size: u64,
    pub sha256: String,
}

/// An RPM that came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFile {
    pub file: String,
    pub nevra: String,
    /// Bytes.
    pub size: u64,
    pub sha256: String,
}

/// Which engine built, and in which version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineName {
    pub name: String,
    pub version: String,
}
