//! `reimzul why`: why a build waits, or why it failed.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;

use super::named::{self, Meant, Named};
use super::{Done, Failure, completions, exit, ui, watch};
use crate::history::Document;
use crate::model::record::{FILE, RepositoryState};
use crate::model::text::plain;
use crate::model::{Arch, BuildJob, BuildRecord, Event, Layout, Status};
use crate::queue::{CREATEREPO, Entry, NOTIFY, PRIORITY, PRIORITY_NOW, State, WAITING};
use crate::role::Site;
use crate::sign;

/// Tell why a build waits, or why it failed
#[derive(Debug, Args)]
#[command(after_help = "\
Of a build that waits: its place in the line, what comes first, who would build
it, who has tried; or the builds that it follows, and where those are. Of one that is being built: where, and how far it is. Of one
that failed: the class of the failure and the lines of the log that tell.

Examples:
  reimzul why hello
  reimzul why mini.x86_64/hello/20261123204406
  reimzul why 36 --json")]
pub struct Why {
    /// The build's path, its id, any unambiguous part of its path or package, or
    /// the job's number
    #[arg(value_name = "BUILD|JOB", add = ArgValueCandidates::new(completions::builds))]
    build: String,
}

/// What is known of it.
#[derive(Debug, Serialize)]
struct Answer {
    build: Option<String>,
    standing: Standing,
    job: Option<Entry>,
    /// Jobs of its tube that are taken before it.
    ahead: Vec<Ahead>,
    /// The nodes of the processes that take jobs from its tube.
    watching: Vec<String>,
    /// The builds that it follows, as long as it waits for them.
    after: Vec<Followed>,
    /// Builders that failed at it for a reason of their own.
    tried: Vec<String>,
    last_failure: Option<crate::model::Failure>,
    /// What a build that runs is at.
    phase: Option<String>,
    /// Requests for metadata of its target that nobody has served yet.
    metadata_waits: usize,
    event: Option<Document>,
    /// The states of the repositories that it was built from, as far as they are known here.
    repositories: Vec<RepositoryState>,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Waiting,
    /// For builds that it follows.
    Following,
    Delayed,
    Running,
    Buried,
    /// Its worker has done with it; the history does not know yet.
    Ending,
    Ended,
}

/// A build that another one follows.
#[derive(Debug, Serialize)]
struct Followed {
    build: String,
    standing: Standing,
    builder: Option<String>,
}

#[derive(Debug, Serialize)]
struct Ahead {
    job: u64,
    what: String,
    priority: u32,
    age: u64,
}

impl Why {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let meant = named::find_any(site, &self.build).await?;
        let answer = Answer::find(site, &meant).await?;
        if as_json {
            ui::print_json(&answer);
        } else {
            answer.print(site, &meant);
        }
        Ok(exit::OK)
    }
}

/// The ready jobs that are taken before this one, in their order.
pub fn ahead<'a>(jobs: &'a [Entry], entry: &Entry) -> Vec<&'a Entry> {
    let is_ahead = |other: &&Entry| {
        other.tube == entry.tube
            && other.state == State::Ready
            && (other.priority, other.id) < (entry.priority, entry.id)
    };
    jobs.iter().filter(is_ahead).collect()
}

impl Answer {
    async fn find(site: &Site, meant: &Meant) -> Result<Answer, Failure> {
        let jobs = site.queue.list(None).await?;
        let job = meant.job().cloned();
        let build = match meant {
            Meant::Build(named) => Some(&**named),
            Meant::Job(_) => None,
        };
        let watching = match &job {
            Some(job) => site.queue.watchers(&job.tube).await?,
            None => Vec::new(),
        };
        let body = job.as_ref().and_then(named::build_of).map(|(body, _)| body);
        let layout = &site.config.layout;
        Ok(Answer {
            build: build.map(|named| named.path.to_string()),
            standing: standing(job.as_ref(), build),
            ahead: job.iter().flat_map(|job| ahead(&jobs, job)).map(Ahead::of).collect(),
            watching,
            after: followed(site, job.as_ref(), body.as_ref()).await?,
            tried: body.as_ref().map(|body| body.tried.clone()).unwrap_or_default(),
            last_failure: body.and_then(|body| body.last_failure),
            phase: build.and_then(|named| watch::phase(layout, &named.path)),
            metadata_waits: build.map_or(0, |named| metadata_waits(&jobs, named)),
            event: build.and_then(|named| named.document.clone()),
            repositories: build.map(|named| repositories(layout, named)).unwrap_or_default(),
            job,
        })
    }

