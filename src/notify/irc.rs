//! Role `irc`: the results that are published by MQTT, a line each, in the channels that want to know.
//!
//! The broker keeps results while this role is away. A result is acknowledged to it once the IRC server has seen the
//! line, so that none is lost; one that was delivered twice meanwhile is posted once, unless the role was started anew
//! in between.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::mqtt::RESULTS;
use crate::config::{Broker, Config, IrcOptions};
use crate::model::text::plain;
use crate::model::{Event, SrpmName, Status};
use crate::shutdown::Shutdown;
use crate::sys::irc::{BURST, Channel, Irc, IrcError};
use crate::sys::mqtt::{Message, Mqtt, Options};
use crate::sys::tls::{Tls, TlsError};

/// Between tries to connect; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(300);
/// How long a role that is told to stop goes on with what it is posting.
const GRACE: Duration = Duration::from_secs(5);
/// How many results are remembered, not to be posted again.
const REMEMBERED: usize = 1000;
/// How many failed packages one line names.
const NAMED: usize = 8;

/// What results are posted by.
#[derive(Debug, Clone)]
pub struct Poster {
    irc: IrcOptions,
    broker: Broker,
    node: String,
}

/// A role that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PosterError {
    #[error("no IRC server is configured: set host in section [irc]")]
    NoServer,
    #[error("results come by MQTT, and no broker is configured: set host in section [mqtt]")]
    NoBroker,
    #[error("the MQTT broker cannot be spoken to through TLS: {0}")]
    Tls(#[from] TlsError),
}

/// Results on their way to the channels.
struct Queue {
    messages: UnboundedReceiver<Message>,
    /// Received, and neither posted nor acknowledged.
    waiting: Vec<Message>,
    posted: VecDeque<String>,
}

impl Poster {
    pub fn of(config: &Config) -> Result<Poster, PosterError> {
        Ok(Poster {
            irc: config.irc.clone().ok_or(PosterError::NoServer)?,
            broker: config.mqtt.clone().ok_or(PosterError::NoBroker)?,
            node: config.node.clone(),
        })
    }

    /// Posts until told to stop.
    pub async fn run(&self, shutdown: &Shutdown) -> Result<(), PosterError> {
        let (mqtt, messages) = Mqtt::start(Options {
            address: self.broker.address.clone(),
            tls: Tls::open(&self.broker.tls)?,
            client_id: format!("reimzul-irc-{}-{}", self.node, self.irc.server.nick),
            persistent: true,
            subscriptions: vec![format!("{}/{RESULTS}", self.broker.topic)],
            hello: None,
        });
        let mut queue = Queue { messages, waiting: Vec::new(), posted: VecDeque::new() };
        let mut wait = FIRST_WAIT;
        loop {
            let mut is_on = false;
            let Err(ended) = self.stay_on(&mqtt, &mut queue, &mut is_on, shutdown.stop()).await else {
                break;
            };
            wait = if is_on { FIRST_WAIT } else { (wait * 2).min(LAST_WAIT) };
            tracing::warn!("{ended}; trying again in {} s", wait.as_secs());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.stop().cancelled() => break,
            }
        }
        mqtt.close().await;
        Ok(())
    }

    /// One connection, from its beginning until it is lost or `stop`.
    async fn stay_on(
        &self,
        mqtt: &Mqtt,
        queue: &mut Queue,
        is_on: &mut bool,
        stop: &CancellationToken,
    ) -> Result<(), IrcError> {
        let mut irc = tokio::select! {
            irc = Irc::connect(&self.irc.server) => irc?,
            () = stop.cancelled() => return Ok(()),
        };
        *is_on = true;
        tracing::info!("on the IRC server {}", self.irc.server.address);
        let too_long = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::pin!(too_long);
        while !stop.is_cancelled() {
            if queue.waiting.is_empty() {
                tokio::select! {
                    message = queue.messages.recv() => queue.waiting.extend(message),
                    error = irc.stay() => return Err(error),
                    () = stop.cancelled() => break,
                }
            }
            while let Ok(message) = queue.messages.try_recv() {
                queue.waiting.push(message);
            }
            // What was posted and not acknowledged would be posted again.
            tokio::select! {
                posted = self.post(mqtt, queue, &mut irc) => posted?,
                () = &mut too_long => break,
            }
        }
        Ok(())
    }

    /// Posts all that waits, and acknowledges it.
    async fn post(&self, mqtt: &Mqtt, queue: &mut Queue, irc: &mut Irc) -> Result<(), IrcError> {
        let mut lines: BTreeMap<&Channel, Vec<Posting>> = BTreeMap::new();
        let mut keys = Vec::new();
        for message in &queue.waiting {
            let Some(posting) = Posting::of(message) else { continue };
            let key = posting.event.key();
            if queue.posted.contains(&key) || keys.contains(&key) {
                continue;
            }
            for channel in self.irc.channels(&posting.event) {
                lines.entry(channel).or_default().push(posting.clone());
            }
            keys.push(key);
        }
        for (channel, postings) in lines {
            for line in told(&postings) {
                irc.say(channel, &line).await?;
            }
        }
        irc.settle().await?;
        for message in queue.waiting.drain(..) {
            mqtt.acknowledge(&message);
        }
        queue.posted.extend(keys);
        queue.posted.drain(..queue.posted.len().saturating_sub(REMEMBERED));
        Ok(())
    }
}

