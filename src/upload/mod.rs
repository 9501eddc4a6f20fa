//! Putting a build's results into the bstore: whole, once, and only under a lease.

pub mod finished;
mod local;
pub mod rsync;

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
    #[error("the bstore cannot be used: {0}")]
    Rsync(#[from] rsync::RsyncError),
}

impl UploadError {
    /// Whether the bstore does not answer, rather than refuse: it is waited for.
    pub fn is_away(&self) -> bool {
        matches!(self, UploadError::Rsync(error) if error.is_away())
    }
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
    /// It is a module of an rsync daemon.
    Rsync(Box<rsync::Rsync>),
}

impl Upload {
    /// Puts the parcel into place. Where the lease is lost, nothing appears.
    pub async fn commit(&self, queue: &Queue, lease: &Lease, parcel: Parcel<'_>) -> Result<(), UploadError> {
        match self {
            Upload::Local(layout) => local::commit(layout, queue, lease, parcel).await,
            Upload::Rsync(rsync) => rsync.commit(queue, lease, parcel).await,
        }
    }

    /// The record of a build that is in place already, if it is this one.
    pub async fn committed(
        &self,
        build: &BuildPath,
        build_id: &BuildId,
        scratch: bool,
    ) -> Result<Option<BuildRecord>, UploadError> {
        let text = match self {
            Upload::Local(layout) => {
                let record = layout.build(build, scratch).join(FILE);
                match std::fs::read(&record) {
                    Ok(text) => Some(text),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => return Err(FileError::at("read", &record)(error).into()),
                }
            }
            Upload::Rsync(rsync) => rsync.record(build, scratch).await?,
        };
        let record: Option<BuildRecord> = text.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(record.filter(|record| record.event.build_id.as_ref() == Some(build_id)))
    }
}
