//! Who has a key: takes orders, fetches what is to be signed, and sends signatures back.
//!
//! It needs the queue, and to read the bstore: its own files, or another host's over HTTP. Nobody connects to it, and
//! it changes nothing anywhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::key::{Content, Key, Ring, SignError};
use super::order::{Answer, Order, Package, Sha256, Signed, SignedRepomd, tube};
use super::workplace::Workplace;
use crate::consumer::{Delivery, Handler, Verdict};
use crate::model::record::UNLISTED;
use crate::model::{Layout, Target};
use crate::queue::{Queue, QueueError};
use crate::sys::fs::{self, FileError};
use crate::sys::http::{Http, HttpError};
use crate::sys::rpm::RpmError;
use crate::sys::rpm::signing::signable;
use crate::upload::finished;

/// How long an order waits for a key that does not sign, or a bstore that does not answer.
const RETRY: Duration = Duration::from_secs(30);

/// An order that is not carried out.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{0}")]
    Sign(#[from] SignError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Rpm(#[from] RpmError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("this host has no key for {0}; see [sign] in its configuration and the bstore's")]
    NoKey(Target),
    #[error("{} is not what was built: its SHA-256 is {found}, not {wanted}", path.display())]
    Changed { path: PathBuf, found: String, wanted: String },
    #[error("what is to be signed is no repomd.xml")]
    NoRepomd,
}

impl OrderError {
    /// Whether another try would end the same.
    fn is_final(&self) -> bool {
        match self {
            OrderError::Http(error) => error.is_final(),
            OrderError::File(_) | OrderError::Rpm(RpmError::File(_)) => self.is_of_what_is_missing(),
            OrderError::Rpm(_) | OrderError::Changed { .. } | OrderError::NoRepomd => true,
            OrderError::Sign(_) | OrderError::Queue(_) | OrderError::NoKey(_) => false,
        }
    }

    fn is_of_what_is_missing(&self) -> bool {
        match self {
            OrderError::Http(error) => matches!(error, HttpError::Missing { .. }),
            OrderError::File(error) | OrderError::Rpm(RpmError::File(error)) => {
                error.source.kind() == std::io::ErrorKind::NotFound
            }
            _ => false,
        }
    }
}

/// Where packages are read.
#[derive(Debug, Clone)]
pub enum Store {
    /// The bstore of this host.
    Own(Layout),
    /// Another's.
    Web(Http, Url),
}

/// A signer with keys.
#[derive(Debug, Clone)]
pub struct Holder {
    pub queue: Queue,
    pub ring: Arc<Ring>,
    pub store: Store,
    pub workplace: Arc<Workplace>,
}

impl Holder {
    /// The tubes of the keys that this host has.
    pub fn tubes(&self) -> Vec<String> {
        let mut tubes: Vec<String> =
            self.ring.all().filter(|keys| keys.key.is_some()).map(|keys| tube(&keys.info)).collect();
        tubes.sort();
        tubes.dedup();
        tubes
    }

    async fn verdict(&self, delivery: &Delivery) -> Verdict {
        let order: Order = match delivery.body("order to sign") {
            Ok(order) => order,
            Err(verdict) => return verdict,
        };
        match self.carry_out(&order).await {
            Ok(()) => Verdict::Done,
            Err(error) if error.is_final() => {
                Verdict::Bury { reason: format!("{}: not signed: {error}", order.target()) }
            }
            Err(error) => {
                tracing::error!(
                    "{}: not signed: {error}; trying again in {} s",
                    order.target(),
                    RETRY.as_secs()
                );
                Verdict::Release { delay: RETRY, reason: format!("not signed: {error}") }
            }
        }
    }

