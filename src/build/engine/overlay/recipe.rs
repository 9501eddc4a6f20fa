//! A build, from the request to the result folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::base::{self, Base, Verdict};
use super::dnf::{Call, Dnf, disk};
use super::place::{self, BuildFolder};
use super::rpmbuild::Chroot;
use super::source::Source;
use super::work::{Work, run_plan};
use super::{Overlay, results};
use crate::build::engine::{NO_ROOM, Outcome, Request, diagnose};
use crate::build::limits::Quota;
use crate::model::record::RepositoryState;
use crate::model::{Class, Failure};
use crate::sys::fs::{FileError, free_bytes, make_dir};
use crate::sys::sandbox::{Layers, Plan, Report, StepReport};

/// How often a build is begun because the base of the one before was found outdated.
const BASES: usize = 4;
/// How often %generate_buildrequires may ask for more.
const ROUNDS: usize = 10;

/// The folders of a build that RPMs are collected in: by the sandbox that packs the source RPM (all of them, if
/// the base held the BuildRequires), and by the one that builds.
const PACKED: &str = "packed";
const BUILT: &str = "built";

/// Seconds per phase.
type Durations = BTreeMap<String, f64>;

/// See [`Overlay::build`].
pub async fn build(overlay: &Overlay, request: Request<'_>, cancel: &CancellationToken) -> Outcome {
    let (mut durations, mut repositories) = (Durations::new(), Vec::new());
    let result = match results::make_logs(request.resultdir) {
        Err(error) => Err(disk(&error)),
        Ok(()) => logged(overlay, request, &mut durations, &mut repositories, cancel).await,
    };
    let buildroot = results::package_list(&request.resultdir.join("installed_pkgs.log"));
    Outcome { result, durations, buildroot, repositories }
}

async fn logged(
    overlay: &Overlay,
    request: Request<'_>,
    durations: &mut Durations,
    repositories: &mut Vec<RepositoryState>,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let source = Source::read(request.srpm)?;
    let dnf = Dnf { fresh: request.fresh, ..overlay.dnf(request.target, request.arch)? };
    let limit = request.timeout.unwrap_or(dnf.target.timeout());
    let build = Build { request, dnf, source, resolved: Mutex::default() };
    for _ in 0..BASES {
        durations.clear();
        let verdict = build.on_newest_base(limit, durations, cancel).await;
        *repositories = build.seen();
        match verdict? {
            Verdict::Current(_) => return Ok(()),
            Verdict::Outdated => results::make_logs(request.resultdir).map_err(|error| disk(&error))?,
        }
    }
    let line = format!("the target's repositories changed {BASES} times while it was built");
    Err(Failure::new(Class::Buildroot, base::PHASE, line).retried(true))
}

/// Everything there is to know about one build.
struct Build<'a> {
    request: Request<'a>,
    dnf: Dnf,
    source: Source,
    /// What the base, and then the BuildRequires, were last resolved against.
    resolved: Mutex<[Vec<RepositoryState>; 2]>,
}

