//! Results by MQTT: for everybody on `<topic>/builds/results`, as the old system published them with our fields beside
//! its own, and for who asked for a build by a request on that request's topic. QoS 1, told once the broker has
//! acknowledged.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;

use super::Fault;
use super::logs::Logs;
use crate::config::{Broker, Config};
use crate::model::Event;
use crate::model::answer::{FIELD, Told};
use crate::sys::mqtt::{Mqtt, MqttError, Options};
use crate::sys::tls::Tls;

/// Where results are, below the site's topic.
pub const RESULTS: &str = "builds/results";

/// Publishes. Cheap to clone; the clones share a connection, which is made when there is something to say.
#[derive(Debug, Clone)]
pub struct Publisher {
    broker: Broker,
    node: String,
    logs: Logs,
    client: Arc<Mutex<Option<Arc<Mqtt>>>>,
}

impl Publisher {
    /// None where there is no broker.
    pub fn of(config: &Config) -> Option<Publisher> {
        let broker = config.mqtt.clone()?;
        Some(Publisher { broker, node: config.node.clone(), logs: Logs::of(config), client: Arc::default() })
    }

    /// Whether everybody is told of the event.
    pub fn is_result(&self, event: &Event) -> bool {
        self.broker.results && event.status.is_result() && !event.scratch
    }

    /// Tells everybody.
    pub async fn publish(&self, event: &Event) -> Result<(), Fault> {
        self.send(&format!("{}/{RESULTS}", self.broker.topic), &self.result(event)).await
    }

    /// Tells who asked for the build, if anybody did by a request.
    pub async fn answer(&self, event: &Event) -> Result<(), Fault> {
        let Some(told) = Told::of_event(event) else { return Ok(()) };
        let told_as = serde_json::to_value(&told).expect("an answer serializes");
        self.send(&Told::topic(&self.broker.topic, &told.nonce), &told_as).await
    }

    /// The event, with a link to its logs where people have one.
    fn result(&self, event: &Event) -> Value {
        let mut event = event.clone();
        // Whose request it was is nobody else's business.
        event.extra.shift_remove(FIELD);
        if let Some(url) = self.logs.url(&event, "") {
            event.extra.insert("url".into(), url.to_string().into());
        }
        serde_json::to_value(&event).expect("an event serializes")
    }

    async fn send(&self, topic: &str, payload: &Value) -> Result<(), Fault> {
        let client = self.client().await?;
        client.publish(topic, payload.to_string().into_bytes()).await.map_err(|error| match error {
            MqttError::Down { .. } => Fault::Down(error.to_string()),
            // A broker may throw us out for a message that is too large for it: others must not wait behind that.
            MqttError::Unacknowledged { .. } | MqttError::Topic { .. } => Fault::Refused(error.to_string()),
        })
    }

    async fn client(&self) -> Result<Arc<Mqtt>, Fault> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref() {
            return Ok(Arc::clone(client));
        }
        let options = self.options().map_err(Fault::Down)?;
        Ok(Arc::clone(client.insert(Arc::new(Mqtt::start(options).0))))
    }

    fn options(&self) -> Result<Options, String> {
        let tls = Tls::open(&self.broker.tls).map_err(|error| error.to_string())?;
        Ok(Options {
            address: self.broker.address.clone(),
            tls,
            client_id: format!("reimzul-notifier-{}-{}", self.node, uuid::Uuid::new_v4().simple()),
            persistent: false,
            subscriptions: Vec::new(),
            hello: None,
        })
    }
}
