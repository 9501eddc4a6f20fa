//! Where a fleet's history is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{ConfigError, Values};

/// Where the history is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HistoryPlace {
    /// In the root's own file, beside the queue.
    #[default]
    Root,
    /// In a SQLite file of its own.
    Sqlite(PathBuf),
    Mongodb(MongodbUrl),
}

/// A `mongodb://` URL. It may hold a password, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct MongodbUrl(String);

impl MongodbUrl {
    pub fn new(url: &str) -> MongodbUrl {
        MongodbUrl(url.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MongodbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mongodb://…")
    }
}

impl Values<'_> {
    pub(super) fn history(&self, root: &Path) -> Result<HistoryPlace, ConfigError> {
        const WANTED: &str = "mongodb://HOST:PORT or sqlite:PATH";
        let Some(url) = self.get("history", "url").filter(|url| !url.is_empty()) else {
            return Ok(HistoryPlace::Root);
        };
        match (url.strip_prefix("sqlite:"), url.strip_prefix("mongodb://")) {
            (Some(path), _) if !path.is_empty() => Ok(HistoryPlace::Sqlite(root.join(path))),
            (_, Some(place)) if !place.is_empty() => Ok(HistoryPlace::Mongodb(MongodbUrl::new(url))),
            // What stands there may hold a password all the same.
            _ => {
                let shown = url.rsplit('@').next().unwrap_or_default();
                Err(self.bad("history", "url", shown, WANTED))
            }
        }
    }
}