impl Build<'_> {
    /// Builds on the newest base, and asks meanwhile whether that is still the right one.
    async fn on_newest_base(
        &self,
        limit: Duration,
        durations: &mut Durations,
        cancel: &CancellationToken,
    ) -> Result<Verdict, Failure> {
        let started = Instant::now();
        let work = Work::within(base::MAKING, cancel);
        let base = base::acquire(&self.dnf, &self.log("root.log"), &self.log("state.log"), &work).await?;
        let folder = self.dnf.place.new_build().await.map_err(|error| disk(&error))?;
        note(durations, base::PHASE, started.elapsed().as_secs_f64());
        if let Some(quota) = self.request.quota {
            quota.occupies(&folder.path(""));
        }

        let work = Work::within(limit, cancel);
        let wasted = cancel.child_token();
        let ask = async {
            let verdict =
                base::verify(&self.dnf, &base, &folder.path("ask"), &self.log("root.log"), &work).await;
            match &verdict {
                Ok(Verdict::Current(seen)) => self.resolved()[0].clone_from(seen),
                _ => wasted.cancel(),
            }
            verdict
        };
        let quota = self.request.quota;
        // Bases are everybody's, and made and asked about outside of it.
        let build_work = work.under(&wasted).within_cgroup(quota.and_then(Quota::cgroup));
        let (verdict, built) = tokio::join!(ask, self.on_base(&base, &folder, durations, &build_work));
        let finished = match (verdict?, built) {
            (Verdict::Outdated, _) => Ok(Verdict::Outdated),
            (Verdict::Current(_), Err(failure)) => Err(failure),
            (current, Ok(())) => self.keep(&folder, durations).map(|()| current),
        };
        if let Some(quota) = quota {
            quota.measure().await;
        }
        place::clear_away(folder, &self.dnf);
        finished
    }

    /// The states of the repositories that the build root was made of: those that the BuildRequires come from, or, of
    /// one that needs nothing beyond its base, those that the base was found right by.
    fn seen(&self) -> Vec<RepositoryState> {
        let [base, requires] = std::mem::take(&mut *self.resolved());
        if requires.is_empty() { base } else { requires }
    }

    fn resolved(&self) -> MutexGuard<'_, [Vec<RepositoryState>; 2]> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The build proper. Its RPMs are in the build's folder then, its logs in the result folder.
    async fn on_base(
        &self,
        base: &Base,
        folder: &BuildFolder,
        durations: &mut Durations,
        work: &Work<'_>,
    ) -> Result<(), Failure> {
        let list = self.log("installed_pkgs.log");
        std::fs::copy(base.package_list(), &list)
            .map_err(FileError::at("write", &list))
            .map_err(|e| disk(&e))?;
        let chroot = self.chroot(base, folder);

        let plan = chroot.unpack_and_try(self.request.srpm, &folder.path(PACKED));
        let report = self.run(plan, folder, work, "srpm").await?;
        note(durations, "srpm", report.steps.iter().take(2).map(|step| step.seconds).sum());
        match report.steps.as_slice() {
            [.., tried] if tried.retracted => {}
            [_, _, tried] => return self.judge(tried, &report, durations),
            [.., failed] => return Err(self.packing_failed(report.steps.len(), failed, &report)),
            [] => return Err(Failure::new(Class::Lost, "srpm", "nothing was run in the sandbox")),
        }

        let started = Instant::now();
        let generated = self.install_buildrequires(&chroot, folder, work).await?;
        note(durations, "builddep", started.elapsed().as_secs_f64());

        let report = self.run(chroot.build(generated, &folder.path(BUILT)), folder, work, "build").await?;
        let nothing = StepReport { status: 255, ..StepReport::default() };
        self.judge(report.last().unwrap_or(&nothing), &report, durations)
    }

    /// Installs what the source RPM build-requires, and what its spec asks for when it is run. Says whether it
    /// was run.
    async fn install_buildrequires(
        &self,
        chroot: &Chroot<'_>,
        folder: &BuildFolder,
        work: &Work<'_>,
    ) -> Result<bool, Failure> {
        let srpm = place::files_ending(&folder.path(PACKED), ".src.rpm").pop();
        let srpm =
            srpm.ok_or_else(|| Failure::new(Class::Build, "srpm", "rpmbuild -bs made no source RPM"))?;
        self.builddep(&srpm, chroot, folder, work).await?;
        if !Source::asks_when_built(&srpm) {
            return Ok(false);
        }
        for round in 0..ROUNDS {
            let to = folder.path(&format!("asked-{round}"));
            make_dir(&to).map_err(|error| disk(&error))?;
            let report = self.run(chroot.generate_buildrequires(&to), folder, work, "builddep").await?;
            if let Some(step) = report.last().filter(|step| step.status != 0 && !step.accepted) {
                return Err(self.rpmbuild_failed(step, &report));
            }
            let Some(asked) = place::files_ending(&to, ".buildreqs.nosrc.rpm").pop() else { return Ok(true) };
            if !self.builddep(&asked, chroot, folder, work).await? {
                return Ok(true);
            }
        }
        let line = format!("%generate_buildrequires asked for more packages {ROUNDS} times");
        Err(Failure::new(Class::Build, "generate_buildrequires", line))
    }

    /// Installs what `srpm` build-requires, and says whether that was anything.
    async fn builddep(
        &self,
        srpm: &Path,
        chroot: &Chroot<'_>,
        folder: &BuildFolder,
        work: &Work<'_>,
    ) -> Result<bool, Failure> {
        let log = self.log("root.log");
        let list = self.log("installed_pkgs.log");
        std::fs::write(&list, "").map_err(FileError::at("write", &list)).map_err(|error| disk(&error))?;
        let call = Call {
            verb: vec!["builddep".into(), "--srpm".into(), srpm.to_string_lossy().into_owned()],
            at: chroot.at.clone(),
            layers: Some(chroot.layers.clone()),
            log: &log,
            label: format!("build setup for {}.src.rpm", self.source.nvr),
            state_log: Some(self.log("state.log")),
            scratch: &folder.path(""),
            package_list: Some(list),
            dry: false,
            furnish: false,
        };
        let done = self.dnf.run(&call, work).await.map_err(|failure| with_name(failure, srpm))?;
        self.resolved()[1].clone_from(&done.repositories);
        Ok(done.transaction.is_some_and(|installed| !installed.is_empty()))
    }

    /// What the last rpmbuild's end means; and its phases' durations.
    fn judge(&self, step: &StepReport, report: &Report, durations: &mut Durations) -> Result<(), Failure> {
        note_parts(step, durations);
        if step.status == 0 { Ok(()) } else { Err(self.rpmbuild_failed(step, report)) }
    }

    fn rpmbuild_failed(&self, step: &StepReport, report: &Report) -> Failure {
        let part = step.parts.last().map(|(name, _)| name.as_str());
        let tail = diagnose::read_tail(&self.log("build.log"), 0);
        let full = report.full || self.no_room(&tail);
        let failure = diagnose::rpmbuild(part, &tail, step.status, full);
        // Of rpmbuild itself it is known who ended it. Of a compiler it is not, but that the build did send SIGKILL.
        let ended = step.status > 128;
        let own = if ended { step.own.ended_by.is_some() } else { step.own.killed };
        if failure.class == Class::Killed && own {
            return diagnose::own_doing(failure, step.own.ended_by.as_deref());
        }
        failure
    }

    /// Whether the builder's disk is full, rather than a test suite trying what happens then.
    fn no_room(&self, tail: &str) -> bool {
        let free = free_bytes(&self.dnf.place.path("")).unwrap_or(u64::MAX);
        tail.contains(diagnose::NO_SPACE) && free < NO_ROOM
    }

    fn packing_failed(&self, steps: usize, step: &StepReport, report: &Report) -> Failure {
        if steps == 1 {
            return diagnose::source(
                &diagnose::read_tail(&self.log("root.log"), 0),
                step.status,
                report.full,
            );
        }
        self.rpmbuild_failed(step, report)
    }

    async fn run(
        &self,
        plan: Plan,
        folder: &BuildFolder,
        work: &Work<'_>,
        phase: &str,
    ) -> Result<Report, Failure> {
        let ended = run_plan(&self.dnf.launcher, plan, &folder.path(""), work, phase).await;
        ended.map_err(|failure| match failure.class {
            Class::Timeout | Class::Killed => self.ended(failure),
            _ => failure,
        })
    }

    /// A build that was ended from outside: what it was at, from the log.
    fn ended(&self, failure: Failure) -> Failure {
        let log = self.log("build.log");
        let tail = diagnose::read_tail(&log, 0);
        // Of a log that does not end, the end tells nothing.
        let part = diagnose::last_part(&tail).or_else(|| diagnose::last_part(&diagnose::read_head(&log)));
        let phase = part.unwrap_or(failure.phase);
        let mut lines = failure.lines;
        lines.extend(diagnose::last_lines(&tail, 3));
        Failure { phase, lines, log: Some("build.log".into()), ..failure }
    }

    /// Moves the RPMs to the result folder.
    fn keep(&self, folder: &BuildFolder, durations: &mut Durations) -> Result<(), Failure> {
        let started = Instant::now();
        let mut kept = Vec::new();
        // In this order: a source RPM that was packed again, with what its spec asked for, replaces the first.
        for from in [PACKED, BUILT] {
            kept.extend(
                results::keep(&folder.path(from), self.request.resultdir).map_err(|error| disk(&error))?,
            );
        }
        note(durations, "collect", started.elapsed().as_secs_f64());
        if kept.iter().all(|path| results::is_source(path)) {
            for source in &kept {
                let _ = std::fs::remove_file(source);
            }
            return Err(Failure::new(Class::Packaging, "package", "the build succeeded and made no RPM"));
        }
        Ok(())
    }

    fn chroot(&self, base: &Base, folder: &BuildFolder) -> Chroot<'_> {
        Chroot {
            at: folder.path("root"),
            layers: Layers { lower: base.root(), upper: folder.path("upper"), work: folder.path("work") },
            arch: self.request.arch,
            disttag: self.dnf.target.disttag_for(self.request.disttag),
            nvr: &self.source.nvr,
            spec: &self.source.spec,
            build_log: self.log("build.log"),
            root_log: self.log("root.log"),
            state_log: Some(self.log("state.log")),
            scratch: folder.path(""),
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.request.resultdir.join(name)
    }
}

/// dnf does not say whose requirement nothing meets, where it is the source RPM's own.
fn with_name(mut failure: Failure, srpm: &Path) -> Failure {
    let name = srpm.file_name().unwrap_or_default().to_string_lossy();
    for line in &mut failure.lines {
        if line.starts_with("nothing provides ") && !line.contains(" needed by ") {
            *line = format!("{line} needed by {name}");
        }
    }
    failure
}

fn note(durations: &mut Durations, phase: &str, seconds: f64) {
    *durations.entry(phase.to_owned()).or_default() += (seconds * 1000.0).round() / 1000.0;
}

/// Each part of the spec lasted until the next began.
fn note_parts(step: &StepReport, durations: &mut Durations) {
    let ends = step.parts.iter().skip(1).map(|(_, began)| *began).chain([step.seconds]);
    for ((part, began), end) in step.parts.iter().zip(ends) {
        note(durations, part, end - began);
    }
}