    fn print(&self, site: &Site, meant: &Meant) {
        let name = match (meant, &self.job) {
            (Meant::Build(named), _) => named.path.to_string(),
            (Meant::Job(entry), _) => format!("job {} ({})", entry.id, what(entry)),
        };
        match (self.standing, &self.job) {
            (Standing::Waiting, Some(job)) => self.print_waiting(&name, job),
            (Standing::Following, Some(job)) => self.print_following(&name, job),
            (Standing::Delayed, Some(job)) => self.print_delayed(&name, job),
            (Standing::Running, Some(job)) => self.print_running(&name, job),
            (Standing::Buried, Some(job)) => self.print_buried(&name, job),
            (Standing::Ending, _) => {
                ui::say!("{name} has been built; its result is not recorded yet");
                detail(
                    "look",
                    &format!("`{}` shows whether a notifier watches tube notify", ui::ours("stats")),
                );
            }
            (_, _) => {}
        }
        if let (Standing::Ended, Meant::Build(named), Some(document)) = (self.standing, meant, &self.event) {
            self.print_ended(site, named, document);
        }
    }

    fn print_waiting(&self, name: &str, job: &Entry) {
        ui::say!("{name} waits: {} in tube {}", place(self.ahead.len() + 1), job.tube);
        detail("job", &format!("{}, {}, queued {} ago", job.id, priority(job.priority), age(job)));
        detail("watched", &self.watchers(&job.tube));
        for (index, other) in self.ahead.iter().take(MOST_AHEAD).enumerate() {
            let label = if index == 0 { "ahead" } else { "" };
            let queued = ui::about(Duration::from_secs(other.age));
            detail(
                label,
                &format!(
                    "job {}: {}, {}, queued {queued} ago",
                    other.job,
                    other.what,
                    priority(other.priority)
                ),
            );
        }
        if self.ahead.len() > MOST_AHEAD {
            detail(
                "",
                &format!("and {} more (`{}`)", self.ahead.len() - MOST_AHEAD, ui::ours("query -s waiting")),
            );
        }
        self.print_past(job);
    }

    fn print_following(&self, name: &str, job: &Entry) {
        ui::say!("{name} waits for {}", ui::count(self.after.len(), "build"));
        for (index, one) in self.after.iter().enumerate() {
            detail(if index == 0 { "after" } else { "" }, &format!("{}, which {}", one.build, one.told()));
        }
        detail("job", &format!("{}, {}, queued {} ago", job.id, priority(job.priority), age(job)));
        detail("watched", &self.watchers(&job.tube));
    }

    fn print_delayed(&self, name: &str, job: &Entry) {
        let left = ui::about(Duration::from_secs(job.time_left.unwrap_or_default()));
        ui::say!("{name} waits: it is tried again in {left}");
        detail("job", &format!("{} in tube {}, {}", job.id, job.tube, priority(job.priority)));
        detail("watched", &self.watchers(&job.tube));
        self.print_past(job);
        detail("sooner", &ui::ours(&format!("kick {}", job.id)));
    }

    fn print_running(&self, name: &str, job: &Entry) {
        if self.build.is_none() {
            ui::say!("{name} is being worked on");
            return;
        }
        let builder = self.event.as_ref().filter(|document| document.event.status == Status::Building);
        let on = builder
            .map(|document| format!(" on {}", plain(&document.event.builder_fqdn)))
            .unwrap_or_default();
        ui::say!("{name} is being built{on}: {}", self.phase.as_deref().unwrap_or("starting"));
        let taken = if job.reserves > 1 { format!(", taken {} times", job.reserves) } else { String::new() };
        detail("job", &format!("{}, queued {} ago{taken}", job.id, age(job)));
        self.print_past(job);
        detail("follow", &ui::ours(&format!("logs -f {name}")));
    }

