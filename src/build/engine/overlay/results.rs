//! From the folder that the sandbox collected in to the result folder.

use std::path::{Path, PathBuf};

use super::place::files_ending;
use crate::sys::fs::FileError;

/// The logs that a result folder has, whatever happened.
pub const LOGS: [&str; 4] = ["build.log", "root.log", "state.log", "installed_pkgs.log"];

/// Makes the logs, empty: also where an earlier try has written to them.
pub fn make_logs(resultdir: &Path) -> Result<(), FileError> {
    LOGS.iter().try_for_each(|log| {
        let path = resultdir.join(log);
        std::fs::write(&path, "").map_err(FileError::at("write", &path))
    })
}

/// Moves the RPMs of `from` to the result folder, and returns where they are now.
pub fn keep(from: &Path, resultdir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut kept = Vec::new();
    // What %generate_buildrequires asked for is no result: mock does not keep it either.
    let asked = |path: &PathBuf| path.to_string_lossy().ends_with(".buildreqs.nosrc.rpm");
    for path in files_ending(from, ".rpm").into_iter().filter(|path| !asked(path)) {
        let to = resultdir.join(path.file_name().unwrap_or_default());
        // The result folder may be on another file system than the cache.
        let moved = std::fs::rename(&path, &to).or_else(|_| std::fs::copy(&path, &to).map(drop));
        moved.map_err(FileError::at("put a result to", &to))?;
        kept.push(to);
    }
    kept.sort();
    Ok(kept)
}

pub fn is_source(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".src.rpm") || name.ends_with(".nosrc.rpm")
}

/// Reads a package list, sorts it in place, and returns the NEVRAs.
pub fn package_list(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    // A log whose lines are in another order is no reason to fail.
    let _ = std::fs::write(path, lines.join("\n") + if lines.is_empty() { "" } else { "\n" });
    lines.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
