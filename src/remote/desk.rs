//! Where requests are decided on, each in a task of its own: from the message to the job, and the answer.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::audit::{self, Entry as Audit};
use super::bridge::Bridge;
use super::ledger::{self, Entry, Ledger, State};
use super::letter::{Letter, UNSIGNED};
use super::policy;
use super::scm::{Made, Maker, ScmError};
use super::signature::{Authority, check_age};
use crate::config::Broker;
use crate::history::{Find, HistoryError};
use crate::model::answer::{self, Answer, Queued, Told};
use crate::model::request::{Proof, Request};
use crate::model::{BuildJob, Nonce, Submitter};
use crate::queue::QueueError;
use crate::shutdown::Shutdown;
use crate::submit::{self, Accepted, SubmitError};
use crate::sys::fs::FileError;
use crate::sys::mqtt::{Message, Mqtt};
use crate::sys::sqlite::DatabaseError;

/// Until what failed through no fault of the request is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// An old client's request has no nonce. The same one within so many seconds is taken for a second delivery.
const SAME: u64 = 600;

/// What keeps a request from being settled now.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    /// Something of ours fails; it is tried again.
    #[error("{0}")]
    Ours(String),
    /// The bridge is told to stop; the next one goes on.
    #[error("the bridge stops")]
    Stopping,
}

macro_rules! ours {
    ($($error:ty),*) => {
        $(impl From<$error> for Hindrance {
            fn from(error: $error) -> Hindrance {
                Hindrance::Ours(error.to_string())
            }
        })*
    };
}
ours!(DatabaseError, FileError, HistoryError, QueueError);

/// Why no job is made.
enum NoJob {
    Refused(String),
    Hindered(Hindrance),
}

impl From<SubmitError> for NoJob {
    fn from(error: SubmitError) -> NoJob {
        let said = error.to_string();
        if error.is_ours() { NoJob::Hindered(Hindrance::Ours(said)) } else { NoJob::Refused(said) }
    }
}

