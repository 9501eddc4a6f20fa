//! The processes that use an embedded queue, as they know of one another: a locked file each in `run/`, which holds
//! the node's name.

use std::path::{Path, PathBuf};

use crate::sys::fs::{self, FileError, Lock};
use crate::sys::process::node_name;

/// This process, as others know it.
#[derive(Debug)]
pub struct Owner {
    pub name: String,
    pub run: PathBuf,
    _alive: Lock,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.run.join(&self.name));
    }
}

impl Owner {
    pub fn enter(run: &Path) -> Result<Owner, FileError> {
        fs::make_dir(run)?;
        let _entering = Lock::take_blocking(&run.join(ENTRANCE))?;
        remove_files_of_the_dead(run);
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let file = run.join(&name);
        let alive = Lock::take_blocking(&file)?;
        // Containers on one machine may share a root, each as a builder of its own.
        std::fs::write(&file, node_name()).map_err(FileError::at("write", &file))?;
        Ok(Owner { name, run: run.to_owned(), _alive: alive })
    }
}

/// Held while a process makes and locks its file, so that no other takes the file for a dead one's in between.
const ENTRANCE: &str = "entrance";

fn remove_files_of_the_dead(run: &Path) {
    for entry in std::fs::read_dir(run).into_iter().flatten().flatten() {
        if entry.file_name() != ENTRANCE && is_dead(run, &entry.file_name().to_string_lossy()) {
            // Without its file an owner counts as dead: whatever it held is found by that.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether the owner's process is gone: its lock is free, or its file is.
pub fn is_dead(run: &Path, owner: &str) -> bool {
    let path = run.join(owner);
    !path.exists() || matches!(Lock::try_take(&path), Ok(Some(_)))
}

/// The node that a living owner runs on.
pub fn node(run: &Path, owner: &str) -> Option<String> {
    std::fs::read_to_string(run.join(owner)).ok()
}
