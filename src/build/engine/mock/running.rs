//! Notes of the builds that are under way: `cache/mock/running/<unique extension>.json`, each locked by its builder.
//!
//! A worker that was killed cannot end what mock has started in the chroot, so the next one does, for every note
//! whose lock is free.

use std::path::{Path, PathBuf};

use super::config::Prepared;
use crate::model::Layout;
use crate::sys::fs::{FileError, Lock, make_dir, write_whole};

/// A build that is under way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Note {
    /// For `--uniqueext`.
    pub ext: String,
    #[serde(flatten)]
    pub prepared: Prepared,
}

/// A note that is ours. Dropped, it stays for the next sweep.
#[derive(Debug)]
pub struct Held {
    pub note: Note,
    path: PathBuf,
    _lock: Lock,
}

impl Held {
    /// Nothing is left of the build.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(lock_path(&self.path));
    }
}

fn folder(layout: &Layout) -> PathBuf {
    super::cache(layout).join("running")
}

fn lock_path(note: &Path) -> PathBuf {
    note.with_extension("lock")
}

/// Notes a build that is about to begin.
pub async fn note(layout: &Layout, prepared: &Prepared) -> Result<Held, FileError> {
    let folder = folder(layout);
    make_dir(&folder)?;
    // mock makes names of folders and sockets from it, which should stay short.
    let ext = uuid::Uuid::new_v4().simple().to_string().split_off(20);
    let path = folder.join(format!("{ext}.json"));
    // The lock first: a note without one would be swept.
    let lock = Lock::take(&lock_path(&path)).await?;
    let note = Note { ext, prepared: prepared.clone() };
    let text = serde_json::to_vec(&note).map_err(|error| FileError {
        what: "write",
        path: path.clone(),
        source: error.into(),
    })?;
    write_whole(&path, &text)?;
    Ok(Held { note, path, _lock: lock })
}

/// All notes there are.
pub fn notes(layout: &Layout) -> Vec<Note> {
    paths(layout).iter().filter_map(|path| read(path)).collect()
}

/// The notes of builders that are no more, now ours.
pub fn abandoned(layout: &Layout) -> Vec<Held> {
    let take = |path: PathBuf| {
        let lock = Lock::try_take(&lock_path(&path)).ok().flatten()?;
        // Another may have removed it meanwhile.
        let Some(note) = read(&path) else {
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_file(lock_path(&path));
            return None;
        };
        Some(Held { note, path, _lock: lock })
    };
    paths(layout).into_iter().filter_map(take).collect()
}

fn read(path: &Path) -> Option<Note> {
    let note: Note = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    // It becomes an argument.
    note.ext.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(note)
}

fn paths(layout: &Layout) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(layout)).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    // Files that are still being written begin with a dot.
    let is_note = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "json")
            && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    paths.filter(is_note).collect()
}
