//! Which RPMs of a target's tree are in its repository: those of finished builds, that the target publishes.

use std::path::{Path, PathBuf};

use crate::model::Target;
use crate::sys::fs::FileError;
use crate::upload::finished;

/// The RPMs of a target's finished builds, relative to its tree, sorted. A folder that is not
/// finished is passed over.
pub fn all(target: &Target, tree: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for build in finished::builds(tree)? {
        found.extend(of_build(target, tree, &build)?);
    }
    found.sort();
    Ok(found)
}

/// Of one build, those that count for the target; none where it is not finished, or pruned. Its folder's name ends in its arch.
pub fn of_build(target: &Target, tree: &Path, build: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !finished::is_finished(build) || finished::is_unlisted(build) {
        return Ok(Vec::new());
    }
    let name = build.file_name().unwrap_or_default().to_string_lossy();
    let arch = name.rsplit_once('.').and_then(|(_, arch)| arch.parse().ok());
    let counts = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        arch.is_none_or(|arch| target.publishes(arch, &file))
    };
    let entries = std::fs::read_dir(build).map_err(FileError::at("read", build))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .filter(counts)
        .filter_map(|path| path.strip_prefix(tree).map(Path::to_owned).ok())
        .collect())
}
