//! Signing, role `signer`.
//!
//! On the bstore it is a *publisher*: RPMs of successful builds are staged in `tosign/<target>/` for a signer outside;
//! or, where keys are configured for the target, signatures are ordered, checked, put in, and the packages published
//! in `signed/<target>/`. Where a key is, it is a *holder* of it. One process may be both, and a holder may be on a
//! host of its own. See `docs/signing.md`.

mod check;
mod holder;
mod key;
mod order;
mod publisher;
mod repository;
mod stage;
mod workplace;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::consumer;
use crate::model::{Arch, Event, PkgName, Status, Target, Timestamp};
use crate::queue::{NewJob, PRIORITY_FOLLOW_UP, Queue, TOSIGN};
use crate::shutdown::Shutdown;
use crate::sys::fs::FileError;
use crate::sys::http::Http;
use crate::sys::openpgp::KeyInfo;
use crate::sys::tls::{Tls, TlsError};
pub use check::check;
use holder::{Holder, Store};
use key::Ring;
pub use key::{Keys, RingError};
use order::{Answer, ORDERS, REPOMD, SIGNED};
use publisher::Publisher;
use workplace::Workplace;

/// The body of a job in tube `tosign`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub pkgname: PkgName,
    pub status: Status,
    pub target: Target,
    pub arch: Arch,
    pub timestamp: Timestamp,
}

/// The job that an event sets off; none for a failed or a scratch build.
pub fn request(event: &Event) -> Option<NewJob> {
    let body = Request {
        pkgname: event.pkgname.clone(),
        status: event.status,
        target: event.target.clone(),
        arch: event.arch,
        timestamp: event.timestamp,
    };
    let wanted = event.status == Status::Success && !event.scratch;
    wanted.then(|| NewJob::new(TOSIGN, &body, PRIORITY_FOLLOW_UP))
}

/// The job that has a target's signed repository follow the one of what was built: what it lacks is signed, and what
/// is not there any more leaves it.
pub fn request_follow(target: &Target) -> NewJob {
    Answer::Follow { target: target.clone() }.job()
}

/// Whether a tube is one that signers work from.
pub fn is_tube(tube: &str) -> bool {
    tube == TOSIGN || tube == SIGNED || tube == REPOMD || tube.starts_with(ORDERS)
}

/// The tube of a key's orders.
pub fn tube_of(key: &KeyInfo) -> String {
    order::tube(key)
}

/// A signer that cannot run as configured.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the bstore cannot be read over HTTP: {0}")]
    Http(#[from] reqwest::Error),
}

/// What a publisher waits beyond the time that a key may take: for the jobs' ways.
const ON_THE_WAY: Duration = Duration::from_secs(30);

/// Everything a signer works with.
#[derive(Debug)]
pub struct Signer {
    queue: Queue,
    /// None on a host that only has keys.
    publisher: Option<Publisher>,
    /// None where no key is.
    holder: Option<Holder>,
}

impl Signer {
    /// Opens the keys that are configured.
    pub async fn open(config: &Config, queue: &Queue) -> Result<Signer, SignerError> {
        let (layout, signing) = (&config.layout, &config.signing);
        let ring = Arc::new(Ring::open(signing).await?);
        check::tell(&ring);
        let has_keys = ring.all().any(|keys| keys.key.is_some());
        let store = match &signing.url {
            None => Store::Own(layout.clone()),
            Some(url) => Store::Web(Http::new(&Tls::open(&config.tls)?)?, url.clone()),
        };
        let publisher = match signing.url {
            Some(_) => None,
            None => Some(Publisher {
                layout: layout.clone(),
                queue: queue.clone(),
                ring: ring.clone(),
                options: config.repo.clone(),
                patience: signing.timeout + ON_THE_WAY,
                link: signing.link,
                workplace: Arc::new(Workplace::open(&layout.publishers())?),
                keyrings: Arc::default(),
            }),
        };
        let holder = if has_keys {
            let workplace = Arc::new(Workplace::open(&layout.signers())?);
            Some(Holder { queue: queue.clone(), ring, store, workplace })
        } else {
            None
        };
        Ok(Signer { queue: queue.clone(), publisher, holder })
    }

    /// Works until told to stop.
    pub async fn run(&self, shutdown: &Shutdown) {
        tokio::join!(self.publish(shutdown), self.receive(shutdown), self.sign(shutdown));
    }

    async fn publish(&self, shutdown: &Shutdown) {
        if let Some(publisher) = &self.publisher {
            // Without keys nothing is ordered, and nothing comes back.
            let tubes: &[&str] = if publisher.ring.is_empty() { &[TOSIGN] } else { &[TOSIGN, SIGNED] };
            let tubes: Vec<String> = tubes.iter().map(ToString::to_string).collect();
            consumer::run(&self.queue, &tubes, shutdown, publisher).await;
        }
    }

    /// Beside it, since a publisher waits for what comes here.
    async fn receive(&self, shutdown: &Shutdown) {
        if let Some(publisher) = self.publisher.as_ref().filter(|publisher| !publisher.ring.is_empty()) {
            let receiver = repository::Receiver { layout: publisher.layout.clone() };
            consumer::run(&self.queue, &[REPOMD.to_owned()], shutdown, &receiver).await;
        }
    }

    async fn sign(&self, shutdown: &Shutdown) {
        if let Some(holder) = &self.holder {
            consumer::run(&self.queue, &holder.tubes(), shutdown, holder).await;
        }
    }
}
