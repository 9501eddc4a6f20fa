//! The ledger: every request that was proved and allowed, and how far it has come, so that one that comes again, or a
//! bridge that was killed, leads to no second build, and to the same answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::model::request::Request;
use crate::model::{BuildJob, Layout, Nonce, Submitter};
use crate::sys::sqlite::{Database, DatabaseError};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS requests (
  who TEXT NOT NULL,
  nonce TEXT NOT NULL,
  digest TEXT NOT NULL,               -- SHA-256 of what was signed
  since INTEGER NOT NULL,             -- seconds since the epoch
  request TEXT NOT NULL,              -- JSON
  state TEXT NOT NULL,                -- JSON
  settled INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (who, nonce)
) STRICT;
CREATE INDEX IF NOT EXISTS requests_open ON requests (since) WHERE settled = 0;
";

/// Nonces are remembered for longer than any request may be old: no replay is new again.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum State {
    /// Its source RPM is being made.
    Received,
    /// Its job is stamped, and may be in the queue or not.
    Queueing {
        job: Box<BuildJob>,
    },
    /// Its job was put.
    Accepted {
        job: Box<BuildJob>,
    },
    Refused {
        reason: String,
    },
}

impl State {
    pub fn is_settled(&self) -> bool {
        match self {
            State::Received | State::Queueing { .. } => false,
            State::Accepted { .. } | State::Refused { .. } => true,
        }
    }
}

/// A request in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub who: Submitter,
    pub nonce: Nonce,
    pub digest: String,
    pub request: Request,
    pub state: State,
    /// Seconds since the epoch.
    pub since: u64,
}

/// A handle on a root's ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    database: Database,
}

const COLUMNS: &str = "who, nonce, digest, request, state, since";

impl Ledger {
    pub fn open(layout: &Layout) -> Result<Ledger, DatabaseError> {
        Ok(Ledger { database: Database::open(&layout.database(), SCHEMA)? })
    }

    pub async fn find(&self, who: &Submitter, nonce: &Nonce) -> Result<Option<Entry>, DatabaseError> {
        let key = (who.to_string(), nonce.to_string());
        let found = self
            .database
            .read(move |sql| {
                sql.prepare_cached(&format!("SELECT {COLUMNS} FROM requests WHERE who = ?1 AND nonce = ?2"))?
                    .query_row(params![key.0, key.1], columns)
                    .optional()
            })
            .await?;
        Ok(found.and_then(entry))
    }

    /// Enters a request; one that is there stays as it is.
    pub async fn enter(&self, entry: &Entry) -> Result<(), DatabaseError> {
        self.write(
            "INSERT OR IGNORE INTO requests (who, nonce, digest, request, state, since, settled)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            entry,
        )
        .await
    }

    /// Notes how far a request has come.
    pub async fn note(&self, entry: &Entry) -> Result<(), DatabaseError> {
        self.write(
            "UPDATE requests SET state = ?5, settled = ?7 WHERE who = ?1 AND nonce = ?2 AND digest = ?3
                AND request = ?4 AND since = ?6",
            entry,
        )
        .await
    }

    async fn write(&self, sql: &'static str, entry: &Entry) -> Result<(), DatabaseError> {
        let Entry { who, nonce, digest, request, state, since } = entry.clone();
        self.database
            .write(move |transaction| {
                let (request, json) = (json(&request), json(&state));
                transaction.prepare_cached(sql)?.execute(params![
                    who.as_str(),
                    nonce.as_str(),
                    digest,
                    request,
                    json,
                    since,
                    state.is_settled()
                ])
            })
            .await
            .map(drop)
    }

    /// Those that a bridge before us has left unsettled, oldest first.
    pub async fn unsettled(&self) -> Result<Vec<Entry>, DatabaseError> {
        let found: Vec<Columns> = self
            .database
            .read(|sql| {
                sql.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM requests WHERE settled = 0 ORDER BY since"
                ))?
                .query_map([], columns)?
                .collect()
            })
            .await?;
        Ok(found.into_iter().filter_map(entry).collect())
    }

    /// Forgets one, so that it can be asked for anew.
    pub async fn forget(&self, who: &Submitter, nonce: &Nonce) -> Result<(), DatabaseError> {
        let key = (who.to_string(), nonce.to_string());
        self.database
            .write(move |sql| {
                sql.execute("DELETE FROM requests WHERE who = ?1 AND nonce = ?2", params![key.0, key.1])
            })
            .await
            .map(drop)
    }

    /// Forgets what is so old that nobody can ask for it again.
    pub async fn forget_old(&self) -> Result<(), DatabaseError> {
        let before = now().saturating_sub(KEPT.as_secs());
        self.database
            .write(move |sql| {
                sql.execute("DELETE FROM requests WHERE settled = 1 AND since < ?1", params![before])
            })
            .await
            .map(drop)
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn json(value: &impl Serialize) -> String {
    // Structs of strings, booleans and the like always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

type Columns = (String, String, String, String, String, u64);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

/// Only what we wrote is in there.
fn entry((who, nonce, digest, request, state, since): Columns) -> Option<Entry> {
    Some(Entry {
        who: who.parse().ok()?,
        nonce: nonce.parse().ok()?,
        digest,
        request: serde_json::from_str(&request).ok()?,
        state: serde_json::from_str(&state).ok()?,
        since,
    })
}
