//! The queue: jobs wait in tubes, are reserved under a lease, and are deleted only by who holds the lease.
//!
//! The semantics are beanstalkd's (its `doc/protocol.txt`): a lower priority number runs first, a reserved job
//! whose time to run is over is ready again, a job of a vanished owner is ready at once, a buried job waits
//! for a kick.

pub mod beanstalkd;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, QueuePlace};
use crate::model::Builder;
use crate::sys::fs::FileError;
use crate::sys::sqlite::DatabaseError;
use crate::sys::tls::{Tls, TlsError};

/// Priorities that submitters use; lower runs first.
pub const PRIORITY_NOW: u32 = 1024;
pub const PRIORITY: u32 = 8192;
/// What the old fleet gives jobs in `notify`, `createrepo` and `tosign`.
pub const PRIORITY_FOLLOW_UP: u32 = 1 << 31;
/// Whatever else waits is more urgent than a sign of life.
pub const PRIORITY_SIGN_OF_LIFE: u32 = u32::MAX;
/// The old fleet's time to run; a shorter one must not be used in its tubes.
pub const TTR: Duration = Duration::from_secs(120);

/// Tubes that are not an arch's.
pub const NOTIFY: &str = "notify";
pub const CREATEREPO: &str = "createrepo";
pub const TOSIGN: &str = "tosign";
/// Build jobs that are to follow other builds, until those are in their repositories. Old workers never look here.
pub const WAITING: &str = "waiting";
/// Workers' signs of life, put only while somebody watches it.
pub const BUILDERS: &str = "builders";

/// beanstalkd's default limit; larger jobs are refused by the embedded queue too, so that a site can move to it.
pub const LARGEST_JOB: usize = 65_535;
/// So many signs of life that nobody has read are enough.
const UNREAD: u64 = 100;
/// A job whose holder vanished this often is put aside.
pub const LOSSES: u32 = 3;

/// What went wrong with the queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the queue cannot be used: {0}")]
    Database(#[from] DatabaseError),
    #[error("the queue cannot be used: {0}")]
    File(#[from] FileError),
    #[error(transparent)]
    Beanstalkd(#[from] beanstalkd::BeanstalkdError),
    #[error("the queue cannot be reached through TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("a job of {size} bytes is too large for tube {tube}: the limit is {limit}; {advice}")]
    TooLarge { tube: String, size: usize, limit: usize, advice: &'static str },
    #[error("the lease on job {0} is lost: another may hold it by now")]
    LeaseLost(u64),
}

/// A job to be put.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub tube: String,
    pub body: Vec<u8>,
    pub priority: u32,
    pub delay: Duration,
}

impl NewJob {
    pub fn new(tube: &str, body: &impl Serialize, priority: u32) -> NewJob {
        // Our wire types are structs of strings, numbers and lists: they always serialize.
        let body = serde_json::to_vec(body).expect("wire types serialize");
        NewJob { tube: tube.to_owned(), body, priority, delay: Duration::ZERO }
    }

    pub fn delayed(self, delay: Duration) -> NewJob {
        NewJob { delay, ..self }
    }
}

/// A job that was reserved.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: u64,
    pub tube: String,
    pub body: Vec<u8>,
    pub priority: u32,
    /// How often it was reserved, this time included.
    pub reserves: u32,
    /// How often it was handed back on purpose.
    pub releases: u32,
    /// How many of its losses were forgiven since by a kick.
    pub forgiven: u32,
    /// Tells this delivery from any other of the same job.
    pub mark: String,
}

impl Job {
    /// How often a holder of it vanished, or let its time run out, since it was kicked.
    pub fn losses(&self) -> u32 {
        self.vanished().saturating_sub(self.forgiven)
    }

    /// The same since it was put, as far as that is known.
    pub fn vanished(&self) -> u32 {
        self.reserves.saturating_sub(1).saturating_sub(self.releases)
    }
}

/// A job where it stands, for people and for `stats`.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub id: u64,
    pub tube: String,
    pub state: State,
    pub priority: u32,
    /// Seconds since it was put.
    pub age: u64,
    /// Of a delayed job: seconds until it is ready. Of a reserved one: until its time to run is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_left: Option<u64>,
    /// How often it was reserved.
    pub reserves: u32,
    /// Why it was buried, or last released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Entry {
    /// The same job, free for anybody.
    fn ready(self) -> Entry {
        Entry { state: State::Ready, time_left: None, ..self }
    }

    /// Held jobs first, then as they will run.
    fn order(&self) -> (bool, &str, u32, u64) {
        (self.state != State::Reserved, &self.tube, self.priority, self.id)
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ready,
    Reserved,
    Delayed,
    Buried,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Reserved => "reserved",
            State::Delayed => "delayed",
            State::Buried => "buried",
        }
    }
}

