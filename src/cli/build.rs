//! `reimzul build`: one shot, from source RPMs or specs to RPMs in the target's repository.

mod one_shot;
mod order;
mod pack;

use std::path::PathBuf;

use clap::Args;

use super::submit::What;
use super::watch::{self, Watched};
use super::{Done, Failure, exit, named, ui};
use crate::build::{self, engine::Engine};
use crate::config::{Config, QueuePlace};
use crate::role::{Crew, Role, Site};
use crate::shutdown::Shutdown;
use one_shot::OneShot;

/// Build source RPMs or specs here and now, and wait for them
#[derive(Debug, Args)]
#[command(after_help = "\
Runs the roles it needs in this process. Each package is built after those of
the others that it build-requires, else in the order given; one that lacks a
BuildRequires is tried again once another has succeeded. Its sources lie beside
a spec. Exits with 0 only if every build succeeded and what came out can be
installed, else with 1. Ctrl-C ends it at once and takes what was not built out
of the queue again.

Examples:
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
        // Built here and now: a fleet's builders are not asked, and its jobs are not taken.
        config.queue = QueuePlace::Root;
        let named = pack::look_at(&config.layout, &self.what, &self.packages)?;
        let site = Site::open(config)?;
        site.check(&[Role::Worker])?;
        let stop = Shutdown::default();
        stop.on_signals()?;
        let worker_stop = Shutdown::default();
        let mut crew = Crew::start(&site, &Role::CORE, worker_stop.clone());
        // Ctrl-C means: end it now. Nobody would wait for a build he no longer wants.
        let (asked, worker) = (stop.clone(), worker_stop.clone());
        tokio::spawn(async move {
            asked.stop().cancelled().await;
            worker.force();
        });
        let mut run = OneShot::new(&site, &stop, as_json);
        let accepted = pack::accept_all(&site, &self.what, named, &run.board, &stop).await;
        let all = match accepted.and_then(|packages| order::order(&site.config.layout, packages)) {
            Ok(packages) => run.build_all(packages).await,
            Err(refused) => Err(refused),
        };
        let builds = run.builds;
        if stop.is_stopping() {
            crew.end_worker().await;
            withdraw(&site, &builds).await?;
            crew.end().await;
            let done = builds.iter().filter(|build| build.outcome.is_some()).count();
            let named = self.packages.len();
            ui::tell!("stopped: {done} of {named} packages were done; nothing is left running or queued");
            return Ok(exit::STOPPED);
        }
        crew.end().await;
        all?;
        watch::report(&site, &builds, as_json);
        if !builds.iter().all(Watched::succeeded) {
            return Ok(exit::FAILED);
        }
        let busy = watch::Board::new(as_json).busy_if_long("trying whether what was built can be installed");
        let installable = check_installable(&site, &self.what, &builds, &stop).await;
        drop(busy);
        if stop.is_stopping() {
            ui::note(
                "stopped: all packages were built; whether they can be installed was not tried to the end",
            );
            return Ok(exit::STOPPED);
        }
        if let Err(why) = &installable {
            ui::tell!("the RPMs were built, but cannot be installed from the target's repository:\n{why}");
        }
        Ok(if installable.is_ok() { exit::OK } else { exit::FAILED })
    }
}

/// Takes what is unfinished out of the queue again, and tells that it was.
async fn withdraw(site: &Site, builds: &[Watched]) -> Result<(), Failure> {
    for build in builds.iter().filter(|build| !build.is_over()) {
        let open: Vec<_> = build.all().filter(|one| one.outcome.is_none()).map(|one| one.path.arch).collect();
        // Not by the number it had at first: one that is tried again is another job.
        let Some(job) = named::job_of(site, &build.build_id).await? else { continue };
        // One that is held is another process's by now: it will come to its end there.
        if site.queue.withdraw(job.id).await? {
            site.queue.put(build::taken_back(&build.job, &open, &site.config.node)).await?;
        }
    }
    Ok(())
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
        let binary = record.results.into_iter().filter(|result| !result.nevra.ends_with("src"));
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
