//! The outbox: events that sinks have yet to be told of, a row per event and sink.
//!
//! A row waits, is due, or is buried: what has failed for so long waits for a person.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
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
  since INTEGER NOT NULL,             -- put, or first failed: milliseconds since the epoch
  due INTEGER NOT NULL,               -- likewise; moved on by every failure; of a buried row the largest number
  failures INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  UNIQUE (key, sink)
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (sink, due);
";

/// One that is put may lie for long where no notifier runs, so its time runs from the first failure. The waits between
/// tries are in milliseconds: one second, doubled, five minutes at most.
const FAIL: &str = "
UPDATE outbox SET
  failures = failures + 1,
  reason = ?4,
  since = CASE failures WHEN 0 THEN ?2 ELSE since END,
  due = CASE
    WHEN ?2 - CASE failures WHEN 0 THEN ?2 ELSE since END >= ?3 THEN ?5
    ELSE ?2 + min(1000 << min(failures, 10), 300000)
  END
WHERE id = ?1 RETURNING due = ?5
";

/// How soon events that another process has put are seen.
const POLL: Duration = Duration::from_millis(200);
/// When a buried row is due.
const NEVER: i64 = i64::MAX;

/// A handle on a root's outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    bell: Arc<Notify>,
    locks: PathBuf,
    give_up_after: Duration,
}

/// An event that a sink has yet to be told of.
#[derive(Debug, Clone)]
pub struct Pending {
    pub id: i64,
    pub event: Event,
}

/// An event for one sink.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    pub event: Event,
    pub sink: Sink,
    /// How long it is kept before it is delivered: digests gather.
    pub delay: Duration,
}

/// What a sink was not told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undelivered {
    pub sink: String,
    /// Delivered as soon as that can be.
    pub waiting: u64,
    /// Failed for too long, and not tried again unless somebody kicks them.
    pub buried: u64,
    /// Why the last one that failed did.
    pub reason: Option<String>,
}

impl Outbox {
    /// What fails for `give_up_after` is buried.
    pub fn open(layout: &Layout, give_up_after: Duration) -> Result<Outbox, DatabaseError> {
        Ok(Outbox {
            database: Database::open(&layout.database(), SCHEMA)?,
            bell: Arc::default(),
            locks: layout.locks(),
            give_up_after,
        })
    }

    /// The turn to serve a sink, which one process has at a time, so that none is told twice; `None` while
    /// another has it.
    pub(super) fn turn(&self, sink: Sink) -> Result<Option<Lock>, FileError> {
        fs::make_dir(&self.locks)?;
        Lock::try_take(&self.locks.join(format!("outbox-{}", sink.as_str())))
    }

    /// Puts deliveries. One that is there already is not put again.
    pub async fn put(&self, deliveries: Vec<NewDelivery>) -> Result<(), DatabaseError> {
        self.database
            .write(move |sql| {
                let mut insert = sql.prepare_cached(
                    "INSERT OR IGNORE INTO outbox (key, sink, event, since, due) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?;
                for NewDelivery { event, sink, delay } in &deliveries {
                    let text = serde_json::to_string(event).expect("an event serializes");
                    let now = now();
                    insert.execute(params![event.key(), sink.as_str(), text, now, now + millis(*delay)])?;
                }
                Ok(())
            })
            .await?;
        self.bell.notify_waiters();
        Ok(())
    }

    /// What is due for a sink, oldest first, up to `most`.
    pub async fn due(&self, sink: Sink, most: u32) -> Result<Vec<Pending>, DatabaseError> {
        let rows: Vec<(i64, String)> = self
            .database
            .read(move |sql| {
                sql.prepare_cached(
                    "SELECT id, event FROM outbox WHERE sink = ?1 AND due <= ?2 ORDER BY id LIMIT ?3",
                )?
                .query_map(params![sink.as_str(), now(), most], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
            })
            .await?;
        // Only what `put` wrote is in there.
        Ok(rows
            .into_iter()
            .filter_map(|(id, text)| Some(Pending { id, event: serde_json::from_str(&text).ok()? }))
            .collect())
    }

    pub async fn delivered(&self, ids: Vec<i64>) -> Result<(), DatabaseError> {
        self.database
            .write(move |sql| {
                let mut delete = sql.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
                ids.iter().try_for_each(|id| delete.execute(params![id]).map(drop))
            })
            .await
    }

    /// Tries again later, after twice the time of the last failure; buries what has failed for too long. Says how many were
    /// buried.
    pub async fn failed(&self, ids: Vec<i64>, reason: &str) -> Result<usize, DatabaseError> {
        let (reason, patience) = (reason.to_owned(), millis(self.give_up_after));
        self.database
            .write(move |sql| {
                let mut update = sql.prepare_cached(FAIL)?;
                let (now, mut buried) = (now(), 0);
                for id in ids {
                    let is_buried = update
                        .query_row(params![id, now, patience, reason, NEVER], |row| row.get::<_, bool>(0))
                        .optional()?;
                    buried += usize::from(is_buried == Some(true));
                }
                Ok(buried)
            })
            .await
    }

    /// Makes everything that failed and is tried again later due now: the sink may answer again.
    pub async fn hurry(&self, sink: Sink) -> Result<(), DatabaseError> {
        self.database
            .write(move |sql| {
                sql.prepare_cached(
                    "UPDATE outbox SET due = ?2 WHERE sink = ?1 AND failures > 0 AND due > ?2 AND due < ?3",
                )?
                .execute(params![sink.as_str(), now(), NEVER])
            })
            .await
            .map(drop)
    }

    /// Makes buried deliveries of a sink, or of all, due, as if they had never failed. Says how many.
    pub async fn kick(&self, sink: Option<Sink>) -> Result<u64, DatabaseError> {
        self.buried("UPDATE outbox SET due = 0, failures = 0 WHERE due = ?1 AND coalesce(sink = ?2, 1)", sink)
            .await
    }

    /// Forgets the buried deliveries of a sink. Says how many.
    pub async fn drop_buried(&self, sink: Sink) -> Result<u64, DatabaseError> {
        self.buried("DELETE FROM outbox WHERE due = ?1 AND sink = ?2", Some(sink)).await
    }

    async fn buried(&self, change: &'static str, sink: Option<Sink>) -> Result<u64, DatabaseError> {
        let changed = self
            .database
            .write(move |sql| sql.prepare_cached(change)?.execute(params![NEVER, sink.map(Sink::as_str)]))
            .await?;
        self.bell.notify_waiters();
        Ok(changed as u64)
    }

    /// Whether a delivery is due now, not only later since it failed.
    pub async fn due_now(&self) -> Result<bool, DatabaseError> {
        self.database
            .read(|sql| {
                sql.prepare_cached("SELECT 1 FROM outbox WHERE due <= ?1 LIMIT 1")?.exists(params![now()])
            })
            .await
    }

    /// What has not been delivered, by sink.
    pub async fn waiting(&self) -> Result<Vec<Undelivered>, DatabaseError> {
        self.database
            .read(|sql| {
                sql.prepare_cached(
                    "SELECT sink, count(*) FILTER (WHERE due < ?1), count(*) FILTER (WHERE due = ?1), \
                     (SELECT reason FROM outbox failed WHERE failed.sink = outbox.sink AND failures > 0 \
                      ORDER BY id DESC LIMIT 1) FROM outbox GROUP BY sink",
                )?
                .query_map(params![NEVER], |row| {
                    let (sink, waiting, buried) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(Undelivered { sink, waiting, buried, reason: row.get(3)? })
                })?
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
    i64::try_from(duration.as_millis()).unwrap_or(NEVER / 2)
}
