//! The history: every event, a document each, searchable for ever.
//!
//! Documents are what the old fleet keeps: the event's fields with `status` (see [`Status::stored`]),
//! `latest_build` on results, `comment` on overrides.

mod latest;
pub mod mongodb;
pub mod sqlite;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Config, HistoryPlace};
use crate::model::{Arch, BuildId, Builder, Event, SrpmName, Status, Target, event};
use crate::sys::sqlite::DatabaseError;

/// What went wrong with the history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the history cannot be used: {0}")]
    Database(#[from] DatabaseError),
    #[error("the history cannot be used: {0}")]
    Mongodb(#[from] mongodb::MongodbError),
    #[error("the history holds a document that cannot be read: {0}")]
    Document(#[from] serde_json::Error),
    #[error(
        "no latest build of {srpm} for {target} and arch {arch} is in the history, so there is nothing to override"
    )]
    NothingToOverride { srpm: SrpmName, target: Target, arch: Arch },
}

impl HistoryError {
    /// Whether any event would fare the same now.
    pub fn is_down(&self) -> bool {
        matches!(self, HistoryError::Mongodb(error) if error.is_down())
    }
}

/// One document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    #[serde(flatten, serialize_with = "event::among::serialize")]
    pub event: Event,
    /// True on the newest result of its arch, target and source RPM; absent on events that are no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_build: Option<bool>,
    /// Why it was overridden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Document {
    fn from_json(
        text: &str,
        status: Status,
        latest_build: Option<bool>,
        comment: Option<String>,
    ) -> Result<Document, serde_json::Error> {
        let mut fields: Map<String, Value> = serde_json::from_str(text)?;
        fields.insert("status".into(), Value::String(status.to_string()));
        Ok(Document { event: serde_json::from_value(Value::Object(fields))?, latest_build, comment })
    }
}

/// What to look for. With a status other than Building only latest builds are found, as the old query does.
#[derive(Debug, Clone, Default)]
pub struct Find {
    pub status: Option<Status>,
    pub target: Option<Target>,
    pub build_id: Option<BuildId>,
    /// Also former states: Done, and results that a newer one has replaced.
    pub all: bool,
    /// The newest so many.
    pub limit: u32,
}

/// A history engine.
#[derive(Debug, Clone)]
pub enum History {
    Sqlite(sqlite::History),
    Mongodb(mongodb::History),
}

impl History {
    /// Opens the history of a configuration. A server is connected when it is needed.
    pub fn open(config: &Config) -> Result<History, HistoryError> {
        Ok(match &config.history {
            HistoryPlace::Root => History::Sqlite(sqlite::History::open(&config.layout.database())?),
            HistoryPlace::Sqlite(file) => History::Sqlite(sqlite::History::open(file)?),
            HistoryPlace::Mongodb(url) => History::Mongodb(mongodb::History::open(url, &config.tls)?),
        })
    }

    /// Whether it can be used; what it is.
    pub async fn check(&self) -> Result<String, HistoryError> {
        match self {
            History::Sqlite(history) => history.builders().await.map(|_| "SQLite".into()),
            History::Mongodb(history) => Ok(Box::pin(history.check()).await?),
        }
    }

    /// Records an event. Recording it again changes nothing; the same one told anew, such as by another builder that
    /// took the job up, replaces it.
    pub async fn record(&self, event: &Event) -> Result<(), HistoryError> {
        self.record_all(std::slice::from_ref(event)).await
    }

    /// Records events in their order. Where that fails some may be recorded: record them again.
    pub async fn record_all(&self, events: &[Event]) -> Result<(), HistoryError> {
        match self {
            History::Sqlite(history) => history.record_all(events).await?,
            History::Mongodb(history) => {
                for event in events {
                    Box::pin(history.record(event)).await?;
                }
            }
        }
        Ok(())
    }

    /// The documents asked for, newest first.
    pub async fn find(&self, find: Find) -> Result<Vec<Document>, HistoryError> {
        match self {
            History::Sqlite(history) => history.find(find).await,
            History::Mongodb(history) => Ok(Box::pin(history.find(find)).await?),
        }
    }

    /// Declares the latest build of a source RPM settled.
    pub async fn settle(
        &self,
        srpm: &SrpmName,
        target: &Target,
        arch: Arch,
        comment: &str,
    ) -> Result<Document, HistoryError> {
        let settled = match self {
            History::Sqlite(history) => history.settle(srpm, target, arch, comment).await?,
            History::Mongodb(history) => Box::pin(history.settle(srpm, target, arch, comment)).await?,
        };
        settled.ok_or_else(|| HistoryError::NothingToOverride {
            srpm: srpm.clone(),
            target: target.clone(),
            arch,
        })
    }

    /// The builds whose path in the bstore or whose source RPM's name contains `part`, or whose id it is, newest first; each with its
    /// result, or its newest document while it has none.
    pub async fn named(&self, part: &str) -> Result<Vec<Document>, HistoryError> {
        match self {
            History::Sqlite(history) => history.named(part).await,
            History::Mongodb(history) => Ok(Box::pin(history.named(part)).await?),
        }
    }

    /// Keeps a worker's last sign of life. An older one than is known changes nothing. Once a builder gives signs,
    /// its other workers that have stopped, or fallen silent, are forgotten.
    pub async fn heard_of(&self, sign: &Builder) -> Result<(), HistoryError> {
        match self {
            History::Sqlite(history) => history.heard_of(sign).await,
            History::Mongodb(history) => Ok(Box::pin(history.heard_of(sign)).await?),
        }
    }

    /// The last sign of life of every builder's workers, by the builder's name.
    pub async fn builders(&self) -> Result<Vec<Builder>, HistoryError> {
        match self {
            History::Sqlite(history) => history.builders().await,
            History::Mongodb(history) => Ok(Box::pin(history.builders()).await?),
        }
    }
}
