//! Keeping the logs of a running build short, whichever engine or program writes them.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::sys::log::shorten;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Who keeps his logs short himself is let do it.
const SLACK: u64 = 1 << 20;

/// Waits for `build`, and keeps the logs in `folder` to about `limit` bytes each meanwhile.
pub async fn kept_short<T>(folder: &Path, limit: u64, build: impl Future<Output = T>) -> T {
    let mut build = std::pin::pin!(build);
    loop {
        let ended = tokio::time::timeout(LOOK, &mut build).await;
        shorten_all(folder, limit);
        if let Ok(outcome) = ended {
            return outcome;
        }
    }
}

/// Best effort: what cannot be shortened is there all the same.
fn shorten_all(folder: &Path, limit: u64) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_log = path.extension().is_none_or(|end| end == "log");
        let is_long = entry.metadata().is_ok_and(|found| found.is_file() && found.len() > limit + SLACK);
        if is_log && is_long {
            let file = File::options().read(true).write(true).open(&path);
            if let Err(error) = file.and_then(|file| shorten(&file, limit)) {
                tracing::warn!("cannot shorten {}: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_others_write_is_kept_short_and_results_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let long = |name: &str| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(8 << 20).unwrap();
        };
        let build = async {
            for name in ["build.log", "stdout", "x.rpm"] {
                long(name);
            }
            7
        };
        assert_eq!(kept_short(folder.path(), 1 << 20, build).await, 7);
        let length = |name: &str| folder.path().join(name).metadata().unwrap().len();
        assert!(length("build.log") < 1 << 20 && length("stdout") < 1 << 20);
        assert_eq!(length("x.rpm"), 8 << 20);
    }
}
