//! Builds that were finished here, and that the bstore could not be given: sent, rather than built again.

use std::path::{Path, PathBuf};

use super::Worker;
use super::order::Task;
use crate::model::record::{BuildRecord, FILE};
use crate::sys::fs;

impl Worker {
    /// The results of a former attempt at this very build, with their record. Such a folder has a `build.json`,
    /// written last, and every RPM that it names.
    pub(super) fn unsent(&self, task: &Task) -> Option<(PathBuf, BuildRecord)> {
        let attempts = std::fs::read_dir(self.config.layout.results_of(&task.path)).ok()?;
        attempts.flatten().find_map(|entry| {
            let folder = entry.path();
            let record: BuildRecord = serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()?;
            let is_it = record.event.build_id.as_ref() == Some(&task.stamp.build_id);
            (is_it && is_whole(&folder, &record)).then_some((folder, record))
        })
    }
}

fn is_whole(folder: &Path, record: &BuildRecord) -> bool {
    record.results.iter().all(|rpm| {
        let found = fs::sha256(&folder.join(&rpm.file));
        found.is_ok_and(|(sha256, _)| sha256 == rpm.sha256)
    })
}
