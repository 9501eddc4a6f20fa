//! The embedded queue: a table in the SQLite file that all processes of a root share.
//!
//! A process that uses it holds a lock on a file of its own in `run/`. When another finds that lock free, the
//! process is dead, and what it had reserved is ready again at once, whatever its time to run.

mod owner;
mod statements;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Entry, GiveUp, Job, LARGEST_JOB, Lease, NewJob, QueueError, State, TTR, TubeStats};
use crate::model::Layout;
use crate::sys::fs;
use crate::sys::sqlite::Database;
use owner::Owner;
use statements::{
    ENTRIES, KICK, SCHEMA, count_jobs, entry, insert, job, millis, most_urgent, needs_care, now,
    ready_what_is_due, ready_what_the_dead_held, waiting, watchers,
};

/// How soon a put by another process is seen. Our own process's are seen at once.
const POLL: Duration = Duration::from_millis(25);
/// How often a waiting process looks for dead owners and for time that has run out, half as much more or less: the same
/// one must not be first each time that a job is put off, for it may be who left the job to others.
const CARE: Duration = Duration::from_millis(500);

/// A process's handle on the embedded queue.
#[derive(Debug, Clone)]
pub struct Queue {
    database: Database,
    owner: Arc<Owner>,
    ttr: Duration,
    /// Rung by our own puts, so that a waiting task of this process need not poll for them.
    bell: Arc<Notify>,
}

impl Queue {
    pub fn open(layout: &Layout) -> Result<Queue, QueueError> {
        Queue::open_at(&layout.database(), &layout.run())
    }

    /// In a file, with a folder for the processes that share it.
    pub fn open_at(file: &Path, run: &Path) -> Result<Queue, QueueError> {
        if let Some(folder) = file.parent() {
            fs::make_dir(folder)?;
        }
        let database = Database::open(file, SCHEMA)?;
        let owner = Arc::new(Owner::enter(run)?);
        Ok(Queue { database, owner, ttr: TTR, bell: Arc::default() })
    }

    /// With another time to run, for tests that see one end. A fleet's tubes need [`TTR`].
    pub fn with_ttr(self, ttr: Duration) -> Queue {
        Queue { ttr, ..self }
    }

    pub async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<u64>, QueueError> {
        if let Some(job) = jobs.iter().find(|job| job.body.len() > LARGEST_JOB) {
            let (tube, size) = (job.tube.clone(), job.body.len());
            let advice = "leave out what the job need not carry, or use a beanstalkd with a larger -z";
            return Err(QueueError::TooLarge { tube, size, limit: LARGEST_JOB, advice });
        }
        let ids = self.database.write(move |sql| jobs.iter().map(|job| insert(sql, job)).collect()).await?;
        self.bell.notify_waiters();
        Ok(ids)
    }