/// A result as it is published.
#[derive(Debug, Clone)]
struct Posting {
    event: Event,
    url: Option<String>,
}

impl Posting {
    /// What is no result of ours, or of an old notifier's, is left out.
    fn of(message: &Message) -> Option<Posting> {
        let mut fields: Map<String, Value> = serde_json::from_slice(&message.payload).ok()?;
        let url = fields.get("url").and_then(Value::as_str).map(plain);
        complete(&mut fields);
        match serde_json::from_value(fields.into()) {
            Ok(event) => Some(Posting { event, url }),
            Err(error) => {
                tracing::warn!("a message on {} is no result: {error}", message.topic.escape_debug());
                None
            }
        }
    }

    fn line(&self) -> String {
        let Posting { event, url } = self;
        let why = event.failure.as_ref().map(|failure| format!(" ({})", failure.class)).unwrap_or_default();
        let who = plain(&event.submitter.to_string());
        let url = url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        format!(
            "{}{why}: {} for {}, submitted by {who}{url}",
            event.status,
            event.path().label(),
            event.target
        )
    }
}

/// What an old notifier leaves out of a result; its name and version stand in its source RPM's.
fn complete(fields: &mut Map<String, Value>) {
    let srpm = fields.get("srpm").and_then(Value::as_str).and_then(|srpm| srpm.parse::<SrpmName>().ok());
    let Some((pkgname, evr)) = srpm.map(|srpm| srpm.split()) else { return };
    let left_out = [
        ("pkgname", pkgname.to_string().into()),
        ("evr", evr.to_string().into()),
        ("disttag", "".into()),
        ("builder_fqdn", "".into()),
        ("scratch", false.into()),
    ];
    for (name, value) in left_out {
        fields.entry(name).or_insert(value);
    }
}

/// A line each, or one for all where they are more than a server bears at once.
fn told(postings: &[Posting]) -> Vec<String> {
    if postings.len() <= BURST as usize {
        return postings.iter().map(Posting::line).collect();
    }
    let failed: Vec<String> = postings
        .iter()
        .filter(|posting| posting.event.status == Status::Failed)
        .map(|posting| posting.event.path().label())
        .collect();
    let mut line = format!(
        "{} results: {} Success, {} Failed",
        postings.len(),
        postings.len() - failed.len(),
        failed.len()
    );
    if !failed.is_empty() {
        let more =
            if failed.len() > NAMED { format!(" and {} more", failed.len() - NAMED) } else { String::new() };
        let _ = write!(line, ": {}{more}", failed[..failed.len().min(NAMED)].join(", "));
    }
    vec![line]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(name: &str, status: &str) -> Posting {
        let payload = serde_json::json!({
            "srpm": format!("{name}-1-1.src.rpm"), "arch": "x86_64", "target": "c9.x86_64", "disttag": "",
            "scratch": false, "submitter": "kb", "status": status, "builder_fqdn": "b", "evr": "1-1", "pkgname": name,
            "timestamp": "20261123204406", "url": "http://h/\u{7}x"});
        let url = payload["url"].as_str().map(plain);
        Posting { event: serde_json::from_value(payload).unwrap(), url }
    }

    #[test]
    fn an_old_notifiers_result_is_one_too() {
        let old = serde_json::json!({"srpm": "bash-5.1-2.el9.src.rpm", "status": "Failed", "target": "c9.x86_64",
            "arch": "x86_64", "timestamp": "20261123204406", "submitter": "kb"});
        let mut fields = old.as_object().unwrap().clone();
        complete(&mut fields);
        let event = serde_json::from_value(fields.into()).unwrap();
        let line = Posting { event, url: None }.line();
        assert_eq!(line, "Failed: bash-5.1-2.el9.x86_64 for c9.x86_64, submitted by kb");
    }

    #[test]
    fn a_result_is_a_line_and_many_are_one() {
        assert_eq!(
            told(&[posting("bash", "Success")]),
            ["Success: bash-1-1.x86_64 for c9.x86_64, submitted by kb http://h/x"]
        );
        let many: Vec<Posting> = (0..20)
            .map(|number| posting(&format!("p{number}"), if number < 10 { "Failed" } else { "Success" }))
            .collect();
        let [line] = told(&many).try_into().unwrap();
        assert!(line.starts_with("20 results: 10 Success, 10 Failed: p0-1-1.x86_64, "), "{line}");
        assert!(line.ends_with(", p7-1-1.x86_64 and 2 more"), "{line}");
    }
}
