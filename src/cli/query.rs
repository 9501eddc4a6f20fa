//! `reimzul query`: builds by status and target.

use std::collections::HashMap;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::{Done, Failure, completions, exit, named, ui, why};
use crate::history::{Document, Find};
use crate::model::text::plain;
use crate::model::{BuildId, BuildJob, BuildPath, Status, Target};
use crate::queue::{Entry, State, WAITING};
use crate::role::Site;

/// List builds by status and target
#[derive(Debug, Args)]
#[command(after_help = "\
Lists the latest build of each source RPM and those being built, newest first;
with --all former ones too. STAMP is the time of the submission, UTC, and names
the build: `reimzul why STAMP`, `reimzul logs STAMP`.

Statuses:
  Waiting   in the queue, in the order in which they will be taken
  Building  taken by a builder
  Success   built
  Failed    not built, and why
  Override  failed, and declared settled (`reimzul override`)
  Done      the record of a build's beginning, once it has a result

Examples:
  reimzul query -s Failed --why
  reimzul query -s waiting
  reimzul query -t mini.x86_64 --json | jq -r '.[].srpm'
  reimzul query -s Success -t c9.x86_64 --classic")]
pub struct Query {
    /// Only builds of this status (see below)
    #[arg(short, long, add = ArgValueCandidates::new(completions::statuses))]
    status: Option<String>,
    /// Only builds for this target, given with its arch: mini.x86_64
    #[arg(short, long, add = ArgValueCandidates::new(completions::targets))]
    target: Option<String>,
    /// At most so many, the newest; 0: all
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Former builds too
    #[arg(long)]
    all: bool,
    /// Below the list, what failed in each failed build, with the log lines that tell why
    #[arg(long, conflicts_with = "classic")]
    why: bool,
    /// Print the lines that the old reimzul_query printed
    #[arg(long)]
    classic: bool,
}

/// What the queue has of a build that has begun or waits.
type Jobs = HashMap<BuildId, Entry>;

impl Query {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let usage = |error: &dyn std::error::Error| Failure::Usage(error.to_string());
        let target =
            self.target.as_deref().map(str::parse::<Target>).transpose().map_err(|error| usage(&error))?;
        if self.status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("waiting")) {
            return list_waiting(site, target.as_ref(), as_json).await;
        }
        let status =
            self.status.as_deref().map(str::parse::<Status>).transpose().map_err(|error| usage(&error))?;
        let all = self.all || status == Some(Status::Done);
        let find = Find { status, target, build_id: None, all, limit: self.limit };
        let found = site.history.find(find).await?;
        if as_json {
            ui::print_json(&found);
            return Ok(exit::OK);
        }
        if self.classic {
            for document in &found {
                ui::say!("{}", plain(&classic(document)));
            }
            return Ok(exit::OK);
        }
        let entries = site.queue.list(None).await?;
        if found.is_empty() {
            ui::done("no such builds");
        } else {
            print(&found, &jobs(&entries));
            if self.why {
                tell_why(site, &found);
            }
        }
        let waiting = waiting(&entries).count();
        if status.is_none() && waiting > 0 {
            let wait =
                if waiting == 1 { "1 build waits".to_owned() } else { format!("{waiting} builds wait") };
            ui::note(&format!("{wait}: {}", ui::ours("query -s waiting")));
        }
        Ok(exit::OK)
    }
}

fn print(found: &[Document], jobs: &Jobs) {
    let mut table = ui::table(&["status", "package", "target", "stamp (UTC)", "submitted", "why"]);
    for document in found {
        let event = &document.event;
        let handed_back = handed_back(document, jobs);
        let why = match (&event.failure, &document.comment, &handed_back) {
            (_, Some(comment), _) => plain(comment),
            (_, _, Some(job)) => again(job),
            (Some(failure), None, _) => failure.class.to_string(),
            (None, None, _) if event.scratch => "scratch".to_owned(),
            (None, None, _) => String::new(),
        };
        table.add_row([
            if handed_back.is_some() { "Waiting".into() } else { ui::status(event.status) },
            event.path().label().into(),
            (&event.target).into(),
            event.timestamp.into(),
            ui::ago(event.timestamp).into(),
            why.into(),
        ]);
    }
    ui::print(&table);
}

