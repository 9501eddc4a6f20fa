//! Which build or job a person means: a path, an id, or any unambiguous part of a path or of a package's name.

use std::path::PathBuf;

use super::{Failure, watch};
use crate::history::Document;
use crate::model::{Arch, BuildId, BuildJob, BuildPath, Layout, Status};
use crate::queue::{Entry, WAITING};
use crate::role::Site;

/// A build that a person has named.
#[derive(Debug, Clone)]
pub struct Named {
    pub path: BuildPath,
    /// Its newest document; none before it is first begun.
    pub document: Option<Document>,
    /// Its job, as long as there is one.
    pub job: Option<Entry>,
}

/// A job, a build, or both.
#[derive(Debug)]
pub enum Meant {
    Build(Box<Named>),
    /// A job that is no build's.
    Job(Entry),
}

impl Meant {
    pub fn job(&self) -> Option<&Entry> {
        match self {
            Meant::Build(named) => named.job.as_ref(),
            Meant::Job(entry) => Some(entry),
        }
    }
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

/// The job or build that is meant. A number that is a job's is that job.
pub async fn find_any(site: &Site, part: &str) -> Result<Meant, Failure> {
    let jobs = site.queue.list(None).await?;
    let number: Option<u64> = part.parse().ok();
    let job = number.and_then(|number| jobs.iter().find(|entry| entry.id == number));
    let build = match (job.map(|entry| (entry, build_of(entry))), number) {
        (Some((entry, None)), _) => return Ok(Meant::Job(entry.clone())),
        (Some((_, Some((_, path)))), _) => find(site, &path.to_string()).await?,
        // Shorter than any useful part of a timestamp.
        (None, Some(number)) if part.len() < 8 => {
            return Err(Failure::Usage(format!("there is no job {number} in the queue (any more)")));
        }
        (None, _) => find(site, part).await?,
    };
    Ok(Meant::Build(Box::new(build)))
}

/// Finds it among the builds in the history and those that wait.
pub async fn find(site: &Site, part: &str) -> Result<Named, Failure> {
    let part = part.trim_end_matches('/');
    let mut found = candidates(site, part).await?;
    if let Some(exact) = found.iter().position(|named| named.path.to_string() == part) {
        return Ok(found.swap_remove(exact));
    }
    // `greet` is greet and not libgreet, where there is a greet.
    if found.iter().any(|named| named.path.pkgname.as_str() == part) {
        found.retain(|named| named.path.pkgname.as_str() == part);
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(Failure::Usage(format!(
            "no build's path or name contains '{part}' (`{}` lists them)",
            super::ui::ours("query --all")
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

/// The builds whose path or package contains the part, or whose id it is, newest first.
async fn candidates(site: &Site, part: &str) -> Result<Vec<Named>, Failure> {
    let jobs = site.queue.list(None).await?;
    let jobs: Vec<(BuildJob, BuildPath, Entry)> =
        jobs.into_iter().filter_map(|entry| build_of(&entry).map(|(job, path)| (job, path, entry))).collect();
    // A package as `query` shows it ends in its arch, which is in no source RPM's name.
    let (stem, arch) = match part.rsplit_once('.') {
        Some((stem, arch)) if !part.contains('/') => (stem, arch.parse::<Arch>().ok()),
        _ => (part, None),
    };
    let mut documents = site.history.named(part).await?;
    if let Some(arch) = arch {
        let also = site.history.named(stem).await?.into_iter().filter(|document| document.event.arch == arch);
        let new: Vec<Document> = also.filter(|also| !documents.contains(also)).collect();
        documents.extend(new);
    }
    let mut found: Vec<Named> = documents
        .into_iter()
        .map(|document| {
            let is_its = |job: &BuildJob| is_of(job, document.event.build_id.as_ref());
            let job = jobs.iter().find(|(job, ..)| is_its(job)).map(|(.., entry)| entry.clone());
            Named { path: document.event.path(), document: Some(document), job }
        })
        .collect();
    for (job, path, entry) in jobs {
        let id = job.stamp.as_ref().map_or("", |stamp| stamp.build_id.as_str());
        let meant = path.to_string().contains(part) || path.label().contains(part) || id == part;
        if meant && !found.iter().any(|named| named.path == path) {
            found.push(Named { path, document: None, job: Some(entry) });
        }
    }
    Ok(found)
}

/// The job of a build, as long as there is one. A build that is tried again has a new one each time.
pub async fn job_of(site: &Site, id: &BuildId) -> Result<Option<Entry>, Failure> {
    let jobs = site.queue.list(None).await?;
    Ok(jobs.into_iter().find(|entry| build_of(entry).is_some_and(|(job, _)| is_of(&job, Some(id)))))
}

fn is_of(job: &BuildJob, id: Option<&BuildId>) -> bool {
    id.is_some() && job.stamp.as_ref().map(|stamp| &stamp.build_id) == id
}

/// The build job of a tube's entry, if it is a stamped build's. Events carry a build's fields as well.
pub fn build_of(entry: &Entry) -> Option<(BuildJob, BuildPath)> {
    (entry.tube == WAITING || entry.tube.parse::<Arch>().is_ok()).then_some(())?;
    let job: BuildJob = serde_json::from_slice(&entry.body).ok()?;
    let path = job.path()?;
    Some((job, path))
}
