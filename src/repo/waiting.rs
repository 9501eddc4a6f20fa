//! Jobs that follow other builds: they wait in tube `waiting`, and go to the tube of their arch once the
//! repositories contain what they follow.
//!
//! That is made sure of here: when the builds lie in the bstore, their repositories' metadata is made before the
//! job is moved. Moving is a put, then the delete. Who dies in between leaves the job in both tubes; who gets it
//! next finds that it was moved, and only deletes it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Repogen;
use super::line::Where;
use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::metadata::Excluded;
use crate::model::job::Predecessor;
use crate::model::record::{FILE, UNLISTED};
use crate::model::{Arch, BuildId, BuildJob, BuildPath, BuildRecord, Event, Layout, Status, Target};
use crate::queue::{Entry, NOTIFY, NewJob, PRIORITY_FOLLOW_UP, Queue, QueueError, State, WAITING};
use crate::shutdown::Shutdown;
use crate::sys::process::node_name;
use crate::upload::finished;

/// How soon a result is seen that a job of ours waits for.
const LOOK: Duration = Duration::from_millis(100);
/// How long a job waits at most before it is looked at again, whoever released it.
const LONGEST_WAIT: u32 = 10;
/// A job that nobody has looked at for so long is another process's, or gone.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Moves jobs on.
#[derive(Debug)]
pub struct Mover {
    repogen: Repogen,
    layout: Layout,
    queue: Queue,
    node: String,
    /// By job: the files that one of must appear before it is worth a look, and when it was last looked at.
    awaited: Mutex<HashMap<u64, (Vec<PathBuf>, Instant)>>,
}

/// What is to become of a job.
#[derive(Debug)]
enum Decision {
    /// All that it follows lies in the bstore.
    Move(Box<BuildJob>),
    /// It is reported, and gone.
    Fail(Box<Event>),
    Wait {
        reason: String,
        files: Vec<PathBuf>,
    },
    Bury(String),
}

/// Where a build stands that another one follows.
#[derive(Debug)]
enum Standing {
    /// It lies in the bstore, with all that is built along with it.
    There,
    /// It is still to come: this file of it.
    Coming(PathBuf),
    /// It never will be there, since it …
    Never(String),
}

/// What was left out of each repository that metadata was made of, or why none could be.
type Published = BTreeMap<Target, Result<Vec<Excluded>, String>>;

/// What keeps a job from being moved though all that it follows has been built.
enum Obstacle {
    Later(String),
    /// That build never will be in its repository, since it …
    Never(BuildPath, String),
}

/// The jobs in the queue, listed when they are first asked for.
#[derive(Debug, Default)]
struct Jobs(Option<Vec<Entry>>);

impl Mover {
    pub fn new(repogen: &Repogen, queue: &Queue) -> Mover {
        Mover {
            repogen: repogen.clone(),
            layout: repogen.layout.clone(),
            queue: queue.clone(),
            node: node_name(),
            awaited: Mutex::default(),
        }
    }

    /// Moves jobs until told to stop.
    pub async fn run(&self, shutdown: &Shutdown) {
        let tubes = [WAITING.to_owned()];
        tokio::join!(consumer::run(&self.queue, &tubes, shutdown, self), self.wake(shutdown));
    }

