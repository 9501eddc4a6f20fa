//! The client's side: requests are signed and published, and their answers are waited for.
//!
//! An old controller takes a request that comes twice for two, and never answers. So one is published again only where
//! it may have been lost: after our connection was cut, whenever a bridge says that it has begun to listen, and, once
//! a bridge has shown that it is there, from time to time until it is answered.

use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::signature::Signer;
use crate::config::Broker;
use crate::model::answer::{Answer, Queued, Told, hello_topic};
use crate::model::request::{Request, signed_bytes};
use crate::model::{Event, Nonce};
use crate::sys::fs::hex;
use crate::sys::mqtt::{Message, Mqtt, MqttError, Options};
use crate::sys::tls::Tls;

/// How soon a request is published again to a bridge that is there; an outcome is asked for less often.
const AGAIN: Duration = Duration::from_secs(10);
const OUTCOME_AGAIN: Duration = Duration::from_secs(15);
/// How often a lost connection is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// One request, for one arch.
#[derive(Debug)]
pub struct Sent {
    pub arch: String,
    pub nonce: Nonce,
    topic: String,
    payload: Vec<u8>,
    digest: String,
    pub state: State,
    /// When we last heard of it, or published it for the first time.
    heard: Instant,
    published: Instant,
    /// It may have been lost since.
    again: bool,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// The broker has it.
    Sent,
    /// The bridge has it.
    Received,
    Accepted {
        builds: Vec<Queued>,
        outcomes: Vec<Event>,
    },
    Refused {
        reason: String,
    },
    /// Nobody has answered within the time limit.
    Unconfirmed,
}

impl State {
    /// Whether all of its builds have ended: the arch that was asked for, and those that are built along with it.
    pub fn is_over(&self, arch: &str) -> bool {
        let State::Accepted { outcomes, .. } = self else { return false };
        let asked = arch.parse().ok();
        let Some(main) = outcomes.iter().find(|event| Some(event.arch) == asked) else { return false };
        main.arches.iter().all(|arch| outcomes.iter().any(|event| event.arch == *arch))
    }
}

impl Sent {
    fn is_done(&self, wait: bool) -> bool {
        match &self.state {
            State::Sent | State::Received => false,
            State::Refused { .. } | State::Unconfirmed => true,
            State::Accepted { .. } => !wait || self.state.is_over(&self.arch),
        }
    }

    /// What an answer changes; says whether anything.
    fn hear(&mut self, told: Told) -> bool {
        if told.nonce != self.nonce || told.request.is_some_and(|request| request != self.digest) {
            return false;
        }
        self.heard = Instant::now();
        let before = self.state.clone();
        self.state = match (before.clone(), told.answer) {
            (State::Refused { .. }, _) => before.clone(),
            (state @ State::Accepted { .. }, Answer::Received) => state,
            (_, Answer::Received) => State::Received,
            (_, Answer::Refused { reason }) => State::Refused { reason },
            (State::Accepted { outcomes, .. }, Answer::Accepted { builds }) => {
                State::Accepted { builds, outcomes }
            }
            (_, Answer::Accepted { builds }) => State::Accepted { builds, outcomes: Vec::new() },
            (State::Accepted { builds, mut outcomes }, Answer::Outcome(event)) => {
                outcomes.retain(|known| known.arch != event.arch);
                outcomes.push(*event);
                State::Accepted { builds, outcomes }
            }
            (_, Answer::Outcome(event)) => State::Accepted { builds: Vec::new(), outcomes: vec![*event] },
        };
        self.state != before
    }
}

/// A client that has requests underway.
#[derive(Debug)]
pub struct Client {
    mqtt: Mqtt,
    messages: UnboundedReceiver<Message>,
    hello: String,
    pub sent: Vec<Sent>,
    /// A bridge has shown that it is there.
    bridge: bool,
}

/// The topic that a site's topics are below, from the client's `topic`, which is where requests go: `reimzul/submit`.
fn site(submit: &str) -> &str {
    submit.rsplit_once('/').map_or(submit, |(site, _)| site)
}

/// The message of a request, signed.
pub fn signed(signer: &Signer, request: &Request, nonce: &Nonce) -> Option<Map<String, Value>> {
    let Ok(Value::Object(fields)) = serde_json::to_value(request) else { return None };
    signer.sign(fields, nonce, jiff::Timestamp::now())
}

