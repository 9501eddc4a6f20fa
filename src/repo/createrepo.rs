//! Running createrepo_c (createrepo_c(8)) into a working copy of a target's metadata.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::RepoError;
use crate::model::Target;
use crate::model::record::FILE;
use crate::sys::fs::{self, FileError};
use crate::sys::process::{self, Program};

/// The RPMs of a target's finished builds, relative to its tree, sorted. A folder without `build.json` is not
/// finished, and is passed over.
pub fn packages(target: &Target, tree: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for package in folders(tree)? {
        for timestamp in folders(&package)? {
            for build in folders(&timestamp)? {
                if build.join(FILE).exists() {
                    rpms(target, &build, tree, &mut found)?;
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Folders in a folder, hidden ones and metadata left out.
fn folders(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(path).map_err(FileError::at("read", path))?;
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| {
            entry.file_name() != "repodata" && !entry.file_name().as_encoded_bytes().starts_with(b".")
        })
        .map(|entry| entry.path())
        .collect())
}

/// Of one build, those that count for the target. Its folder's name ends in its arch.
fn rpms(target: &Target, build: &Path, tree: &Path, found: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let name = build.file_name().unwrap_or_default().to_string_lossy();
    let arch = name.rsplit_once('.').and_then(|(_, arch)| arch.parse().ok());
    let counts = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        arch.is_none_or(|arch| target.publishes(arch, &file))
    };
    let entries = std::fs::read_dir(build).map_err(FileError::at("read", build))?;
    found.extend(
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
            .filter(counts)
            .filter_map(|path| path.strip_prefix(tree).map(Path::to_owned).ok()),
    );
    Ok(())
}

/// Makes `cache/repodata` describe `packages` of `tree`. Needs the target's lock.
pub async fn run(target: &Target, tree: &Path, cache: &Path, packages: &[PathBuf]) -> Result<(), RepoError> {
    // A run that was killed leaves this behind, and createrepo_c would take it for another one running.
    fs::remove_dir(&cache.join(".repodata"))?;
    let list = cache.join("packages");
    let lines: Vec<&str> = packages.iter().filter_map(|path| path.to_str()).collect();
    fs::write_whole(&list, lines.join("\n").as_bytes())?;
    let log = cache.join("createrepo.log");
    let _ = std::fs::remove_file(&log);
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let program = Program::new("createrepo_c")
        // The SQLite form of the metadata costs more than all the rest, and dnf does not read it.
        .args(["--quiet", "--no-database", "--update"])
        // Readers that have the old repomd.xml must find what it names.
        .args(["--retain-old-md", "3"])
        .args(["--workers", &workers.to_string()])
        .arg("--pkglist")
        .arg(&list)
        .arg("--outputdir")
        .arg(cache)
        .arg(tree);
    let end = process::run(&program, &log, None, &CancellationToken::new()).await?;
    if end.success() {
        return Ok(());
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    Err(RepoError::Failed { target: target.clone(), end: end.to_string(), said })
}
