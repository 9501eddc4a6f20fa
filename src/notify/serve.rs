//! Serving one sink from the outbox: what is due is delivered, oldest first, by one process at a time.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Fault, Notifier, Outbox, Pending, Sink, journal, logfile, waiting};
use crate::history::HistoryError;
use crate::model::Event;
use crate::shutdown::Shutdown;
use crate::sys::fs::FileError;
use crate::sys::sqlite::DatabaseError;

/// How much is delivered in one turn; others may want to have theirs.
const TURN: u32 = 100;
/// How long to wait after the outbox itself failed.
const BACKOFF: Duration = Duration::from_secs(1);
/// How long a server that does not answer may hold up who wants to stop.
const GRACE: Duration = Duration::from_secs(10);

/// An outbox that cannot be served.
#[derive(Debug, thiserror::Error)]
enum OutboxError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Notifier {
    /// Serves one sink until told to stop. An event that cannot be delivered does not hold up later ones; a sink that
    /// cannot be reached is left alone for a while.
    pub(super) async fn serve(&self, sink: Sink, shutdown: &Shutdown) {
        // Who starts a notifier anew has perhaps mended something.
        let mut hurry = self.outbox.hurry(sink).await.is_err();
        while !shutdown.is_stopping() {
            let mut bell = std::pin::pin!(self.outbox.bell());
            bell.as_mut().enable();
            let delivered = tokio::select! {
                delivered = self.deliver_what_is_due(sink, &mut hurry) => delivered,
                // It is delivered again at the next start, as after a crash.
                () = grace_over(shutdown) => break,
            };
            match delivered {
                Ok(true) => {}
                Ok(false) => Outbox::wait(bell, shutdown.stop()).await,
                Err(error) => {
                    tracing::error!("{error}");
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    /// Says whether there was something, and it was our turn.
    async fn deliver_what_is_due(&self, sink: Sink, hurry: &mut bool) -> Result<bool, OutboxError> {
        if self.outbox.due(sink, 1).await?.is_empty() {
            return Ok(false);
        }
        let Some(_turn) = self.outbox.turn(sink)? else { return Ok(false) };
        // Looked up anew: who had the turn before us may have delivered it.
        let pending = self.outbox.due(sink, self.at_once(sink)).await?;
        let some = !pending.is_empty();
        let mut batches = self.batches(sink, pending);
        while let Some(batch) = batches.pop_front() {
            match self.send(sink, &batch).await {
                Ok(()) => {
                    self.outbox.delivered(ids(&batch)).await?;
                    if std::mem::take(hurry) {
                        self.outbox.hurry(sink).await?;
                    }
                }
                // One of them may be to blame, and the others not.
                Err(Fault::Refused(_)) if sink == Sink::History && batch.len() > 1 => {
                    batches.extend(batch.into_iter().map(|one| vec![one]));
                }
                Err(Fault::Refused(reason)) => self.put_off(sink, &batch, &reason).await?,
                Err(Fault::Down(reason)) => {
                    // What was to be told next would fare the same.
                    *hurry = true;
                    let rest = self.outbox.due(sink, self.at_once(sink)).await?;
                    self.put_off(sink, &rest, &reason).await?;
                    break;
                }
            }
        }
        Ok(some)
    }

    fn at_once(&self, sink: Sink) -> u32 {
        match (sink, &self.mailer) {
            (Sink::Mail, Some(mailer)) => mailer.at_once().unwrap_or(TURN),
            _ => TURN,
        }
    }

    /// What is told in one: mostly an event, since after a crash it is told again. A history takes it twice.
    fn batches(&self, sink: Sink, pending: Vec<Pending>) -> VecDeque<Vec<Pending>> {
        match (sink, &self.mailer) {
            (Sink::Mail, Some(mailer)) => mailer.batches(pending).into(),
            (Sink::History, _) if !pending.is_empty() => [pending].into(),
            _ => pending.into_iter().map(|one| vec![one]).collect(),
        }
    }

    async fn put_off(&self, sink: Sink, batch: &[Pending], reason: &str) -> Result<(), DatabaseError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let more = if batch.len() > 1 { format!(" and {} more", batch.len() - 1) } else { String::new() };
        tracing::error!("{sink} could not be told of {}{more}: {reason}", first.event.path());
        let buried = self.outbox.failed(ids(batch), reason).await?;
        if buried > 0 {
            tracing::error!(
                "{sink}: {buried} deliveries have failed for too long, and wait for `reimzul kick --sink {sink}`"
            );
        }
        Ok(())
    }

    async fn send(&self, sink: Sink, batch: &[Pending]) -> Result<(), Fault> {
        let Some(Pending { event, .. }) = batch.first() else { return Ok(()) };
        match sink {
            Sink::History => {
                let events: Vec<Event> = batch.iter().map(|pending| pending.event.clone()).collect();
                self.history.record_all(&events).await.map_err(of_history)
            }
            Sink::Log => logfile::append(&self.logfile, event).map_err(Fault::refused),
            Sink::Journal => {
                journal::write(event);
                Ok(())
            }
            Sink::Tosign => match (self.tosign)(event) {
                Some(job) => self.queue.put(vec![job]).await.map(drop).map_err(Fault::refused),
                None => Ok(()),
            },
            Sink::Waiting => waiting::fail_followers(&self.queue, event).await.map_err(Fault::refused),
            Sink::Mail => self.mailer.as_ref().ok_or_else(off)?.send(batch).await,
            Sink::Results => self.publisher.as_ref().ok_or_else(off)?.publish(event).await,
            Sink::Requests => self.publisher.as_ref().ok_or_else(off)?.answer(event).await,
        }
    }
}

fn of_history(error: HistoryError) -> Fault {
    if error.is_down() { Fault::Down(error.to_string()) } else { Fault::refused(error) }
}

async fn grace_over(shutdown: &Shutdown) {
    shutdown.stop().cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// What was put while the sink was configured.
fn off() -> Fault {
    Fault::Down("it is switched off by now; configure it again, or drop what is buried".into())
}

fn ids(batch: &[Pending]) -> Vec<i64> {
    batch.iter().map(|pending| pending.id).collect()
}
