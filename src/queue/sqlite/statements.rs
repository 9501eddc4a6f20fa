//! The embedded queue in SQL: its tables, what is done to a job, and jobs read from rows.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::owner;
use crate::queue::{Entry, Job, NewJob, State};

pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tube TEXT NOT NULL,
  priority INTEGER NOT NULL,
  body BLOB NOT NULL,
  state TEXT NOT NULL DEFAULT 'ready',
  created INTEGER NOT NULL,           -- all times: milliseconds since the epoch
  due INTEGER NOT NULL DEFAULT 0,     -- of a delayed job: when it is ready; of a reserved one: when its time is over
  owner TEXT,
  reserves INTEGER NOT NULL DEFAULT 0,
  releases INTEGER NOT NULL DEFAULT 0,
  reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (tube, priority, id) WHERE state = 'ready';
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due) WHERE state IN ('reserved', 'delayed');
CREATE TABLE IF NOT EXISTS watchers (
  owner TEXT NOT NULL,
  tube TEXT NOT NULL,
  PRIMARY KEY (owner, tube)
) STRICT;
";

/// What a person kicks starts with a clean slate: no losses. `reserves` only ever grows, since it tells leases and
/// attempts apart.
pub const KICK: &str = "UPDATE jobs SET state = 'ready', releases = reserves, reason = NULL";
/// What [`entry`] reads.
pub const ENTRIES: &str =
    "SELECT id, tube, state, priority, created, reason, body, due, reserves, owner FROM jobs";

pub fn insert(sql: &Transaction, job: &NewJob) -> rusqlite::Result<u64> {
    sql.prepare_cached(
        "INSERT INTO jobs (tube, priority, body, state, created, due) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        job.tube,
        job.priority,
        job.body,
        waiting(job.delay),
        now(),
        now() + millis(job.delay)
    ])?;
    Ok(sql.last_insert_rowid().unsigned_abs())
}

pub fn waiting(delay: Duration) -> &'static str {
    if delay.is_zero() { "ready" } else { "delayed" }
}

/// The ready job that runs next: tube by tube, so that each look is one step in the index.
pub fn most_urgent(sql: &Connection, tubes: &[String]) -> rusqlite::Result<Option<u64>> {
    let mut first = sql.prepare_cached(
        "SELECT priority, id FROM jobs WHERE tube = ?1 AND state = 'ready' ORDER BY priority, id LIMIT 1",
    )?;
    let mut best: Option<(u32, u64)> = None;
    for tube in tubes {
        let found = first.query_row(params![tube], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        best = [best, found].into_iter().flatten().min();
    }
    Ok(best.map(|(_, id)| id))
}

/// Whether a job's time is over, or somebody else's job may have lost its owner.
pub fn needs_care(sql: &Connection, now: i64, owner: &str) -> rusqlite::Result<bool> {
    sql.prepare_cached(
        "SELECT 1 FROM jobs WHERE state IN ('reserved', 'delayed')
         AND (due <= ?1 OR (state = 'reserved' AND owner != ?2)) LIMIT 1",
    )?
    .exists(params![now, owner])
}

pub fn ready_what_is_due(sql: &Transaction, now: i64) -> rusqlite::Result<()> {
    sql.prepare_cached(
        "UPDATE jobs SET state = 'ready', owner = NULL WHERE state IN ('reserved', 'delayed') AND due <= ?1",
    )?
    .execute(params![now])
    .map(|_| ())
}

pub fn ready_what_the_dead_held(sql: &Transaction, run: &Path, us: &str) -> rusqlite::Result<()> {
    let owners: Vec<String> = sql
        .prepare_cached(
            "SELECT owner FROM jobs WHERE state = 'reserved' AND owner != ?1
             UNION SELECT owner FROM watchers WHERE owner != ?1",
        )?
        .query_map(params![us], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for owner in owners.iter().filter(|owner| owner::is_dead(run, owner)) {
        sql.execute(
            "UPDATE jobs SET state = 'ready', owner = NULL WHERE state = 'reserved' AND owner = ?1",
            params![owner],
        )?;
        sql.execute("DELETE FROM watchers WHERE owner = ?1", params![owner])?;
        let _ = std::fs::remove_file(run.join(owner));
    }
    Ok(())
}

pub fn job(sql: &Transaction, id: u64) -> rusqlite::Result<Job> {
    sql.prepare_cached("SELECT id, tube, body, priority, reserves, releases FROM jobs WHERE id = ?1")?
        .query_row(params![id], |row| {
            Ok(Job {
                id: row.get(0)?,
                tube: row.get(1)?,
                body: row.get(2)?,
                priority: row.get(3)?,
                reserves: row.get(4)?,
                releases: row.get(5)?,
                forgiven: 0,
                mark: row.get::<_, u32>(4)?.to_string(),
            })
        })
}

fn state(row: &Row, column: usize) -> rusqlite::Result<State> {
    let text: String = row.get(column)?;
    Ok(match text.as_str() {
        "reserved" => State::Reserved,
        "delayed" => State::Delayed,
        "buried" => State::Buried,
        _ => State::Ready,
    })
}

pub fn entry(row: &Row) -> rusqlite::Result<Entry> {
    let (created, due): (i64, i64) = (row.get(4)?, row.get(7)?);
    let state = state(row, 2)?;
    let has_term = matches!(state, State::Delayed | State::Reserved);
    Ok(Entry {
        id: row.get(0)?,
        tube: row.get(1)?,
        state,
        priority: row.get(3)?,
        age: (now() - created).max(0).unsigned_abs() / 1000,
        time_left: has_term.then(|| (due - now()).max(0).unsigned_abs().div_ceil(1000)),
        reserves: row.get(8)?,
        reason: row.get(5)?,
        body: row.get(6)?,
    })
}

/// Tube, state, owner, and how many jobs.
pub type Count = (String, State, Option<String>, u64);

/// How many jobs of a tube are in a state, and whose they are. Where its time is over a job is ready, also before
/// anybody reserves.
pub fn count_jobs(sql: &Connection) -> rusqlite::Result<Vec<Count>> {
    sql.prepare_cached(
        "SELECT tube, iif(state IN ('reserved', 'delayed') AND due <= ?1, 'ready', state) AS now, owner, count(*)
         FROM jobs GROUP BY tube, now, owner",
    )?
    .query_map(params![now()], |row| Ok((row.get(0)?, state(row, 1)?, row.get(2)?, row.get(3)?)))?
    .collect()
}

pub fn watchers(sql: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    sql.prepare_cached("SELECT owner, tube FROM watchers")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
