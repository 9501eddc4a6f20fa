//! A folder of a process's own, which nobody else may look into, and which the next process removes if its owner
//! could not.

use std::path::{Path, PathBuf};

use crate::sys::fs::{self, FileError, Lock};

/// Removed with the value.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
    lock: Option<Lock>,
}

const LOCK: &str = "lock";

impl Workplace {
    /// Below `folder`, where leftovers are removed: places whose lock is free.
    pub fn open(folder: &Path) -> Result<Workplace, FileError> {
        fs::make_dir(folder)?;
        let _one_at_a_time = Lock::take_blocking(&folder.join(".lock"))?;
        for entry in std::fs::read_dir(folder).map_err(FileError::at("read", folder))?.flatten() {
            let lock = entry.path().join(LOCK);
            if lock.exists() && Lock::try_take(&lock)?.is_some() {
                fs::remove_dir(&entry.path())?;
            }
        }
        let path = folder.join(uuid::Uuid::new_v4().simple().to_string());
        fs::make_private_dir(&path)?;
        let lock = Some(Lock::take_blocking(&path.join(LOCK))?);
        Ok(Workplace { path, lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it that is not there yet.
    pub fn folder(&self) -> Result<PathBuf, FileError> {
        let path = self.path.join(uuid::Uuid::new_v4().simple().to_string());
        fs::make_private_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
        self.lock = None;
    }
}
