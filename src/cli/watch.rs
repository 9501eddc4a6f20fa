//! Following builds until their results are known: what `build` and `submit --wait` show.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Failure, ui};
use crate::history::{Document, Find};
use crate::model::record::{BuildRecord, FILE};
use crate::model::text::plain;
use crate::model::{Arch, BuildId, BuildJob, BuildPath, Layout, Status};
use crate::role::Site;
use crate::submit::Submitted;

/// How often a build is looked at.
pub const LOOK: Duration = Duration::from_millis(50);

/// A build that is waited for.
#[derive(Debug)]
pub struct Watched {
    pub path: BuildPath,
    pub build_id: BuildId,
    pub job: BuildJob,
    /// Its place is below `scratch/`.
    apart: bool,
    since: Instant,
    pub outcome: Option<Document>,
    /// Builds for other arches that its builder has said to make along with it. Its own success does not depend
    /// on theirs.
    pub companions: Vec<Watched>,
}

impl Watched {
    pub fn new(submitted: &Submitted, scratch_in_repo: bool) -> Watched {
        let stamp = submitted.job.stamp.as_ref().expect("what we submit is stamped");
        Watched {
            path: submitted.path.clone(),
            build_id: stamp.build_id.clone(),
            job: submitted.job.clone(),
            apart: submitted.job.scratch && !scratch_in_repo,
            since: Instant::now(),
            outcome: None,
            companions: Vec::new(),
        }
    }

    fn companion(&self, arch: Arch) -> Watched {
        Watched {
            path: BuildPath { arch, ..self.path.clone() },
            build_id: self.build_id.clone(),
            job: BuildJob { arch, ..self.job.clone() },
            outcome: None,
            companions: Vec::new(),
            ..*self
        }
    }

    /// It and what is built along with it.
    pub fn all(&self) -> impl Iterator<Item = &Watched> {
        std::iter::once(self).chain(&self.companions)
    }

    /// Whether it and what is built along with it have their results.
    pub fn is_over(&self) -> bool {
        self.all().all(|build| build.outcome.is_some())
    }

    pub fn succeeded(&self) -> bool {
        self.outcome.as_ref().is_some_and(|document| document.event.status == Status::Success)
    }

    /// Where its results and logs are, or will be.
    pub fn folder(&self, layout: &Layout) -> PathBuf {
        layout.build(&self.path, self.apart)
    }

    pub fn record(&self, layout: &Layout) -> Option<BuildRecord> {
        serde_json::from_slice(&std::fs::read(self.folder(layout).join(FILE)).ok()?).ok()
    }

    /// `hello-2.10-1.x86_64`.
    pub fn label(&self) -> String {
        self.path.label()
    }

    /// Asks the history for its result and its companions', as far as they are not known.
    async fn look(&mut self, site: &Site) -> Result<(), Failure> {
        if self.outcome.is_some() && self.is_over() {
            return Ok(());
        }
        let find = Find { build_id: Some(self.build_id.clone()), all: true, ..Find::default() };
        let found = site.history.find(find).await?;
        for arch in found.iter().flat_map(|document| &document.event.arches) {
            if !self.all().any(|build| build.path.arch == *arch) {
                self.companions.push(self.companion(*arch));
            }
        }
        let result = |arch| {
            let is_it = |one: &&Document| one.event.status.is_result() && one.event.arch == arch;
            found.iter().find(is_it).cloned()
        };
        self.outcome = result(self.path.arch);
        for companion in &mut self.companions {
            companion.outcome = result(companion.path.arch);
        }
        Ok(())
    }
}

/// Shows builds as they go: a live line each on a terminal, else a line when a phase begins.
#[derive(Debug)]
pub struct Board {
    lines: MultiProgress,
    /// What is shown of each build.
    bars: HashMap<(BuildId, Arch), (ProgressBar, String)>,
    live: bool,
    silent: bool,
}

impl Board {
    pub fn new(silent: bool) -> Board {
        let silent = silent || ui::is_quiet();
        let live = console::Term::stderr().is_term() && !silent;
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Board { lines: MultiProgress::with_draw_target(target), bars: HashMap::new(), live, silent }
    }

