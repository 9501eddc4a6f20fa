//! Where a beanstalkd is, how it is reached, and whether it could be when last tried.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use super::link::{Broken, Link};
use crate::sys::steady;

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3986: an IPv6 address stands in brackets.
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A server as this process knows it.
#[derive(Debug)]
pub struct Server {
    pub address: Address,
    health: Arc<Health>,
}

impl Server {
    pub fn new(address: Address) -> Server {
        let health = Arc::new(Health { server: address.to_string(), down: AtomicBool::new(false) });
        Server { address, health }
    }

    pub async fn connect(&self) -> Result<Link, Broken> {
        let (host, port) = (self.address.host.clone(), self.address.port);
        // A stream belongs to the runtime that made it.
        let connecting = steady::runtime().spawn(async move {
            let stream = tokio::time::timeout(PATIENCE, TcpStream::connect((host.as_str(), port)))
                .await
                .map_err(|_| format!("no connection within {} s", PATIENCE.as_secs()))?
                .map_err(|error| error.to_string())?;
            // Commands are small, and each is waited for.
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            Ok::<_, String>(stream)
        });
        let connected = connecting.await.unwrap_or_else(|_| Err("the program is ending".into()));
        match connected {
            Ok(stream) => Ok(Link::start(stream, Arc::clone(&self.health))),
            Err(reason) => {
                self.health.is_down(&reason);
                Err(Broken(reason))
            }
        }
    }
}

/// Says once that the server is gone, and once that it is back, however many connections find out.
#[derive(Debug)]
pub struct Health {
    server: String,
    down: AtomicBool,
}

impl Health {
    pub fn is_down(&self, reason: &str) {
        if !self.down.swap(true, Ordering::SeqCst) {
            tracing::warn!("beanstalkd at {} is lost: {reason}; trying until it is back", self.server);
        }
    }

    pub fn is_up(&self) {
        if self.down.swap(false, Ordering::SeqCst) {
            tracing::info!("beanstalkd at {} is back", self.server);
        }
    }
}