    fn print_buried(&self, name: &str, job: &Entry) {
        ui::say!("{name} is stuck: its job was buried");
        self.print_past(job);
        detail("again", &ui::ours(&format!("kick {}", job.id)));
        detail("or not", &ui::ours(&format!("drop {}", job.id)));
    }

    /// What went wrong before, if anything did.
    fn print_past(&self, job: &Entry) {
        let label = if self.standing == Standing::Running { "before" } else { "because" };
        if let Some(reason) = &job.reason {
            detail(label, reason);
        }
        if let Some(failure) = self.last_failure.as_ref().filter(|_| job.state != State::Buried) {
            detail(label, &failure.to_string());
        }
        if !self.tried.is_empty() {
            detail("tried", &format!("on {}", self.tried.join(", ")));
        }
    }

    fn print_ended(&self, site: &Site, named: &Named, document: &Document) {
        let event: &Event = &document.event;
        let folder = named.folder(&site.config.layout);
        let log = |name: &str| folder.as_ref().map(|folder| folder.join(name)).filter(|log| log.exists());
        match (&event.failure, event.status) {
            (_, Status::Override) => {
                let comment = document.comment.as_deref().unwrap_or_default();
                ui::say!("{} is settled: {}", named.path, plain(comment));
            }
            (_, Status::Success) => ui::say!("{} was built", named.path),
            (Some(failure), _) => {
                let log = log(failure.log.as_deref().unwrap_or("build.log"));
                ui::failure(&named.path.to_string(), failure, log.map(|log| ui::short(&log)).as_deref());
            }
            (None, _) => ui::say!("{} failed; its builder did not say why", named.path),
        }
        detail(
            "builder",
            &format!("{}, submitted {} by {}", event.builder_fqdn, ui::ago(event.timestamp), event.submitter),
        );
        if let Some(folder) = folder.as_ref().filter(|_| event.failure.is_none()) {
            detail("folder", &ui::short(folder).display().to_string());
        }
        if !self.repositories.is_empty() {
            let state = |state: &RepositoryState| match state.revision {
                Some(revision) => format!("{} {revision}", plain(&state.id)),
                None => plain(&state.id),
            };
            let states: Vec<String> = self.repositories.iter().map(state).collect();
            detail("against", &states.join(", "));
        }
        if event.status == Status::Success && self.metadata_waits > 0 {
            detail(
                "but",
                &format!("metadata of {} is still to be made (`{}`)", event.target, ui::ours("stats")),
            );
        }
    }

    fn watchers(&self, tube: &str) -> String {
        if !self.watching.is_empty() {
            let mut nodes = self.watching.clone();
            nodes.sort();
            nodes.dedup();
            return format!("by {}: {}", ui::count(self.watching.len(), role(tube)), nodes.join(", "));
        }
        let command = ui::ours(&format!("run {}", role(tube)));
        match tube.parse::<Arch>() {
            Ok(arch) if !Arch::of_this_machine().is_some_and(|ours| ours.builds().contains(&arch)) => {
                format!("by nobody: start a worker on a machine that builds {arch} (`{command}`)")
            }
            _ => format!("by nobody: start a {} (`{command}`)", role(tube)),
        }
    }
}

/// How many jobs ahead are shown.
const MOST_AHEAD: usize = 5;

impl Followed {
    /// Where it stands, after `which`.
    fn told(&self) -> String {
        match (self.standing, &self.builder) {
            (Standing::Waiting | Standing::Delayed, _) => "waits for a builder".into(),
            (Standing::Following, _) => "waits for builds itself".into(),
            (Standing::Running, Some(builder)) => format!("is being built on {builder}"),
            (Standing::Running, None) => "is being built".into(),
            (Standing::Buried, _) => "is stuck: its job was buried".into(),
            (Standing::Ending, _) => "has no job and no result: it is ending, or an old worker has it".into(),
            (Standing::Ended, _) => "has its result; its repository is looked at".into(),
        }
    }
}