    /// Shows that something goes on, until what is returned is finished.
    pub fn busy(&self, what: &str) -> ProgressBar {
        if !self.live && !self.silent {
            ui::tell!("  {what}");
        }
        let bar = self.lines.add(spinner()).with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// The same, until what is returned is dropped, unless that is within a second.
    pub fn busy_if_long(&self, what: &str) -> Busy {
        let (bar, said) = (ProgressBar::hidden().with_style(style()), what.to_owned());
        let later = (self.live || !self.silent).then(|| {
            let (bar, live) = (bar.clone(), self.live);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if live {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.set_message(said);
                    bar.enable_steady_tick(Duration::from_millis(100));
                } else {
                    ui::tell!("  {said}");
                }
            })
        });
        Busy { bar, later }
    }

    /// Looks at the builds once and shows what is new.
    pub async fn look(&mut self, site: &Site, builds: &mut [Watched]) -> Result<(), Failure> {
        for build in builds {
            build.look(site).await?;
            for one in build.all() {
                self.show(site, one);
            }
        }
        Ok(())
    }

    fn show(&mut self, site: &Site, build: &Watched) {
        let key = (build.build_id.clone(), build.path.arch);
        let (bar, shown) = self.bars.entry(key).or_insert_with(|| (self.lines.add(spinner()), String::new()));
        if bar.is_finished() {
            return;
        }
        let elapsed = ui::duration(build.since.elapsed());
        if let Some(document) = &build.outcome {
            let said = result_line(build, document, &elapsed);
            bar.finish_and_clear();
            if self.live {
                let _ = self.lines.println(said);
            } else if !self.silent {
                ui::tell!("{said}");
            }
            return;
        }
        let (phase, line) = match progress(&site.config.layout, &build.path) {
            Some(now) => (now.phase.unwrap_or_else(|| shown.clone()), now.line),
            // The attempt's folder has gone where results go.
            None if shown.as_str() == "" || shown == "waiting" => ("waiting".to_owned(), String::new()),
            None => ("uploading".to_owned(), String::new()),
        };
        bar.set_message(format!("{:<32} {phase:<10} {elapsed:>10}  {line}", build.label()));
        bar.tick();
        if *shown != phase {
            if !self.live && !self.silent {
                ui::tell!("  {:<40} {elapsed:>10}  {phase}", build.label());
            }
            *shown = phase;
        }
    }
}

/// Something that goes on and may take long.
#[derive(Debug)]
pub struct Busy {
    bar: ProgressBar,
    later: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(later) = &self.later {
            later.abort();
        }
        self.bar.finish_and_clear();
    }
}

fn spinner() -> ProgressBar {
    ProgressBar::new_spinner().with_style(style())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {wide_msg}").expect("the template is sound")
}

fn result_line(build: &Watched, document: &Document, elapsed: &str) -> String {
    let style = console::Style::new().for_stderr();
    match &document.event.failure {
        None => format!("{} {:<40} {elapsed:>10}", style.green().apply_to("✓"), build.label()),
        Some(failure) => {
            format!(
                "{} {:<40} {elapsed:>10}  {} failure",
                style.red().apply_to("✗"),
                build.label(),
                failure.class
            )
        }
    }
}

