//! Where a beanstalkd is, how it is reached, and whether it could be when last tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;

use super::link::{Broken, Link};
use crate::config::Address;
use crate::sys::{steady, tcp};

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
        // A stream belongs to the runtime that made it.
        let connecting = steady::runtime().spawn(stream(self.address.clone()));
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

/// The only way to a server: whatever [`Link::start`] takes may come of it.
async fn stream(address: Address) -> Result<TcpStream, String> {
    tcp::connect(&address.host, address.port).await
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
