//! Files that were wanted in a repository and cannot be: set aside with the reason, and the rest goes on.
//!
//! They stay where they are. The list is `excluded.json` in the repository's cache: who looks for a package that is
//! missing finds it there, and in the log.

use std::path::{Path, PathBuf};

use super::package;
pub use crate::model::builder::Excluded;
use crate::sys::fs::{self, FileError};
use crate::sys::rpm;

/// Those that can be listed, and those that cannot.
pub fn sort_out(tree: &Path, files: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<Excluded>) {
    let (mut good, mut excluded) = (Vec::with_capacity(files.len()), Vec::new());
    for file in files {
        match check(tree, &file) {
            Ok(()) => good.push(file),
            // A name that is no UTF-8 could not be told as it is.
            Err(reason) => {
                excluded.push(Excluded { file: file.to_string_lossy().into_owned().into(), reason });
            }
        }
    }
    (good, excluded)
}

fn check(tree: &Path, file: &Path) -> Result<(), String> {
    check_name(file)?;
    let path = tree.join(file);
    rpm::headers(&path).map(drop).map_err(|error| package::reason(&error, &path))
}

/// Whether a path can be a link in metadata, and a line in a list.
pub fn check_name(file: &Path) -> Result<(), String> {
    match file.to_str() {
        None => Err("its name is no UTF-8; rename it".into()),
        Some(name) if name.chars().any(char::is_control) => {
            Err("its name has control characters; rename it".into())
        }
        Some(_) => Ok(()),
    }
}

const LIST: &str = "excluded.json";

/// Replaces the list of a repository.
pub(super) fn write(cache: &Path, excluded: &[Excluded]) -> Result<(), FileError> {
    let list = cache.join(LIST);
    if excluded.is_empty() && !list.exists() {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(excluded).unwrap_or_default();
    if std::fs::read(&list).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write_whole(&list, &text)
}

/// What a repository leaves out, by its cache folder.
pub fn read(cache: &Path) -> Vec<Excluded> {
    let text = std::fs::read(cache.join(LIST)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
