//! Opening the SQLite file that queue, history and outbox share, and calling it from async code.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// One connection, usable from many tasks; calls run one at a time on tokio's blocking threads.
#[derive(Debug, Clone)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
}

/// A database that cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("cannot open the database {path}: {source}")]
    Open { path: String, source: rusqlite::Error },
    #[error("the database failed: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("the database call was dropped: the program is ending")]
    Ending,
}

/// How long a writer waits for other processes' transactions, each of which takes milliseconds.
const BUSY: Duration = Duration::from_secs(30);

impl Database {
    /// Opens (and makes) the file at `path`, in WAL mode with synchronous=FULL, and runs `schema`, which must
    /// be harmless when it was run before.
    pub fn open(path: &Path, schema: &str) -> Result<Database, DatabaseError> {
        let open = || -> Result<Connection, rusqlite::Error> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(schema)?;
            connection.set_prepared_statement_cache_capacity(64);
            Ok(connection)
        };
        let connection =
            open().map_err(|source| DatabaseError::Open { path: path.display().to_string(), source })?;
        Ok(Database { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in one write transaction, committed when it returns `Ok`.
    pub async fn write<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        self.call(move |connection| {
            // IMMEDIATE: a read that turns into a write would otherwise fail where another writer came between.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Runs `work`, which only reads.
    pub async fn read<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        self.call(move |connection| work(connection)).await
    }

    /// A number that changes when another connection has committed; `None` while ours is in use.
    pub fn version(&self) -> Option<i64> {
        let connection = self.connection.try_lock().ok()?;
        connection.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
    }

    async fn call<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // A panic in an earlier call rolled its transaction back; the connection itself is sound.
            let mut connection = connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            work(&mut connection)
        });
        Ok(done.await.map_err(|_| DatabaseError::Ending)??)
    }
}
