//! The fleet's history: collection `notify_history` of a MongoDB server, a document per event, as the old fleet keeps it.
//!
//! Nothing is connected before it is needed, so that roles start, and the outbox waits, while the server is down. Only
//! who records makes indexes: who queries needs no right to.

mod connect;
mod document;
mod error;
mod find;
mod indexes;
mod record;
mod signs;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document as Bdoc, doc};
use mongodb::{Collection, Database};
use tokio::sync::OnceCell;

use self::connect::{Connected, Plan};
use self::error::{Doing, told};
use crate::config::{MongodbUrl, TlsFiles};
pub use connect::Observer;
pub use error::MongodbError;

const EVENTS: &str = "notify_history";
const BUILDERS: &str = "builders";

/// No command may hang: what takes longer has failed.
const LIMIT: Duration = Duration::from_secs(20);
/// Indexes of a large old history take a while, once.
const INDEX_LIMIT: Duration = Duration::from_secs(900);

/// A handle on the history. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct History {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    observer: Option<Observer>,
    connected: OnceCell<Connected>,
    indexed: OnceCell<()>,
}

impl History {
    /// Reads the URL; connects to nothing.
    pub fn open(url: &MongodbUrl, tls: &TlsFiles) -> Result<History, MongodbError> {
        History::observed(url, tls, None)
    }

    /// As `open`, telling of every command that is sent.
    pub fn observed(
        url: &MongodbUrl,
        tls: &TlsFiles,
        observer: Option<Observer>,
    ) -> Result<History, MongodbError> {
        let plan = Plan::of(url, tls)?;
        let (connected, indexed) = (OnceCell::new(), OnceCell::new());
        Ok(History { shared: Arc::new(Shared { plan, observer, connected, indexed }) })
    }

    /// Connects, and says to what.
    pub async fn check(&self) -> Result<String, MongodbError> {
        let database = self.database().await?;
        let find = database.run_command(doc! {"find": EVENTS, "limit": 1});
        self.within(LIMIT, Doing::Other, find).await?;
        // Warns of certificates that end soon.
        self.shared.plan.look_closer().await;
        Ok(format!("MongoDB at {}, database {}", self.shared.plan.hosts, self.shared.plan.database))
    }

    async fn database(&self) -> Result<Database, MongodbError> {
        let connect = || self.shared.plan.client(self.shared.observer.clone());
        let connected = self.shared.connected.get_or_try_init(connect).await?;
        Ok(connected.client.database(&self.shared.plan.database))
    }

    async fn events(&self) -> Result<Collection<Bdoc>, MongodbError> {
        Ok(self.database().await?.collection(EVENTS))
    }

    /// What is written to is indexed first, once for every process.
    async fn indexed(&self) -> Result<Database, MongodbError> {
        let database = self.database().await?;
        let make = async || self.within(INDEX_LIMIT, Doing::Indexes, indexes::make(&database)).await;
        self.shared.indexed.get_or_try_init(make).await?;
        Ok(database)
    }

    /// Waits for the server, but not for ever, and words what went wrong.
    async fn within<T>(
        &self,
        limit: Duration,
        doing: Doing,
        work: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, MongodbError> {
        let error = match tokio::time::timeout(limit, work.into_future()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => self.worded(&error, doing),
            Err(_) => MongodbError::Silent { hosts: self.shared.plan.hosts.clone(), limit },
        };
        if !matches!(error, MongodbError::Tls { .. } | MongodbError::Unreachable { .. }) {
            return Err(error);
        }
        let hosts = self.shared.plan.hosts.clone();
        let closer = self.shared.plan.look_closer().await;
        Err(closer.map_or(error, |source| MongodbError::Certificate { hosts, source }))
    }

    fn worded(&self, error: &mongodb::error::Error, doing: Doing) -> MongodbError {
        told(error, doing, &self.shared.plan.hosts, &self.shared.plan.database)
    }
}

/// Both, at the same time.
async fn both<A, B, E>(
    a: impl Future<Output = Result<A, E>>,
    b: impl Future<Output = Result<B, E>>,
) -> Result<(A, B), E> {
    tokio::try_join!(a, b)
}