impl From<ScmError> for NoJob {
    fn from(error: ScmError) -> NoJob {
        match error {
            ScmError::Refused(why) => NoJob::Refused(why),
            ScmError::Interrupted => NoJob::Hindered(Hindrance::Stopping),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    site: Bridge,
    broker: Broker,
    authority: Authority,
    maker: Maker,
    ledger: Ledger,
    mqtt: Mqtt,
    shutdown: Shutdown,
    /// The requests that a task is at: who asked, and the nonce.
    busy: Mutex<HashSet<(Submitter, Nonce)>>,
}

impl Desk {
    pub fn new(
        site: Bridge,
        broker: Broker,
        authority: Authority,
        maker: Maker,
        ledger: Ledger,
        mqtt: Mqtt,
        shutdown: Shutdown,
    ) -> Desk {
        Desk { site, broker, authority, maker, ledger, mqtt, shutdown, busy: Mutex::default() }
    }

    pub async fn close(self) {
        self.mqtt.close().await;
    }

    /// Forgets requests and source RPMs that are so old that nobody comes back to them.
    pub async fn forget_old(&self) {
        self.maker.forget_old().await;
        if let Err(error) = self.ledger.forget_old().await {
            tracing::warn!("old requests are not forgotten: {error}");
        }
    }

    /// Decides on a message, and acknowledges it once that is durable.
    pub async fn serve(&self, message: &Message) {
        loop {
            match self.consider(message).await {
                Ok(()) => return self.mqtt.acknowledge(message),
                Err(hindrance) if self.gives_up(&hindrance).await => return,
                Err(_) => {}
            }
        }
    }

    /// Goes on with a request that a bridge before us has left.
    pub async fn resume(&self, entry: Entry) {
        while let Err(hindrance) = self.settle(entry.clone()).await {
            if self.gives_up(&hindrance).await {
                return;
            }
        }
    }

    /// Waits before the next try; says whether there is none.
    async fn gives_up(&self, hindrance: &Hindrance) -> bool {
        if let Hindrance::Ours(why) = hindrance {
            tracing::warn!("a request cannot be served now: {why}; trying again");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.shutdown.stop().cancelled() => {}
            }
        }
        self.shutdown.is_stopping()
    }

    async fn consider(&self, message: &Message) -> Result<(), Hindrance> {
        let letter = match Letter::open(&message.payload) {
            Ok(letter) => letter,
            Err(why) => {
                self.audit(&Audit {
                    who: "?",
                    proven: false,
                    nonce: "",
                    what: Value::Null,
                    verdict: "refused",
                    why: &why,
                });
                return Ok(());
            }
        };
        match self.admit(&letter, &message.topic).await? {
            Ok(Some(entry)) => self.settle(entry).await,
            Ok(None) => Ok(()),
            Err((who, why)) => {
                self.refuse(&letter, who.as_ref(), why).await;
                Ok(())
            }
        }
    }

    /// The request as it is in the ledger from now on; none where it is there already, and was answered. Else why it is
    /// refused, and whom it was proved to be from.
    async fn admit(
        &self,
        letter: &Letter,
        topic: &str,
    ) -> Result<Result<Option<Entry>, (Option<Submitter>, String)>, Hindrance> {
        let (request, proof) = match letter.read(&self.broker.topic, topic) {
            Ok(read) => read,
            Err(why) => return Ok(Err((None, why))),
        };
        let who = match self.prove(letter, &request, proof.as_ref()) {
            Ok(who) => who,
            Err(why) => return Ok(Err((None, why))),
        };
        let refused = |why: String| Ok(Err((Some(who.clone()), why)));
        let nonce = letter.nonce.clone().unwrap_or_else(|| unsigned_nonce(letter));
        if let Some(known) = self.ledger.find(&who, &nonce).await? {
            if known.digest != letter.digest {
                return refused(format!("its nonce {nonce} was used for another request; choose a new one"));
            }
            let is_same = letter.nonce.is_some() || known.since + SAME >= ledger::now();
            if is_same || !known.state.is_settled() {
                self.repeat(known).await?;
                return Ok(Ok(None));
            }
            self.ledger.forget(&who, &nonce).await?;
        }
        if let Some(proof) = &proof
            && let Err(why) = check_age(&proof.time, jiff::Timestamp::now(), self.site.config.policy.max_age)
        {
            return refused(why.to_string());
        }
        if let Err(why) = policy::check(&self.site.config.policy, &who, &request) {
            return refused(why);
        }
        let digest = letter.digest.clone();
        let entry = Entry { who, nonce, digest, request, state: State::Received, since: ledger::now() };
        self.ledger.enter(&entry).await?;
        Ok(Ok(Some(entry)))
    }

    fn prove(&self, letter: &Letter, request: &Request, proof: Option<&Proof>) -> Result<Submitter, String> {
        match proof {
            Some(proof) => {
                let now = SystemTime::now();
                let proved = self.authority.verify(&letter.fields, proof, &request.submitter, now);
                proved.map_err(|error| error.to_string())
            }
            None if self.site.config.policy.allow_unsigned => Ok(request.submitter.clone()),
            None => {
                Err("it is not signed: ask with `reimzul request`, which signs with your certificate".into())
            }
        }
    }

    async fn refuse(&self, letter: &Letter, who: Option<&Submitter>, why: String) {
        self.audit(&Audit {
            who: who.map_or(letter.claimed(), Submitter::as_str),
            proven: who.is_some(),
            nonce: letter.nonce.as_ref().map_or("", Nonce::as_str),
            what: letter.what(),
            verdict: "refused",
            why: &why,
        });
        if let Some(nonce) = &letter.nonce {
            self.tell(nonce, &letter.digest, Answer::Refused { reason: why }).await;
        }
    }

    /// A request that was seen before is answered as it was then, with what has come of it since.
    async fn repeat(&self, entry: Entry) -> Result<(), Hindrance> {
        if !entry.state.is_settled() {
            return self.settle(entry).await;
        }
        self.audit_entry(&entry, "repeated", "");
        self.answer(&entry).await;
        if let State::Accepted { job } = &entry.state {
            // A history that is down must not hold up other requests; who waits asks again.
            let events = self.events(job).await.unwrap_or_else(|hindrance| {
                tracing::warn!("what came of a request cannot be told now: {hindrance}");
                Vec::new()
            });
            for event in events.into_iter().filter(|event| event.status.is_result()) {
                let told = Told::of_event(&event);
                if let Some(told) = told.filter(|told| told.nonce == entry.nonce) {
                    self.tell(&entry.nonce, &entry.digest, told.answer).await;
                }
            }
        }
        Ok(())
    }

    /// Brings a request to its end: its job is put, or it is refused. One that another task is at is left to it.
    async fn settle(&self, mut entry: Entry) -> Result<(), Hindrance> {
        self.tell(&entry.nonce, &entry.digest, Answer::Received).await;
        let Some(_ours) = Ours::take(&self.busy, &entry) else { return Ok(()) };
        // Another may have settled it in the meantime.
        if let Some(known) = self.ledger.find(&entry.who, &entry.nonce).await? {
            entry = known;
        }
        let may_be_queued = matches!(entry.state, State::Queueing { .. });
        if entry.state == State::Received {
            entry.state = match self.job(&entry).await {
                Ok(job) => State::Queueing { job: Box::new(job) },
                Err(NoJob::Refused(reason)) => {
                    self.audit_entry(&entry, "refused", &reason);
                    State::Refused { reason }
                }
                Err(NoJob::Hindered(hindrance)) => return Err(hindrance),
            };
            self.ledger.note(&entry).await?;
        }
        if let State::Queueing { job } = &entry.state {
            if !may_be_queued || !self.is_known(job).await? {
                self.put(job).await?;
            }
            // A bridge that is killed right here writes the line again: better twice than never.
            self.audit_entry(&entry, "accepted", "");
            entry.state = State::Accepted { job: job.clone() };
            self.ledger.note(&entry).await?;
        }
        self.answer(&entry).await;
        Ok(())
    }

    /// Makes the source RPM of a request, and a stamped job for it.
    async fn job(&self, entry: &Entry) -> Result<BuildJob, NoJob> {
        let layout = &self.site.config.layout;
        let asked = &entry.request;
        let wanted = |srpm: PathBuf, made: Option<&Made>| submit::Request {
            srpm,
            arch: asked.arch.clone(),
            target: asked.target.clone(),
            disttag: made.map_or(&asked.disttag, |made| &made.disttag).clone(),
            scratch: asked.scratch,
            mail: asked.mail,
            now: false,
            submitter: entry.who.clone(),
        };
        // What costs nothing to find out is found out first.
        submit::accept_target(layout, &wanted(format!("{}.src.rpm", asked.pkg).into(), None))?;
        let made = self.maker.make(asked, self.shutdown.stop()).await?;
        let accepted = match submit::accept(layout, &wanted(made.srpm.clone(), Some(&made))) {
            // A branch that is tried until it builds does not raise its release each time.
            Err(SubmitError::Changed { .. }) => {
                let renamed = self.maker.renamed(&made.srpm)?;
                let accepted = submit::accept(layout, &wanted(renamed.clone(), Some(&made)));
                let kept = accepted.and_then(|accepted| accepted.keep(layout).map(|()| accepted));
                self.maker.discard(&renamed);
                kept?
            }
            accepted => accepted?,
        };
        if accepted.pkgname != asked.pkg {
            return Err(NoJob::Refused(format!(
                "the spec in {}.git is of the package {}, and not of {}",
                asked.pkg, accepted.pkgname, asked.pkg
            )));
        }
        accepted.keep(layout)?;
        Ok(self.stamped(entry, &accepted, &made).await?)
    }

    async fn stamped(
        &self,
        entry: &Entry,
        accepted: &Accepted,
        made: &Made,
    ) -> Result<BuildJob, SubmitError> {
        let asked = &entry.request;
        let mut extra = Map::new();
        for (field, value) in [
            ("pkg", asked.pkg.as_str()),
            ("git_branch", asked.git_branch.as_str()),
            ("git_ref", asked.git_ref.as_str()),
            ("git_commit", &made.commit),
            ("sources_dir", asked.sources_dir.as_str()),
            (answer::FIELD, entry.nonce.as_str()),
        ] {
            extra.insert(field.to_owned(), value.into());
        }
        Ok(submit::prepare(&self.site.stamps, accepted, extra).await?.0)
    }

    async fn put(&self, job: &BuildJob) -> Result<(), Hindrance> {
        let put = submit::put(&self.site.queue, job, false).await;
        put.map(drop).map_err(|error| Hindrance::Ours(error.to_string()))
    }

    /// Whether a job that may have been put was: it is in the queue, or something has come of it.
    async fn is_known(&self, job: &BuildJob) -> Result<bool, Hindrance> {
        let Some(stamp) = &job.stamp else { return Ok(false) };
        let waiting = self.site.queue.list(Some(job.arch.tube())).await?;
        let id = stamp.build_id.as_str();
        let is_it = |body: &[u8]| {
            serde_json::from_slice::<Value>(body).is_ok_and(|body| body["build_id"].as_str() == Some(id))
        };
        Ok(waiting.iter().any(|entry| is_it(&entry.body)) || !self.events(job).await?.is_empty())
    }

    async fn events(&self, job: &BuildJob) -> Result<Vec<crate::model::Event>, Hindrance> {
        let build_id = job.stamp.as_ref().map(|stamp| stamp.build_id.clone());
        let found = self.site.history.find(Find { build_id, all: true, ..Find::default() }).await?;
        Ok(found.into_iter().map(|document| document.event).collect())
    }

    async fn answer(&self, entry: &Entry) {
        let answer = match &entry.state {
            State::Received | State::Queueing { .. } => Answer::Received,
            State::Refused { reason } => Answer::Refused { reason: reason.clone() },
            State::Accepted { job } => {
                let build = job.path().zip(job.stamp.as_ref());
                let queued = |(path, stamp): (crate::model::BuildPath, &crate::model::job::Stamp)| Queued {
                    build: path.to_string(),
                    build_id: stamp.build_id.clone(),
                };
                Answer::Accepted { builds: build.map(queued).into_iter().collect() }
            }
        };
        self.tell(&entry.nonce, &entry.digest, answer).await;
    }

    /// An answer that does not arrive is asked for again, by who waits for it.
    async fn tell(&self, nonce: &Nonce, digest: &str, answer: Answer) {
        let told = Told { nonce: nonce.clone(), request: Some(digest.to_owned()), answer };
        let topic = Told::topic(&self.broker.topic, nonce);
        // Structs of strings and the like always serialize.
        let payload = serde_json::to_vec(&told).unwrap_or_default();
        if let Err(error) = self.mqtt.publish(&topic, payload).await {
            tracing::debug!("an answer to {nonce} was not sent: {error}");
        }
    }

    fn audit_entry(&self, entry: &Entry, verdict: &str, why: &str) {
        self.audit(&Audit {
            who: entry.who.as_str(),
            proven: !entry.nonce.as_str().starts_with(UNSIGNED),
            nonce: entry.nonce.as_str(),
            what: serde_json::to_value(&entry.request).unwrap_or_default(),
            verdict,
            why,
        });
    }

    fn audit(&self, entry: &Audit<'_>) {
        audit::write(&self.site.config.policy.audit_log, entry);
    }
}

fn unsigned_nonce(letter: &Letter) -> Nonce {
    let nonce = format!("{UNSIGNED}{}", &letter.digest[..32]);
    nonce.parse().expect("a word and hexadecimal digits are a nonce")
}

/// The right to work on a request, given back when it is dropped.
struct Ours<'a> {
    busy: &'a Mutex<HashSet<(Submitter, Nonce)>>,
    key: (Submitter, Nonce),
}

impl<'a> Ours<'a> {
    fn take(busy: &'a Mutex<HashSet<(Submitter, Nonce)>>, entry: &Entry) -> Option<Ours<'a>> {
        let key = (entry.who.clone(), entry.nonce.clone());
        let taken = busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        // Only then: dropping one gives the request free.
        taken.then(|| Ours { busy, key })
    }
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
