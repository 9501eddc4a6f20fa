//! Telling, role `notifier`: every event is fanned out to the sinks, each of which fails alone.
//!
//! The job in tube `notify` is acknowledged once the event lies in the outbox for every sink; from there each
//! sink is served at its own pace, retried with backoff, and survives restarts.

pub mod irc;
mod journal;
mod logfile;
mod logs;
pub mod mail;
pub mod mqtt;
mod outbox;
mod serve;
mod sink;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::history::History;
use crate::model::answer::Told;
use crate::model::text::plain;
use crate::model::{Builder, Event, Status, builder};
use crate::queue::{BUILDERS, NOTIFY, NewJob, Queue};
use crate::shutdown::Shutdown;
use crate::sys::service;
use mail::Mailer;
use mqtt::Publisher;
pub use outbox::{NewDelivery, Outbox, Pending, Undelivered};
pub use sink::{Fault, Sink};

/// Makes the job that stages an event's RPMs for signing; none where nothing is to be signed. Given from
/// outside, since stages do not know one another.
pub type ToSign = fn(&Event) -> Option<NewJob>;

/// Everything a notifier works with.
#[derive(Debug, Clone)]
pub struct Notifier {
    pub queue: Queue,
    pub history: History,
    pub outbox: Outbox,
    pub logfile: PathBuf,
    pub tosign: ToSign,
    /// None where nothing is mailed.
    pub mailer: Option<Mailer>,
    /// None where there is no broker.
    pub publisher: Option<Publisher>,
}

impl Notifier {
    /// Fans out and delivers until told to stop; what is then undelivered stays in the outbox.
    pub async fn run(&self, shutdown: &Shutdown) {
        let tubes = [NOTIFY, BUILDERS].map(str::to_owned);
        let mut serving = JoinSet::new();
        for sink in Sink::ALL {
            let (notifier, shutdown) = (self.clone(), shutdown.clone());
            serving.spawn(async move { notifier.serve(sink, &shutdown).await });
        }
        tokio::join!(consumer::run(&self.queue, &tubes, shutdown, self), serving.join_all());
    }

    /// What is to be delivered of an event.
    fn deliveries(&self, event: &Event) -> Vec<NewDelivery> {
        let delay = |sink: &Sink| match sink {
            Sink::History | Sink::Log => Some(Duration::ZERO),
            Sink::Journal => service::has_journal().then_some(Duration::ZERO),
            Sink::Tosign => (self.tosign)(event).map(|_| Duration::ZERO),
            Sink::Waiting => {
                (event.status == Status::Failed && event.build_id.is_some()).then_some(Duration::ZERO)
            }
            Sink::Mail => self.mailer.as_ref()?.delay(event),
            Sink::Results => self.publisher.as_ref()?.is_result(event).then_some(Duration::ZERO),
            Sink::Requests => self.publisher.as_ref().and(Told::of_event(event)).map(|_| Duration::ZERO),
        };
        let delivery = |sink: Sink| Some(NewDelivery { event: event.clone(), sink, delay: delay(&sink)? });
        Sink::ALL.into_iter().filter_map(delivery).collect()
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
}

impl Handler for Notifier {
    const MOST: usize = 100;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let is_event = |delivery: &&Delivery| delivery.job.tube != BUILDERS;
        let event = |delivery: &Delivery| serde_json::from_slice(&delivery.job.body);
        let events: Vec<Result<Event, serde_json::Error>> =
            batch.iter().filter(is_event).map(event).collect();
        let good: Vec<NewDelivery> =
            events.iter().flatten().flat_map(|event| self.deliveries(event)).collect();
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
