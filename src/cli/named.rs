//! Which build a person means: its path, its id, or any unambiguous part of its path.

use std::path::PathBuf;

use super::{Failure, watch};
use crate::history::Document;
use crate::model::{BuildId, BuildJob, BuildPath, Layout, Status};
use crate::role::Site;

/// A build that a person has named.
#[derive(Debug)]
pub struct Named {
    pub path: BuildPath,
    /// Its newest document; none while it waits.
    pub document: Option<Document>,
}

impl Named {
    /// Where its logs are now; none while it waits.
    pub fn folder(&self, layout: &Layout) -> Option<PathBuf> {
        let places = [layout.build(&self.path, false), layout.build(&self.path, true)];
        let done = places.into_iter().find(|place| place.is_dir());
        done.or_else(|| watch::newest_attempt(layout, &self.path))
    }

    pub fn is_done(&self) -> bool {
        self.document.as_ref().is_some_and(|document| document.event.status != Status::Building)
    }
}

/// Finds it among the builds in the history and those that wait.
pub async fn find(site: &Site, part: &str) -> Result<Named, Failure> {
    let part = part.trim_end_matches('/');
    let mut found: Vec<Named> = site
        .history
        .named(part)
        .await?
        .into_iter()
        .map(|document| Named { path: document.event.path(), document: Some(document) })
        .collect();
    for entry in site.queue.list(None).await? {
        let Some((path, id)) = waiting(&entry.body) else { continue };
        let meant = path.to_string().contains(part) || id.as_str() == part;
        if meant && !found.iter().any(|named| named.path == path) {
            found.push(Named { path, document: None });
        }
    }
    if let Some(exact) = found.iter().position(|named| named.path.to_string() == part) {
        return Ok(found.swap_remove(exact));
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(Failure::Usage(format!(
            "no build's path contains '{part}' (`reimzul query --all` lists them)"
        ))),
        many => {
            let some: Vec<String> =
                found.iter().take(10).map(|named| format!("\n  {}", named.path)).collect();
            let more = if many > 10 { format!("\n  and {} more", many - 10) } else { String::new() };
            Err(Failure::Usage(format!(
                "'{part}' is part of {many} builds' paths; give more of one:{}{more}",
                some.concat()
            )))
        }
    }
}

/// Path and id of a job that is a stamped build's.
fn waiting(body: &[u8]) -> Option<(BuildPath, BuildId)> {
    let job: BuildJob = serde_json::from_slice(body).ok()?;
    let stamp = job.stamp?;
    let path = BuildPath {
        target: job.target,
        pkgname: stamp.pkgname,
        timestamp: stamp.timestamp,
        evr: stamp.evr,
        arch: job.arch,
    };
    Some((path, stamp.build_id))
}
