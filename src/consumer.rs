//! Reserve, keep alive, handle, give up: the only place that acknowledges jobs.
//!
//! A job is deleted only after its handler has said that its effects are durable. While the handler works, the
//! lease is renewed every third of the time to run; when that fails, the lease is lost, the handler sees it
//! by [`Lease::check`] and [`Lease::ended`], and nothing is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::text::plain;
use crate::queue::{GiveUp, Job, Lease, Queue, QueueError};
use crate::shutdown::Shutdown;
use crate::sys::steady;

/// A job in the hands of a handler.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub job: Job,
    pub lease: Lease,
}

impl Delivery {
    /// What the job says, or the verdict on one that is not `what`.
    pub fn body<T: DeserializeOwned>(&self, what: &str) -> Result<T, Verdict> {
        serde_json::from_slice(&self.job.body)
            .map_err(|error| Verdict::Bury { reason: format!("its body is no {what}: {error}") })
    }
}

/// What a handler says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its effects are durable: delete it.
    Done,
    /// Hand it back, to be taken again after `delay`.
    Release { delay: Duration, reason: String },
    /// Put it aside until a person has looked at it.
    Bury { reason: String },
    /// The lease was lost on the way: the job is another's by now, and is left alone.
    LeaseLost,
}

/// Of a reason, so many characters are told.
const LONGEST_REASON: usize = 1000;
/// How long one reserve waits.
const WAIT: Duration = Duration::from_secs(30);
/// How long to wait after the queue itself failed.
const BACKOFF: Duration = Duration::from_secs(1);

/// What a role does with its jobs.
pub trait Handler: Sync {
    /// How many jobs are wanted at once, where so many wait.
    const MOST: usize = 1;

    /// Waits until a job may be taken, or for the end; what it returns is cancelled when none may be any more.
    fn open(&self, shutdown: &Shutdown) -> impl Future<Output = CancellationToken> + Send {
        let open = shutdown.stop().clone();
        async move { open }
    }

    /// A verdict per job, in their order. A job without one is handed back.
    fn handle(&self, jobs: &[Delivery]) -> impl Future<Output = Vec<Verdict>> + Send;
}

/// Takes jobs from `tubes` and has them handled, until told to stop.
pub async fn run<H: Handler>(queue: &Queue, tubes: &[String], shutdown: &Shutdown, handler: &H) {
    while !shutdown.is_stopping() {
        let batch = take(queue, tubes, shutdown, handler).await;
        if !batch.is_empty() {
            work_off(queue, &batch, handler).await;
        }
    }
}

/// The same with up to `most` batches in hand, so that one that takes long holds up no other.
pub async fn run_side_by_side<H: Handler + Send + 'static>(
    queue: &Queue,
    tubes: &[String],
    shutdown: &Shutdown,
    handler: Arc<H>,
    most: usize,
) {
    let mut working = JoinSet::new();
    while !shutdown.is_stopping() {
        while working.len() >= most
            && let Some(ended) = working.join_next().await
        {
            with_its_panic(ended);
        }
        let batch = take(queue, tubes, shutdown, &*handler).await;
        if !batch.is_empty() {
            let (queue, handler) = (queue.clone(), Arc::clone(&handler));
            working.spawn(async move { work_off(&queue, &batch, &*handler).await });
        }
        while let Some(ended) = working.try_join_next() {
            with_its_panic(ended);
        }
    }
    while let Some(ended) = working.join_next().await {
        with_its_panic(ended);
    }
}

/// A handler that panics ends the role, wherever it runs.
fn with_its_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// The next jobs; none where there are none for a while, or none may be taken any more.
async fn take<H: Handler>(
    queue: &Queue,
    tubes: &[String],
    shutdown: &Shutdown,
    handler: &H,
) -> Vec<Delivery> {
    let open = handler.open(shutdown).await;
    if shutdown.is_stopping() {
        return Vec::new();
    }
    match queue.reserve(tubes, H::MOST, WAIT, &open).await {
        Ok(batch) => batch.into_iter().map(|(job, lease)| Delivery { job, lease }).collect(),
        Err(error) => {
            tracing::error!("{error}; trying again in {} s", BACKOFF.as_secs());
            tokio::time::sleep(BACKOFF).await;
            Vec::new()
        }
    }
}

async fn work_off<H: Handler>(queue: &Queue, batch: &[Delivery], handler: &H) {
    // Not in this task: a handler that computes for long would starve it.
    let leases = batch.iter().map(|delivery| delivery.lease.clone()).collect();
    let mut keeping = JoinSet::new();
    keeping.spawn_on(keep_alive(queue.clone(), leases), steady::runtime());
    let mut verdicts = handler.handle(batch).await.into_iter();
    for delivery in batch {
        let verdict = verdicts
            .next()
            .unwrap_or_else(|| Verdict::Release { delay: Duration::ZERO, reason: "was not handled".into() });
        acknowledge(queue, delivery, verdict).await;
    }
}

/// Renews the leases, until none is left. One that cannot be renewed within its time is lost.
async fn keep_alive(queue: Queue, leases: Vec<Lease>) {
    let mut held: Vec<(Lease, Instant)> = leases.into_iter().map(|lease| (lease, Instant::now())).collect();
    while let Some(shortest) = held.iter().map(|(lease, _)| lease.ttr()).min() {
        tokio::time::sleep(shortest / 3).await;
        for (lease, renewed) in &mut held {
            // From before it is asked: the queue may have begun to count at once.
            let asked = Instant::now();
            match tokio::time::timeout_at(*renewed + lease.ttr(), queue.touch(lease)).await {
                Ok(Ok(())) => *renewed = asked,
                Ok(Err(QueueError::LeaseLost(_))) => {}
                // An answer that comes later is none: the job may be another's by then.
                Err(_) => lease.lose(),
                Ok(Err(error)) => {
                    tracing::warn!("a lease could not be renewed: {error}");
                    if renewed.elapsed() >= lease.ttr() {
                        lease.lose();
                    }
                }
            }
        }
        held.retain(|(lease, _)| lease.check().is_ok());
    }
}

async fn acknowledge(queue: &Queue, delivery: &Delivery, verdict: Verdict) {
    let how = match verdict {
        Verdict::Done => GiveUp::Delete,
        Verdict::Release { delay, reason } => GiveUp::Release { delay, reason },
        Verdict::Bury { reason } => {
            // It may quote what came from outside.
            let reason: String = plain(&reason).chars().take(LONGEST_REASON).collect();
            tracing::error!("job {} of tube {} is buried: {reason}", delivery.job.id, delivery.job.tube);
            GiveUp::Bury { reason }
        }
        Verdict::LeaseLost => return,
    };
    if let Err(error) = queue.give_up(&delivery.lease, how).await {
        // Whoever holds it now does it again, to the same effect.
        tracing::warn!(
            "job {} of tube {} could not be given up: {error}",
            delivery.job.id,
            delivery.job.tube
        );
    }
}
