//! What nobody needs any more outside of the repositories: source RPMs, and what uploads and builders left.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::jobs::Jobs;
use super::{Item, What};
use crate::model::{BuildPath, Layout, SrpmName};
use crate::sys::fs::{self, FileError, Lock};

const DAY: Duration = Duration::from_secs(86_400);

/// Source RPMs that no job names.
pub fn sources(layout: &Layout, days: u64, jobs: &Jobs) -> Vec<Item> {
    let is_needed = |name: &str| {
        // What is no source RPM by its name is not ours to judge.
        name.parse::<SrpmName>().map_or(true, |name| jobs.sources.contains(&name))
    };
    let old = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        (path.is_file() && !is_needed(&name)).then_some(())?;
        item(What::Source, name, path, days)
    };
    entries(&layout.incoming()).filter_map(old).collect()
}

/// Deletes one, unless somebody has submitted it since it was `looked_at`: that makes it young again.
pub fn delete_source(layout: &Layout, path: &Path, looked_at: SystemTime) -> Result<(), FileError> {
    let _lock = Lock::take_blocking(&layout.incoming_lock())?;
    let modified = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    if modified.is_ok_and(|modified| modified < looked_at) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// What gathered in `upload/`, for a build that has no job any more.
pub fn uploads(layout: &Layout, days: u64, jobs: &Jobs) -> Vec<Item> {
    let old = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let id = name.split('.').next()?.parse().ok()?;
        (!jobs.has(&id)).then_some(())?;
        item(What::Upload, name, path, days)
    };
    entries(&layout.uploads()).filter_map(old).collect()
}

/// What is left in `results/` of builds that have no job any more.
pub fn results(layout: &Layout, days: u64, jobs: &Jobs) -> Vec<Item> {
    let all = layout.all_results();
    let mut builds = vec![all.clone()];
    for _ in ["target", "package", "timestamp", "build"] {
        builds = builds.iter().flat_map(|folder| entries(folder)).filter(|path| path.is_dir()).collect();
    }
    let old = |path: PathBuf| {
        let build: BuildPath = path.strip_prefix(&all).ok()?.to_str()?.parse().ok()?;
        let name = build.to_string();
        let is_needed = jobs.builds.contains(&(build.target, build.pkgname, build.timestamp));
        (!is_needed).then_some(())?;
        item(What::Results, name, path, days)
    };
    builds.into_iter().filter_map(old).collect()
}

/// What is not old enough is none.
fn item(what: What, name: String, path: PathBuf, days: u64) -> Option<Item> {
    let age = youngest(&path)?;
    let is_old = age >= DAY * u32::try_from(days).unwrap_or(u32::MAX);
    is_old.then(|| Item {
        what,
        name,
        days: age.as_secs() / DAY.as_secs(),
        bytes: fs::bytes_below(&path),
        path,
        target: None,
    })
}

/// The age of the youngest file or folder below.
fn youngest(path: &Path) -> Option<Duration> {
    let below: Vec<Duration> =
        if path.is_dir() { entries(path).filter_map(|path| youngest(&path)).collect() } else { Vec::new() };
    fs::age(path).into_iter().chain(below).min()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
