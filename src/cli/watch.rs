//! Following builds until their results are known: what `build` and `submit --wait` show.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Failure, ui};
use crate::history::{Document, Find};
use crate::model::record::{BuildRecord, FILE};
use crate::model::{BuildId, BuildPath, Layout, Status};
use crate::role::Site;
use crate::submit::Submitted;

/// How often a build is looked at.
pub const LOOK: Duration = Duration::from_millis(50);

/// A build that is waited for.
#[derive(Debug)]
pub struct Watched {
    pub path: BuildPath,
    pub build_id: BuildId,
    pub job_id: u64,
    /// Its place is below `scratch/`.
    apart: bool,
    since: Instant,
    pub outcome: Option<Document>,
}

impl Watched {
    pub fn new(submitted: &Submitted, scratch_in_repo: bool) -> Watched {
        let stamp = submitted.job.stamp.as_ref().expect("what we submit is stamped");
        Watched {
            path: submitted.path.clone(),
            build_id: stamp.build_id.clone(),
            job_id: submitted.job_id,
            apart: submitted.job.scratch && !scratch_in_repo,
            since: Instant::now(),
            outcome: None,
        }
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
        format!("{}-{}.{}", self.path.pkgname, self.path.evr, self.path.arch)
    }

    /// Asks the history for its result, if it has none yet.
    async fn look(&mut self, site: &Site) -> Result<(), Failure> {
        if self.outcome.is_some() {
            return Ok(());
        }
        let find = Find { build_id: Some(self.build_id.clone()), all: true, ..Find::default() };
        let found = site.history.find(find).await?;
        self.outcome = found
            .into_iter()
            .find(|document| document.event.status.is_result() && document.event.arch == self.path.arch);
        Ok(())
    }
}

/// Shows builds as they go: a live line each on a terminal, else a line when a phase begins.
#[derive(Debug)]
pub struct Board {
    lines: MultiProgress,
    bars: Vec<(ProgressBar, String)>,
    live: bool,
    silent: bool,
}

impl Board {
    pub fn new(silent: bool) -> Board {
        let live = console::Term::stderr().is_term() && !silent;
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Board { lines: MultiProgress::with_draw_target(target), bars: Vec::new(), live, silent }
    }

    /// Says something above the live lines.
    pub fn say(&self, line: &str) {
        if self.live {
            let _ = self.lines.println(line);
        } else if !self.silent {
            eprintln!("{line}");
        }
    }

    /// The build at this index is a new one from now on.
    pub fn forget(&mut self, index: usize) {
        if let Some(bar) = self.bars.get_mut(index) {
            *bar = (self.lines.add(spinner()), String::new());
        }
    }

    /// Looks at the builds once and shows what is new.
    pub async fn look(&mut self, site: &Site, builds: &mut [Watched]) -> Result<(), Failure> {
        while self.bars.len() < builds.len() {
            self.bars.push((self.lines.add(spinner()), String::new()));
        }
        for (build, (bar, shown)) in builds.iter_mut().zip(&mut self.bars) {
            if bar.is_finished() {
                continue;
            }
            build.look(site).await?;
            let elapsed = ui::seconds(build.since.elapsed().as_secs_f64());
            if let Some(document) = &build.outcome {
                let said = result_line(build, document, &elapsed);
                bar.finish_and_clear();
                if self.live {
                    let _ = self.lines.println(said);
                } else if !self.silent {
                    eprintln!("{said}");
                }
                continue;
            }
            let now = progress(&site.config.layout, &build.path);
            bar.set_message(format!("{:<30} {:<10} {elapsed:>10}  {}", build.label(), now.phase, now.line));
            bar.tick();
            if !self.live && !self.silent && *shown != now.phase {
                eprintln!("{:<30} {:<10} {elapsed:>10}", build.label(), now.phase);
                *shown = now.phase;
            }
        }
        Ok(())
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg}").expect("the template is sound");
    ProgressBar::new_spinner().with_style(style)
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
        if builds.iter().all(|build| build.outcome.is_some()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a build is at.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: String,
    /// The last line of the log that is being written.
    pub line: String,
}

/// Reads it from the logs that the engine writes, whichever process that is in.
pub fn progress(layout: &Layout, path: &BuildPath) -> Progress {
    let waiting = || Progress { phase: "waiting".into(), line: String::new() };
    let Some(folder) = newest_attempt(layout, path) else { return waiting() };
    let state = tail(&folder.join("state.log"));
    let Some(step) = state.lines().rev().find_map(|line| line.split_once("Start: ").map(|(_, step)| step))
    else {
        return Progress { phase: "starting".into(), line: String::new() };
    };
    let step = step.split_whitespace().next().unwrap_or_default().trim_end_matches(':').to_owned();
    let build = tail(&folder.join("build.log"));
    if build.is_empty() {
        return Progress { phase: step, line: last_line(&tail(&folder.join("root.log"))) };
    }
    let section = build.rmatch_indices("Executing(%").next().map(|(at, found)| &build[at + found.len()..]);
    let section = section.and_then(|rest| rest.split_once(')')).map(|(name, _)| format!("%{name}"));
    Progress { phase: section.unwrap_or(step), line: last_line(&build) }
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
    console::strip_ansi_codes(line).chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Prints how the builds ended: RPMs of the good ones, then why the others failed.
pub fn report(site: &Site, builds: &[Watched], as_json: bool) {
    let layout = &site.config.layout;
    if as_json {
        let list: Vec<_> = builds.iter().map(|build| as_value(layout, build)).collect();
        ui::print_json(&list);
        return;
    }
    let mut table = ui::table(&["rpm", "size", "took"]);
    for build in builds.iter().filter(|build| build.succeeded()) {
        let Some(record) = build.record(layout) else { continue };
        let took = ui::seconds(record.durations.values().sum());
        for (index, result) in record.results.iter().enumerate() {
            let bytes = indicatif::HumanBytes(result.size).to_string();
            table.add_row([
                result.file.clone(),
                bytes,
                if index == 0 { took.clone() } else { String::new() },
            ]);
        }
    }
    if !table.is_empty() {
        println!();
        ui::print(&table);
    }
    for build in builds {
        let failure = build.outcome.as_ref().and_then(|document| document.event.failure.as_ref());
        if let Some(failure) = failure {
            let log = build.folder(layout).join(failure.log.as_deref().unwrap_or("build.log"));
            println!();
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