impl Client {
    /// Publishes a request for each arch; returns when the broker has acknowledged all. An error within `patience` says
    /// that it has not: what was sent by then may be built all the same.
    pub async fn send(
        broker: &Broker,
        signer: &Signer,
        requests: &[Request],
        patience: Duration,
    ) -> Result<Client, String> {
        let mut sent = Vec::new();
        for request in requests {
            let nonce =
                uuid::Uuid::new_v4().simple().to_string().parse::<Nonce>().expect("hexadecimal digits");
            let fields = signed(signer, request, &nonce).ok_or(
                "the key of your certificate cannot sign requests: have one made with RSA, ECDSA or Ed25519",
            )?;
            sent.push(Sent {
                arch: request.arch.clone(),
                topic: format!("{}/{}", broker.topic, request.arch),
                digest: hex(&Sha256::digest(signed_bytes(&fields))),
                payload: Value::Object(fields).to_string().into_bytes(),
                nonce,
                state: State::Sent,
                heard: Instant::now(),
                published: Instant::now(),
                again: true,
            });
        }
        let site = site(&broker.topic);
        let hello = hello_topic(site);
        let answers = sent.iter().map(|sent| Told::topic(site, &sent.nonce));
        let options = Options {
            address: broker.address.clone(),
            tls: Tls::open(&broker.tls).map_err(|error| error.to_string())?,
            client_id: format!("reimzul-request-{}", uuid::Uuid::new_v4().simple()),
            persistent: false,
            subscriptions: answers.chain([hello.clone()]).collect(),
            hello: None,
        };
        let (mqtt, messages) = Mqtt::start(options);
        let mut client = Client { mqtt, messages, hello, sent, bridge: false };
        let until = Instant::now() + patience;
        loop {
            match client.publish().await {
                Ok(()) => break,
                Err(error) if Instant::now() >= until => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
        for sent in &mut client.sent {
            sent.heard = Instant::now();
        }
        Ok(client)
    }

    /// Publishes what is to be published again.
    async fn publish(&mut self) -> Result<(), MqttError> {
        for sent in self.sent.iter_mut().filter(|sent| sent.again) {
            self.mqtt.publish(&sent.topic, sent.payload.clone()).await?;
            (sent.again, sent.published) = (false, Instant::now());
        }
        Ok(())
    }

    /// Waits until more is known of a request, and says of which; none when all are done. One that nobody has answered
    /// for `patience` is unconfirmed; with `wait` an accepted one is done when its builds are.
    pub async fn next(&mut self, wait: bool, patience: Duration) -> Option<usize> {
        while self.sent.iter().any(|sent| !sent.is_done(wait)) {
            let message = tokio::time::timeout(LOOK, self.messages.recv()).await;
            let changed = match message {
                Ok(Some(message)) => self.read(&message),
                Ok(None) => None,
                Err(_) => self.look_at_the_clock(wait, patience),
            };
            if changed.is_some() {
                return changed;
            }
            // Where the broker is away, it is tried again after a look.
            let _ = self.publish().await;
        }
        None
    }

    fn read(&mut self, message: &Message) -> Option<usize> {
        self.mqtt.acknowledge(message);
        self.bridge = true;
        if message.topic == self.hello {
            for sent in self.sent.iter_mut().filter(|_| !message.retained) {
                sent.again |= matches!(sent.state, State::Sent | State::Received | State::Accepted { .. });
            }
            return None;
        }
        let told: Told = serde_json::from_slice(&message.payload).ok()?;
        self.sent.iter_mut().position(|sent| sent.hear(told.clone()))
    }

    fn look_at_the_clock(&mut self, wait: bool, patience: Duration) -> Option<usize> {
        let cut = self.mqtt.was_cut();
        for sent in self.sent.iter_mut().filter(|sent| !sent.is_done(wait)) {
            let due = match sent.state {
                State::Accepted { .. } => OUTCOME_AGAIN,
                _ => AGAIN,
            };
            sent.again |= cut || (self.bridge && sent.published.elapsed() >= due);
        }
        let silent = |sent: &Sent| {
            matches!(sent.state, State::Sent | State::Received) && sent.heard.elapsed() >= patience
        };
        let index = self.sent.iter().position(silent)?;
        self.sent[index].state = State::Unconfirmed;
        Some(index)
    }

    pub async fn close(self) {
        self.mqtt.close().await;
    }
}
