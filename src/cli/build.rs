//! `reimzul build`: one shot, from source RPMs or specs to RPMs in the target's repository.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::submit::What;
use super::watch::{self, Board, Watched};
use super::{Done, Failure, exit};
use crate::build::engine::Engine;
use crate::build::engine::overlay::Packing;
use crate::config::Config;
use crate::model::{Arch, Class, Target};
use crate::queue::{CREATEREPO, NOTIFY, TOSIGN};
use crate::role::{Role, Site};
use crate::shutdown::Shutdown;
use crate::submit;

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
        let mut run = OneShot {
            site: &site,
            what: &self.what,
            stop: &stop,
            board: Board::new(as_json),
            builds: Vec::new(),
        };
        let all = run.build_all(&self.packages).await;
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

/// One run of the command.
struct OneShot<'a> {
    site: &'a Site,
    what: &'a What,
    stop: &'a Shutdown,
    board: Board,
    builds: Vec<Watched>,
}

impl OneShot<'_> {
    /// Submits as many at a time as there are slots, each only once the repository holds what is built so far.
    async fn build_all(&mut self, packages: &[PathBuf]) -> Result<(), Failure> {
        let mut waiting: VecDeque<PathBuf> = VecDeque::new();
        for package in packages {
            waiting.push_back(self.source_rpm(package).await?);
        }
        // What lacked a BuildRequires, with how many successes there were then.
        let mut lacking: Vec<(PathBuf, usize)> = Vec::new();
        let mut running: Vec<(usize, PathBuf)> = Vec::new();
        loop {
            while running.len() < self.site.config.slots && !self.stop.is_stopping() {
                let Some(package) = waiting.pop_front() else { break };
                self.repository_is_current().await?;
                running.push((self.submit(&package).await?, package));
            }
            if running.is_empty() || self.stop.is_stopping() {
                return Ok(());
            }
            tokio::time::sleep(watch::LOOK).await;
            self.board.look(self.site, &mut self.builds).await?;
            let (done, rest): (Vec<_>, Vec<_>) =
                running.into_iter().partition(|(index, _)| self.builds[*index].outcome.is_some());
            running = rest;
            for (index, package) in done {
                if self.lacks_something(index) {
                    lacking.push((package, self.successes()));
                }
            }
            if waiting.is_empty() {
                let now = self.successes();
                let again = lacking.extract_if(.., |(_, then)| *then < now).map(|(package, _)| package);
                waiting.extend(again);
            }
        }
    }

    /// A spec becomes a source RPM in the target's own build root, where its macros mean what they will mean.
    async fn source_rpm(&self, package: &Path) -> Result<PathBuf, Failure> {
        if package.extension().is_none_or(|extension| extension != "spec") {
            return Ok(package.to_owned());
        }
        if !package.is_file() {
            return Err(Failure::Usage(format!("{}: no such spec", package.display())));
        }
        let Engine::Overlay(engine) = self.site.engine() else {
            return Err(Failure::Usage(format!(
                "{}: this engine builds source RPMs only",
                package.display()
            )));
        };
        let request = self.what.request(package.to_owned(), true)?;
        let arch: Arch = request
            .arch
            .parse()
            .map_err(|error: crate::model::arch::UnknownArch| Failure::Usage(error.to_string()))?;
        let target: Target =
            request.target.with_arch(&request.arch).map_err(|error| Failure::Usage(error.to_string()))?;
        submit::check_target(&self.site.config.layout, &target)?;
        let busy = self.board.busy(&format!(
            "making the source RPM of {} (a target's first takes longer: its base chroot is made)",
            package.file_name().unwrap_or_default().display()
        ));
        let sources = package.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let out = self
            .site
            .config
            .layout
            .builder_cache()
            .join("srpms")
            .join(uuid::Uuid::new_v4().simple().to_string());
        crate::sys::fs::make_dir(&out)?;
        let packing = Packing {
            spec: package,
            sourcedir: sources,
            target: &target,
            arch,
            disttag: &request.disttag,
            outdir: &out,
        };
        let made = engine.make_srpm(&packing, self.stop.stop()).await;
        busy.finish_and_clear();
        made.map_err(|failure| {
            let _ = crate::sys::fs::remove_dir(&out);
            Failure::Usage(format!(
                "{}: no source RPM could be made of it:\n  {}",
                package.display(),
                failure.lines.join("\n  ")
            ))
        })
    }

    async fn submit(&mut self, package: &Path) -> Result<usize, Failure> {
        let site = self.site;
        let request = self.what.request(package.to_owned(), true)?;
        let submitted = submit::submit(&site.config.layout, &site.queue, &site.stamps, &request).await?;
        // A try that lacked something is forgotten for the new one.
        let again = self.builds.iter().position(|build| {
            build.path.pkgname == submitted.path.pkgname
                && !build.succeeded()
                && build.path.evr == submitted.path.evr
        });
        let watched = Watched::new(&submitted, site.config.scratch_in_repo);
        if let Some(index) = again {
            self.builds[index] = watched;
            self.board.forget(index);
            return Ok(index);
        }
        self.builds.push(watched);
        Ok(self.builds.len() - 1)
    }

    /// Waits until no metadata is asked for: then what was built can be build-required.
    async fn repository_is_current(&self) -> Result<(), Failure> {
        while !self.stop.is_stopping() {
            let requests = self.site.queue.list(Some(CREATEREPO)).await?;
            if requests.iter().all(|request| request.state == crate::queue::State::Buried) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn lacks_something(&self, index: usize) -> bool {
        let outcome = self.builds[index].outcome.as_ref();
        outcome
            .and_then(|document| document.event.failure.as_ref())
            .is_some_and(|failure| failure.class == Class::Buildroot)
    }

    fn successes(&self) -> usize {
        self.builds.iter().filter(|build| build.succeeded()).count()
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
