//! Looking at jobs without taking them, and the notes on why jobs are buried.
//!
//! The protocol lists no jobs; it shows the head of a tube, and any job by its id. So first those are looked up whose ids
//! can be known: what notes are about, the heads of the tubes, and what was found before. Ids count up, and jobs that
//! wait are mostly young: then those below the newest are asked for, until as many are found as the server says it has.

use std::collections::HashMap;

use super::protocol::{Answer, Command, Refusal, Reply, dictionary};
use super::{BeanstalkdError, Dictionary, PROBE, Queue, WATCHED_BY, WHY, is_ours_alone, locked, number};
use crate::queue::{Entry, PRIORITY_SIGN_OF_LIFE, QueueError, State};

/// How many ids are asked for at a time, and at most: the server answers nobody else meanwhile.
const BITE: u64 = 1000;
pub(super) const DEEPEST: u64 = 300_000;
/// Long enough for any sentence, and small beside any limit for jobs.
const LONGEST_REASON: usize = 4000;

/// What was found when all ids below `newest` had been asked for, or as many of them as ever are: none of them needs to
/// be asked for again but those that were there.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Which server's ids these are: one that is started anew without a binlog counts anew.
    server: String,
    newest: u64,
    there: Vec<u64>,
}

impl Queue {
    /// All jobs, unless there are some older than the newest [`DEEPEST`] ids: of those the buried and delayed ones that a
    /// note is about, and the heads of the tubes.
    pub async fn list(&self, tube: Option<&str>) -> Result<Vec<Entry>, QueueError> {
        let mut found: Vec<(u64, Dictionary)> = self.scan().await?;
        let (notes, mut jobs): (Vec<_>, Vec<_>) = found
            .drain(..)
            .map(|(id, story)| (id, story.get("tube").cloned().unwrap_or_default(), story))
            .partition(|(_, tube, _)| tube.starts_with(WHY));
        jobs.retain(|(_, its, _)| !is_ours_alone(its) && tube.is_none_or(|tube| tube == its));
        let mut reasons = HashMap::new();
        for (answer, (_, tube, _)) in
            self.peek(notes.iter().map(|(id, ..)| *id)).await?.into_iter().zip(&notes)
        {
            let about = tube.strip_prefix(WHY).and_then(|id| id.parse::<u64>().ok());
            if let (Some(about), Ok(Reply::Found { body, .. })) = (about, answer) {
                reasons.insert(about, String::from_utf8_lossy(&body).into_owned());
            }
        }
        let mut entries = Vec::new();
        for (answer, (id, _, story)) in
            self.peek(jobs.iter().map(|(id, ..)| *id)).await?.into_iter().zip(&jobs)
        {
            // Whatever was deleted in between is not there.
            let Ok(Reply::Found { body, .. }) = answer else { continue };
            let entry = entry(*id, story, body);
            let reason = reasons.remove(id).filter(|_| matches!(entry.state, State::Buried | State::Delayed));
            entries.push(Entry { reason, ..entry });
        }
        entries.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(entries)
    }

    async fn peek(&self, ids: impl Iterator<Item = u64>) -> Result<Vec<Answer>, QueueError> {
        let commands: Vec<Command> = ids.map(Command::Peek).collect();
        let mut answers = Vec::new();
        for some in commands.chunks(100) {
            answers.extend(self.ask(some.to_vec()).await?);
        }
        Ok(answers)
    }

    async fn scan(&self) -> Result<Vec<(u64, Dictionary)>, QueueError> {
        if self.count().await?.1 == 0 {
            return Ok(Vec::new());
        }
        let newest = match self.newest_id().await {
            // One that drains takes no probe.
            Err(QueueError::Beanstalkd(BeanstalkdError::Refused { refusal: Refusal::Draining, .. })) => 0,
            newest => newest?,
        };
        // Counted after that, so that every job below the newest that is still there is among them.
        let (stats, wanted) = self.count().await?;
        let server = stats.get("id").cloned().unwrap_or_default();
        let mut known = self.landmarks().await?;
        let oldest = self.seen_up_to(&server, &mut known).max(newest.saturating_sub(self.deepest));
        let mut found = HashMap::new();
        for some in known.chunks(usize::try_from(BITE).unwrap_or(usize::MAX)) {
            self.look_up(some, &mut found).await?;
        }
        let mut above = newest;
        // What was put since it was counted takes nobody's place.
        while above > oldest && (found.keys().filter(|id| **id < newest).count() as u64) < wanted {
            let ids: Vec<u64> = (above.saturating_sub(BITE).max(oldest)..above).rev().collect();
            above -= ids.len() as u64;
            self.look_up(&ids, &mut found).await?;
        }
        if newest > 0 && above <= oldest {
            *locked(&self.shared.seen) = Seen { server, newest, there: found.keys().copied().collect() };
        }
        Ok(found.into_iter().collect())
    }