    async fn carry_out(&self, order: &Order) -> Result<(), OrderError> {
        let target = order.target();
        let keys = self.ring.of(target).ok_or_else(|| OrderError::NoKey(target.clone()))?;
        let key = keys.key.as_ref().ok_or_else(|| OrderError::NoKey(target.clone()))?;
        let folder = Folder(self.workplace.folder()?);
        let (answer, bad) = match order {
            Order::Packages { packages, .. } => {
                let (packages, bad) = self.sign_all(target, packages, key, &folder).await?;
                tracing::info!("{target}: RPMs signed: {}", packages.len());
                (Answer::Packages { target: target.clone(), packages }.job(), bad)
            }
            Order::Repomd { text, .. } => {
                // What else it might be would be signed in the name of all packages, too.
                if !text.contains("<repomd") {
                    return Err(OrderError::NoRepomd);
                }
                let signature = key.sign(Content::Bytes(text.as_bytes()), &folder.0).await?;
                let sha256 = Sha256::of(text.as_bytes());
                (SignedRepomd { target: target.clone(), sha256, signature }.job(), None)
            }
        };
        // The neighbours of one that a person must look at need not wait for that.
        self.queue.put(vec![answer]).await?;
        bad.map_or(Ok(()), Err)
    }

    /// All that can be signed, and why one of the others never can. What was pruned since it was ordered nobody misses.
    async fn sign_all(
        &self,
        target: &Target,
        packages: &[Package],
        key: &Key,
        folder: &Folder,
    ) -> Result<(Vec<Signed>, Option<OrderError>), OrderError> {
        let (mut signed, mut bad) = (Vec::new(), None);
        for package in packages {
            match self.sign(target, package, key, folder).await {
                Ok(one) => signed.push(one),
                Err(error) if error.is_of_what_is_missing() && self.was_pruned(target, package).await => {}
                Err(error) if error.is_final() => bad = bad.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Ok((signed, bad))
    }

    async fn sign(
        &self,
        target: &Target,
        package: &Package,
        key: &Key,
        folder: &Folder,
    ) -> Result<Signed, OrderError> {
        let rpm = self.have(target, package, folder).await?;
        let to_sign = signable(&rpm)?;
        let header = key.sign(Content::Bytes(&to_sign.header), &folder.0).await?;
        let whole = if to_sign.whole {
            Some(key.sign(Content::Tail(&rpm, to_sign.at), &folder.0).await?)
        } else {
            None
        };
        Ok(Signed { package: package.clone(), header, whole })
    }

    /// Whether a package that is missing was pruned since it was ordered.
    async fn was_pruned(&self, target: &Target, package: &Package) -> bool {
        let build = package.build(target);
        match &self.store {
            Store::Own(layout) => finished::is_unlisted(&layout.build(&build, false)),
            Store::Web(http, base) => match url(base, &format!("repo/{build}/{UNLISTED}")) {
                Ok(url) => http.answers(&url).await == Ok(200),
                Err(_) => false,
            },
        }
    }

    /// The RPM that was ordered, and no other.
    async fn have(&self, target: &Target, package: &Package, folder: &Folder) -> Result<PathBuf, OrderError> {
        let build = package.build(target);
        let wanted = package.sha256.as_str();
        match &self.store {
            Store::Web(http, base) => {
                let url = url(base, &format!("repo/{build}/{}", package.file))?;
                let to = folder.0.join(package.file.as_str());
                http.fetch(&url, &to, wanted).await?;
                Ok(to)
            }
            Store::Own(layout) => {
                let path = layout.build(&build, false).join(package.file.as_str());
                let (found, _) = fs::sha256(&path)?;
                let wanted = wanted.to_owned();
                if found == wanted { Ok(path) } else { Err(OrderError::Changed { path, found, wanted }) }
            }
        }
    }
}

/// Of a folder's URL and plain words.
fn url(base: &Url, place: &str) -> Result<Url, HttpError> {
    base.join(&place.replace('^', "%5E"))
        .map_err(|error| HttpError::Unavailable { url: format!("{base}{place}"), reason: error.to_string() })
}

impl Handler for Holder {
    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for delivery in jobs {
            verdicts.push(self.verdict(delivery).await);
        }
        verdicts
    }
}

/// Of one order, removed after it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
