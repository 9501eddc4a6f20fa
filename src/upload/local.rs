//! The embedded upload: renames on one file system.

use std::path::Path;

use super::{Parcel, UploadError};
use crate::model::record::FILE;
use crate::model::{Arch, BuildId, Layout};
use crate::queue::{Lease, Queue};
use crate::sys::fs::{self, FileError};

/// The folder gathers in `upload/`, `build.json` included, and appears in its place by one rename: so it is
/// there whole or not at all, and readers that look for `build.json` never find it early.
pub async fn commit(
    layout: &Layout,
    queue: &Queue,
    lease: &Lease,
    parcel: Parcel<'_>,
) -> Result<(), UploadError> {
    let gathered = layout.upload(parcel.build_id, parcel.build.arch, parcel.attempt);
    remove_former_attempts(layout, parcel.build_id, parcel.build.arch);
    let done = put_into_place(layout, queue, lease, parcel, &gathered).await;
    if done.is_err() {
        let _ = fs::remove_dir(&gathered);
    }
    done
}

async fn put_into_place(
    layout: &Layout,
    queue: &Queue,
    lease: &Lease,
    parcel: Parcel<'_>,
    gathered: &Path,
) -> Result<(), UploadError> {
    let place = layout.build(parcel.build, parcel.scratch);
    fs::make_dir(&layout.uploads())?;
    fs::remove_dir(gathered)?;
    rename(parcel.from, gathered)?;
    // Pretty, since people read it; a BuildRecord always serializes.
    let text = serde_json::to_vec_pretty(parcel.record).expect("a record serializes");
    let record = gathered.join(FILE);
    // Nobody looks in here yet, so it need not appear in one step.
    std::fs::write(&record, &text).map_err(FileError::at("write", &record))?;
    fs::sync_files(gathered)?;
    fs::make_dir(place.parent().unwrap_or(&place))?;
    // Asked of the queue itself, not of our memory: this process may have been asleep.
    queue.touch(lease).await?;
    if place.exists() {
        // A former attempt's, of which somebody may be reading.
        fs::exchange(gathered, &place)?;
        fs::remove_dir(gathered)?;
    } else {
        rename(gathered, &place)?;
    }
    fs::sync_parent(&place).map_err(FileError::at("sync", &place))?;
    Ok(())
}

/// What workers that vanished at this point left of the same build. Best effort: it is in nobody's way.
fn remove_former_attempts(layout: &Layout, build: &BuildId, arch: Arch) {
    let of_this_build = format!("{build}.{arch}.");
    for entry in std::fs::read_dir(layout.uploads()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&of_this_build) {
            let _ = fs::remove_dir(&entry.path());
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(FileError::at("move results to", to))
}
