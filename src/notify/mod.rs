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
use crate::history::{History, HistoryError};
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
        let (events, signs) = ([NOTIFY.to_owned()], [BUILDERS.to_owned()]);
        let keeping = Signs(self);
        let mut serving = JoinSet::new();
        for sink in Sink::ALL {
            let (notifier, shutdown) = (self.clone(), shutdown.clone());
            serving.spawn(async move { notifier.serve(sink, &shutdown).await });
        }
        tokio::join!(
            consumer::run(&self.queue, &events, shutdown, self),
            consumer::run(&self.queue, &signs, shutdown, &keeping),
            serving.join_all()
        );
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
}

impl Handler for Notifier {
    const MOST: usize = 100;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let event = |delivery: &Delivery| serde_json::from_slice(&delivery.job.body);
        let events: Vec<Result<Event, serde_json::Error>> = batch.iter().map(event).collect();
        let good: Vec<NewDelivery> =
            events.iter().flatten().flat_map(|event| self.deliveries(event)).collect();
        let stored = if good.is_empty() { Ok(()) } else { self.outbox.put(good).await };
        let stored = stored.map_err(|error| error.to_string());
        let verdict = |event| match (event, &stored) {
            (Err(error), _) => Verdict::Bury { reason: format!("its body is no event: {error}") },
            (Ok(_), Ok(())) => Verdict::Done,
            (Ok(_), Err(reason)) => Verdict::Release { delay: RETRY, reason: reason.clone() },
        };
        events.into_iter().map(verdict).collect()
    }
}

const RETRY: Duration = Duration::from_secs(1);

/// Keeps builders' signs of life, beside the events: a history that is down holds up none of those.
struct Signs<'a>(&'a Notifier);

impl Signs<'_> {
    async fn keep(&self, sign: &Builder) -> Result<(), HistoryError> {
        self.notice_namesakes(sign).await?;
        self.0.history.heard_of(sign).await
    }

    /// Warns when a worker begins under a name that another machine has.
    async fn notice_namesakes(&self, sign: &Builder) -> Result<(), HistoryError> {
        let mut known = self.0.history.builders().await?;
        if known.iter().any(|other| other.worker == sign.worker) {
            return Ok(());
        }
        known.push(sign.clone());
        if builder::shared_names(&known, sign.time).contains(&sign.builder.as_str()) {
            tracing::warn!("{}", plain(&builder::told_of_shared(&sign.builder)));
        }
        Ok(())
    }
}

impl Handler for Signs<'_> {
    const MOST: usize = 100;

    /// A sign of life is worth no second try: the next one says more. Nor are others, where the history is down.
    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let not_kept =
            |why: &dyn std::fmt::Display| tracing::warn!("a builder's sign of life is not kept: {why}");
        for delivery in batch {
            match serde_json::from_slice::<Builder>(&delivery.job.body) {
                Ok(sign) => match self.keep(&sign).await {
                    Err(error) if error.is_down() => {
                        not_kept(&error);
                        break;
                    }
                    Err(error) => not_kept(&error),
                    Ok(()) => {}
                },
                Err(error) => not_kept(&error),
            }
        }
        vec![Verdict::Done; batch.len()]
    }
}
