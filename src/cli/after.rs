//! `reimzul submit --after`: the builds that a submission follows.

use std::time::{Duration, Instant};

use super::named::{self, Named};
use super::{Failure, ui};
use crate::history::Find;
use crate::model::job::Predecessor;
use crate::model::{Arch, BuildId, Status};
use crate::role::Site;
use crate::submit::Submitted;

/// How long a job is tried for to be taken out of the queue again, while a repogen looks at it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The builds that are named, each once. Fails where one cannot be followed.
pub async fn predecessors(site: &Site, named: &[String]) -> Result<Vec<Predecessor>, Failure> {
    let mut found: Vec<Predecessor> = Vec::new();
    for part in named {
        let build = named::find(site, part).await?;
        let predecessor = predecessor(site, &build)
            .map_err(|why| Failure::Usage(format!("{} cannot be followed: {why}", build.path)))?;
        if !found.contains(&predecessor) {
            found.push(predecessor);
        }
    }
    Ok(found)
}

/// Why not, as the end of a sentence.
fn predecessor(site: &Site, named: &Named) -> Result<Predecessor, String> {
    let job = named.job.as_ref().and_then(named::build_of).map(|(job, _)| job);
    let event = named.document.as_ref().map(|document| &document.event);
    let is_scratch = event.map_or_else(|| job.as_ref().is_some_and(|job| job.scratch), |event| event.scratch);
    if is_scratch && !site.config.scratch_in_repo {
        return Err("it is a scratch build, which comes into no repository".into());
    }
    match event.map(|event| event.status) {
        Some(Status::Failed | Status::Override) => {
            return Err(format!("it failed (`{}` tells more)", ui::ours(&format!("why {}", named.path))));
        }
        Some(Status::Building | Status::Success | Status::Done) | None => {}
    }
    let of_job = job.and_then(|job| job.stamp).map(|stamp| stamp.build_id);
    let build_id = event.and_then(|event| event.build_id.clone()).or(of_job);
    let build_id =
        build_id.ok_or("it has no id: an old worker built it, or an old submitter asked for it")?;
    Ok(Predecessor { build: named.path.clone(), build_id })
}

/// A build that fails between the look at it and the put is missed by those who tell its followers of that: so it is
/// looked at once more. The job is taken back then.
pub async fn check_again(site: &Site, submitted: &Submitted) -> Result<(), Failure> {
    for Predecessor { build, build_id } in &submitted.job.after {
        if !has_failed(site, build_id, build.arch).await? {
            continue;
        }
        let until = Instant::now() + PATIENCE;
        while !site.queue.withdraw(submitted.job_id).await? && is_there(site, submitted).await? {
            if Instant::now() > until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        return Err(Failure::Usage(format!("{build} cannot be followed: it has failed just now")));
    }
    Ok(())
}

async fn has_failed(site: &Site, build_id: &BuildId, arch: Arch) -> Result<bool, Failure> {
    let find = Find { build_id: Some(build_id.clone()), all: true, ..Find::default() };
    let found = site.history.find(find).await?;
    let result = found.into_iter().find(|one| one.event.arch == arch && one.event.status.is_result());
    Ok(result.is_some_and(|result| result.event.status == Status::Failed))
}

async fn is_there(site: &Site, submitted: &Submitted) -> Result<bool, Failure> {
    let jobs = site.queue.list(None).await?;
    Ok(jobs.iter().any(|job| job.id == submitted.job_id))
}
