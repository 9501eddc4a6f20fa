//! The build stage, role `worker`: from a job to a folder of results in the bstore.

pub mod engine;
mod inventory;
pub mod life;
pub mod limits;
mod report;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::model::job::Stamp;
use crate::model::record::BuildRecord;
use crate::model::{Arch, Attempt, BuildJob, BuildPath, Class, Failure, Status};
use crate::queue::{NewJob, Queue, QueueError};
use crate::shutdown::Shutdown;
use crate::stamp::Stamps;
use crate::sys::fs;
use crate::upload::{Parcel, Upload, UploadError};
use engine::{Engine, Request};
use life::Life;
use limits::Guard;

/// A job whose worker vanished this often is put aside.
const LOSSES: u32 = 3;

/// Everything a worker works with.
#[derive(Debug)]
pub struct Worker {
    pub config: Config,
    pub queue: Queue,
    pub stamps: Stamps,
    pub upload: Upload,
    pub engine: Engine,
    pub guard: Guard,
}

/// A job that has all it needs to be built.
struct Task<'a> {
    job: &'a BuildJob,
    stamp: &'a Stamp,
    path: BuildPath,
    attempt: Attempt,
}

/// One of a worker's slots: builds one job at a time.
struct Slot<'a> {
    worker: &'a Worker,
    shutdown: &'a Shutdown,
    life: &'a Life,
}

impl Handler for Slot<'_> {
    async fn open(&self, shutdown: &Shutdown) -> CancellationToken {
        self.life.open(shutdown.stop()).await
    }

    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for delivery in jobs {
            verdicts.push(self.worker.handle(delivery, self.shutdown, self.life).await);
        }
        verdicts
    }
}

impl Worker {
    /// Builds in as many slots as configured, until told to stop.
    pub async fn run(self, shutdown: &Shutdown) {
        let arch = Arch::of_this_machine().unwrap_or(Arch::Noarch);
        let tubes: Vec<String> = arch.builds().iter().map(ToString::to_string).collect();
        self.guard.sweep().await;
        self.engine.sweep().await;
        let life = Arc::new(Life::new(&self.config, arch, &tubes, shutdown.stop()));
        let mut slots = tokio::task::JoinSet::new();
        let worker = Arc::new(self);
        for _ in 0..worker.config.slots {
            let (worker, tubes, shutdown) = (Arc::clone(&worker), tubes.clone(), shutdown.clone());
            let life = Arc::clone(&life);
            slots.spawn(async move {
                let slot = Slot { worker: &worker, shutdown: &shutdown, life: &life };
                consumer::run(&worker.queue, &tubes, &shutdown, &slot).await;
            });
        }
        let ended = CancellationToken::new();
        let work = async {
            slots.join_all().await;
            ended.cancel();
        };
        tokio::join!(work, life.go_on(&worker.queue, shutdown.stop(), &ended));
    }

    async fn handle(&self, delivery: &Delivery, shutdown: &Shutdown, life: &Life) -> Verdict {
        let job: BuildJob = match serde_json::from_slice(&delivery.job.body) {
            Ok(job) => job,
            Err(error) => return Verdict::Bury { reason: format!("its body is no build job: {error}") },
        };
        let Some(stamp) = &job.stamp else { return self.stamp(&job, delivery).await };
        let task = Task {
            job: &job,
            stamp,
            path: BuildPath {
                target: job.target.clone(),
                pkgname: stamp.pkgname.clone(),
                timestamp: stamp.timestamp,
                evr: stamp.evr.clone(),
                arch: job.arch,
            },
            attempt: Attempt(format!("{}-{}", delivery.job.id, delivery.job.reserves)),
        };
        let _running = life.begins(&task.path);
        let verdict = self.work(&task, delivery, shutdown).await;
        verdict.unwrap_or_else(|error| Verdict::Release {
            delay: self.config.retry_delay,
            reason: error.to_string(),
        })
    }

