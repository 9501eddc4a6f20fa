//! Where a beanstalkd is, how it is reached, and whether it could be when last tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::link::{Broken, Link};
use crate::sys::net::{self, Address, NetError, Stream};
use crate::sys::steady;
use crate::sys::tls::{self, Tls};

/// A server as this process knows it.
#[derive(Debug)]
pub struct Server {
    pub address: Address,
    tls: Option<Tls>,
    health: Arc<Health>,
}

impl Server {
    pub fn new(address: Address, tls: Option<Tls>) -> Server {
        let (server, tls_too) = (address.to_string(), tls.clone());
        let health = Arc::new(Health { server, tls: tls_too, down: AtomicBool::new(false) });
        Server { address, tls, health }
    }

    pub async fn connect(&self) -> Result<Link, Broken> {
        // A stream belongs to the runtime that made it.
        let connecting = steady::runtime().spawn(stream(self.address.clone(), self.tls.clone()));
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

/// The error is a reason, for a sentence that names the server already.
async fn stream(address: Address, tls: Option<Tls>) -> Result<Stream, String> {
    net::connect(&address, tls.as_ref()).await.map_err(|error| match error {
        NetError::Connect { source, .. } => source.to_string(),
        NetError::Tls { source, .. } => source.to_string(),
        NetError::Silent { .. } => "it does not answer; is a firewall in between?".into(),
    })
}

/// Says once that the server is gone, and once that it is back, however many connections find out.
#[derive(Debug)]
pub struct Health {
    server: String,
    tls: Option<Tls>,
    down: AtomicBool,
}

impl Health {
    /// Why a connection broke. A server's refusal of our certificate arrives with the first read only (RFC 8446).
    pub fn reason(&self, error: &std::io::Error) -> String {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return "it closed the connection".into();
        }
        let refusal = self.tls.as_ref().and_then(|tls| tls::find(error, tls.files()));
        refusal.map_or_else(|| error.to_string(), |refusal| refusal.to_string())
    }

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