/// How many jobs of a tube are in which state, and who waits for more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TubeStats {
    pub tube: String,
    pub ready: u64,
    pub reserved: u64,
    pub delayed: u64,
    pub buried: u64,
    /// Processes that take jobs from it; on beanstalkd connections, of which a worker has one per slot.
    pub watching: u64,
}

/// The right to work on a reserved job. It is kept alive by [`crate::consumer`], which also gives it up.
///
/// Work that must not be done twice takes one of these and asks [`Lease::check`] right before its last step.
#[derive(Debug, Clone)]
pub struct Lease {
    pub(crate) id: u64,
    /// Tells this reservation of the job from any other.
    pub(crate) token: u64,
    ttr: Duration,
    ended: CancellationToken,
    /// The connection that it hangs on, where there are connections.
    hold: Option<Arc<beanstalkd::Hold>>,
}

impl Lease {
    fn new(id: u64, token: u64, ttr: Duration, ended: CancellationToken) -> Lease {
        Lease { id, token, ttr, ended, hold: None }
    }

    /// Fails once the lease is known to be lost.
    pub fn check(&self) -> Result<(), QueueError> {
        if self.ended.is_cancelled() { Err(QueueError::LeaseLost(self.id)) } else { Ok(()) }
    }

    /// Cancelled when the lease is lost, so that work under it can be ended at once.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// The job's time to run: how long it is ours without a touch.
    pub fn ttr(&self) -> Duration {
        self.ttr
    }

    pub(crate) fn lose(&self) {
        self.ended.cancel();
    }
}

/// How the holder of a lease gives its job up. Only [`crate::consumer`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GiveUp {
    Delete,
    Release { delay: Duration, reason: String },
    Bury { reason: String },
}

/// A queue engine.
#[derive(Debug, Clone)]
pub enum Queue {
    Sqlite(sqlite::Queue),
    Beanstalkd(beanstalkd::Queue),
}

impl Queue {
    /// The queue that a configuration names.
    pub fn open(config: &Config) -> Result<Queue, QueueError> {
        Ok(match &config.queue {
            QueuePlace::Root => Queue::Sqlite(sqlite::Queue::open(&config.layout)?),
            QueuePlace::Sqlite(file) => {
                Queue::Sqlite(sqlite::Queue::open_at(file, &file.with_extension("run"))?)
            }
            QueuePlace::Beanstalkd { address, tls } => {
                let tls = if *tls { Some(Tls::open(&config.tls)?) } else { None };
                Queue::Beanstalkd(beanstalkd::Queue::new(address.clone(), tls, &config.node))
            }
        })
    }

