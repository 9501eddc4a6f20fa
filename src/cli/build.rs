//! `reimzul build`: one shot, from source RPMs or specs to RPMs in the target's repository.

mod one_shot;
mod pack;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::submit::What;
use super::watch::{self, Watched};
use super::{Done, Failure, exit};
use crate::build::engine::Engine;
use crate::config::Config;
use crate::queue::{CREATEREPO, NOTIFY, TOSIGN};
use crate::role::{Role, Site};
use crate::shutdown::Shutdown;
use one_shot::OneShot;

/// Build source RPMs or specs here and now, and wait for them.
///
/// Runs the roles it needs in this process. Builds go in the order given, each against what those before it
/// have made; one that lacks a BuildRequires is tried again once another has succeeded. A spec's sources lie
/// beside it. Succeeds only if every build did and what came out can be installed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reimzul --root ~/farm build libgreet.spec greet.spec -t mini
  reimzul build bash-5.2-1.src.rpm -t c9 -a x86_64 -d .el9 --scratch")]
pub struct Build {
    /// Source RPMs, or specs with their sources beside them
    #[arg(required = true, value_name = "SRPM|SPEC")]
    packages: Vec<PathBuf>,
    #[command(flatten)]
    what: What,
    /// How many builds at a time [default: the configuration's, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

impl Build {
    pub async fn run(self, mut config: Config, as_json: bool) -> Done {
        if let Some(slots) = self.slots {
            config.slots = usize::from(slots);
        }
        let site = Site::open(config)?;
        let stop = Shutdown::default();
        stop.on_signals()?;
        let roles = Roles::start(&site, &stop);
        let mut run = OneShot::new(&site, &stop, as_json);
        let all = match pack::accept_all(&site, &self.what, &self.packages, &run.board, &stop).await {
            Ok(accepted) => run.build_all(accepted).await,
            Err(refused) => Err(refused),
        };
        let builds = run.builds;
        if stop.is_stopping() {
            let left = withdraw(&site, &builds).await?;
            roles.stop().await;
            eprintln!(
                "stopped: {left} of {} builds were ended; none of them is left in the queue",
                builds.len()
            );
            return Ok(exit::STOPPED);
        }
        roles.drain(&site).await?;
        all?;
        watch::report(&site, &builds, as_json);
        if !builds.iter().all(Watched::succeeded) {
            return Ok(exit::FAILED);
        }
        let installable = check_installable(&site, &self.what, &builds, &stop).await;
        if let Err(why) = &installable {
            eprintln!("the RPMs were built, but cannot be installed from the target's repository:\n{why}");
        }
        Ok(if installable.is_ok() { exit::OK } else { exit::FAILED })
    }
}

/// The roles of a one-shot build, in this process.
struct Roles {
    worker: tokio::task::JoinHandle<()>,
    rest: tokio::task::JoinHandle<()>,
    stop_worker: Shutdown,
    stop_rest: Shutdown,
}

impl Roles {
    fn start(site: &Site, stop: &Shutdown) -> Roles {
        let (stop_worker, stop_rest) = (Shutdown::default(), Shutdown::default());
        let spawn = |roles: &'static [Role], shutdown: &Shutdown| {
            let (site, shutdown) = (site.clone(), shutdown.clone());
            tokio::spawn(async move { site.run_all(roles, &shutdown).await })
        };
        let worker = spawn(&[Role::Worker], &stop_worker);
        let rest = spawn(&[Role::Repogen, Role::Notifier, Role::Signer], &stop_rest);
        // Ctrl-C means: end it now. Nobody would wait for a build he no longer wants.
        let (asked, worker_end) = (stop.clone(), stop_worker.clone());
        tokio::spawn(async move {
            asked.stop().cancelled().await;
            worker_end.force();
        });
        Roles { worker, rest, stop_worker, stop_rest }
    }

    async fn stop(self) {
        self.stop_worker.force();
        self.stop_rest.request();
        let _ = tokio::join!(self.worker, self.rest);
    }

    /// Lets what the builds set off come to its end: metadata, history, signing.
    async fn drain(self, site: &Site) -> Result<(), Failure> {
        const LONGEST: Duration = Duration::from_secs(60);
        self.stop_worker.request();
        let until = Instant::now() + LONGEST;
        while Instant::now() < until {
            let stats = site.queue.stats().await?;
            let waiting = |tube: &&crate::queue::TubeStats| {
                [CREATEREPO, NOTIFY, TOSIGN].contains(&tube.tube.as_str()) && tube.ready + tube.reserved > 0
            };
            if stats.iter().find(waiting).is_none() && site.outbox.waiting().await?.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stop().await;
        Ok(())
    }
}

/// Takes what is unfinished out of the queue again; says how many builds that are.
async fn withdraw(site: &Site, builds: &[Watched]) -> Result<usize, Failure> {
    let unfinished: Vec<&Watched> = builds.iter().filter(|build| build.outcome.is_none()).collect();
    for build in &unfinished {
        // A running one is handed back by the worker first.
        for _ in 0..200 {
            if site.queue.withdraw(build.job_id).await? {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(unfinished.len())
}

/// Tries the installation of everything that was built, without doing it.
async fn check_installable(
    site: &Site,
    what: &What,
    builds: &[Watched],
    stop: &Shutdown,
) -> Result<(), String> {
    let Engine::Overlay(engine) = site.engine() else { return Ok(()) };
    let Some(first) = builds.first() else { return Ok(()) };
    let layout = &site.config.layout;
    let mut packages = Vec::new();
    for build in builds {
        let record = build.record(layout).ok_or_else(|| format!("{} has no build.json", build.path))?;
        let binary = record.results.into_iter().filter(|result| !result.file.ends_with(".src.rpm"));
        packages.extend(binary.map(|result| {
            // What is in no repository can only be installed as a file.
            if what.scratch {
                build.folder(layout).join(result.file).display().to_string()
            } else {
                result.nevra
            }
        }));
    }
    engine
        .check_install(&first.path.target, first.path.arch, &packages, stop.stop())
        .await
        .map_err(|failure| failure.lines.join("\n"))
}
