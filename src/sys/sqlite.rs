//! Opening the SQLite file that queue, history and outbox share, and calling it from async code.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Two connections, usable from many tasks; calls run one at a time on tokio's blocking threads.
#[derive(Debug, Clone)]
pub struct Database {
    reader: Arc<Mutex<Connection>>,
    /// Shared by all who write to the same file in this process. With one each they would wait for one another by
    /// sleeping, as they do for other processes, and every commit would empty the caches of the others.
    writer: Arc<Mutex<Connection>>,
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

/// The connection of this process that writes to a file, which is there.
fn writer(path: &Path) -> Result<Arc<Mutex<Connection>>, rusqlite::Error> {
    /// By device and inode: a file may have several paths, and a path may get a new file.
    type Writers = HashMap<(u64, u64), Weak<Mutex<Connection>>>;
    static WRITERS: LazyLock<Mutex<Writers>> = LazyLock::new(Mutex::default);
    let mut writers = lock(&WRITERS);
    writers.retain(|_, writer| writer.strong_count() > 0);
    let Ok(file) = path.metadata() else {
        // It went just now. What is written to it is of no use to anybody.
        return Ok(Arc::new(Mutex::new(connect(path)?)));
    };
    let file = (file.dev(), file.ino());
    if let Some(writer) = writers.get(&file).and_then(Weak::upgrade) {
        return Ok(writer);
    }
    let writer = Arc::new(Mutex::new(connect(path)?));
    writers.insert(file, Arc::downgrade(&writer));
    Ok(writer)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open(path)?;
    connection.busy_handler(Some(wait_for_others))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// A panic in an earlier call rolled its transaction back; what the lock guards is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    /// Opens (and makes) the file at `path`, in WAL mode with synchronous=FULL, and runs `schema`, which must
    /// be harmless when it was run before.
    pub fn open(path: &Path, schema: &str) -> Result<Database, DatabaseError> {
        let open = || -> Result<Database, rusqlite::Error> {
            let reader = Arc::new(Mutex::new(connect(path)?));
            let writer = writer(path)?;
            lock(&writer).execute_batch(schema)?;
            Ok(Database { reader, writer })
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
        opened.map_err(|source| DatabaseError::Open { path: path.display().to_string(), source })
    }

    /// Runs `work` in one write transaction, committed when it returns `Ok`.
    pub async fn write<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        call(&self.writer, move |connection| {
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
        call(&self.reader, move |connection| work(connection)).await
    }

    /// A number that changes with every commit; `None` while somebody reads.
    pub fn version(&self) -> Option<i64> {
        let reader = self.reader.try_lock().ok()?;
        reader.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
    }
}

async fn call<T, W>(connection: &Arc<Mutex<Connection>>, work: W) -> Result<T, DatabaseError>
where
    T: Send + 'static,
    W: FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
{
    let connection = Arc::clone(connection);
    let done = tokio::task::spawn_blocking(move || work(&mut lock(&connection)));
    Ok(done.await.map_err(|_| DatabaseError::Ending)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS words (word TEXT) STRICT;";

    async fn say(database: &Database, word: &'static str) {
        let insert = move |sql: &Transaction| sql.execute("INSERT INTO words VALUES (?1)", [word]);
        database.write(insert).await.unwrap();
    }

    async fn said(database: &Database) -> Vec<String> {
        let read = |sql: &Connection| {
            sql.prepare("SELECT word FROM words ORDER BY word")?.query_map([], |row| row.get(0))?.collect()
        };
        database.read(read).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_has_one_writer_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["a.db", "b.db"].map(|name| folder.path().join(name));
        let one = Database::open(&file, SCHEMA).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let other = Database::open(&link, SCHEMA).unwrap();
        assert!(Arc::ptr_eq(&one.writer, &other.writer));
        let seen = other.version().unwrap();
        say(&one, "hello").await;
        assert_eq!(said(&other).await, ["hello"]);
        assert_ne!(other.version().unwrap(), seen);
    }

    #[tokio::test]
    async fn a_new_file_of_an_old_name_has_a_writer_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let old = Database::open(&file, SCHEMA).unwrap();
        say(&old, "old").await;
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        let new = Database::open(&file, SCHEMA).unwrap();
        say(&new, "new").await;
        assert!(!Arc::ptr_eq(&old.writer, &new.writer));
        assert_eq!(said(&new).await, ["new"]);
    }

    #[tokio::test]
    async fn what_panics_or_fails_in_a_write_leaves_nothing_and_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("a.db"), SCHEMA).unwrap();
        let fail = |sql: &Transaction| {
            sql.execute("INSERT INTO words VALUES ('lost')", [])?;
            sql.execute("INSERT INTO nothing VALUES (1)", [])
        };
        assert!(matches!(database.write(fail).await, Err(DatabaseError::Sql(_))));
        let panic = |sql: &Transaction| -> rusqlite::Result<()> {
            sql.execute("INSERT INTO words VALUES ('lost')", [])?;
            panic!("on purpose");
        };
        assert!(matches!(database.write(panic).await, Err(DatabaseError::Ending)));
        say(&database, "kept").await;
        assert_eq!(said(&database).await, ["kept"]);
    }
}
