//! Running createrepo_c (createrepo_c(8)) into a working copy of a repository's metadata.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::repomd::Repomd;
use super::{Excluded, MetadataError, Repository, publish};
use crate::sys::fs::{self, FileError};
use crate::sys::process::{self, End, Program};

/// More than the largest repository takes. Short of memory, createrepo_c may wait for ever for a thread that ended.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Makes the files of a state and puts them beside those of the live one; says which RPMs createrepo_c left out. Kinds
/// of metadata that it does not make (comps, updateinfo) are taken over from `old`.
pub async fn make(
    repository: &Repository,
    packages: &[PathBuf],
    number: u64,
    old: &Repomd,
) -> Result<(Repomd, Vec<Excluded>), MetadataError> {
    let Repository { tree, cache, options } = repository;
    let said = run(tree, cache, packages, number, &options.createrepo_options).await?;
    let made = cache.join("repodata");
    let mut repomd = read(&made.join("repomd.xml"))?;
    for file in repomd.files() {
        publish::link(&made.join(file), &tree.join("repodata").join(file))?;
    }
    fs::sync_files(&tree.join("repodata"))?;
    repomd.revision = Some(number);
    publish::carry_on(tree, old, &mut repomd);
    Ok((repomd, left_out(&said, tree)))
}

/// It goes on without an RPM that librpm refuses, which says why: `error: <path>: <reason>`.
fn left_out(said: &str, tree: &Path) -> Vec<Excluded> {
    let begin = format!("error: {}/", tree.display());
    let refused = said.lines().filter_map(|line| line.strip_prefix(&begin)?.split_once(": "));
    let excluded = refused.map(|(file, reason)| Excluded {
        file: file.into(),
        reason: format!("rpm cannot read it: {reason}"),
    });
    excluded.collect()
}

fn read(path: &Path) -> Result<Repomd, MetadataError> {
    let text = std::fs::read(path).map_err(FileError::at("read", path))?;
    Repomd::parse(&text).map_err(|reason| MetadataError::Unreadable { path: path.to_owned(), reason })
}

/// Makes `cache/repodata` describe `packages` of `tree`, and returns what createrepo_c said. Needs the repository's lock.
pub async fn run(
    tree: &Path,
    cache: &Path,
    packages: &[PathBuf],
    number: u64,
    options: &[String],
) -> Result<String, MetadataError> {
    // A run that was killed leaves this behind, and createrepo_c would take it for another one running.
    fs::remove_dir(&cache.join(".repodata"))?;
    let list = cache.join("packages");
    let lines: Vec<&str> = packages.iter().filter_map(|path| path.to_str()).collect();
    fs::write_whole(&list, lines.join("\n").as_bytes())?;
    let log = cache.join("createrepo.log");
    let _ = std::fs::remove_file(&log);
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let program = Program::new("createrepo_c")
        // librpm gives summaries in the language of whoever asks, and readers are many.
        .env("LC_ALL", "C.UTF-8")
        .env("LANGUAGE", "")
        .args(["--quiet", "--workers", &workers.to_string()])
        .args(options)
        .args(["--revision", &number.to_string()])
        .arg("--pkglist")
        .arg(&list)
        .arg("--outputdir")
        .arg(cache)
        .arg(tree);
    let end = process::run(&program, &log, Some(PATIENCE), &CancellationToken::new()).await?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    // Newer ones (0.19) end so when they have left an RPM out, and have made all of the rest.
    let is_made = || read(&cache.join("repodata/repomd.xml")).is_ok_and(|made| made.revision == Some(number));
    if end.success() || (end == End::Exited(2) && is_made()) {
        return Ok(said);
    }
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    Err(MetadataError::Createrepo { tree: tree.to_owned(), end: end.to_string(), said })
}
