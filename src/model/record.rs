//! `build.json`: what is known of a finished build, beside its RPMs. It is the truth; the history is made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Resources;
use super::event::{self, Event};

/// The file's name in a build's folder. A folder without one does not count.
pub const FILE: &str = "build.json";

/// In the folder of a build that was taken out of its repository; its RPMs are deleted some time later. It says since
/// when: see [`Unlisted`].
pub const UNLISTED: &str = "unlisted.json";
/// In the folder of a build that is never pruned. What is in it is for people.
pub const PROTECTED: &str = "protected";

/// The content of [`UNLISTED`], in Unix time, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    pub since: i64,
    /// When the first state of the repository without it was published; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<i64>,
    /// Whether its RPMs are deleted, or being deleted: it cannot come back.
    #[serde(default)]
    pub gone: bool,
}

/// The content of `build.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Version of this format: 1.
    pub format: u32,
    /// Identity and outcome, as the event told them.
    #[serde(flatten, with = "event::among")]
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
    /// The states of the repositories that it was installed from, as far as they are known, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepositoryState>,
}

/// A state of a repository, as a build saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryState {
    pub id: String,
    /// As the target's configuration says it: `$root` is the root folder, other variables are dnf's. Absent where that
    /// is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseurl: Option<String>,
    /// `<revision>` of its repomd.xml, where that is a number: of our own repositories the state's, which only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Of that repomd.xml, lower-case hexadecimal.
    pub sha256: String,
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
    /// Of noarch and source RPMs, which companion arches make alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

/// What two builds of one source must agree in, as digests of no meaning but to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// SHA-256 of names, modes, owners, links and digests of the files.
    pub files: String,
    /// SHA-256 of everything that it requires, provides, conflicts with …
    pub dependencies: String,
}

/// So many are told in full.
const MOST_DIFFERENCES: usize = 20;

impl BuildRecord {
    /// How the noarch and source RPMs of this companion build differ from the main arch's, which are the ones that
    /// are published: a sentence each.
    pub fn differences(&self, main: &BuildRecord) -> Vec<String> {
        let shared = self.results.iter().filter_map(|ours| Some((ours, ours.content.as_ref()?)));
        let differs = shared.filter_map(|(ours, content)| {
            let theirs = main.results.iter().find(|theirs| theirs.nevra == ours.nevra);
            let what = match theirs.and_then(|theirs| theirs.content.as_ref()) {
                None => format!("is not made for {} and published by neither", main.event.arch),
                Some(other) if content.files != other.files => {
                    format!("has other files than the one made for {}", main.event.arch)
                }
                Some(other) if content.dependencies != other.dependencies => {
                    format!("has other dependencies than the one made for {}", main.event.arch)
                }
                Some(_) => return None,
            };
            Some(format!("{} made for {} {what}", ours.file, self.event.arch))
        });
        let mut all: Vec<String> = differs.collect();
        // They travel in events, which have a limit.
        let more = all.len().saturating_sub(MOST_DIFFERENCES);
        if more > 0 {
            all.truncate(MOST_DIFFERENCES);
            all.push(format!(
                "{more} more made for {} differ from those made for {}",
                self.event.arch, main.event.arch
            ));
        }
        all
    }
}

/// Which engine built, and in which version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineName {
    pub name: String,
    pub version: String,
}
