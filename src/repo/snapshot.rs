//! Switching a repository to new metadata in one step.

use std::path::Path;

use crate::sys::fs::{self, FileError};

/// Makes `tree/repodata` the content of `made`. Readers see the old folder or the new one; files that the old
/// repomd.xml names are in both.
pub fn publish(made: &Path, tree: &Path) -> Result<(), FileError> {
    let (live, next) = (tree.join("repodata"), tree.join(".repodata.next"));
    fs::remove_dir(&next)?;
    fs::make_dir(&next)?;
    for entry in std::fs::read_dir(made).map_err(FileError::at("read", made))?.flatten() {
        // Hard links: createrepo_c never changes a file that it has written.
        let to = next.join(entry.file_name());
        std::fs::hard_link(entry.path(), &to).map_err(FileError::at("link", &to))?;
    }
    // The requests that this serves are acknowledged next.
    fs::sync_files(&next)?;
    if live.exists() {
        fs::exchange(&next, &live)?;
    } else {
        std::fs::rename(&next, &live).map_err(FileError::at("switch to", &live))?;
    }
    fs::sync_parent(&live).map_err(FileError::at("sync", &live))?;
    fs::remove_dir(&next)
}
