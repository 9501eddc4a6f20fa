//! Where the engine keeps things, `cache/overlay/<target>/`, and what makes a folder there somebody's:
//!
//! | path | what | whose |
//! | --- | --- | --- |
//! | `base-<n>/` | a base chroot, its package list and state | whoever holds a share of `base-<n>.lock` |
//! | `new-<id>/` | a base being made | the holder of `make.lock` |
//! | `builds/<id>/` | a running build | the holder of `builds/<id>.lock` |
//! | `dnf-<n>/` | dnf's caches and configuration | the holder of `dnf-<n>.lock` |
//! | `trash/` | what is to be removed | nobody |

use std::path::{Path, PathBuf};

use crate::sys::fs::{FileError, Lock, make_dir, remove_dir};
use crate::sys::process;
use crate::sys::sandbox::Launcher;

/// One target's folder.
#[derive(Debug, Clone)]
pub struct Place {
    folder: PathBuf,
}

impl Place {
    pub fn new(folder: PathBuf) -> Result<Place, FileError> {
        for part in ["builds", "trash"] {
            make_dir(&folder.join(part))?;
        }
        Ok(Place { folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The first free one of dnf's folders. dnf's own locks would make the second of two wait for seconds.
    pub fn dnf(&self) -> Result<(PathBuf, Lock), FileError> {
        let mut n = 0;
        loop {
            if let Some(lock) = Lock::try_take(&self.path(&format!("dnf-{n}.lock")))? {
                let folder = self.path(&format!("dnf-{n}"));
                make_dir(&folder)?;
                return Ok((folder, lock));
            }
            n += 1;
        }
    }

    /// A new build's folder.
    pub async fn new_build(&self) -> Result<BuildFolder, FileError> {
        // While we hold the gate, nobody sweeps, so nobody takes the new lock before us.
        let _gate = Lock::take(&self.path("builds/gate.lock")).await?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let path = self.path(&format!("builds/{id}"));
        let lock_path = self.path(&format!("builds/{id}.lock"));
        let lock = Lock::take(&lock_path).await?;
        for part in ["root", "upper", "packed", "built", "ask"] {
            make_dir(&path.join(part))?;
        }
        Ok(BuildFolder { path, lock_path, trash: self.path("trash").join(id), _lock: lock })
    }

    /// Moves to the trash what dead processes left, and empties the trash.
    pub async fn sweep(&self, launcher: &Launcher) -> Result<(), FileError> {
        {
            let _gate = Lock::take(&self.path("builds/gate.lock")).await?;
            for lock_path in files_ending(&self.path("builds"), ".lock") {
                let folder = lock_path.with_extension("");
                if folder.ends_with("gate") {
                    continue;
                }
                if let Some(_lock) = Lock::try_take(&lock_path)? {
                    self.discard(&folder)?;
                    let _ = std::fs::remove_file(&lock_path);
                }
            }
        }
        if let Some(_lock) = Lock::try_take(&self.path("make.lock"))? {
            for folder in files_starting(&self.folder, "new-") {
                self.discard(&folder)?;
            }
        }
        self.empty_trash(launcher).await;
        Ok(())
    }

    /// Moves a folder to the trash.
    pub fn discard(&self, folder: &Path) -> Result<(), FileError> {
        let to = self.path("trash").join(uuid::Uuid::new_v4().simple().to_string());
        match std::fs::rename(folder, to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::at("move to the trash", folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is in the trash. Several processes may be at it at once, so a folder that cannot be removed is
    /// left to the next time.
    pub async fn empty_trash(&self, launcher: &Launcher) {
        for folder in files_starting(&self.path("trash"), "") {
            if let Err(error) = remove(launcher, &folder).await {
                tracing::debug!("left in the trash: {error}");
            }
        }
    }
}

/// Removes a folder, also one that holds files of subordinate ids.
pub async fn remove(launcher: &Launcher, folder: &Path) -> Result<(), FileError> {
    if launcher.rootless() {
        // Fails only where the folder stays, which the lines below see.
        let _ = process::output(&launcher.remove(&[folder])).await;
    }
    let path = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || remove_dir(&path)).await;
    removed.unwrap_or(Ok(()))
}

/// A running build's folder, ours until it is dropped.
#[derive(Debug)]
pub struct BuildFolder {
    path: PathBuf,
    lock_path: PathBuf,
    trash: PathBuf,
    _lock: Lock,
}

impl BuildFolder {
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for BuildFolder {
    /// Only moves the folder away: removing takes longer, and the result need not wait for it.
    fn drop(&mut self) {
        if std::fs::rename(&self.path, &self.trash).is_ok() {
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

/// Gives up a build's folder, and removes it in the background: the result need not wait for that. What is not
/// removed now, since the program ends, the next sweep will.
pub fn clear_away(folder: BuildFolder, dnf: &super::dnf::Dnf) {
    drop(folder);
    let dnf = dnf.clone();
    tokio::spawn(async move { dnf.place.empty_trash(&dnf.launcher).await });
}

fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect()
}

pub fn files_ending(folder: &Path, end: &str) -> Vec<PathBuf> {
    files(folder, |name| name.ends_with(end))
}

pub fn files_starting(folder: &Path, start: &str) -> Vec<PathBuf> {
    files(folder, |name| name.starts_with(start))
}
