//! What `build.json` says of a build, gathered while it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::source::Source;
use crate::model::name::word;
use crate::model::record::{self, BuildRecord, EngineName, RepositoryState, ResultFile};
use crate::model::{Attempt, Class, Event, Failure, Resources, SrpmName};
use crate::sys::fs::{FileError, kind};
use crate::sys::rpm::{self, Whole};

/// See the module.
#[derive(Debug)]
pub struct Inventory {
    started: jiff::Timestamp,
    durations: BTreeMap<String, f64>,
    /// What it used.
    pub resources: Resources,
    source: record::Source,
    buildroot: Vec<String>,
    repositories: Vec<RepositoryState>,
    results: Vec<ResultFile>,
}

impl Inventory {
    pub fn begin(started: jiff::Timestamp) -> Inventory {
        Inventory {
            started,
            durations: BTreeMap::new(),
            resources: Resources::default(),
            source: record::Source { file: String::new(), size: 0, sha256: String::new() },
            buildroot: Vec::new(),
            repositories: Vec::new(),
            results: Vec::new(),
        }
    }

    pub fn took(&mut self, phase: &str, since: Instant) {
        self.durations.insert(phase.to_owned(), since.elapsed().as_secs_f64());
    }

    pub fn source(&mut self, source: &Source, name: &SrpmName) {
        self.source = record::Source {
            file: name.to_string(),
            size: source.whole.size,
            sha256: source.whole.sha256.clone(),
        };
    }

    pub fn outcome(
        &mut self,
        durations: BTreeMap<String, f64>,
        buildroot: Vec<String>,
        repositories: Vec<RepositoryState>,
    ) {
        self.durations.extend(durations);
        self.buildroot = buildroot;
        self.repositories = repositories;
    }

    /// Reads every RPM in the folder. A success without any is none.
    pub fn results(&mut self, folder: &Path) -> Result<(), Failure> {
        let begun = Instant::now();
        let bad = |error: String| Failure::new(Class::Packaging, "collect", error);
        for path in rpms(folder).map_err(|error| bad(error.to_string()))? {
            self.results.push(result(&path).map_err(bad)?);
        }
        self.took("digests", begun);
        if self.results.is_empty() { Err(bad("the build succeeded but made no RPM".into())) } else { Ok(()) }
    }

    pub fn into_record(self, event: Event, attempt: &Attempt, engine: EngineName) -> BuildRecord {
        BuildRecord {
            format: 1,
            // A failed build has no results, whatever it left.
            results: if event.failure.is_none() { self.results } else { Vec::new() },
            event,
            attempt: attempt.to_string(),
            source: self.source,
            durations: self.durations.into_iter().map(|(phase, seconds)| (phase, millis(seconds))).collect(),
            resources: self.resources,
            started: self.started.to_string(),
            finished: jiff::Timestamp::now().to_string(),
            engine,
            buildroot: self.buildroot,
            repositories: self.repositories,
        }
    }
}

/// A result, if it is what it calls itself: what the history, the repository and the signer tell of it is true.
fn result(path: &Path) -> Result<ResultFile, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = word("the result's name", &name).map_err(|error| error.to_string())?;
    let found = std::fs::symlink_metadata(path).map_err(|error| format!("the result {file}: {error}"))?;
    if let Some(kind) = kind(found.file_type()) {
        return Err(format!("the result {file} is {kind}"));
    }
    let Whole { header, sha256, size, content } = rpm::whole(path).map_err(|error| error.to_string())?;
    if !header.is_source() && file != header.file_name() {
        return Err(format!("the result {file} says in its header that it is {}", header.file_name()));
    }
    let is_shared = header.is_source() || header.arch == "noarch";
    Ok(ResultFile { file, nevra: header.nevra(), size, sha256, content: is_shared.then_some(content) })
}

fn millis(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// A failed build uploads logs and no RPMs: what lies in a repository is listed by it.
pub fn remove_rpms(folder: &Path) -> Result<(), FileError> {
    for path in rpms(folder)? {
        std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
    }
    Ok(())
}

/// build.log and root.log always exist: where the engine made none, they say why. Best effort, since the
/// failure may be that nothing can be written.
pub fn leave_logs(folder: &Path, failure: &Failure) {
    for log in ["build.log", "root.log"] {
        let path = folder.join(log);
        if !path.exists() {
            let _ = std::fs::write(path, format!("{failure}\n"));
        }
    }
}

/// The RPMs in a folder, by name.
fn rpms(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(FileError::at("read", folder))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .collect();
    found.sort();
    Ok(found)
}