/// Where the builds stand that a waiting job follows.
async fn followed(
    site: &Site,
    job: Option<&Entry>,
    body: Option<&BuildJob>,
) -> Result<Vec<Followed>, Failure> {
    let mut followed = Vec::new();
    let waits = job.is_some_and(|job| job.tube == WAITING);
    for predecessor in body.iter().filter(|_| waits).flat_map(|body| &body.after) {
        let build = predecessor.build.to_string();
        // One that neither queue nor history knows has only just been put, or is long gone.
        let named = named::find(site, &build).await.ok();
        let document = named.as_ref().and_then(|named| named.document.as_ref());
        followed.push(Followed {
            standing: standing(named.as_ref().and_then(|named| named.job.as_ref()), named.as_ref()),
            builder: document.map(|document| document.event.builder_fqdn.clone()),
            build,
        });
    }
    Ok(followed)
}

impl Ahead {
    fn of(entry: &Entry) -> Ahead {
        Ahead { job: entry.id, what: what(entry), priority: entry.priority, age: entry.age }
    }
}

fn standing(job: Option<&Entry>, build: Option<&Named>) -> Standing {
    let is_following = job.is_some_and(|job| job.tube == WAITING);
    match (job.map(|job| job.state), build.is_some_and(Named::is_done)) {
        (Some(state), _) if is_following && state != State::Buried => Standing::Following,
        (Some(State::Ready), _) => Standing::Waiting,
        (Some(State::Delayed), _) => Standing::Delayed,
        (Some(State::Reserved), _) => Standing::Running,
        (Some(State::Buried), _) => Standing::Buried,
        (None, false) => Standing::Ending,
        (None, true) => Standing::Ended,
    }
}

fn repositories(layout: &Layout, named: &Named) -> Vec<RepositoryState> {
    let read = || {
        let text = std::fs::read(named.folder(layout)?.join(FILE)).ok()?;
        Some(serde_json::from_slice::<BuildRecord>(&text).ok()?.repositories)
    };
    read().unwrap_or_default()
}

fn metadata_waits(jobs: &[Entry], named: &Named) -> usize {
    let target = |entry: &Entry| {
        let body: serde_json::Value = serde_json::from_slice(&entry.body).ok()?;
        Some(body.get("target")?.as_str()? == named.path.target.as_str())
    };
    jobs.iter().filter(|entry| entry.tube == CREATEREPO && target(entry) == Some(true)).count()
}

/// What a job is about: a package, or what a follow-up is for.
pub fn what(entry: &Entry) -> String {
    if let Some((_, path)) = named::build_of(entry) {
        return path.label();
    }
    let body: serde_json::Value = serde_json::from_slice(&entry.body).unwrap_or_default();
    let field = |name: &str| body.get(name).and_then(|value| value.as_str()).map(console::strip_ansi_codes);
    let about = field("srpm").or_else(|| field("target")).unwrap_or("no build job".into());
    format!("{}: {}", entry.tube, about.chars().filter(|c| !c.is_control()).take(80).collect::<String>())
}

fn role(tube: &str) -> &'static str {
    match tube {
        CREATEREPO | WAITING => "repogen",
        NOTIFY => "notifier",
        tube if sign::is_tube(tube) => "signer",
        _ => "worker",
    }
}

/// The text may quote what came from outside.
fn detail(label: &str, text: &str) {
    ui::say!("  {}  {}", console::Style::new().dim().apply_to(format!("{label:<8}")), plain(text));
}

fn age(entry: &Entry) -> String {
    ui::about(Duration::from_secs(entry.age))
}

/// `next`, `2nd`, `11th`.
pub fn place(number: usize) -> String {
    match number {
        1 => "next".to_owned(),
        _ if (11..=13).contains(&(number % 100)) => format!("{number}th"),
        _ => match number % 10 {
            1 => format!("{number}st"),
            2 => format!("{number}nd"),
            3 => format!("{number}rd"),
            _ => format!("{number}th"),
        },
    }
}

fn priority(number: u32) -> String {
    match number {
        PRIORITY_NOW => "priority now".to_owned(),
        PRIORITY => "usual priority".to_owned(),
        other => format!("priority {other}"),
    }
}
