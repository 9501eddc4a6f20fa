//! The bridge, role `mqtt-sub`: requests come in by MQTT, jobs go into the queue, answers go back.
//!
//! A message is acknowledged once its request is settled: refused, or its job put. From the moment that a request was
//! proved and allowed it is in the [`Ledger`] with all that was asked, so a bridge that is killed goes on with it,
//! and one that comes again is answered as it was the first time. The stamp of its job is in there before the job is
//! put: where it is not known whether that was done, the queue and the history are asked for the stamp.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::desk::Desk;
use super::ledger::Ledger;
use super::scm::Maker;
use super::signature::Authority;
use crate::config::{Broker, Config};
use crate::history::History;
use crate::model::answer::hello_topic;
use crate::queue::Queue;
use crate::shutdown::Shutdown;
use crate::stamp::Stamps;
use crate::sys::fs::{self, Lock};
use crate::sys::mqtt::{Mqtt, Options};
use crate::sys::sandbox::Launcher;
use crate::sys::tls::Tls;

/// How long a bridge that is told to stop goes on with what is nearly done.
const GRACE: Duration = Duration::from_secs(20);

const DAY: Duration = Duration::from_secs(86_400);

/// What a bridge works with.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub config: Config,
    pub queue: Queue,
    pub history: History,
    pub stamps: Stamps,
    /// Where specs are parsed.
    pub launcher: Launcher,
}

impl Bridge {
    /// Serves requests until told to stop. An error says why it cannot.
    pub async fn run(self, shutdown: &Shutdown) -> Result<(), String> {
        let broker = self.config.mqtt.clone().ok_or("no broker is configured: set host in section [mqtt]")?;
        let authority = self.authority(&broker)?;
        let maker = Maker::open(&self.config, self.launcher.clone())?;
        let Some(_only) = self.turn(shutdown).await? else { return Ok(()) };
        maker.sweep().await;
        let ledger = Ledger::open(&self.config.layout).map_err(|error| error.to_string())?;
        let left = ledger.unsettled().await.map_err(|error| error.to_string())?;
        let (mqtt, mut messages) = Mqtt::start(self.options(&broker)?);
        let desk = Arc::new(Desk::new(self, broker, authority, maker, ledger, mqtt, shutdown.clone()));
        let mut tasks = JoinSet::new();
        for entry in left {
            let desk = Arc::clone(&desk);
            tasks.spawn(async move { desk.resume(entry).await });
        }
        let mut days = tokio::time::interval(DAY);
        loop {
            tokio::select! {
                () = shutdown.stop().cancelled() => break,
                _ = days.tick() => {
                    let desk = Arc::clone(&desk);
                    tasks.spawn(async move { desk.forget_old().await });
                }
                Some(message) = messages.recv() => {
                    let desk = Arc::clone(&desk);
                    tasks.spawn(async move { desk.serve(&message).await });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_ok()
            && let Some(desk) = Arc::into_inner(desk)
        {
            desk.close().await;
        }
        Ok(())
    }

    /// The CAs whose certificates prove who asks. Only where unsigned requests are believed there may be none.
    fn authority(&self, broker: &Broker) -> Result<Authority, String> {
        let path = self.config.policy.ca_cert.as_ref().or(broker.tls.ca_cert.as_ref());
        let path =
            path.ok_or("set ca_cert in section [policy]: the CAs that requesters' certificates are of")?;
        Authority::open(path).map_err(|error| error.to_string())
    }

    /// One bridge of a root at a time: two would be in each other's way at the broker.
    async fn turn(&self, shutdown: &Shutdown) -> Result<Option<Lock>, String> {
        let path: PathBuf = self.config.layout.locks().join("mqtt-sub");
        fs::make_dir(&self.config.layout.locks()).map_err(|error| error.to_string())?;
        tokio::select! {
            lock = Lock::take(&path) => lock.map(Some).map_err(|error| error.to_string()),
            () = shutdown.stop().cancelled() => Ok(None),
        }
    }

    fn options(&self, broker: &Broker) -> Result<Options, String> {
        Ok(Options {
            address: broker.address.clone(),
            tls: Tls::open(&broker.tls).map_err(|error| error.to_string())?,
            // Two bridges of one machine, for a farm each, are in nobody's way.
            client_id: format!("reimzul-mqtt-sub-{}-{}", self.config.node, broker.topic.replace('/', "-")),
            persistent: true,
            subscriptions: vec![format!("{}/submit/#", broker.topic)],
            hello: Some(hello_topic(&broker.topic)),
        })
    }
}
