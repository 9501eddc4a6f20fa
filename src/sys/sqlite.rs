//! Opening the SQLite file that queue, history and outbox share, and calling it from async code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// One connection, usable from many tasks; calls run one at a time on tokio's blocking threads.
#[derive(Debug, Clone)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
    /// Held for a write by whoever of this process writes to the same file. Without it they would wait for one
    /// another by sleeping, as they do for other processes, and mostly for too long.
    turn: Arc<Mutex<()>>,
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

/// Opens (and makes) a file that is a cache, used by one process at a time under a lock of its own, and runs `schema`.
/// Without WAL, so that it may lie on a shared file system. One that is damaged is an error, here or later.
pub fn open_cache(path: &Path, schema: &str) -> Result<Connection, DatabaseError> {
    let open = || -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "TRUNCATE")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(schema)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|source| DatabaseError::Open { path: path.display().to_string(), source })
}

/// How long a writer waits for other processes' transactions, each of which takes about a millisecond, before it
/// looks again: soon at first, then less often, for half a minute in all.
fn wait_for_others(times: i32) -> bool {
    const SOON: i32 = 40;
    const MOST: i32 = SOON + 6000;
    std::thread::sleep(Duration::from_micros(if times < SOON { 250 } else { 5000 }));
    times < MOST
}

/// One lock per file that this process writes to.
fn turn(path: &Path) -> Arc<Mutex<()>> {
    static TURNS: LazyLock<Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>> = LazyLock::new(Mutex::default);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut turns = lock(&TURNS);
    turns.retain(|_, turn| turn.strong_count() > 0);
    if let Some(turn) = turns.get(&path).and_then(Weak::upgrade) {
        return turn;
    }
    let turn = Arc::default();
    turns.insert(path, Arc::downgrade(&turn));
    turn
}

/// A panic in an earlier call rolled its transaction back; what the lock guards is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    /// Opens (and makes) the file at `path`, in WAL mode with synchronous=FULL, and runs `schema`, which must
    /// be harmless when it was run before.
    pub fn open(path: &Path, schema: &str) -> Result<Database, DatabaseError> {
        let open = || -> Result<Connection, rusqlite::Error> {
            let mut connection = Connection::open(path)?;
            connection.busy_handler(Some(wait_for_others))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(schema)?;
            connection.set_prepared_statement_cache_capacity(64);
            Ok(connection)
        };
        // Where two open a new file, one's switch to WAL fails at once: the busy handler is not asked there.
        let busy =
            |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
        let mut opened = open();
        let mut times = 0;
        while opened.as_ref().is_err_and(busy) && wait_for_others(times) {
            opened = open();
            times += 1;
        }
        let connection =
            opened.map_err(|source| DatabaseError::Open { path: path.display().to_string(), source })?;
        Ok(Database { connection: Arc::new(Mutex::new(connection)), turn: turn(path) })
    }

    /// Runs `work` in one write transaction, committed when it returns `Ok`.
    pub async fn write<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        let turn = Arc::clone(&self.turn);
        self.call(move |connection| {
            let _turn = lock(&turn);
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
        let done = tokio::task::spawn_blocking(move || work(&mut lock(&connection)));
        Ok(done.await.map_err(|_| DatabaseError::Ending)??)
    }
}
