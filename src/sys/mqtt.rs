//! MQTT 3.1.1 (OASIS standard) with QoS 1: a client that stays connected, subscribes anew whenever it has connected,
//! and tells a sender only then that a message is sent when the broker has acknowledged it.
//!
//! A broker may lose what it has acknowledged when it is killed, and deliver a message again: who sends keeps the
//! message until its effect is seen, and who receives bears it twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet, Publish,
    PublishOptions, QoS, SubscribeFilter,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::net::{self, Address, NetError};
use super::tls::{self, Tls};

/// How long the broker has to connect us, or to acknowledge a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between tries to connect; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_SECONDS: u16 = 20;
/// MQTT's own limit. A message that the broker lets through must not end the connection again and again.
const LARGEST: usize = 268_435_455;

/// Who connects, and how.
#[derive(Debug, Clone)]
pub struct Options {
    pub address: Address,
    pub tls: Tls,
    /// Unique on the broker: it ends the connection of who had the same.
    pub client_id: String,
    /// The broker keeps subscriptions and messages while we are away.
    pub persistent: bool,
    /// Topic filters (MQTT 3.1.1, section 4.7), with QoS 1.
    pub subscriptions: Vec<String>,
    /// A topic that `listening` is published on, retained, whenever the subscriptions are there.
    pub hello: Option<String>,
}

/// A message that could not be sent, or a broker that could not be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MqttError {
    #[error("the MQTT broker {address} cannot be used: {reason}")]
    Down { address: Address, reason: String },
    #[error("the MQTT broker {address} has not acknowledged a message: {reason}")]
    Unacknowledged { address: Address, reason: String },
    #[error("'{topic}' is no MQTT topic to publish on: it is empty, too long, or has one of + and #")]
    Topic { topic: String },
}

/// A message that came in. Acknowledged by [`Mqtt::acknowledge`], else the broker delivers it again.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// It was there before we subscribed, and kept for those who do.
    pub retained: bool,
    /// Counts the messages of this client.
    number: u64,
}

/// Whether we are connected.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    /// Not yet.
    Coming,
    /// Subscribed, too.
    Up,
    /// Why not; tried again soon.
    Down(String),
}

/// A client, which goes on connecting until it is dropped or closed.
#[derive(Debug)]
pub struct Mqtt {
    address: Address,
    client: AsyncClient,
    link: watch::Receiver<Link>,
    held: Arc<Mutex<Held>>,
    /// Connections that [`Mqtt::was_cut`] has told of: the first is no news.
    seen: u64,
    serving: JoinHandle<()>,
}

/// Messages of this connection that are not acknowledged, in their order, which acknowledgements must keep
/// (MQTT 3.1.1, section 4.6).
#[derive(Debug, Default)]
struct Held {
    connections: u64,
    received: u64,
    messages: VecDeque<(u64, Publish, bool)>,
}

impl Mqtt {
    /// Begins to connect. Messages arrive at the receiver.
    pub fn start(options: Options) -> (Mqtt, mpsc::UnboundedReceiver<Message>) {
        let (to_link, link) = watch::channel(Link::Coming);
        let (to_messages, messages) = mpsc::unbounded_channel();
        let held = Arc::<Mutex<Held>>::default();
        // Unbounded, so that the loop itself may ask for something without waiting for itself.
        let (client, mut events) = AsyncClient::builder(mqtt_options(&options)).unbounded().build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(PATIENCE.as_secs());
        events.set_network_options(network);
        let serving = Serving {
            address: options.address.clone(),
            tls: options.tls,
            subscriptions: options.subscriptions,
            hello: options.hello,
            client: client.clone(),
            link: to_link,
            messages: to_messages,
            held: Arc::clone(&held),
        };
        let serving = tokio::spawn(serving.run(events));
        (Mqtt { address: options.address, client, link, held, seen: 1, serving }, messages)
    }

