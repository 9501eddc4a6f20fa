//! Results by mail: one for each, for failures only, or a digest of all that came in a while.

mod letter;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lettre::Message;
use lettre::message::Mailbox;

use super::logs::Logs;
use super::{Fault, Pending};
use crate::config::{Config, MailOptions, MailWhen};
use crate::model::{Event, Status};
use crate::sys::smtp::SmtpError;

/// A digest has at most so many events; what is beyond it makes another.
const LARGEST_DIGEST: u32 = 20_000;

/// Sends mails. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailer {
    options: Arc<MailOptions>,
    logs: Logs,
    /// Arches and submitters that it was said of that nobody hears of them.
    silent: Arc<Mutex<BTreeSet<String>>>,
}

impl Mailer {
    /// None where nothing is to be mailed.
    pub fn of(config: &Config) -> Option<Mailer> {
        let options = Arc::new(config.mail.clone()?);
        Some(Mailer { options, logs: Logs::of(config), silent: Arc::default() })
    }

    /// How long an event is kept before it is mailed; none where it is not mailed at all.
    pub fn delay(&self, event: &Event) -> Option<Duration> {
        let wanted = match self.options.when {
            MailWhen::Each | MailWhen::Digest(_) => event.status.is_result(),
            MailWhen::Failures => event.status == Status::Failed,
        };
        if !wanted || self.recipients(event).is_empty() {
            return None;
        }
        Some(match self.options.when {
            MailWhen::Each | MailWhen::Failures => Duration::ZERO,
            MailWhen::Digest(interval) => until_next(interval),
        })
    }

    /// How many events are mailed in one go, where that is not as many as usual.
    pub(super) fn at_once(&self) -> Option<u32> {
        matches!(self.options.when, MailWhen::Digest(_)).then_some(LARGEST_DIGEST)
    }

    /// What is told in one mail: in a digest all that goes to the same people.
    pub(super) fn batches(&self, pending: Vec<Pending>) -> Vec<Vec<Pending>> {
        let mut batches: Vec<(Vec<Mailbox>, Vec<Pending>)> = Vec::new();
        let is_digest = self.at_once().is_some();
        for one in pending {
            let to = self.recipients(&one.event);
            match batches.iter_mut().find(|(known, _)| is_digest && *known == to) {
                Some((_, batch)) => batch.push(one),
                None => batches.push((to, vec![one])),
            }
        }
        batches.into_iter().map(|(_, batch)| batch).collect()
    }

    /// Sends the mail about these.
    pub(super) async fn send(&self, batch: &[Pending]) -> Result<(), Fault> {
        let [Pending { event, .. }, ..] = batch else { return Ok(()) };
        let to = self.recipients(event);
        if to.is_empty() {
            // The configuration has changed since.
            return Ok(());
        }
        let MailOptions { from, when, .. } = self.options.as_ref();
        let letter = match when {
            MailWhen::Digest(_) => {
                let events: Vec<&Event> = batch.iter().map(|pending| &pending.event).collect();
                letter::digest(&events, from, &to, &self.logs)
            }
            MailWhen::Each | MailWhen::Failures => letter::of_event(event, from, &to, &self.logs).await,
        };
        self.post(&letter.map_err(Fault::refused)?, &to).await
    }

    /// Sends it to all at once. Where that is refused for somebody, the others get it all the same.
    async fn post(&self, letter: &Message, to: &[Mailbox]) -> Result<(), Fault> {
        let server = &self.options.server;
        let sent = server.send(letter, to.iter().map(|to| to.email.clone()).collect()).await;
        if to.len() == 1 || !matches!(sent, Err(SmtpError::Refused { .. })) {
            return sent.map_err(Fault::from);
        }
        let mut refusals = Vec::new();
        for one in to {
            match server.send(letter, vec![one.email.clone()]).await {
                Err(error @ SmtpError::Refused { .. }) => {
                    tracing::error!("no mail reaches {one}: {error}");
                    refusals.push(error);
                }
                sent => sent?,
            }
        }
        let all = refusals.len() == to.len();
        refusals.pop().filter(|_| all).map_or(Ok(()), |error| Err(error.into()))
    }

    /// Who is told of an event.
    fn recipients(&self, event: &Event) -> Vec<Mailbox> {
        if event.scratch && !event.is_to_be_mailed() {
            return Vec::new();
        }
        let (found, whose) = if event.scratch {
            (self.submitter(event).map(|one| vec![one]), format!("submitter {}", event.submitter))
        } else {
            let arch = event.arch.tube();
            (self.options.recipients.get(arch).cloned(), format!("arch {arch}"))
        };
        let found = found.unwrap_or_default();
        if found.is_empty() {
            self.say_once(whose);
        }
        found
    }

    fn submitter(&self, event: &Event) -> Option<Mailbox> {
        let domain = self.options.scratch_domain.as_ref()?;
        let address = lettre::Address::new(event.submitter.to_string(), domain).ok()?;
        Some(Mailbox::new(None, address))
    }

    fn say_once(&self, whose: String) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if !silent.contains(&whose) {
            tracing::warn!(
                "nobody is mailed of {whose}: sections [mail_rcpts] and [mail] make no address for that"
            );
            silent.insert(whose);
        }
    }
}

impl From<SmtpError> for Fault {
    fn from(error: SmtpError) -> Fault {
        match error {
            SmtpError::Down { .. } => Fault::Down(error.to_string()),
            SmtpError::Refused { .. } | SmtpError::Later { .. } => Fault::Refused(error.to_string()),
        }
    }
}

/// The time to the next multiple of an interval: digests of an hour come at the full hour.
fn until_next(interval: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let gone = now.as_millis() % interval.as_millis().max(1);
    interval.saturating_sub(Duration::from_millis(u64::try_from(gone).unwrap_or_default()))
}
