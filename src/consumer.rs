//! Reserve, keep alive, handle, give up: the only place that acknowledges jobs.
//!
//! A job is deleted only after its handler has said that its effects are durable. While the handler works, the
//! lease is renewed every third of the time to run; when that fails, the lease is lost, the handler sees it
//! by [`Lease::check`] and [`Lease::ended`], and nothing is acknowledged.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::queue::{GiveUp, Job, Lease, Queue, QueueError};
use crate::shutdown::Shutdown;

/// A job in the hands of a handler.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub job: Job,
    pub lease: Lease,
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
        let open = handler.open(shutdown).await;
        if shutdown.is_stopping() {
            break;
        }
        match reserve(queue, tubes, H::MOST, &open).await {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => work_off(queue, &batch, handler).await,
            Err(error) => {
                tracing::error!("{error}; trying again in {} s", BACKOFF.as_secs());
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

/// Waits for one job, then takes what else is ready without waiting.
async fn reserve(
    queue: &Queue,
    tubes: &[String],
    most: usize,
    open: &CancellationToken,
) -> Result<Vec<Delivery>, QueueError> {
    let mut batch = Vec::new();
    let mut wait = WAIT;
    while batch.len() < most {
        match queue.reserve(tubes, wait, open).await {
            Ok(Some((job, lease))) => batch.push(Delivery { job, lease }),
            Ok(None) => break,
            Err(error) if batch.is_empty() => return Err(error),
            // What is reserved already must be handled, or it would wait for its time to run out.
            Err(error) => {
                tracing::error!("{error}");
                break;
            }
        }
        wait = Duration::ZERO;
    }
    Ok(batch)
}

async fn work_off<H: Handler>(queue: &Queue, batch: &[Delivery], handler: &H) {
    let verdicts = tokio::select! {
        verdicts = handler.handle(batch) => verdicts,
        () = keep_alive(queue, batch) => unreachable!("a lease is kept alive as long as it is worked under"),
    };
    let mut verdicts = verdicts.into_iter();
    for delivery in batch {
        let verdict = verdicts
            .next()
            .unwrap_or_else(|| Verdict::Release { delay: Duration::ZERO, reason: "was not handled".into() });
        acknowledge(queue, delivery, verdict).await;
    }
}

/// Renews the leases for ever. One that cannot be renewed within its time is lost.
async fn keep_alive(queue: &Queue, batch: &[Delivery]) {
    let mut renewed = vec![tokio::time::Instant::now(); batch.len()];
    loop {
        tokio::time::sleep(queue.ttr() / 3).await;
        for (delivery, renewed) in batch.iter().zip(&mut renewed) {
            if delivery.lease.check().is_err() {
                continue;
            }
            match queue.touch(&delivery.lease).await {
                Ok(()) => *renewed = tokio::time::Instant::now(),
                Err(error) => {
                    tracing::warn!("cannot renew the lease on job {}: {error}", delivery.job.id);
                    if renewed.elapsed() >= queue.ttr() {
                        delivery.lease.lose();
                    }
                }
            }
        }
    }
}

async fn acknowledge(queue: &Queue, delivery: &Delivery, verdict: Verdict) {
    let how = match verdict {
        Verdict::Done => GiveUp::Delete,
        Verdict::Release { delay, reason } => GiveUp::Release { delay, reason },
        Verdict::Bury { reason } => {
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
