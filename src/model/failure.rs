//! Why a build failed: a class that says whose fault it is, the phase, and the log lines that tell.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::word;

/// The kinds of failure; what each means is in docs/failures.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The source RPM cannot be had, is not what was submitted, or cannot be read.
    Source,
    /// The build root could not be filled: a BuildRequires that nothing provides, a repository that is down.
    Buildroot,
    /// %prep, %build or %install failed, or the spec does not parse.
    Build,
    /// %check failed.
    Check,
    /// The files do not make the packages that the spec promises.
    Packaging,
    /// The build took longer than its target allows.
    Timeout,
    /// The build used more than its builder allows: memory, processes, disk.
    Limit,
    /// The target or the builder is not configured, or wrongly.
    Config,
    /// No room left on the builder or the bstore.
    Disk,
    /// The results could not be put into the bstore.
    Upload,
    /// The builder vanished in the middle of it.
    Lost,
    /// The build was ended from outside.
    Killed,
    /// It was never begun: a build that it was to follow failed, or is no longer in its repository.
    After,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Building it again would fail again: final.
    Package,
    /// Another try, or another builder, may do better: tried again a bounded number of times.
    Farm,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Source => "source",
            Class::Buildroot => "buildroot",
            Class::Build => "build",
            Class::Check => "check",
            Class::Packaging => "packaging",
            Class::Timeout => "timeout",
            Class::Limit => "limit",
            Class::Config => "config",
            Class::Disk => "disk",
            Class::Upload => "upload",
            Class::Lost => "lost",
            Class::Killed => "killed",
            Class::After => "after",
        }
    }

    /// Whose fault it usually is; a [`Failure`] knows better where a class can be either's.
    pub fn blame(self) -> Blame {
        match self {
            Class::Source
            | Class::Buildroot
            | Class::Build
            | Class::Check
            | Class::Packaging
            | Class::Timeout
            | Class::Limit
            | Class::Config
            | Class::After => Blame::Package,
            Class::Disk | Class::Upload | Class::Lost | Class::Killed => Blame::Farm,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One failure, as `build.json` and the event carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    /// What was being done: `fetch`, `base`, `builddep`, `prep`, `build`, `install`, `check`, `package` …
    pub phase: String,
    /// One to five lines that tell why, the most telling first.
    pub lines: Vec<String>,
    /// The log they come from (`build.log`, `root.log`); none where nothing was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Whether another try may succeed. Says more than the class: a BuildRequires that nothing provides is
    /// the package's fault, a repository that does not answer is the farm's, both are `buildroot`.
    #[serde(default)]
    pub retry: bool,
}

impl Failure {
    pub fn new(class: Class, phase: &str, line: impl Into<String>) -> Failure {
        Failure {
            class,
            phase: phase.to_owned(),
            lines: vec![line.into()],
            log: None,
            retry: class.blame() == Blame::Farm,
        }
    }

    pub fn retried(self, retry: bool) -> Failure {
        Failure { retry, ..self }
    }

    /// The log to look into. Whoever tells of a failure cannot have another file shown.
    pub fn log_name(&self) -> &str {
        self.log.as_deref().filter(|log| word("log", log).is_ok()).unwrap_or("build.log")
    }

    pub fn from_log(class: Class, phase: &str, log: &str, lines: Vec<String>) -> Failure {
        Failure { lines, log: Some(log.to_owned()), ..Failure::new(class, phase, "") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failure in {}: {}", self.class, self.phase, self.lines.join(" | "))
    }
}