    /// Puts all the jobs, or none. Returns their ids.
    pub async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<u64>, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.put(jobs).await,
            Queue::Beanstalkd(queue) => queue.put(jobs).await,
        }
    }

    /// The most urgent ready jobs of `tubes`, up to `most`: waits for one up to `wait`, or until `stop`, and takes
    /// what else is ready. Do not drop the future instead: a job could be reserved and never handed out.
    pub async fn reserve(
        &self,
        tubes: &[String],
        most: usize,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Vec<(Job, Lease)>, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.reserve_some(tubes, most, wait, stop).await,
            Queue::Beanstalkd(queue) => queue.reserve(tubes, most, wait, stop).await,
        }
    }

    /// What the queue is, for people; an error where it cannot be reached.
    pub async fn check(&self) -> Result<String, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.stats().await.map(|_| "embedded, in a file of this machine".into()),
            Queue::Beanstalkd(queue) => queue.check().await,
        }
    }

    /// Starts the time to run of a held job anew.
    pub async fn touch(&self, lease: &Lease) -> Result<(), QueueError> {
        // Once lost it stays lost, also where nobody has taken the job yet.
        lease.check()?;
        match self {
            Queue::Sqlite(queue) => queue.touch(lease).await,
            Queue::Beanstalkd(queue) => queue.touch(lease).await,
        }
    }

    /// Ends a lease as `how` says. Under a lost one nothing happens. Only [`crate::consumer`] calls this.
    pub async fn give_up(&self, lease: &Lease, how: GiveUp) -> Result<(), QueueError> {
        lease.check()?;
        match self {
            Queue::Sqlite(queue) => queue.give_up(lease, how).await,
            Queue::Beanstalkd(queue) => queue.give_up(lease, how).await,
        }
    }

    /// Makes up to `bound` buried jobs of the tube ready again; says how many.
    pub async fn kick(&self, tube: &str, bound: u64) -> Result<u64, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.kick(tube, bound).await,
            Queue::Beanstalkd(queue) => queue.kick(tube, bound).await,
        }
    }

    /// Makes one job ready that is buried or delayed; says whether it was. (`kick-job` of the protocol.)
    pub async fn kick_job(&self, id: u64) -> Result<bool, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.kick_job(id).await,
            Queue::Beanstalkd(queue) => queue.kick_job(id).await,
        }
    }

    /// The jobs that this process holds.
    pub async fn held(&self) -> Result<Vec<Entry>, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.held().await,
            Queue::Beanstalkd(queue) => Ok(queue.held()),
        }
    }

    /// Deletes a job that nobody holds; says whether it was there.
    pub async fn withdraw(&self, id: u64) -> Result<bool, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.withdraw(id).await,
            Queue::Beanstalkd(queue) => queue.withdraw(id).await,
        }
    }

    /// The jobs of a tube, in the order in which they will run; all tubes' when none is named.
    pub async fn list(&self, tube: Option<&str>) -> Result<Vec<Entry>, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.list(tube).await,
            Queue::Beanstalkd(queue) => queue.list(tube).await,
        }
    }

    /// The nodes of those that take jobs from the tube: one for each process, on beanstalkd one for each connection,
    /// of which a worker has one per slot; empty for a worker that does not say.
    pub async fn watchers(&self, tube: &str) -> Result<Vec<String>, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.watchers(tube).await,
            Queue::Beanstalkd(queue) => queue.watchers(tube).await,
        }
    }

    /// Whether a builder other than `node` takes jobs from the tube.
    pub async fn is_watched_elsewhere(&self, tube: &str, node: &str) -> Result<bool, QueueError> {
        let node = match self {
            Queue::Sqlite(_) => node,
            Queue::Beanstalkd(queue) => queue.node(),
        };
        Ok(self.watchers(tube).await?.iter().any(|its| its != node))
    }

    /// Puts a sign of life, if somebody reads them; says whether anybody does.
    pub async fn give_sign(&self, sign: &Builder) -> Result<bool, QueueError> {
        let stats = self.stats().await?;
        let read = |tube: &TubeStats| tube.tube == BUILDERS && tube.watching > 0 && tube.ready < UNREAD;
        if !stats.iter().any(read) {
            return Ok(false);
        }
        self.put(vec![NewJob::new(BUILDERS, sign, PRIORITY_SIGN_OF_LIFE)]).await?;
        Ok(true)
    }

    /// Every tube that has jobs or watchers, by name.
    pub async fn stats(&self) -> Result<Vec<TubeStats>, QueueError> {
        match self {
            Queue::Sqlite(queue) => queue.stats().await,
            Queue::Beanstalkd(queue) => queue.stats().await,
        }
    }
}
