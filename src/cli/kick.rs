//! `reimzul kick` and `reimzul drop`: what a person decides about jobs that are stuck.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::named::{self, Meant};
use super::{Done, Failure, completions, exit, ui};
use crate::build;
use crate::notify::Sink;
use crate::queue::{Entry, State};
use crate::role::Site;

/// Have buried jobs tried again, and delayed ones at once
#[derive(Debug, Args)]
#[command(
    override_usage = "reimzul kick [OPTIONS] <JOB|BUILD>...\n       reimzul kick [OPTIONS] --tube <TUBE> | --sink <SINK> | --all",
    after_help = "\
A job is buried when it failed too often through the farm's fault, or cannot be
read; it then waits for this. `reimzul stats` lists buried jobs, `reimzul why`
tells what became of one. Notifications that could not be delivered for a day
are buried likewise.

Examples:
  reimzul kick 36
  reimzul kick mini.x86_64/hello/20261123204406
  reimzul kick --tube x86_64
  reimzul kick --sink mail"
)]
pub struct Kick {
    /// The job's number, or its build's path or any unambiguous part of it
    #[arg(required_unless_present_any = ["tube", "sink", "all"], value_name = "JOB|BUILD",
        add = ArgValueCandidates::new(completions::idle_jobs))]
    jobs: Vec<String>,
    /// All buried jobs of this tube: an arch, notify, createrepo or tosign
    #[arg(long, conflicts_with_all = ["jobs", "all"], value_name = "TUBE")]
    tube: Option<String>,
    /// All buried notifications of this sink, such as mail
    #[arg(long, conflicts_with_all = ["jobs", "tube", "all"], value_name = "SINK")]
    sink: Option<Sink>,
    /// All buried jobs and notifications
    #[arg(long, conflicts_with = "jobs")]
    all: bool,
}

impl Kick {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let (mut jobs, mut deliveries) = (0, 0);
        if self.sink.is_some() || self.all {
            deliveries = site.outbox.kick(self.sink).await?;
        }
        if self.tube.is_some() || self.all {
            jobs = kick_tubes(site, self.tube.as_deref()).await?;
        }
        jobs += kick_jobs(site, &self.jobs).await?;
        if as_json {
            ui::print_json(&json!({"kicked": jobs, "notifications": deliveries}));
        } else {
            if self.sink.is_none() {
                ui::done(&format!("{jobs} job{} ready again", if jobs == 1 { " is" } else { "s are" }));
            }
            if self.sink.is_some() || deliveries > 0 {
                ui::done(&format!("{} tried again", notifications(deliveries)));
            }
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
  reimzul drop mini.x86_64/hello/20261123204406
  reimzul drop --sink mail")]
pub struct Drop {
    /// The job's number, or its build's path or any unambiguous part of it
    #[arg(required_unless_present = "sink", value_name = "JOB|BUILD",
        add = ArgValueCandidates::new(completions::idle_jobs))]
    job: Option<String>,
    /// Forget all buried notifications of this sink instead
    #[arg(long, conflicts_with = "job", value_name = "SINK")]
    sink: Option<Sink>,
}

impl Drop {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        if let Some(sink) = self.sink {
            let dropped = site.outbox.drop_buried(sink).await?;
            if as_json {
                ui::print_json(&json!({"notifications": dropped}));
            } else {
                ui::done(&format!("{} dropped", notifications(dropped)));
            }
            return Ok(exit::OK);
        }
        let entry = idle_job(site, self.job.as_deref().unwrap_or_default(), "dropped").await?;
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

fn notifications(number: u64) -> String {
    ui::count(usize::try_from(number).unwrap_or(usize::MAX), "notification")
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