    /// What the server says of itself, and how many jobs it has.
    async fn count(&self) -> Result<(Dictionary, u64), QueueError> {
        let stats = self.statistics(Command::Stats).await?.unwrap_or_default();
        let states = ["ready", "reserved", "delayed", "buried"];
        let jobs = states.iter().map(|state| number(&stats, &format!("current-jobs-{state}"))).sum();
        Ok((stats, jobs))
    }

    /// Adds what was there when it was last looked for, and says below which id there is nothing else.
    fn seen_up_to(&self, server: &str, known: &mut Vec<u64>) -> u64 {
        let seen = locked(&self.shared.seen);
        if seen.server != server {
            return 0;
        }
        known.extend(&seen.there);
        known.sort_unstable();
        known.dedup();
        seen.newest
    }

    /// Jobs whose ids can be known: those that a note is about, and of every tube those that are next to be made ready,
    /// run, or kicked; so the notes, too.
    async fn landmarks(&self) -> Result<Vec<u64>, QueueError> {
        let mut tubes = self.tubes().await?;
        tubes.retain(|tube| !tube.starts_with(WATCHED_BY));
        let noted = tubes.iter().filter_map(|tube| tube.strip_prefix(WHY)?.parse().ok());
        let mut ids: Vec<u64> = noted.collect();
        let looks =
            |tube| [Command::Use(tube), Command::PeekReady, Command::PeekDelayed, Command::PeekBuried];
        let answers = self.ask(tubes.into_iter().flat_map(looks).collect()).await?;
        ids.extend(answers.into_iter().filter_map(|answer| match answer {
            Ok(Reply::Found { id, .. }) => Some(id),
            _ => None,
        }));
        Ok(ids)
    }

    async fn look_up(&self, ids: &[u64], found: &mut HashMap<u64, Dictionary>) -> Result<(), QueueError> {
        let answers = self.ask(ids.iter().copied().map(Command::StatsJob).collect()).await?;
        for (id, answer) in ids.iter().zip(answers) {
            match answer {
                Ok(Reply::Data(data)) => drop(found.insert(*id, dictionary(&data))),
                Ok(Reply::NotFound) => {}
                other => return Err(self.not_wanted(Some(other))),
            }
        }
        Ok(())
    }

    /// One above the newest job's, learned by putting one and taking it back.
    async fn newest_id(&self) -> Result<u64, QueueError> {
        let ids = self.put_raw(PROBE, Vec::new()).await?;
        self.ask(vec![Command::Delete(ids)]).await?;
        Ok(ids)
    }

    /// Notes why a job was buried or delayed, in place of any former reason.
    pub(super) async fn note_why(&self, id: u64, reason: &str) -> Result<(), QueueError> {
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        // Notes use up ids, and who waits for another build is put off every few seconds.
        let noted = self.ask(vec![Command::Use(format!("{WHY}{id}")), Command::PeekReady]).await?.pop();
        if matches!(&noted, Some(Ok(Reply::Found { body, .. })) if *body == reason.as_bytes()[..end]) {
            return Ok(());
        }
        self.forget_why(id).await?;
        self.put_raw(&format!("{WHY}{id}"), reason.as_bytes()[..end].to_vec()).await?;
        Ok(())
    }

    pub(super) async fn forget_why(&self, id: u64) -> Result<(), QueueError> {
        loop {
            let commands = vec![Command::Use(format!("{WHY}{id}")), Command::PeekReady];
            match self.ask(commands).await?.pop() {
                Some(Ok(Reply::Found { id, .. })) => self.ask(vec![Command::Delete(id)]).await?,
                Some(Ok(Reply::NotFound)) => return Ok(()),
                other => return Err(self.not_wanted(other)),
            };
        }
    }

    async fn put_raw(&self, tube: &str, body: Vec<u8>) -> Result<u64, QueueError> {
        let put = Command::Put { priority: PRIORITY_SIGN_OF_LIFE, delay: 0, ttr: 1, body };
        match self.ask(vec![Command::Use(tube.to_owned()), put]).await?.pop() {
            Some(Ok(Reply::Inserted(id))) => Ok(id),
            other => Err(self.not_wanted(other)),
        }
    }
}

/// A job as `stats-job` tells of it.
pub(super) fn entry(id: u64, story: &Dictionary, body: Vec<u8>) -> Entry {
    let state = match story.get("state").map(String::as_str) {
        Some("reserved") => State::Reserved,
        Some("delayed") => State::Delayed,
        Some("buried") => State::Buried,
        _ => State::Ready,
    };
    let waits = matches!(state, State::Reserved | State::Delayed);
    let count = |key: &str| u32::try_from(number(story, key)).unwrap_or(u32::MAX);
    Entry {
        id,
        tube: story.get("tube").cloned().unwrap_or_default(),
        state,
        priority: count("pri"),
        age: number(story, "age"),
        time_left: waits.then(|| number(story, "time-left")),
        reserves: count("reserves"),
        reason: None,
        body,
    }
}
