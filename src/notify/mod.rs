//! Telling, role `notifier`: every event is fanned out to the sinks, each of which fails alone.
//!
//! The job in tube `notify` is acknowledged once the event lies in the outbox for every sink; from there each
//! sink is served at its own pace, retried with backoff, and survives restarts.

mod logfile;
mod outbox;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::history::History;
use crate::model::text::plain;
use crate::model::{Builder, Event, Status, builder};
use crate::queue::{BUILDERS, NOTIFY, NewJob, Queue};
use crate::shutdown::Shutdown;
use crate::sys::fs::FileError;
use crate::sys::sqlite::DatabaseError;
pub use outbox::{Outbox, Pending};

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    History,
    Log,
    Tosign,
    /// Builds that follow a failed one.
    Waiting,
}

impl Sink {
    pub const ALL: [Sink; 4] = [Sink::History, Sink::Log, Sink::Tosign, Sink::Waiting];

    pub fn as_str(self) -> &'static str {
        match self {
            Sink::History => "history",
            Sink::Log => "log",
            Sink::Tosign => "tosign",
            Sink::Waiting => "waiting",
        }
    }
}

/// Makes the job that stages an event's RPMs for signing; none where nothing is to be signed. Given from
/// outside, since stages do not know one another.
pub type ToSign = fn(&Event) -> Option<NewJob>;

/// An outbox that cannot be served.
#[derive(Debug, thiserror::Error)]
enum OutboxError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Everything a notifier works with.
#[derive(Debug, Clone)]
pub struct Notifier {
    pub queue: Queue,
    pub history: History,
    pub outbox: Outbox,
    pub logfile: PathBuf,
    pub tosign: ToSign,
}

impl Notifier {
    /// Fans out and delivers until told to stop; what is then undelivered stays in the outbox.
    pub async fn run(&self, shutdown: &Shutdown) {
        let tubes = [NOTIFY, BUILDERS].map(str::to_owned);
        tokio::join!(
            consumer::run(&self.queue, &tubes, shutdown, self),
            self.deliver(Sink::History, shutdown),
            self.deliver(Sink::Log, shutdown),
            self.deliver(Sink::Tosign, shutdown),
            self.deliver(Sink::Waiting, shutdown),
        );
    }

    /// Serves one sink, oldest event first; an event that cannot be delivered does not hold up later ones.
    async fn deliver(&self, sink: Sink, shutdown: &Shutdown) {
        while !shutdown.is_stopping() {
            let mut bell = std::pin::pin!(self.outbox.bell());
            bell.as_mut().enable();
            match self.deliver_what_is_due(sink).await {
                Ok(true) => {}
                Ok(false) => Outbox::wait(bell, shutdown.stop()).await,
                Err(error) => {
                    tracing::error!("{error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Says whether there was something, and it was our turn.
    async fn deliver_what_is_due(&self, sink: Sink) -> Result<bool, OutboxError> {
        if self.outbox.due(sink).await?.is_empty() {
            return Ok(false);
        }
        let Some(_turn) = self.outbox.turn(sink)? else { return Ok(false) };
        // Looked up anew: who had the turn before us may have delivered it.
        let pending = self.outbox.due(sink).await?;
        let some = !pending.is_empty();
        for delivery in pending {
            self.deliver_one(sink, delivery).await;
        }
        Ok(some)
    }

    async fn deliver_one(&self, sink: Sink, pending: Pending) {
        let settled: Result<(), DatabaseError> = match self.send(sink, &pending.event).await {
            Ok(()) => self.outbox.delivered(pending.id).await,
            Err(error) => {
                tracing::error!("{} could not be told of {}: {error}", sink.as_str(), pending.event.path());
                self.outbox.failed(pending.id, &error).await
            }
        };
        if let Err(error) = settled {
            // It is delivered again later, which every sink bears.
            tracing::error!("{error}");
        }
    }

    /// The sinks that are told of an event.
    fn sinks(&self, event: &Event) -> Vec<Sink> {
        let wants = |sink: &Sink| match sink {
            Sink::History | Sink::Log => true,
            Sink::Tosign => (self.tosign)(event).is_some(),
            Sink::Waiting => event.status == Status::Failed && event.build_id.is_some(),
        };
        Sink::ALL.into_iter().filter(wants).collect()
    }

    /// A sign of life is worth no second try: the next one says more.
    async fn heard_of(&self, delivery: &Delivery) -> Verdict {
        let kept = match serde_json::from_slice::<Builder>(&delivery.job.body) {
            Ok(sign) => {
                self.notice_namesakes(&sign).await;
                self.history.heard_of(&sign).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = kept {
            tracing::warn!("a builder's sign of life is not kept: {error}");
        }
        Verdict::Done
    }

    /// Warns when a worker begins under a name that another machine has.
    async fn notice_namesakes(&self, sign: &Builder) {
        let Ok(mut known) = self.history.builders().await else { return };
        if known.iter().any(|other| other.worker == sign.worker) {
            return;
        }
        known.push(sign.clone());
        if builder::shared_names(&known, sign.time).contains(&sign.builder.as_str()) {
            tracing::warn!("{}", plain(&builder::told_of_shared(&sign.builder)));
        }
    }

    async fn send(&self, sink: Sink, event: &Event) -> Result<(), String> {
        match sink {
            Sink::History => self.history.record(event).await.map_err(|error| error.to_string()),
            Sink::Log => logfile::append(&self.logfile, event).map_err(|error| error.to_string()),
            Sink::Tosign => match (self.tosign)(event) {
                Some(job) => self.queue.put(vec![job]).await.map(|_| ()).map_err(|error| error.to_string()),
                None => Ok(()),
            },
            Sink::Waiting => {
                waiting::fail_followers(&self.queue, event).await.map_err(|error| error.to_string())
            }
        }
    }
}

impl Handler for Notifier {
    const MOST: usize = 100;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let is_event = |delivery: &&Delivery| delivery.job.tube != BUILDERS;
        let event = |delivery: &Delivery| serde_json::from_slice(&delivery.job.body);
        let events: Vec<Result<Event, serde_json::Error>> =
            batch.iter().filter(is_event).map(event).collect();
        let good: Vec<(Event, Vec<Sink>)> =
            events.iter().flatten().map(|event| (event.clone(), self.sinks(event))).collect();
        let stored = if good.is_empty() { Ok(()) } else { self.outbox.put(good).await };
        let stored = stored.map_err(|error| error.to_string());
        let mut verdicts = events.into_iter().map(|event| match (event, &stored) {
            (Err(error), _) => Verdict::Bury { reason: format!("its body is no event: {error}") },
            (Ok(_), Ok(())) => Verdict::Done,
            (Ok(_), Err(reason)) => Verdict::Release { delay: RETRY, reason: reason.clone() },
        });
        let mut all = Vec::new();
        for delivery in batch {
            let sign =
                if is_event(&delivery) { verdicts.next() } else { Some(self.heard_of(delivery).await) };
            all.extend(sign);
        }
        all
    }
}

const RETRY: Duration = Duration::from_secs(1);