    pub async fn reserve_some(
        &self,
        tubes: &[String],
        most: usize,
        mut wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Vec<(Job, Lease)>, QueueError> {
        let mut batch = Vec::new();
        while batch.len() < most {
            match self.reserve(tubes, wait, stop).await {
                Ok(Some(reserved)) => batch.push(reserved),
                Ok(None) => break,
                Err(error) if batch.is_empty() => return Err(error),
                // What is reserved already must be handled, or it would wait for its time to run out.
                Err(error) => {
                    tracing::error!("{error}");
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        Ok(batch)
    }

    async fn reserve(
        &self,
        tubes: &[String],
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<(Job, Lease)>, QueueError> {
        let until = Instant::now() + wait;
        self.watch(tubes).await?;
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            // From here on a ring is not missed.
            rung.as_mut().enable();
            let seen = self.database.version();
            if let Some(job) = self.try_reserve(tubes).await? {
                let ended = CancellationToken::new();
                let lease = Lease::new(job.id, u64::from(job.reserves), self.ttr, ended);
                return Ok(Some((job, lease)));
            }
            if Instant::now() >= until || stop.is_cancelled() {
                return Ok(None);
            }
            tokio::select! {
                () = rung => {}
                () = stop.cancelled() => return Ok(None),
                () = self.changed(seen, until) => {}
            }
        }
    }

    /// Returns when somebody has committed, when it is time to care for the lost, or at `until`.
    async fn changed(&self, seen: Option<i64>, until: Instant) {
        let until = until.min(Instant::now() + CARE.mul_f64(0.5 + fastrand::f64()));
        while Instant::now() < until {
            tokio::time::sleep(POLL.min(until.saturating_duration_since(Instant::now()))).await;
            let version = self.database.version();
            if version.is_some() && version != seen {
                return;
            }
        }
    }

    async fn try_reserve(&self, tubes: &[String]) -> Result<Option<Job>, QueueError> {
        let (tubes, owner, run) = (tubes.to_vec(), self.owner.name.clone(), self.owner.run.clone());
        let (now, ttr) = (now(), self.ttr);
        let idle = self
            .database
            .read({
                let tubes = tubes.clone();
                let owner = owner.clone();
                move |sql| Ok(most_urgent(sql, &tubes)?.is_none() && !needs_care(sql, now, &owner)?)
            })
            .await?;
        if idle {
            // A waiting process writes nothing.
            return Ok(None);
        }
        let job = self
            .database
            .write(move |sql| {
                ready_what_is_due(sql, now)?;
                ready_what_the_dead_held(sql, &run, &owner)?;
                let Some(id) = most_urgent(sql, &tubes)? else { return Ok(None) };
                sql.prepare_cached(
                    "UPDATE jobs SET state = 'reserved', owner = ?2, due = ?3, reserves = reserves + 1 WHERE id = ?1",
                )?
                .execute(params![id, owner, now + millis(ttr)])?;
                job(sql, id).optional()
            })
            .await?;
        Ok(job)
    }

    async fn watch(&self, tubes: &[String]) -> Result<(), QueueError> {
        let (owner, tubes) = (self.owner.name.clone(), tubes.to_vec());
        let missing: Vec<String> = self
            .database
            .read({
                let owner = owner.clone();
                move |sql| {
                    let mut known =
                        sql.prepare_cached("SELECT 1 FROM watchers WHERE owner = ?1 AND tube = ?2")?;
                    let mut missing = Vec::new();
                    for tube in tubes {
                        if !known.exists(params![owner, tube])? {
                            missing.push(tube);
                        }
                    }
                    Ok(missing)
                }
            })
            .await?;
        if missing.is_empty() {
            return Ok(());
        }
        self.database
            .write(move |sql| {
                for tube in missing {
                    sql.execute(
                        "INSERT OR IGNORE INTO watchers (owner, tube) VALUES (?1, ?2)",
                        params![owner, tube],
                    )?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    pub async fn touch(&self, lease: &Lease) -> Result<(), QueueError> {
        let (id, token, ttr) = (lease.id, lease.token, self.ttr);
        let changed = self
            .database
            .write(move |sql| {
                sql.execute(
                    "UPDATE jobs SET due = ?3 WHERE id = ?1 AND reserves = ?2 AND state = 'reserved'",
                    params![id, token, now() + millis(ttr)],
                )
            })
            .await?;
        held(lease, changed)
    }

    pub async fn give_up(&self, lease: &Lease, how: GiveUp) -> Result<(), QueueError> {
        let (id, token) = (lease.id, lease.token);
        let changed = self
            .database
            .write(move |sql| match how {
                GiveUp::Delete => sql
                    .prepare_cached(
                        "DELETE FROM jobs WHERE id = ?1 AND reserves = ?2 AND state = 'reserved'",
                    )?
                    .execute(params![id, token]),
                GiveUp::Release { delay, reason } => sql.execute(
                    "UPDATE jobs SET state = ?3, due = ?4, owner = NULL, releases = releases + 1, reason = ?5
                     WHERE id = ?1 AND reserves = ?2 AND state = 'reserved'",
                    params![id, token, waiting(delay), now() + millis(delay), reason],
                ),
                GiveUp::Bury { reason } => sql.execute(
                    "UPDATE jobs SET state = 'buried', owner = NULL, reason = ?3
                     WHERE id = ?1 AND reserves = ?2 AND state = 'reserved'",
                    params![id, token, reason],
                ),
            })
            .await?;
        self.bell.notify_waiters();
        held(lease, changed)
    }

    pub async fn kick(&self, tube: &str, bound: u64) -> Result<u64, QueueError> {
        let tube = tube.to_owned();
        let kicked = self
            .database
            .write(move |sql| {
                let buried = "SELECT id FROM jobs WHERE tube = ?1 AND state = 'buried' ORDER BY id LIMIT ?2";
                sql.execute(&format!("{KICK} WHERE id IN ({buried})"), params![tube, bound])
            })
            .await?;
        self.bell.notify_waiters();
        Ok(kicked as u64)
    }

    pub async fn kick_job(&self, id: u64) -> Result<bool, QueueError> {
        let kicked = self
            .database
            .write(move |sql| {
                sql.execute(&format!("{KICK} WHERE id = ?1 AND state IN ('buried', 'delayed')"), params![id])
            })
            .await?;
        self.bell.notify_waiters();
        Ok(kicked > 0)
    }

    pub async fn held(&self) -> Result<Vec<Entry>, QueueError> {
        let owner = self.owner.name.clone();
        let entries = self
            .database
            .read(move |sql| {
                let held = format!("{ENTRIES} WHERE state = 'reserved' AND owner = ?1 ORDER BY id");
                sql.prepare_cached(&held)?.query_map(params![owner], entry)?.collect()
            })
            .await?;
        Ok(entries)
    }

    pub async fn withdraw(&self, id: u64) -> Result<bool, QueueError> {
        let deleted = self
            .database
            .write(move |sql| {
                sql.execute("DELETE FROM jobs WHERE id = ?1 AND state != 'reserved'", params![id])
            })
            .await?;
        Ok(deleted > 0)
    }

    pub async fn list(&self, tube: Option<&str>) -> Result<Vec<Entry>, QueueError> {
        let tube = tube.map(str::to_owned);
        let rows: Vec<(Entry, Option<String>)> = self
            .database
            .read(move |sql| {
                sql.prepare_cached(&format!("{ENTRIES} WHERE ?1 IS NULL OR tube = ?1"))?
                    .query_map(params![tube], |row| Ok((entry(row)?, row.get(9)?)))?
                    .collect()
            })
            .await?;
        let holders: HashSet<&String> = rows.iter().filter_map(|(_, owner)| owner.as_ref()).collect();
        let dead: HashSet<String> =
            holders.into_iter().filter(|owner| self.is_gone(owner)).cloned().collect();
        let is_free = |entry: &Entry, owner: Option<String>| {
            entry.time_left == Some(0) || owner.is_some_and(|owner| dead.contains(&owner))
        };
        let mut entries: Vec<Entry> = rows
            .into_iter()
            .map(|(entry, owner)| if is_free(&entry, owner) { entry.ready() } else { entry })
            .collect();
        entries.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(entries)
    }

    pub async fn watchers(&self, tube: &str) -> Result<Vec<String>, QueueError> {
        let watchers = self.database.read(watchers).await?;
        let alive = watchers.into_iter().filter(|(owner, watched)| watched == tube && !self.is_gone(owner));
        Ok(alive.filter_map(|(owner, _)| owner::node(&self.owner.run, &owner)).collect())
    }

    pub async fn stats(&self) -> Result<Vec<TubeStats>, QueueError> {
        let (jobs, watchers) = self.database.read(|sql| Ok((count_jobs(sql)?, watchers(sql)?))).await?;
        let mut tubes: BTreeMap<String, TubeStats> = BTreeMap::new();
        for (tube, state, owner, count) in jobs {
            let stats = tubes.entry(tube).or_default();
            match state {
                State::Reserved if owner.is_some_and(|owner| self.is_gone(&owner)) => stats.ready += count,
                State::Ready => stats.ready += count,
                State::Reserved => stats.reserved += count,
                State::Delayed => stats.delayed += count,
                State::Buried => stats.buried += count,
            }
        }
        for (owner, tube) in watchers {
            if !self.is_gone(&owner) {
                tubes.entry(tube).or_default().watching += 1;
            }
        }
        Ok(tubes.into_iter().map(|(tube, stats)| TubeStats { tube, ..stats }).collect())
    }

    /// Whether a holder's process has ended: what it held is as good as ready, also before anybody reserves.
    fn is_gone(&self, owner: &str) -> bool {
        owner != self.owner.name && owner::is_dead(&self.owner.run, owner)
    }
}

fn held(lease: &Lease, changed: usize) -> Result<(), QueueError> {
    if changed == 0 {
        lease.lose();
    }
    lease.check()
}
