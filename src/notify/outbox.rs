//! The outbox: events that sinks have yet to be told of, a row per event and sink.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::params;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use super::Sink;
use crate::model::{Event, Layout};
use crate::sys::fs::{self, FileError, Lock};
use crate::sys::sqlite::{Database, DatabaseError};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL,
  sink TEXT NOT NULL,
  event TEXT NOT NULL,
  since INTEGER NOT NULL,             -- milliseconds since the epoch
  due INTEGER NOT NULL,               -- likewise; moved on by every failure
  failures INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  UNIQUE (key, sink)
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (sink, due);
";

/// How soon events that another process has put are seen.
const POLL: Duration = Duration::from_millis(200);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// A handle on a root's outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    bell: Arc<Notify>,
    locks: PathBuf,
}

/// An event that a sink has yet to be told of.
#[derive(Debug, Clone)]
pub struct Pending {
    pub id: i64,
    pub event: Event,
}

impl Outbox {
    pub fn open(layout: &Layout) -> Result<Outbox, DatabaseError> {
        Ok(Outbox {
            database: Database::open(&layout.database(), SCHEMA)?,
            bell: Arc::default(),
            locks: layout.locks(),
        })
    }

    /// The turn to serve a sink, which one process has at a time, so that none is told twice; `None` while
    /// another has it.
    pub(super) fn turn(&self, sink: Sink) -> Result<Option<Lock>, FileError> {
        fs::make_dir(&self.locks)?;
        Lock::try_take(&self.locks.join(format!("outbox-{}", sink.as_str())))
    }

    /// Puts each event for the sinks that want it. One that is there already is not put again.
    pub async fn put(&self, events: Vec<(Event, Vec<Sink>)>) -> Result<(), DatabaseError> {
        self.database
            .write(move |sql| {
                let mut insert = sql.prepare_cached(
                    "INSERT OR IGNORE INTO outbox (key, sink, event, since, due) VALUES (?1, ?2, ?3, ?4, ?4)",
                )?;
                for (event, sinks) in &events {
                    let text = serde_json::to_string(event).expect("an event serializes");
                    for sink in sinks {
                        insert.execute(params![event.key(), sink.as_str(), text, now()])?;
                    }
                }
                Ok(())
            })
            .await?;
        self.bell.notify_waiters();
        Ok(())
    }

    /// What is due for a sink, oldest first.
    pub async fn due(&self, sink: Sink) -> Result<Vec<Pending>, DatabaseError> {
        let rows: Vec<(i64, String)> = self
            .database
            .read(move |sql| {
                sql.prepare_cached(
                    "SELECT id, event FROM outbox WHERE sink = ?1 AND due <= ?2 ORDER BY id LIMIT 100",
                )?
                .query_map(params![sink.as_str(), now()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
            })
            .await?;
        // Only what `put` wrote is in there.
        Ok(rows
            .into_iter()
            .filter_map(|(id, text)| Some(Pending { id, event: serde_json::from_str(&text).ok()? }))
            .collect())
    }

    pub async fn delivered(&self, id: i64) -> Result<(), DatabaseError> {
        self.database
            .write(move |sql| sql.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute(params![id]))
            .await
            .map(|_| ())
    }

    /// Tries again after twice the time of the last failure.
    pub async fn failed(&self, id: i64, reason: &str) -> Result<(), DatabaseError> {
        let reason = reason.to_owned();
        self.database
            .write(move |sql| {
                let failures: u32 =
                    sql.query_row("SELECT failures FROM outbox WHERE id = ?1", params![id], |row| {
                        row.get(0)
                    })?;
                let wait = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LAST_RETRY);
                sql.execute(
                    "UPDATE outbox SET failures = failures + 1, due = ?2, reason = ?3 WHERE id = ?1",
                    params![id, now() + millis(wait), reason],
                )
            })
            .await
            .map(|_| ())
    }

    /// Whether a delivery is due now, not only later since it failed.
    pub async fn due_now(&self) -> Result<bool, DatabaseError> {
        self.database
            .read(|sql| {
                sql.prepare_cached("SELECT 1 FROM outbox WHERE due <= ?1 LIMIT 1")?.exists(params![now()])
            })
            .await
    }

    /// How many deliveries wait, and why the last failed one did.
    pub async fn waiting(&self) -> Result<Vec<(String, u64, Option<String>)>, DatabaseError> {
        self.database
            .read(|sql| {
                sql.prepare_cached("SELECT sink, count(*), max(reason) FROM outbox GROUP BY sink")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                    .collect()
            })
            .await
    }

    /// Rung by puts of this process. What is put after this call is not missed once it is enabled.
    pub(super) fn bell(&self) -> Notified<'_> {
        self.bell.notified()
    }

    /// Returns when something may be due, or `stop` is.
    pub(super) async fn wait(bell: Pin<&mut Notified<'_>>, stop: &CancellationToken) {
        tokio::select! {
            () = bell => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

fn now() -> i64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
