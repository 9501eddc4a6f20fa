//! One attempt at one build: from the source RPM to results that lie in the bstore and have been told of.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::engine::Request;
use super::inventory::{self, Inventory};
use super::life::Life;
use super::logs;
use super::order::Task;
use super::{Worker, report};
use crate::consumer::Delivery;
use crate::model::record::BuildRecord;
use crate::model::{BuildPath, Class, Failure, Status};
use crate::queue::QueueError;
use crate::shutdown::Shutdown;
use crate::sys::fs;
use crate::upload::{Parcel, UploadError};

/// Between two tries to send what was built to a bstore that does not answer.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How an attempt ended.
pub enum End {
    /// It has a result, which is durable.
    Done(Box<BuildRecord>),
    /// The farm is to blame: there is no result.
    Farm(Failure),
    /// The controller or the bstore does not answer, and why. No builder is to blame.
    Away(String),
    /// We were told to stop at once: another takes it up.
    Stopping,
    /// Another has taken it up already.
    LeaseLost,
}

/// The lease that a build is made under, and who may end it.
#[derive(Clone, Copy)]
pub struct Under<'a> {
    pub delivery: &'a Delivery,
    pub shutdown: &'a Shutdown,
    /// Hears of it.
    pub life: &'a Life,
}

impl Worker {
    /// The recipe. `main` becomes the record of the main arch's build, if this is a companion's.
    ///
    /// An error is one of the queue itself: the job is then handed back as it was.
    pub(super) async fn attempt(
        &self,
        task: &Task,
        under: Under<'_>,
        main: impl Future<Output = Option<BuildRecord>>,
    ) -> Result<End, QueueError> {
        let _running = under.life.begins(&task.path);
        if let Some((folder, record)) = self.unsent(task) {
            tracing::info!("{} was built before; its results are sent", task.path);
            return self.finish(task, under, folder, record).await;
        }
        tracing::info!("building {} (attempt {})", task.path, task.attempt);
        self.queue.put(vec![report::notify(&task.event(&self.config.node, Status::Building, None))]).await?;
        let mut record = match self.build(task, under).await {
            Ok(record) => record,
            Err(end) => return Ok(end),
        };
        if let Some(failure) = record.event.failure.clone().filter(|failure| failure.retry) {
            // Of sources, only those that cannot be reached are tried again.
            let away = failure.class == Class::Source;
            return Ok(if away { End::Away(failure.to_string()) } else { End::Farm(failure) });
        }
        if let Some(main) = main.await {
            record.event.warnings = record.differences(&main);
        }
        self.finish(task, under, self.config.layout.results(&task.path, &task.attempt), record).await
    }

    async fn build(&self, task: &Task, under: Under<'_>) -> Result<BuildRecord, End> {
        let resultdir = self.config.layout.results(&task.path, &task.attempt);
        let mut inventory = Inventory::begin(jiff::Timestamp::now());
        let result = self.try_build(task, &resultdir, &mut inventory, under).await;
        if under.delivery.lease.check().is_err() {
            tracing::warn!("{}: the lease is lost; this attempt is dropped", task.path);
            let _ = fs::remove_dir(&resultdir);
            return Err(End::LeaseLost);
        }
        if under.shutdown.kill().is_cancelled() && result.is_err() {
            let _ = fs::remove_dir(&resultdir);
            return Err(End::Stopping);
        }
        let (status, failure) = match result {
            Ok(()) => (Status::Success, None),
            Err(failure) => (Status::Failed, Some(failure)),
        };
        if let Some(failure) = &failure {
            inventory::leave_logs(&resultdir, failure);
        }
        let event = task.event(&self.config.node, status, failure);
        Ok(inventory.into_record(event, &task.attempt, self.engine.name()))
    }

    async fn try_build(
        &self,
        task: &Task,
        resultdir: &Path,
        inventory: &mut Inventory,
        under: Under<'_>,
    ) -> Result<(), Failure> {
        fs::remove_dir(resultdir).and_then(|()| fs::make_dir(resultdir)).map_err(|error| disk(&error))?;
        let begun = Instant::now();
        let source = self.sources.fetch(&task.job, &task.stamp).await?;
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
            fresh: !task.job.after.is_empty(),
        };
        let cancel = either(under.shutdown.kill(), under.delivery.lease.ended());
        // Ends the task that links the two.
        let _linked = cancel.clone().drop_guard();
        // Boxed, since it is large.
        let building = Box::pin(self.guard.build(&self.engine, request, &cancel));
        let (outcome, resources) = logs::kept_short(resultdir, self.config.log_limit.0, building).await;
        inventory.resources = resources;
        inventory.outcome(outcome.durations, outcome.buildroot, outcome.repositories);
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
        task: &Task,
        under: Under<'_>,
        from: PathBuf,
        record: BuildRecord,
    ) -> Result<End, QueueError> {
        let parcel = Parcel {
            from: &from,
            build: &task.path,
            build_id: &task.stamp.build_id,
            attempt: &task.attempt,
            scratch: self.is_apart(&task.job),
            record: &record,
        };
        let mut wait = FIRST_WAIT;
        let sent = loop {
            match self.upload.commit(&self.queue, &under.delivery.lease, parcel).await {
                // Nobody else has what was built: the job is kept, and with it the slot.
                Err(error) if error.is_away() => {
                    let seconds = wait.as_secs();
                    tracing::warn!(
                        "{}: built; waiting for the bstore: {error}; again in {seconds} s",
                        task.path
                    );
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = under.delivery.lease.ended().cancelled() => return Ok(End::LeaseLost),
                        () = under.shutdown.stop().cancelled() => return Ok(End::Stopping),
                    }
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                sent => break sent,
            }
        };
        match sent {
            Ok(()) => {}
            Err(UploadError::Lease(error @ QueueError::LeaseLost(_))) => {
                tracing::warn!("{}: {error}; this attempt is dropped", task.path);
                return Ok(End::LeaseLost);
            }
            // The queue could not be asked: the job is handed back, and built again.
            Err(UploadError::Lease(error)) => return Err(error),
            Err(error) => return Ok(End::Farm(Failure::new(Class::Upload, "upload", error.to_string()))),
        }
        self.forget_attempts(&task.path);
        self.queue.put(report::follow_ups(&record.event)).await?;
        match &record.event.failure {
            None => tracing::info!("{}: success", task.path),
            Some(failure) => tracing::info!("{}: {failure}", task.path),
        }
        for warning in &record.event.warnings {
            tracing::warn!("{}: {warning}", task.path);
        }
        Ok(End::Done(Box::new(record)))
    }

    /// Removes what former attempts left, whose workers vanished or failed for a reason of their own.
    fn forget_attempts(&self, path: &BuildPath) {
        let attempts = self.config.layout.results_of(path);
        if let Err(error) = fs::remove_dir(&attempts) {
            tracing::warn!("{error}");
        }
        remove_empty_parents(&attempts, self.config.layout.root());
    }
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