    /// The recipe. An error is one of the queue itself: the job is then handed back as it was.
    async fn work(
        &self,
        task: &Task<'_>,
        delivery: &Delivery,
        shutdown: &Shutdown,
    ) -> Result<Verdict, QueueError> {
        if let Some(record) = self.upload.committed(&task.path, &task.stamp.build_id, self.is_apart(task)) {
            // A former delivery got as far as that: only what follows may be missing.
            self.queue.put(report::follow_ups(&record.event)).await?;
            return Ok(Verdict::Done);
        }
        let losses = delivery.job.losses();
        if losses >= LOSSES {
            let said = format!("its worker vanished {losses} times in the middle of it");
            return self.put_aside(task, Failure::new(Class::Lost, "build", said)).await;
        }
        tracing::info!("building {} (attempt {})", task.path, task.attempt);
        self.queue.put(vec![report::notify(&self.event(task, Status::Building, None))]).await?;
        let record = match self.build(task, delivery, shutdown).await {
            Ok(record) => record,
            Err(Interrupted::Stopping) => return Ok(handed_back()),
            Err(Interrupted::LeaseLost) => return Ok(Verdict::LeaseLost),
        };
        match record.event.failure.clone().filter(|failure| failure.retry) {
            Some(failure) => self.again_or_aside(task, delivery, failure).await,
            None => self.finish(task, delivery, &record).await,
        }
    }

    async fn build(
        &self,
        task: &Task<'_>,
        delivery: &Delivery,
        shutdown: &Shutdown,
    ) -> Result<BuildRecord, Interrupted> {
        let layout = &self.config.layout;
        let resultdir = layout.results(&task.path, &task.attempt);
        let started = jiff::Timestamp::now();
        let mut inventory = inventory::Inventory::begin(started);
        let result = self.try_build(task, &resultdir, &mut inventory, delivery, shutdown).await;
        if delivery.lease.check().is_err() {
            tracing::warn!("{}: the lease is lost; this attempt is dropped", task.path);
            let _ = fs::remove_dir(&resultdir);
            return Err(Interrupted::LeaseLost);
        }
        if shutdown.kill().is_cancelled() && result.is_err() {
            let _ = fs::remove_dir(&resultdir);
            return Err(Interrupted::Stopping);
        }
        let (status, failure) = match result {
            Ok(()) => (Status::Success, None),
            Err(failure) => (Status::Failed, Some(failure)),
        };
        if let Some(failure) = &failure {
            inventory::leave_logs(&resultdir, failure);
        }
        let event = self.event(task, status, failure);
        Ok(inventory.into_record(event, &task.attempt, self.engine.name()))
    }

    async fn try_build(
        &self,
        task: &Task<'_>,
        resultdir: &Path,
        inventory: &mut inventory::Inventory,
        delivery: &Delivery,
        shutdown: &Shutdown,
    ) -> Result<(), Failure> {
        fs::remove_dir(resultdir).and_then(|()| fs::make_dir(resultdir)).map_err(|error| disk(&error))?;
        let begun = Instant::now();
        let source = source::fetch(&self.config.layout, task.job, task.stamp)?;
        inventory.took("fetch", begun);
        inventory.source(&source, &task.job.srpm);
        let request = Request {
            srpm: &source.path,
            resultdir,
            target: &task.job.target,
            arch: task.job.arch,
            disttag: &task.job.disttag,
            timeout: None,
            quota: None,
        };
        let cancel = either(shutdown.kill(), delivery.lease.ended());
        // Ends the task that links the two.
        let _linked = cancel.clone().drop_guard();
        let (outcome, resources) = self.guard.build(&self.engine, request, &cancel).await;
        inventory.resources = resources;
        inventory.outcome(outcome.durations, outcome.buildroot);
        let result = outcome.result.and_then(|()| inventory.results(resultdir));
        if result.is_err() {
            // Whatever it failed by: an RPM in the folder would be listed.
            inventory::remove_rpms(resultdir).map_err(|error| disk(&error))?;
        }
        result
    }

    /// Makes the outcome durable, then tells of it.
    async fn finish(
        &self,
        task: &Task<'_>,
        delivery: &Delivery,
        record: &BuildRecord,
    ) -> Result<Verdict, QueueError> {
        let parcel = Parcel {
            from: &self.config.layout.results(&task.path, &task.attempt),
            build: &task.path,
            build_id: &task.stamp.build_id,
            attempt: &task.attempt,
            scratch: self.is_apart(task),
            record,
        };
        match self.upload.commit(&self.queue, &delivery.lease, parcel).await {
            Ok(()) => {}
            Err(UploadError::Lease(error @ QueueError::LeaseLost(_))) => {
                tracing::warn!("{}: {error}; this attempt is dropped", task.path);
                return Ok(Verdict::LeaseLost);
            }
            // The queue could not be asked: the job is handed back, and built again.
            Err(UploadError::Lease(error)) => return Err(error),
            Err(error) => {
                let failure = Failure::new(Class::Upload, "upload", error.to_string());
                return self.again_or_aside(task, delivery, failure).await;
            }
        }
        self.forget_attempts(&task.path);
        self.queue.put(report::follow_ups(&record.event)).await?;
        match &record.event.failure {
            None => tracing::info!("{}: success", task.path),
            Some(failure) => tracing::info!("{}: {failure}", task.path),
        }
        Ok(Verdict::Done)
    }