    /// Has a job looked at as soon as something has come that it waits for.
    async fn wake(&self, shutdown: &Shutdown) {
        while !shutdown.is_stopping() {
            for id in self.worth_a_look() {
                match self.queue.kick_job(id).await {
                    Ok(true) => drop(self.awaited().remove(&id)),
                    // It is not released yet, or is in others' hands: its own delay ends soon.
                    Ok(false) => {}
                    Err(error) => tracing::debug!("job {id} is not looked at early: {error}"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.stop().cancelled() => {}
            }
        }
    }

    fn worth_a_look(&self) -> Vec<u64> {
        let mut awaited = self.awaited();
        awaited.retain(|_, (_, since)| since.elapsed() < FORGOTTEN);
        let come =
            |(_, (files, _)): &(&u64, &(Vec<PathBuf>, Instant))| files.iter().any(|file| file.exists());
        awaited.iter().filter(come).map(|(id, _)| *id).collect()
    }

    fn awaited(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Vec<PathBuf>, Instant)>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn decide(&self, delivery: &Delivery, jobs: &mut Jobs) -> Result<Decision, QueueError> {
        let job: BuildJob = match serde_json::from_slice(&delivery.job.body) {
            Ok(job) => job,
            Err(error) => return Ok(Decision::Bury(format!("its body is no build job: {error}"))),
        };
        let (mut waits_for, mut files) = (Vec::new(), Vec::new());
        for predecessor in &job.after {
            match self.look(predecessor, jobs).await? {
                Standing::There => {}
                Standing::Coming(file) => {
                    waits_for.push(predecessor.build.to_string());
                    files.push(file);
                }
                Standing::Never(what) => {
                    let told = job.not_begun(&self.node, &predecessor.build, &what);
                    let unstamped = || Decision::Bury(format!("{} {what}", predecessor.build));
                    return Ok(told.map_or_else(unstamped, |event| Decision::Fail(Box::new(event))));
                }
            }
        }
        if files.is_empty() {
            return Ok(Decision::Move(Box::new(job)));
        }
        Ok(Decision::Wait { reason: format!("waits for {}", waits_for.join(", ")), files })
    }

    async fn look(&self, predecessor: &Predecessor, jobs: &mut Jobs) -> Result<Standing, QueueError> {
        let Predecessor { build, build_id } = predecessor;
        let Some(record) = self.record(build, build_id) else {
            let tree = self.layout.repository(&build.target, false);
            if finished::old_success(&tree.join(build.pkgname.as_str()), build, build_id) {
                return Ok(Standing::There);
            }
            return Ok(Standing::Coming(self.record_file(build)));
        };
        if record.event.status != Status::Success {
            return Ok(Standing::Never("failed".into()));
        }
        if !self.has_its_rpms(build, &record) {
            return Ok(Standing::Never("is no longer in its repository".into()));
        }
        // What follows it may be built for its companions too. One that failed without a result never comes.
        for arch in record.event.arches.iter().filter(|arch| **arch != build.arch) {
            let companion = BuildPath { arch: *arch, ..build.clone() };
            if self.record(&companion, build_id).is_none() && jobs.is_at_work(&self.queue, build_id).await? {
                return Ok(Standing::Coming(self.record_file(&companion)));
            }
        }
        Ok(Standing::There)
    }

    fn record_file(&self, build: &BuildPath) -> PathBuf {
        self.layout.build(build, false).join(FILE)
    }

    fn record(&self, build: &BuildPath, build_id: &BuildId) -> Option<BuildRecord> {
        let record: BuildRecord =
            serde_json::from_slice(&std::fs::read(self.record_file(build)).ok()?).ok()?;
        (record.event.build_id.as_ref() == Some(build_id)).then_some(record)
    }

    fn has_its_rpms(&self, build: &BuildPath, record: &BuildRecord) -> bool {
        let folder = self.layout.build(build, false);
        !folder.join(UNLISTED).exists()
            && record.results.iter().all(|result| folder.join(&result.file).exists())
    }

    /// Makes the metadata of every repository that a job which is to be moved counts on.
    async fn publish(&self, decisions: &[Decision]) -> Published {
        let jobs = decisions.iter().filter_map(|decision| match decision {
            Decision::Move(job) => Some(job),
            _ => None,
        });
        let mut places: BTreeMap<Target, Where> = BTreeMap::new();
        for Predecessor { build, .. } in jobs.flat_map(|job| &job.after) {
            let place = Where::of(folder(build));
            let before = places.remove(&build.target);
            places.insert(build.target.clone(), before.map_or(place.clone(), |before| before.and(place)));
        }
        let mut runs = JoinSet::new();
        for (target, place) in places {
            let repogen = self.repogen.clone();
            runs.spawn(async move {
                let made = repogen.generate(&target, place).await;
                (target, made.map(|made| made.excluded).map_err(|error| error.to_string()))
            });
        }
        runs.join_all().await.into_iter().collect()
    }

    async fn carry_out(
        &self,
        delivery: &Delivery,
        decision: Decision,
        published: &Published,
    ) -> Result<Verdict, QueueError> {
        match decision {
            Decision::Bury(reason) => Ok(Verdict::Bury { reason }),
            Decision::Fail(event) => self.fail(&event).await,
            Decision::Wait { reason, files } => {
                self.awaited().insert(delivery.job.id, (files, Instant::now()));
                Ok(Verdict::Release { delay: wait(delivery), reason })
            }
            Decision::Move(job) => match in_the_way(&job, published) {
                None => self.move_on(delivery, &job).await,
                Some(Obstacle::Later(reason)) => Ok(Verdict::Release { delay: wait(delivery), reason }),
                Some(Obstacle::Never(build, what)) => match job.not_begun(&self.node, &build, &what) {
                    Some(event) => self.fail(&event).await,
                    None => Ok(Verdict::Bury { reason: format!("{build} {what}") }),
                },
            },
        }
    }

    async fn fail(&self, event: &Event) -> Result<Verdict, QueueError> {
        if let Some(failure) = &event.failure {
            tracing::info!("{}: {failure}", event.path());
        }
        self.queue.put(vec![NewJob::new(NOTIFY, event, PRIORITY_FOLLOW_UP)]).await?;
        Ok(Verdict::Done)
    }

    async fn move_on(&self, delivery: &Delivery, job: &BuildJob) -> Result<Verdict, QueueError> {
        if delivery.job.vanished() > 0 && self.was_moved(job).await? {
            return Ok(Verdict::Done);
        }
        // Asked of the queue itself, not of our memory: this process may have been asleep.
        self.queue.touch(&delivery.lease).await?;
        self.queue.put(vec![NewJob::new(job.arch.tube(), job, delivery.job.priority)]).await?;
        if let Some(path) = job.path() {
            tracing::info!("{path}: what it follows is in the repository; it can be built");
        }
        Ok(Verdict::Done)
    }

    /// Whether the job is in the tube of its arch, or was: who had it before may have died at that.
    async fn was_moved(&self, job: &BuildJob) -> Result<bool, QueueError> {
        let (Some(path), Some(stamp)) = (job.path(), &job.stamp) else { return Ok(false) };
        let has_result = [false, true].map(|scratch| self.layout.build(&path, scratch).join(FILE).exists());
        if has_result.contains(&true) {
            return Ok(true);
        }
        let there = self.queue.list(Some(job.arch.tube())).await?;
        Ok(there.iter().any(|entry| id_of(entry).as_ref() == Some(&stamp.build_id)))
    }
}

impl Handler for Mover {
    // Each is a reserved job that must be kept alive.
    const MOST: usize = 200;

    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let mut listed = Jobs::default();
        let mut decisions = Vec::new();
        for delivery in jobs {
            let unknown = |error: QueueError| Decision::Wait { reason: error.to_string(), files: Vec::new() };
            decisions.push(self.decide(delivery, &mut listed).await.unwrap_or_else(unknown));
        }
        let published = self.publish(&decisions).await;
        let mut verdicts = Vec::new();
        for (delivery, decision) in jobs.iter().zip(decisions) {
            verdicts.push(match self.carry_out(delivery, decision, &published).await {
                Ok(verdict) => verdict,
                Err(QueueError::LeaseLost(_)) => Verdict::LeaseLost,
                Err(error) => Verdict::Release { delay: wait(delivery), reason: error.to_string() },
            });
        }
        verdicts
    }
}

impl Jobs {
    /// Whether a build's job waits or is being worked on. A buried one is not.
    async fn is_at_work(&mut self, queue: &Queue, build_id: &BuildId) -> Result<bool, QueueError> {
        let jobs = match self.0.take() {
            Some(jobs) => self.0.insert(jobs),
            None => self.0.insert(queue.list(None).await?),
        };
        let is_its = |entry: &&Entry| {
            entry.state != State::Buried
                && entry.tube.parse::<Arch>().is_ok()
                && id_of(entry).as_ref() == Some(build_id)
        };
        Ok(jobs.iter().any(|entry| is_its(&entry)))
    }
}

fn in_the_way(job: &BuildJob, published: &Published) -> Option<Obstacle> {
    job.after.iter().find_map(|Predecessor { build, .. }| match published.get(&build.target)? {
        Err(error) => Some(Obstacle::Later(error.clone())),
        Ok(excluded) => {
            let folder = folder(build);
            let left_out = excluded.iter().find(|one| one.file.starts_with(&folder))?;
            let what = format!("is left out of its repository: {}", left_out.reason);
            Some(Obstacle::Never(build.clone(), what))
        }
    })
}

/// A build's folder, from its target's tree.
fn folder(build: &BuildPath) -> PathBuf {
    let BuildPath { pkgname, timestamp, evr, arch, .. } = build;
    PathBuf::from(format!("{pkgname}/{timestamp}/{evr}.{arch}"))
}

fn id_of(entry: &Entry) -> Option<BuildId> {
    let job: BuildJob = serde_json::from_slice(&entry.body).ok()?;
    Some(job.stamp?.build_id)
}

/// Ever longer. What it waits for is seen sooner by the process that released it.
fn wait(delivery: &Delivery) -> Duration {
    Duration::from_secs(u64::from((delivery.job.releases + 1).min(LONGEST_WAIT)))
}
