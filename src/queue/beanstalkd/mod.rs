//! The queue on beanstalkd: one connection for puts and questions, and one for each reservation.
//!
//! The server ties a reserved job to its connection and hands it back when that ends. So what is reserved together
//! has a connection of its own, which then carries only touches and the final delete, release or bury; a broken
//! one means that its leases are lost, and is never taken up again. One that has nothing reserved any more serves
//! the next reserve.
//!
//! What beanstalkd does not know by itself is kept in it as well, in tubes that nobody takes jobs from:
//! `why/<id>` holds one job, the reason why job `<id>` was buried or delayed; and whoever watches a tube also watches
//! `watched-by/<node>/<tube>`, in which there is never a job, so that its watchers can be told apart by node.

mod hold;
mod link;
mod list;
pub mod protocol;
mod server;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{NewJob, QueueError, TTR, TubeStats};
use link::{Broken, Link};
use protocol::{Answer, Command, Refusal, Reply, dictionary};
use server::Server;

use crate::sys::net::Address;
use crate::sys::tls::Tls;

pub use hold::Hold;

/// How long an answer may take. Longer than a network that is cut for a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the reason for a job's burial or delay lies.
const WHY: &str = "why/";
/// Watched along with a tube.
const WATCHED_BY: &str = "watched-by/";
/// Where [`list`] learns how far ids go.
const PROBE: &str = "probe";

/// What beanstalkd does not do for us.
#[derive(Debug, thiserror::Error)]
pub enum BeanstalkdError {
    #[error("the queue cannot be reached: beanstalkd at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("beanstalkd at {address} {refusal}")]
    Refused { address: String, refusal: Refusal },
    #[error("beanstalkd at {address} answers what was not asked: {answer}")]
    Unexpected { address: String, answer: String },
    #[error("'{0}' cannot be a tube's name: only 200 letters, digits and -+/;.$_() can")]
    BadTube(String),
}

/// A process's handle on a beanstalkd.
#[derive(Debug, Clone)]
pub struct Queue {
    shared: Arc<Shared>,
    ttr: Duration,
    /// How many ids are looked through for jobs.
    deepest: u64,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    /// Our node's name, as far as it can be part of a tube's.
    node: String,
    control: tokio::sync::Mutex<Option<Arc<Control>>>,
    /// Connections that have nothing reserved.
    idle: Mutex<Vec<hold::Consumer>>,
    holds: Mutex<Vec<Weak<Hold>>>,
    tokens: AtomicU64,
    seen: Mutex<list::Seen>,
}

/// The connection that reserves nothing.
#[derive(Debug)]
struct Control {
    link: Link,
    /// The server's limit for a job.
    largest: usize,
}

impl Queue {
    /// Nothing is connected before it is needed.
    pub fn new(address: Address, tls: Option<Tls>, node: &str) -> Queue {
        let shared = Shared {
            server: Server::new(address, tls),
            node: node
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' })
                .collect(),
            control: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            holds: Mutex::default(),
            tokens: AtomicU64::new(1),
            seen: Mutex::default(),
        };
        Queue { shared: Arc::new(shared), ttr: TTR, deepest: list::DEEPEST }
    }

    /// Puts jobs with another time to run, for tests that see one end. A fleet's tubes need [`TTR`].
    pub fn with_ttr(self, ttr: Duration) -> Queue {
        Queue { ttr, ..self }
    }

    /// Looks for jobs among fewer ids, for tests that see some beyond.
    pub fn with_deepest(self, deepest: u64) -> Queue {
        Queue { deepest, ..self }
    }

    /// What is there, for people; an error where nothing is.
    pub async fn check(&self) -> Result<String, QueueError> {
        let stats = self.statistics(Command::Stats).await?.unwrap_or_default();
        let get = |key: &str| stats.get(key).map_or("?", String::as_str);
        let binlog = if get("binlog-current-index") == "0" {
            "no binlog: its jobs are lost when it ends; start it with -b"
        } else {
            "with a binlog"
        };
        let draining = if get("draining") == "true" { "; it drains, and takes no new jobs" } else { "" };
        Ok(format!(
            "beanstalkd {} at {}, {binlog}; jobs of up to {} bytes{draining}",
            get("version"),
            self.shared.server.address,
            get("max-job-size")
        ))
    }

