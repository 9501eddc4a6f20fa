//! Putting a build's results into the bstore: whole, once, and only under a lease.

mod local;

use std::path::Path;

use crate::model::record::{BuildRecord, FILE};
use crate::model::{Attempt, BuildId, BuildPath, Layout};
use crate::queue::{Lease, Queue, QueueError};
use crate::sys::fs::FileError;

/// Results that could not be put into the bstore.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the results could not be put into the bstore: {0}")]
    File(#[from] FileError),
    #[error("the results were not put into the bstore: {0}")]
    Lease(#[from] QueueError),
}

/// What is to be put where.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The attempt's folder: RPMs and logs, no `build.json` yet. It is gone afterwards.
    pub from: &'a Path,
    pub build: &'a BuildPath,
    pub build_id: &'a BuildId,
    pub attempt: &'a Attempt,
    /// Below `scratch/` rather than `repo/`.
    pub scratch: bool,
    pub record: &'a BuildRecord,
}

/// A way to the bstore.
#[derive(Debug, Clone)]
pub enum Upload {
    /// The bstore is a folder on the same file system.
    Local(Layout),
}

impl Upload {
    /// Puts the parcel into place. Where the lease is lost, nothing appears.
    pub async fn commit(&self, queue: &Queue, lease: &Lease, parcel: Parcel<'_>) -> Result<(), UploadError> {
        match self {
            Upload::Local(layout) => local::commit(layout, queue, lease, parcel).await,
        }
    }

    /// The record of a build that is in place already, if it is this one.
    pub fn committed(&self, build: &BuildPath, build_id: &BuildId, scratch: bool) -> Option<BuildRecord> {
        match self {
            Upload::Local(layout) => {
                let text = std::fs::read(layout.build(build, scratch).join(FILE)).ok()?;
                let record: BuildRecord = serde_json::from_slice(&text).ok()?;
                (record.event.build_id.as_ref() == Some(build_id)).then_some(record)
            }
        }
    }
}