    /// The farm's fault: queued again, marked with this builder, or put aside after enough tries.
    async fn again_or_aside(
        &self,
        task: &Task<'_>,
        delivery: &Delivery,
        failure: Failure,
    ) -> Result<Verdict, QueueError> {
        let mut job = task.job.clone();
        job.tried.push(self.config.node.clone());
        if job.tried.len() >= self.config.tries {
            return self.put_aside(task, failure).await;
        }
        tracing::warn!("{}: {failure}; trying again in {} s", task.path, self.config.retry_delay.as_secs());
        let again =
            NewJob::new(job.arch.as_str(), &job, delivery.job.priority).delayed(self.config.retry_delay);
        self.queue.put(vec![again]).await?;
        Ok(Verdict::Done)
    }

    async fn put_aside(&self, task: &Task<'_>, failure: Failure) -> Result<Verdict, QueueError> {
        let reason = failure.to_string();
        let event = self.event(task, Status::Failed, Some(failure));
        self.queue.put(vec![report::notify(&event)]).await?;
        Ok(Verdict::Bury { reason })
    }

    /// A job of an old submitter: put again with a stamp, so that every delivery from now on is the same build.
    async fn stamp(&self, job: &BuildJob, delivery: &Delivery) -> Verdict {
        let (pkgname, evr, sha256) = source::identify(&self.config.layout, job);
        let again = async {
            let stamp = self.stamps.next(&job.target, pkgname, evr, sha256).await?;
            let job = job.clone().stamped(stamp);
            self.queue.put(vec![NewJob::new(job.arch.as_str(), &job, delivery.job.priority)]).await
        };
        match again.await {
            Ok(_) => Verdict::Done,
            Err(error) => Verdict::Release { delay: self.config.retry_delay, reason: error.to_string() },
        }
    }

    fn event(&self, task: &Task<'_>, status: Status, failure: Option<Failure>) -> crate::model::Event {
        report::event(task.job, task.stamp, &self.config.node, status, failure)
    }

    /// Removes what former attempts left, whose workers vanished or failed for a reason of their own.
    fn forget_attempts(&self, path: &BuildPath) {
        let attempts = self.config.layout.results_of(path);
        if let Err(error) = fs::remove_dir(&attempts) {
            tracing::warn!("{error}");
        }
        remove_empty_parents(&attempts, self.config.layout.root());
    }

    /// Whether its results lie below `scratch/`.
    fn is_apart(&self, task: &Task<'_>) -> bool {
        task.job.scratch && !self.config.scratch_in_repo
    }
}

/// What is told of a job that was taken back before it had a result.
pub fn taken_back(job: &BuildJob, node: &str) -> Option<NewJob> {
    let failure = Failure::new(Class::Killed, "build", "it was stopped by who had asked for it");
    let event = report::event(job, job.stamp.as_ref()?, node, Status::Failed, Some(failure));
    Some(report::notify(&event))
}

/// Why a build has no outcome.
enum Interrupted {
    /// We were told to stop at once: another takes it up.
    Stopping,
    /// Another has taken it up already.
    LeaseLost,
}

fn handed_back() -> Verdict {
    Verdict::Release { delay: std::time::Duration::ZERO, reason: "the worker was stopped".into() }
}

fn disk(error: &fs::FileError) -> Failure {
    Failure::new(Class::Disk, "fetch", error.to_string())
}

/// Cancelled when either is.
fn either(one: &CancellationToken, other: &CancellationToken) -> CancellationToken {
    let (both, other) = (one.child_token(), other.clone());
    let linked = both.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = other.cancelled() => linked.cancel(),
            () = linked.cancelled() => {}
        }
    });
    both
}

/// The folders above a build's attempts, as far as nothing else is in them.
fn remove_empty_parents(attempts: &Path, root: &Path) {
    let stop = root.join("results");
    for parent in attempts.ancestors().skip(1).take_while(|parent| *parent != stop) {
        if std::fs::remove_dir(parent).is_err() {
            return;
        }
    }
}