/// Waits until every build has a result.
pub async fn until_done(site: &Site, builds: &mut [Watched], silent: bool) -> Result<(), Failure> {
    let mut board = Board::new(silent);
    loop {
        board.look(site, builds).await?;
        if builds.iter().all(Watched::is_over) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a running build is at.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    /// None where the logs do not tell at the moment.
    phase: Option<String>,
    /// The last line of the log that is being written.
    line: String,
}

/// What a running build is at: `%check`; none while no attempt runs.
pub fn phase(layout: &Layout, path: &BuildPath) -> Option<String> {
    progress(layout, path)?.phase
}

/// Reads it from the logs that the engine writes, whichever process that is in; none while no attempt runs.
fn progress(layout: &Layout, path: &BuildPath) -> Option<Progress> {
    let folder = newest_attempt(layout, path)?;
    let state = tail(&folder.join("state.log"));
    let Some(step) = running_step(&state) else {
        return Some(Progress { phase: Some("starting".into()), line: String::new() });
    };
    let mut words = step.split_whitespace();
    let phase = match words.next().unwrap_or_default() {
        "buildsrpm" => "srpm",
        // "build phase" and, in it, "build setup".
        "build" => "builddep",
        "rpmbuild" => {
            let log = tail(&folder.join("build.log"));
            return Some(Progress { phase: section(&log), line: last_line(&log) });
        }
        "installing" => "base",
        "creating" | "unpacking" => "root cache",
        "cleaning" => "chroot",
        "clean" => "cleaning up",
        other => other,
    };
    Some(Progress { phase: Some(plain(phase)), line: last_line(&tail(&folder.join("root.log"))) })
}

/// What state.log begins and does not end, the innermost; between two steps the last that was begun.
fn running_step(state: &str) -> Option<&str> {
    let mut running = Vec::new();
    let mut last = None;
    for line in state.lines() {
        if let Some((_, step)) = line.split_once("Start: ") {
            running.push(step);
            last = Some(step);
        } else if let Some((_, step)) = line.split_once("Finish: ") {
            running.retain(|other| *other != step);
        }
    }
    running.pop().or(last)
}

/// The part of the spec that rpmbuild runs: `%build`. What it does after %check is packaging.
fn section(log: &str) -> Option<String> {
    let (at, found) = log.rmatch_indices("Executing(%").next()?;
    let (name, _) = log[at + found.len()..].split_once(')')?;
    Some(match name {
        "prep" | "build" | "install" | "check" | "generate_buildrequires" => format!("%{name}"),
        _ => "package".to_owned(),
    })
}

/// The folder of the attempt that runs, or ran last.
pub fn newest_attempt(layout: &Layout, path: &BuildPath) -> Option<PathBuf> {
    let attempts = std::fs::read_dir(layout.results_of(path)).ok()?.flatten();
    attempts
        .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        .map(|entry| entry.path())
}

/// The last 16 KiB of a file; empty where there is none.
fn tail(path: &Path) -> String {
    const MOST: u64 = 16 << 10;
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    plain(line).chars().take(200).collect()
}

/// Prints how the builds ended: RPMs of the good ones, then why the others failed.
pub fn report(site: &Site, builds: &[Watched], as_json: bool) {
    let layout = &site.config.layout;
    let builds: Vec<&Watched> = builds.iter().flat_map(Watched::all).collect();
    if as_json {
        let list: Vec<_> = builds.iter().map(|build| as_value(layout, build)).collect();
        ui::print_json(&list);
        return;
    }
    let mut table = ui::table(&["rpm", "size", "took"]);
    for build in builds.iter().filter(|build| build.succeeded()) {
        let Some(record) = build.record(layout) else { continue };
        let took =
            ui::duration(Duration::try_from_secs_f64(record.durations.values().sum()).unwrap_or_default());
        // What companions make as the main arch does is listed once.
        let published = |file: &str| build.path.target.publishes(build.path.arch, file);
        let results = record.results.iter().filter(|result| published(&result.file));
        for (index, result) in results.enumerate() {
            let bytes = indicatif::HumanBytes(result.size).to_string();
            table.add_row([
                result.file.clone(),
                bytes,
                if index == 0 { took.clone() } else { String::new() },
            ]);
        }
    }
    if !table.is_empty() {
        ui::say!();
        ui::print(&table);
    }
    for build in builds {
        for warning in build.outcome.iter().flat_map(|document| &document.event.warnings) {
            ui::tell!("warning: {}", plain(warning));
        }
        let failure = build.outcome.as_ref().and_then(|document| document.event.failure.as_ref());
        if let Some(failure) = failure {
            let log = build.folder(layout).join(failure.log_name());
            ui::say!();
            ui::failure(&build.path.to_string(), failure, log.exists().then_some(ui::short(&log)).as_deref());
        }
    }
}

fn as_value(layout: &Layout, build: &Watched) -> serde_json::Value {
    json!({
        "build": build.path.to_string(),
        "build_id": build.build_id,
        "status": build.outcome.as_ref().map(|document| document.event.status),
        "folder": build.folder(layout),
        "failure": build.outcome.as_ref().and_then(|document| document.event.failure.clone()),
        "record": build.record(layout),
    })
}

#[cfg(test)]
mod tests {
    use super::running_step;

    #[test]
    fn the_step_that_runs_is_the_innermost_begun_one_of_state_log() {
        let state = "\
            now - Start: chroot init\nnow - Start: creating root cache\nnow - Finish: creating root cache\n\
            now - Finish: chroot init\nnow - Start: rpmbuild a-1-1.src.rpm\n\
            now - Start: Outputting list of installed packages\nnow - Finish: Outputting list of installed packages\n";
        let upto = |lines: usize| {
            running_step(&state[..state.match_indices('\n').nth(lines - 1).map_or(0, |(at, _)| at + 1)])
        };
        assert_eq!(upto(2), Some("creating root cache"));
        assert_eq!(upto(3), Some("chroot init"));
        assert_eq!(upto(4), Some("creating root cache"));
        assert_eq!(upto(6), Some("Outputting list of installed packages"));
        assert_eq!(upto(7), Some("rpmbuild a-1-1.src.rpm"));
        assert_eq!(running_step("now - Mock Version: 6.7\n"), None);
    }
}
