//! `reimzul kick` and `reimzul drop`: what a person decides about jobs that are stuck.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::named::{self, Meant};
use super::{Done, Failure, completions, exit, ui};
use crate::build;
use crate::queue::{Entry, State};
use crate::role::Site;

/// Have buried jobs tried again, and delayed ones at once
#[derive(Debug, Args)]
#[command(
    override_usage = "reimzul kick [OPTIONS] <JOB|BUILD>...\n       reimzul kick [OPTIONS] --tube <TUBE> | --all",
    after_help = "\
A job is buried when it failed too often through the farm's fault, or cannot be
read; it then waits for this. `reimzul stats` lists buried jobs, `reimzul why`
tells what became of one.

Examples:
  reimzul kick 36
  reimzul kick mini.x86_64/hello/20261123204406
  reimzul kick --tube x86_64"
)]
pub struct Kick {
    /// The job's number, or its build's path or any unambiguous part of it
    #[arg(required_unless_present_any = ["tube", "all"], value_name = "JOB|BUILD",
        add = ArgValueCandidates::new(completions::idle_jobs))]
    jobs: Vec<String>,
    /// All buried jobs of this tube: an arch, notify, createrepo or tosign
    #[arg(long, conflicts_with_all = ["jobs", "all"], value_name = "TUBE")]
    tube: Option<String>,
    /// All buried jobs
    #[arg(long, conflicts_with = "jobs")]
    all: bool,
}

impl Kick {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let kicked = if self.jobs.is_empty() {
            kick_tubes(site, self.tube.as_deref()).await?
        } else {
            kick_jobs(site, &self.jobs).await?
        };
        if as_json {
            ui::print_json(&json!({"kicked": kicked}));
        } else {
            ui::done(&format!("{kicked} job{} ready again", if kicked == 1 { " is" } else { "s are" }));
        }
        Ok(exit::OK)
    }
}

async fn kick_tubes(site: &Site, tube: Option<&str>) -> Result<u64, Failure> {
    let mut kicked = 0;
    for stats in site.queue.stats().await? {
        if tube.is_none_or(|tube| tube == stats.tube) {
            kicked += site.queue.kick(&stats.tube, stats.buried).await?;
        }
    }
    Ok(kicked)
}

/// Every one that is named, or none: all are looked up before the first is kicked.
async fn kick_jobs(site: &Site, named: &[String]) -> Result<u64, Failure> {
    let mut ids = Vec::new();
    for name in named {
        let entry = idle_job(site, name, "kicked").await?;
        if entry.state == State::Ready {
            return Err(Failure::Usage(format!(
                "job {} needs no kick: it is ready, and waits for its turn",
                entry.id
            )));
        }
        ids.push(entry.id);
    }
    let mut kicked = 0;
    for id in ids {
        kicked += u64::from(site.queue.kick_job(id).await?);
    }
    Ok(kicked)
}

/// Take a job that waits or is buried out of the queue for good
#[derive(Debug, Args)]
#[command(after_help = "\
A build that is dropped before it has a result is reported as Failed. One that is
being built cannot be dropped.

Examples:
  reimzul drop 36
  reimzul drop mini.x86_64/hello/20261123204406")]
pub struct Drop {
    /// The job's number, or its build's path or any unambiguous part of it
    #[arg(value_name = "JOB|BUILD", add = ArgValueCandidates::new(completions::idle_jobs))]
    job: String,
}

impl Drop {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let entry = idle_job(site, &self.job, "dropped").await?;
        if !site.queue.withdraw(entry.id).await? {
            return Err(Failure::Usage(format!(
                "job {} has just been taken by a worker, or is gone",
                entry.id
            )));
        }
        if let Some((job, path)) = named::build_of(&entry) {
            // Recording it again changes nothing where a buried job's failure is known already.
            site.queue.put(build::taken_back(&job, &[path.arch], &site.config.node)).await?;
        }
        if as_json {
            ui::print_json(&json!({"dropped": entry.id}));
        } else {
            ui::done(&format!("job {} is dropped", entry.id));
        }
        Ok(exit::OK)
    }
}

/// The job that is meant, unless somebody works on it.
async fn idle_job(site: &Site, name: &str, wanted: &str) -> Result<Entry, Failure> {
    let meant = named::find_any(site, name).await?;
    let Some(entry) = meant.job() else {
        let Meant::Build(build) = &meant else { unreachable!("what is no build is a job") };
        let why = ui::ours(&format!("why {name}"));
        return Err(Failure::Usage(format!(
            "{} has no job that could be {wanted} (`{why}` tells more)",
            build.path
        )));
    };
    if entry.state == State::Reserved {
        return Err(Failure::Usage(format!("job {} cannot be {wanted}: it is being worked on", entry.id)));
    }
    Ok(entry.clone())
}
