//! Reserving, and what becomes of what is reserved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::protocol::{Answer, Command, Reply, dictionary};
use super::{
    BeanstalkdError, Dictionary, PATIENCE, Queue, Shared, WATCHED_BY, list, locked, number, seconds,
};
use crate::queue::{Entry, GiveUp, Job, LOSSES, Lease, QueueError};

/// How soon a lost server is tried again, at first and at most.
const SOONEST: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_secs(5);

/// A connection that reserves jobs.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    link: Arc<Link>,
    watched: BTreeSet<String>,
}

/// The jobs that were reserved together, on a connection of their own. When nobody has it any more, that is
/// closed, and the server hands back what is left.
#[derive(Debug)]
pub struct Hold {
    consumer: Consumer,
    /// What is still held, by its lease's token.
    jobs: Mutex<BTreeMap<u64, Entry>>,
    shared: Weak<Shared>,
}

impl Queue {
    /// Up to `most` jobs: waits for one, and takes what else is ready. As long as there is time, it also waits for
    /// a server that is lost to come back.
    pub async fn reserve(
        &self,
        tubes: &[String],
        most: usize,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Vec<(Job, Lease)>, QueueError> {
        let until = Instant::now() + wait;
        let mut pause = SOONEST;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let reserved = tokio::select! {
                biased;
                // A reserve that is dropped closes its connection: what it may have been given is handed back.
                reserved = self.reserve_once(tubes, most, left) => reserved,
                () = stop.cancelled() => return Ok(Vec::new()),
            };
            match reserved {
                Ok(batch) if !batch.is_empty() || Instant::now() >= until => return Ok(batch),
                Ok(_) => {}
                // Said by whoever lost the connection; to say it again and again would help nobody.
                Err(QueueError::Beanstalkd(BeanstalkdError::Unreachable { .. })) if !wait.is_zero() => {
                    let left = until.saturating_duration_since(Instant::now());
                    tokio::select! {
                        () = tokio::time::sleep(pause.min(left)) => {}
                        () = stop.cancelled() => return Ok(Vec::new()),
                    }
                    if Instant::now() >= until {
                        return Ok(Vec::new());
                    }
                    pause = LATEST.min(pause * 2);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn reserve_once(
        &self,
        tubes: &[String],
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(Job, Lease)>, QueueError> {
        let consumer = self.consumer(tubes).await?;
        let jobs = self.take(&consumer.link, most, wait).await?;
        if jobs.is_empty() {
            locked(&self.shared.idle).push(consumer);
            return Ok(Vec::new());
        }
        // Only this tells a job's tube and its story.
        let commands = jobs.iter().map(|(id, _)| Command::StatsJob(*id)).collect();
        let stories = self.call(&consumer.link, commands, PATIENCE).await?;
        let mut taken = Vec::new();
        for ((id, body), story) in jobs.into_iter().zip(stories) {
            match story {
                Ok(Reply::Data(data)) => taken.push((dictionary(&data), id, body)),
                // Its time ran out meanwhile.
                Ok(Reply::NotFound) => {}
                other => return Err(self.not_wanted(Some(other))),
            }
        }
        // Why it was buried is past once it was kicked; of a whole tube nobody says which jobs that are.
        for (_, id, _) in taken.iter().filter(|(story, ..)| number(story, "kicks") > 0) {
            if let Err(error) = self.forget_why(*id).await {
                tracing::warn!("the reason why job {id} was buried is still noted: {error}");
            }
        }
        Ok(self.hold(consumer, taken))
    }

    /// Waits for a job, and takes what else is ready, in ever larger bites.
    async fn take(
        &self,
        link: &Link,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Vec<u8>)>, QueueError> {
        let mut jobs = Vec::new();
        let (mut bite, mut wait) = (1, wait);
        while jobs.len() < most {
            let asked = bite.min(most - jobs.len());
            let commands = vec![Command::Reserve(seconds(wait)); asked];
            let answers = self.call(link, commands, wait + PATIENCE).await?;
            let before = jobs.len();
            for answer in answers {
                match answer {
                    Ok(Reply::Reserved { id, body }) => jobs.push((id, body)),
                    // A deadline is near only where jobs of a second or two are taken by the dozen.
                    Ok(Reply::TimedOut | Reply::DeadlineSoon) => {}
                    other => return Err(self.not_wanted(Some(other))),
                }
            }
            if jobs.len() - before < asked {
                break;
            }
            (bite, wait) = (bite * 4, Duration::ZERO);
        }
        Ok(jobs)
    }

    fn hold(&self, consumer: Consumer, taken: Vec<(Dictionary, u64, Vec<u8>)>) -> Vec<(Job, Lease)> {
        let first = u64::try_from(taken.len()).unwrap_or_default();
        let first = self.shared.tokens.fetch_add(first, Ordering::Relaxed);
        let tokens = (first..).zip(&taken);
        let jobs = tokens.map(|(token, (story, id, body))| (token, list::entry(*id, story, body.clone())));
        let hold = Arc::new(Hold {
            jobs: Mutex::new(jobs.collect()),
            shared: Arc::downgrade(&self.shared),
            consumer,
        });
        let mut holds = locked(&self.shared.holds);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.push(Arc::downgrade(&hold));
        let leases = (first..).zip(taken).map(|(token, (story, id, body))| {
            let ttr = Duration::from_secs(number(&story, "ttr").max(1));
            let ended = hold.consumer.link.gone.child_token();
            let lease = Lease { hold: Some(Arc::clone(&hold)), ..Lease::new(id, token, ttr, ended) };
            (job(id, &story, body), lease)
        });
        leases.collect()
    }

    /// A connection that watches these tubes and no others.
    async fn consumer(&self, tubes: &[String]) -> Result<Consumer, QueueError> {
        let marker = |tube: &String| format!("{WATCHED_BY}{}/{tube}", self.shared.node);
        // The marker first: who counts in between finds no watcher without a name.
        let wanted: BTreeSet<String> = tubes.iter().flat_map(|tube| [marker(tube), tube.clone()]).collect();
        let idle = {
            let mut idle = locked(&self.shared.idle);
            idle.retain(|consumer| !consumer.link.is_gone());
            let fitting = idle.iter().position(|consumer| consumer.watched == wanted);
            fitting.map(|at| idle.swap_remove(at)).or_else(|| idle.pop())
        };
        let mut consumer = if let Some(consumer) = idle {
            consumer
        } else {
            let link = self.shared.server.connect().await.map_err(|broken| self.unreachable(broken))?;
            Consumer { link: Arc::new(link), watched: BTreeSet::from(["default".to_owned()]) }
        };
        if consumer.watched == wanted {
            return Ok(consumer);
        }
        let more =
            wanted.iter().rev().filter(|tube| !consumer.watched.contains(*tube)).cloned().map(Command::Watch);
        let less = consumer.watched.difference(&wanted).cloned().map(Command::Ignore);
        for answer in self.call(&consumer.link, more.chain(less).collect(), PATIENCE).await? {
            if !matches!(answer, Ok(Reply::Watching(_))) {
                return Err(self.not_wanted(Some(answer)));
            }
        }
        consumer.watched = wanted;
        Ok(consumer)
    }

    pub async fn touch(&self, lease: &Lease) -> Result<(), QueueError> {
        let answer = self.say(lease, |id, _| Command::Touch(id), lease.ttr).await?;
        self.must_be(lease, answer, &Reply::Touched)
    }

    pub async fn give_up(&self, lease: &Lease, how: GiveUp) -> Result<(), QueueError> {
        let command = |id, priority| match &how {
            GiveUp::Delete => Command::Delete(id),
            GiveUp::Release { delay, .. } => Command::Release { id, priority, delay: seconds(*delay) },
            GiveUp::Bury { .. } => Command::Bury { id, priority },
        };
        let wanted = match &how {
            GiveUp::Delete => Reply::Deleted,
            GiveUp::Release { .. } => Reply::Released,
            GiveUp::Bury { .. } => Reply::Buried(None),
        };
        let answer = self.say(lease, command, PATIENCE).await?;
        self.must_be(lease, answer, &wanted)?;
        let held = lease.hold.as_ref().and_then(|hold| hold.let_go(lease.token));
        let noted = match how {
            GiveUp::Bury { reason } => self.note_why(lease.id, &reason).await,
            GiveUp::Release { delay, reason } if !delay.is_zero() => self.note_why(lease.id, &reason).await,
            // Only what was given up before can have a note.
            GiveUp::Delete if held.is_some_and(|job| job.reserves > 1) => self.forget_why(lease.id).await,
            GiveUp::Delete | GiveUp::Release { .. } => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!("why job {} was given up could not be noted: {error}", lease.id);
        }
        Ok(())
    }

    /// Says something about a held job, by its id and priority, on the connection that holds it.
    async fn say(
        &self,
        lease: &Lease,
        command: impl FnOnce(u64, u32) -> Command,
        patience: Duration,
    ) -> Result<Answer, QueueError> {
        let lost = || {
            lease.lose();
            QueueError::LeaseLost(lease.id)
        };
        let hold = lease.hold.as_ref().ok_or_else(lost)?;
        let priority = locked(&hold.jobs).get(&lease.token).map(|entry| entry.priority).ok_or_else(lost)?;
        let said = self.call(&hold.consumer.link, vec![command(lease.id, priority)], patience).await;
        // Without its connection the job is no longer ours, whatever became of it.
        let mut answers = said.inspect_err(|_| lease.lose())?;
        answers.pop().ok_or_else(lost)
    }

    fn must_be(&self, lease: &Lease, answer: Answer, wanted: &Reply) -> Result<(), QueueError> {
        match answer {
            Ok(reply) if reply == *wanted => Ok(()),
            Ok(Reply::NotFound) => {
                lease.lose();
                lease.check()
            }
            other => Err(self.not_wanted(Some(other))),
        }
    }

    pub fn held(&self) -> Vec<Entry> {
        let holds: Vec<Arc<Hold>> = locked(&self.shared.holds).iter().filter_map(Weak::upgrade).collect();
        let is_there = |hold: &&Arc<Hold>| !hold.consumer.link.is_gone();
        let mut held: Vec<Entry> = holds
            .iter()
            .filter(is_there)
            .flat_map(|hold| locked(&hold.jobs).values().cloned().collect::<Vec<_>>())
            .collect();
        held.sort_by_key(|entry| entry.id);
        held
    }
}

impl Hold {
    /// What was held. Its connection may reserve again once nothing is held on it.
    fn let_go(&self, token: u64) -> Option<Entry> {
        let mut jobs = locked(&self.jobs);
        let held = jobs.remove(&token);
        if jobs.is_empty()
            && !self.consumer.link.is_gone()
            && let Some(shared) = self.shared.upgrade()
        {
            locked(&shared.idle).push(self.consumer.clone());
        }
        held
    }
}

fn job(id: u64, story: &Dictionary, body: Vec<u8>) -> Job {
    let count = |key: &str| u32::try_from(number(story, key)).unwrap_or(u32::MAX);
    // How often it was lost before it was kicked, nobody knows: a kick forgives as often as buries a job.
    let forgiven = count("kicks").saturating_mul(LOSSES);
    let reserves = count("reserves");
    Job {
        id,
        tube: story.get("tube").cloned().unwrap_or_default(),
        body,
        priority: count("pri"),
        reserves,
        releases: count("releases").saturating_add(count("buries")),
        forgiven,
        // A server that is restarted begins to count anew.
        mark: format!("{reserves}.{}", &uuid::Uuid::new_v4().simple().to_string()[..6]),
    }
}