    /// Waits until the client is connected and subscribed, for half a minute at most.
    pub async fn connected(&self) -> Result<(), MqttError> {
        self.until(|link| *link == Link::Up).await
    }

    /// Waits for the first try to connect, however it ends.
    pub async fn tried(&self) -> Result<(), MqttError> {
        self.until(|link| *link != Link::Coming).await
    }

    async fn until(&self, is_enough: impl FnMut(&Link) -> bool) -> Result<(), MqttError> {
        let mut link = self.link.clone();
        let _ = tokio::time::timeout(PATIENCE, link.wait_for(is_enough)).await;
        if *self.link.borrow() == Link::Up { Ok(()) } else { Err(self.down()) }
    }

    /// Sends a message, and returns when the broker has acknowledged it. After an error it may have been sent or not.
    /// While the broker is away it fails at once.
    pub async fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), MqttError> {
        if !is_topic(topic) {
            return Err(MqttError::Topic { topic: topic.escape_debug().take(100).collect() });
        }
        self.tried().await?;
        let unacknowledged = |reason: &dyn std::fmt::Display| MqttError::Unacknowledged {
            address: self.address.clone(),
            reason: reason.to_string(),
        };
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let sent = self.client.publish_tracked(topic, payload, options).await;
        let notice = sent.map_err(|error| unacknowledged(&error))?;
        let mut link = self.link.clone();
        tokio::select! {
            acknowledged = notice.wait_async() => {
                acknowledged.map(drop).map_err(|error| unacknowledged(&error))
            }
            // What a cut came between is not waited for: the sender has it still.
            _ = link.wait_for(|link| *link != Link::Up) => Err(unacknowledged(&self.down())),
            () = tokio::time::sleep(PATIENCE) => {
                Err(unacknowledged(&format!("no answer within {} s", PATIENCE.as_secs())))
            }
        }
    }

    /// Tells the broker that a message need not be delivered again. One of an earlier connection is left alone: it
    /// is delivered again in any case.
    pub fn acknowledge(&self, message: &Message) {
        let mut held = lock(&self.held);
        if let Some((.., done)) = held.messages.iter_mut().find(|(number, ..)| *number == message.number) {
            *done = true;
        }
        while held.messages.front().is_some_and(|(.., done)| *done) {
            if let Some((_, publish, _)) = held.messages.pop_front() {
                // Fails only where the client has ended.
                let _ = self.client.try_ack(&publish);
            }
        }
    }

    /// Says goodbye, once what was sent is acknowledged, for a few seconds at most.
    pub async fn close(mut self) {
        let _ = self.client.disconnect_with_timeout(LAST_WAIT).await;
        let _ = tokio::time::timeout(LAST_WAIT * 2, &mut self.serving).await;
    }

    /// Whether a connection was made anew since this was last asked.
    pub fn was_cut(&mut self) -> bool {
        let connections = lock(&self.held).connections;
        std::mem::replace(&mut self.seen, connections) < connections
    }

    fn down(&self) -> MqttError {
        let reason = match &*self.link.borrow() {
            Link::Coming => format!("not connected within {} s", PATIENCE.as_secs()),
            Link::Up => "the connection was cut".to_owned(),
            Link::Down(reason) => reason.clone(),
        };
        MqttError::Down { address: self.address.clone(), reason }
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mqtt_options(options: &Options) -> MqttOptions {
    let Options { address, tls, .. } = options.clone();
    let mut mqtt = MqttOptions::new(&options.client_id, (address.host.clone(), address.port));
    mqtt.set_clean_session(!options.persistent)
        .set_ack_mode(AckMode::Manual)
        .set_keep_alive(KEEP_ALIVE_SECONDS)
        .set_max_packet_size(LARGEST, LARGEST)
        .set_socket_connector(move |_, _| {
            let (address, tls) = (address.clone(), tls.clone());
            async move { net::connect(&address, Some(&tls)).await.map_err(std::io::Error::other) }
        });
    mqtt
}

/// The task behind a client.
struct Serving {
    address: Address,
    tls: Tls,
    subscriptions: Vec<String>,
    hello: Option<String>,
    client: AsyncClient,
    link: watch::Sender<Link>,
    messages: mpsc::UnboundedSender<Message>,
    held: Arc<Mutex<Held>>,
}

impl Serving {
    async fn run(self, mut events: EventLoop) {
        let mut wait = FIRST_WAIT;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    wait = FIRST_WAIT;
                    self.begin();
                }
                Ok(Event::Incoming(Packet::SubAck(answer))) => {
                    if answer.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure) {
                        self.is_down("it refuses our subscription; its ACL must let us read there");
                    } else {
                        self.is_up();
                    }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.take(publish),
                Ok(_) => {}
                Err(ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout) => return,
                Err(error) => {
                    // They come again; what is acknowledged meanwhile the next connection would know nothing of.
                    lock(&self.held).messages.clear();
                    self.is_down(&self.told(&error).await);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        }
    }

    /// A new connection. A broker that has lost our session has lost the subscriptions, too.
    fn begin(&self) {
        {
            let mut held = lock(&self.held);
            held.messages.clear();
            held.connections += 1;
        }
        if self.subscriptions.is_empty() {
            return self.is_up();
        }
        let filter = |topic: &String| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce);
        self.link.send_replace(Link::Coming);
        if let Err(error) = self.client.try_subscribe_many(self.subscriptions.iter().map(filter)) {
            self.is_down(&format!("we cannot subscribe: {error}"));
        }
    }

    fn is_up(&self) {
        if let Some(topic) = &self.hello {
            let options = PublishOptions::new(QoS::AtLeastOnce).retained();
            // Fails only where the client has ended. One without content would remove what is retained.
            let _ = self.client.try_publish(topic.clone(), "listening", options);
        }
        if self.link.send_replace(Link::Up) != Link::Up {
            tracing::info!("connected to the MQTT broker {}", self.address);
        }
    }

    fn is_down(&self, reason: &str) {
        let down = Link::Down(reason.to_owned());
        if self.link.send_replace(down.clone()) != down {
            tracing::warn!("no MQTT broker at {}: {reason}; trying again", self.address);
        }
    }

    fn take(&self, publish: Publish) {
        let mut held = lock(&self.held);
        held.received += 1;
        let message = Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            retained: publish.retain,
            number: held.received,
        };
        held.messages.push_back((message.number, publish, false));
        // Nobody listens any more: the broker keeps it.
        let _ = self.messages.send(message);
    }

    async fn told(&self, error: &ConnectionError) -> String {
        // In TLS 1.3 a server refuses our certificate after the handshake, and who writes meanwhile sees no more of it
        // than a cut. Who only reads is told.
        if is_cut(error)
            && let Err(NetError::Tls { source, .. }) = net::probe(&self.address, &self.tls).await
        {
            return source.to_string();
        }
        match (tls::find(error, self.tls.files()), error) {
            (Some(told), _) => told.to_string(),
            (None, ConnectionError::ConnectionRefused(code)) => {
                format!("it refuses us ({code:?}); is our certificate known to it?")
            }
            (None, ConnectionError::Io(error)) => {
                let of_ours = error.get_ref().and_then(|inner| inner.downcast_ref::<NetError>());
                of_ours.map_or_else(|| error.to_string(), NetError::without_address)
            }
            (None, error) => error.to_string(),
        }
    }
}

/// Whether the other side has ended the connection without a word.
fn is_cut(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    let mut causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset))
    })
}

/// Whether messages can be published on it (MQTT 3.1.1, section 4.7). One that begins with `$` is the broker's own.
pub fn is_topic(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !"+#".contains(c);
    !text.is_empty() && text.len() <= 1000 && !text.starts_with('$') && text.chars().all(plain)
}