/// What each failed build failed by.
fn tell_why(site: &Site, found: &[Document]) {
    for document in found {
        let Some(failure) = &document.event.failure else { continue };
        let named = named::Named { path: document.event.path(), document: Some(document.clone()), job: None };
        let log = named.folder(&site.config.layout).map(|folder| folder.join(failure.log_name()));
        let log = log.filter(|log| log.exists()).map(|log| ui::short(&log));
        ui::say!();
        ui::failure(&named.path.to_string(), failure, log.as_deref());
    }
}

/// The job of a build that was begun and is nobody's now: it was handed back, or its worker died.
fn handed_back<'a>(document: &Document, jobs: &'a Jobs) -> Option<&'a Entry> {
    let job = jobs.get(document.event.build_id.as_ref()?)?;
    let is_idle = matches!(job.state, State::Ready | State::Delayed);
    (document.event.status == Status::Building && is_idle).then_some(job)
}

/// When it is built, or tried again.
fn again(job: &Entry) -> String {
    match job.time_left {
        Some(left) => format!("again in {}", ui::about(std::time::Duration::from_secs(left))),
        None => "handed back".to_owned(),
    }
}

fn jobs(entries: &[Entry]) -> Jobs {
    let id = |entry: &Entry| Some(named::build_of(entry)?.0.stamp?.build_id);
    entries.iter().filter_map(|entry| Some((id(entry)?, entry.clone()))).collect()
}

/// Builds that wait to be taken.
fn waiting(entries: &[Entry]) -> impl Iterator<Item = (&Entry, BuildJob, BuildPath)> {
    // One that follows others is looked at now and then, and waits all the same.
    let waits = |entry: &&Entry| match entry.state {
        State::Ready | State::Delayed => true,
        State::Reserved => entry.tube == WAITING,
        State::Buried => false,
    };
    entries
        .iter()
        .filter(waits)
        .filter_map(|entry| named::build_of(entry).map(|(job, path)| (entry, job, path)))
}

async fn list_waiting(site: &Site, target: Option<&Target>, as_json: bool) -> Done {
    let entries = site.queue.list(None).await?;
    let meant = |path: &BuildPath| target.is_none_or(|target| *target == path.target);
    let waiting: Vec<_> = waiting(&entries).filter(|(_, _, path)| meant(path)).collect();
    if as_json {
        let list: Vec<_> = waiting
            .iter()
            .map(|(entry, job, path)| json!({"build": path.to_string(), "queue": entry, "job": job}))
            .collect();
        ui::print_json(&list);
        return Ok(exit::OK);
    }
    if waiting.is_empty() {
        ui::done("no builds wait");
        return Ok(exit::OK);
    }
    let mut table = ui::table(&["job", "package", "target", "stamp (UTC)", "submitted", "turn"]);
    for (entry, job, path) in &waiting {
        let turn = match entry.state {
            _ if entry.tube == WAITING => format!("after {}", ui::count(job.after.len(), "build")),
            State::Ready => why::place(why::ahead(&entries, entry).len() + 1),
            _ => again(entry),
        };
        table.add_row([
            entry.id.to_string(),
            path.label(),
            job.target.to_string(),
            path.timestamp.to_string(),
            ui::ago(path.timestamp),
            turn,
        ]);
    }
    ui::print(&table);
    Ok(exit::OK)
}

/// The old command's line. Its two blanks after the timestamp are meant: scripts split at them.
fn classic(document: &Document) -> String {
    let event = &document.event;
    let head = format!(
        "{} (arch: {}, status: {}, timestamp: {},",
        event.srpm, event.arch, event.status, event.timestamp
    );
    match event.status {
        Status::Override => {
            format!(
                "{head} target: {}, comment: {})",
                event.target,
                document.comment.as_deref().unwrap_or_default()
            )
        }
        _ => format!("{head}  builder: {})", event.builder_fqdn),
    }
}
