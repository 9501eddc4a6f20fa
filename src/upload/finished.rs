//! Which folders of the bstore count as builds. Ours do by their `build.json`. An old worker writes none: it is taken at
//! its word, which is its Success event; and what it had brought before this program served the bstore is adopted.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::model::record::{FILE, UNLISTED};
use crate::model::{Arch, BuildId, BuildPath, Event, Layout, Status};
use crate::sys::fs::{self, FileError};

/// In an old worker's folder, where `build.json` is in ours: the event that told of its success, if one did.
const MARK: &str = "old-success.json";
/// In a target's metadata cache: what old workers had brought into its tree is marked.
const ADOPTED: &str = "adopted";

/// Whether a build's folder is whole.
pub fn is_finished(folder: &Path) -> bool {
    folder.join(FILE).exists() || folder.join(MARK).exists()
}

/// Whether a build has left its repository, as what is pruned does before its files go.
pub fn is_unlisted(folder: &Path) -> bool {
    folder.join(UNLISTED).exists()
}

/// Marks the build that an event tells of, if that is an old worker's success. Of our own jobs, too, whose `build_id` it
/// passes on: ours tell of a success only when there is a `build.json`.
pub fn note(layout: &Layout, event: &Event) -> Result<(), FileError> {
    if event.status != Status::Success {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(event).expect("an event serializes");
    let is_it = |folder: &PathBuf| folder_names(folder, event) && !is_finished(folder);
    let path = layout.build(&event.path(), false);
    let siblings = path.parent().unwrap_or(&path);
    folders(siblings)?
        .into_iter()
        .filter(is_it)
        .try_for_each(|folder| fs::write_whole(&folder.join(MARK), &text))
}

/// Old workers name the folder by the arch that was asked for, which several spellings may mean.
fn folder_names(folder: &Path, event: &Event) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let parts = name.rsplit_once('.');
    parts.is_some_and(|(evr, arch)| evr == event.evr.as_str() && arch.parse() == Ok(event.arch))
}

/// Marks, once for a target, what lies in its `tree` already and has more to show than the source RPM that mock
/// leaves of a failed build.
pub fn adopt(tree: &Path, cache: &Path) -> Result<(), FileError> {
    let done = cache.join(ADOPTED);
    if done.exists() {
        return Ok(());
    }
    for folder in builds(tree)?.into_iter().filter(|folder| !is_finished(folder)) {
        if rpms(&folder).iter().any(|file| !file.ends_with("src.rpm")) {
            fs::write_whole(&folder.join(MARK), b"{}\n")?;
        }
    }
    fs::write_whole(&done, b"")
}

/// Whether an old worker has told that this build succeeded, which it builds under a time of its own. `package` is the
/// folder of all builds of the package.
pub fn old_success(package: &Path, build: &BuildPath, build_id: &BuildId) -> bool {
    let is_it = |folder: PathBuf| {
        let text = std::fs::read(folder.join(MARK)).ok()?;
        let event: Event = serde_json::from_slice(&text).ok()?;
        Some(event.build_id.as_ref() == Some(build_id) && event.arch == build.arch)
    };
    let times = folders(package).unwrap_or_default();
    let mut builds = times.iter().flat_map(|time| folders(time).unwrap_or_default());
    builds.any(|folder| is_it(folder) == Some(true))
}

/// The RPMs in a folder without a record, if it is of a build for `arch`.
pub fn old_results(folder: &Path, arch: Arch) -> Vec<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let its = name.rsplit_once('.').and_then(|(_, its)| its.parse::<Arch>().ok());
    if its == Some(arch) { rpms(folder) } else { Vec::new() }
}

fn rpms(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_rpm = |name: &String| Path::new(name).extension().is_some_and(|extension| extension == "rpm");
    // rsync's unfinished files begin with a dot.
    let mut found: Vec<String> = names.filter(is_rpm).filter(|name| !name.starts_with('.')).collect();
    found.sort();
    found
}

/// The folders of builds in a tree: `<pkgname>/<timestamp>/<version-release>.<arch>`.
pub fn builds(tree: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = vec![tree.to_owned()];
    for _ in ["packages", "timestamps", "builds"] {
        found = found.iter().map(|path| folders(path)).collect::<Result<Vec<_>, _>>()?.concat();
    }
    Ok(found)
}

/// Folders in a folder, hidden ones and metadata left out; none where it went away.
fn folders(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::at("read", path))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::at("read", path))?;
        let name = entry.file_name();
        let counts = name != "repodata" && !name.as_encoded_bytes().starts_with(b".");
        if counts && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