    /// All in one go. Where the server refuses one, those that it took are taken back; where the connection breaks
    /// in the middle, nobody can know.
    pub async fn put(&self, jobs: Vec<NewJob>) -> Result<Vec<u64>, QueueError> {
        let control = self.control().await?;
        if let Some(job) = jobs.iter().find(|job| job.body.len() > control.largest) {
            let (tube, size) = (job.tube.clone(), job.body.len());
            let advice = "start beanstalkd with a larger -z, or leave out what the job need not carry";
            return Err(QueueError::TooLarge { tube, size, limit: control.largest, advice });
        }
        let (mut commands, mut used) = (Vec::new(), None);
        for NewJob { tube, body, priority, delay } in jobs {
            if used.as_ref() != Some(&tube) {
                commands.push(Command::Use(tube.clone()));
                used = Some(tube);
            }
            commands.push(Command::Put { priority, delay: seconds(delay), ttr: seconds(self.ttr), body });
        }
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ids, mut refused) = (Vec::new(), None);
        for answer in self.ask_on(&control, commands).await? {
            match answer {
                Ok(Reply::Inserted(id)) => ids.push(id),
                Ok(Reply::Using(_)) => {}
                Ok(Reply::Buried(Some(id))) => {
                    ids.push(id);
                    refused = Some(Refusal::OutOfMemory);
                }
                Ok(other) => return Err(self.unexpected(&other)),
                Err(refusal) => refused = Some(refusal),
            }
        }
        let Some(refusal) = refused else { return Ok(ids) };
        if !ids.is_empty() {
            self.ask_on(&control, ids.into_iter().map(Command::Delete).collect()).await?;
        }
        Err(self.refused(refusal))
    }

    pub async fn kick(&self, tube: &str, bound: u64) -> Result<u64, QueueError> {
        let stats = self.statistics(Command::StatsTube(tube.to_owned())).await?;
        let buried = stats.map_or(0, |stats| number(&stats, "current-jobs-buried"));
        // Where nothing is buried, the server would kick delayed jobs.
        if buried.min(bound) == 0 {
            return Ok(0);
        }
        let commands = vec![Command::Use(tube.to_owned()), Command::Kick(bound.min(buried))];
        match self.ask(commands).await?.pop() {
            Some(Ok(Reply::Kicked(Some(kicked)))) => Ok(kicked),
            other => Err(self.not_wanted(other)),
        }
    }

    pub async fn kick_job(&self, id: u64) -> Result<bool, QueueError> {
        let done = match self.ask(vec![Command::KickJob(id)]).await?.pop() {
            Some(Ok(Reply::Kicked(None))) => true,
            Some(Ok(Reply::NotFound)) => false,
            other => return Err(self.not_wanted(other)),
        };
        if done {
            self.forget_why(id).await?;
        }
        Ok(done)
    }

    pub async fn withdraw(&self, id: u64) -> Result<bool, QueueError> {
        // This connection holds no job, so one that is held is "not found".
        let done = match self.ask(vec![Command::Delete(id)]).await?.pop() {
            Some(Ok(Reply::Deleted)) => true,
            Some(Ok(Reply::NotFound)) => false,
            other => return Err(self.not_wanted(other)),
        };
        if done {
            self.forget_why(id).await?;
        }
        Ok(done)
    }

    /// Whoever watches in the name of a node is told by it, once for each connection; an old worker by an empty name.
    pub async fn watchers(&self, tube: &str) -> Result<Vec<String>, QueueError> {
        let suffix = format!("/{tube}");
        let node = |name: &str| Some(name.strip_prefix(WATCHED_BY)?.strip_suffix(&suffix)?.to_owned());
        let named: Vec<(String, String)> =
            self.tubes().await?.into_iter().filter_map(|name| Some((node(&name)?, name))).collect();
        let names = named.iter().map(|(_, name)| name.clone()).chain([tube.to_owned()]);
        let mut counts = self.tube_statistics(names.collect()).await?;
        let all = counts.pop().flatten().map_or(0, |stats| stats.watching);
        let mut watchers = Vec::new();
        for ((node, _), stats) in named.into_iter().zip(counts) {
            let count = stats.map_or(0, |stats| stats.watching);
            watchers.extend((0..count).map(|_| node.clone()));
        }
        let unnamed = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(watchers.len());
        watchers.extend(std::iter::repeat_n(String::new(), unnamed));
        Ok(watchers)
    }

    /// Our node, as [`Queue::watchers`] names it.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    pub async fn stats(&self) -> Result<Vec<TubeStats>, QueueError> {
        let names = self.tubes().await?.into_iter().filter(|name| !is_ours_alone(name)).collect();
        let mut tubes: Vec<TubeStats> = self.tube_statistics(names).await?.into_iter().flatten().collect();
        // Every connection watches `default` from the start, and everybody's puts go there who forgets to say where.
        let has_jobs = |stats: &TubeStats| stats.ready + stats.reserved + stats.delayed + stats.buried > 0;
        tubes.retain(|stats| has_jobs(stats) || (stats.watching > 0 && stats.tube != "default"));
        tubes.sort_by(|a, b| a.tube.cmp(&b.tube));
        Ok(tubes)
    }

    async fn tubes(&self) -> Result<Vec<String>, QueueError> {
        match self.ask(vec![Command::ListTubes]).await?.pop() {
            Some(Ok(Reply::Data(data))) => Ok(protocol::list(&data)),
            other => Err(self.not_wanted(other)),
        }
    }

    /// In the order of `tubes`; none for one that is not there (any more).
    async fn tube_statistics(&self, tubes: Vec<String>) -> Result<Vec<Option<TubeStats>>, QueueError> {
        let commands = tubes.iter().cloned().map(Command::StatsTube).collect();
        let answers = self.ask(commands).await?;
        let each = tubes.into_iter().zip(answers).map(|(tube, answer)| match answer {
            Ok(Reply::Data(data)) => {
                let stats = dictionary(&data);
                let count = |state: &str| number(&stats, &format!("current-{state}"));
                Ok(Some(TubeStats {
                    ready: count("jobs-ready"),
                    reserved: count("jobs-reserved"),
                    delayed: count("jobs-delayed"),
                    buried: count("jobs-buried"),
                    watching: count("watching"),
                    tube,
                }))
            }
            Ok(Reply::NotFound) => Ok(None),
            other => Err(self.not_wanted(Some(other))),
        });
        each.collect()
    }

    async fn statistics(&self, command: Command) -> Result<Option<Dictionary>, QueueError> {
        match self.ask(vec![command]).await?.pop() {
            Some(Ok(Reply::Data(data))) => Ok(Some(dictionary(&data))),
            Some(Ok(Reply::NotFound)) => Ok(None),
            other => Err(self.not_wanted(other)),
        }
    }

    /// Answers to commands that hold nothing.
    async fn ask(&self, commands: Vec<Command>) -> Result<Vec<Answer>, QueueError> {
        let control = self.control().await?;
        self.ask_on(&control, commands).await
    }

    async fn ask_on(&self, control: &Control, commands: Vec<Command>) -> Result<Vec<Answer>, QueueError> {
        self.call(&control.link, commands, PATIENCE).await
    }

    async fn call(
        &self,
        link: &Link,
        commands: Vec<Command>,
        patience: Duration,
    ) -> Result<Vec<Answer>, QueueError> {
        let bad = |command: &&str| !protocol::is_tube_name(command);
        if let Some(tube) = commands.iter().filter_map(Command::tube).find(bad) {
            return Err(BeanstalkdError::BadTube(tube.to_owned()).into());
        }
        link.call(commands, patience).await.map_err(|broken| self.unreachable(broken))
    }

    /// The connection for puts and questions, made anew where it was lost.
    async fn control(&self) -> Result<Arc<Control>, QueueError> {
        let mut slot = self.shared.control.lock().await;
        if let Some(control) = slot.as_ref().filter(|control| !control.link.is_gone()) {
            return Ok(Arc::clone(control));
        }
        let link = self.shared.server.connect().await.map_err(|broken| self.unreachable(broken))?;
        let largest = match self.call(&link, vec![Command::Stats], PATIENCE).await?.pop() {
            Some(Ok(Reply::Data(data))) => number(&dictionary(&data), "max-job-size"),
            other => return Err(self.not_wanted(other)),
        };
        let control = Arc::new(Control { link, largest: usize::try_from(largest).unwrap_or(usize::MAX) });
        *slot = Some(Arc::clone(&control));
        Ok(control)
    }

    fn unreachable(&self, Broken(reason): Broken) -> QueueError {
        BeanstalkdError::Unreachable { address: self.shared.server.address.to_string(), reason }.into()
    }

    fn refused(&self, refusal: Refusal) -> QueueError {
        BeanstalkdError::Refused { address: self.shared.server.address.to_string(), refusal }.into()
    }

    fn unexpected(&self, reply: &Reply) -> QueueError {
        let answer: String = format!("{reply:?}").chars().take(80).collect();
        BeanstalkdError::Unexpected { address: self.shared.server.address.to_string(), answer }.into()
    }

    /// What an answer means that is none of those that were hoped for.
    fn not_wanted(&self, answer: Option<Answer>) -> QueueError {
        match answer {
            Some(Err(refusal)) => self.refused(refusal),
            Some(Ok(reply)) => self.unexpected(&reply),
            None => self.unreachable(Broken("it did not answer".into())),
        }
    }
}

type Dictionary = std::collections::HashMap<String, String>;

fn number(stats: &Dictionary, key: &str) -> u64 {
    stats.get(key).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// A tube that holds what we note for ourselves.
fn is_ours_alone(tube: &str) -> bool {
    tube.starts_with(WHY) || tube.starts_with(WATCHED_BY) || tube == PROBE
}

/// Whole seconds, which is all that the protocol knows, and not one less.
fn seconds(duration: Duration) -> u32 {
    let more = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs() + more).unwrap_or(u32::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
