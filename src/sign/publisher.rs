//! Who publishes: orders signatures, puts them into packages, and into `signed/<target>/` what rpmkeys accepts.
//!
//! It works where the bstore is and trusts no signer: a package is the one that was built, with a signature header
//! made here; it is checked with the target's public keys before it gets into the repository, and so is the
//! signature of repomd.xml before readers see that.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Request;
use super::key::{Keys, Ring};
use super::order::{Answer, MOST, Order, Package, Signed};
use super::repository::{self, Changed};
use super::stage::{packages, signable, stage};
use super::workplace::Workplace;
use crate::config::RepoOptions;
use crate::consumer::{Delivery, Handler, Verdict};
use crate::model::{Layout, Target};
use crate::queue::{Queue, QueueError, TOSIGN};
use crate::sys::fs::{self, FileError};
use crate::sys::openpgp::{self, SignatureError};
use crate::sys::rpm::RpmError;
use crate::sys::rpm::signing::{Signatures, write_signed};
use crate::sys::rpmkeys::{Keyring, RpmkeysError};
use crate::upload::finished;

const RETRY: Duration = Duration::from_secs(5);

/// Packages that are not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Rpm(#[from] RpmError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Rpmkeys(#[from] RpmkeysError),
    #[error("{target}/{file} is none of the RPMs to be signed: it was not built, or is another by now")]
    NotBuilt { target: Target, file: String },
    #[error("the signature of {file} cannot be used: {reason}")]
    Signature { file: String, reason: SignatureError },
    #[error("no public key is configured for {0}; see [sign]")]
    NoKey(Target),
    #[error("the public key cannot be written: {0}")]
    Key(String),
}

impl PublishError {
    /// Whether another try would end the same.
    fn is_final(&self) -> bool {
        match self {
            PublishError::File(error) => error.source.kind() == std::io::ErrorKind::NotFound,
            PublishError::Rpm(RpmError::File(_)) | PublishError::Queue(_) | PublishError::NoKey(_) => false,
            PublishError::Rpmkeys(error) => matches!(error, RpmkeysError::Refused { .. }),
            PublishError::Rpm(_) | PublishError::NotBuilt { .. } | PublishError::Signature { .. } => true,
            PublishError::Key(_) => false,
        }
    }
}

/// A signer without need for a key.
#[derive(Debug, Clone)]
pub struct Publisher {
    pub layout: Layout,
    pub queue: Queue,
    pub ring: Arc<Ring>,
    pub options: RepoOptions,
    /// How long the signature of a repomd.xml is waited for.
    pub patience: Duration,
    /// Whether RPMs are staged by links.
    pub link: bool,
    pub workplace: Arc<Workplace>,
    /// By the fingerprint of the key in use.
    pub keyrings: Arc<Mutex<HashMap<String, Keyring>>>,
}

impl Publisher {
    /// Of a build that succeeded.
    async fn to_sign(&self, delivery: &Delivery) -> Verdict {
        let request: Request = match delivery.body("request for signing") {
            Ok(request) => request,
            Err(verdict) => return verdict,
        };
        let Request { target, pkgname, .. } = &request;
        let done = match self.ring.of(target) {
            None => stage(&self.layout, self.link, &request)
                .map(|staged| tracing::info!("{target}: staged for signing, RPMs of {pkgname}: {staged}"))
                .map_err(PublishError::from),
            Some(keys) => match packages(&self.layout, &request) {
                Ok(packages) => self.order(target, keys, packages).await.map(|ordered| {
                    tracing::info!("{target}: signatures ordered, RPMs of {pkgname}: {ordered}");
                }),
                Err(error) => Err(error.into()),
            },
        };
        verdict(done, "what is to be signed is not there")
    }

    /// Orders signatures of what is not published yet. Says of how many RPMs.
    async fn order(
        &self,
        target: &Target,
        keys: &Keys,
        packages: Vec<(PathBuf, Package)>,
    ) -> Result<usize, PublishError> {
        let mut new = Vec::new();
        for (folder, package) in packages {
            if self.layout.build(&package.build(target), false) != folder {
                // An old worker's, by another spelling of the arch, or moved by hand.
                tracing::warn!("{}: not signed: its folder should be called otherwise", folder.display());
            } else if !self.place(target, &package).exists() {
                new.push(package);
            }
        }
        let order =
            |packages: &[Package]| Order::Packages { target: target.clone(), packages: packages.to_vec() };
        let jobs = new.chunks(MOST).map(|packages| order(packages).job(&keys.info)).collect();
        self.queue.put(jobs).await?;
        Ok(new.len())
    }

    /// Where a signed package is.
    fn place(&self, target: &Target, package: &Package) -> PathBuf {
        self.folder(target, package).join(package.file.as_str())
    }

    /// As its build's folder is called in `repo/`.
    fn folder(&self, target: &Target, package: &Package) -> PathBuf {
        let place = self.layout.build(&package.build(target), false);
        let below = place.strip_prefix(self.layout.repository(target, false)).unwrap_or(&place).to_owned();
        self.layout.signed(target).join(below)
    }

    /// Has the packages of an answer be in the repository's tree; the folders that got some.
    async fn publish(&self, target: &Target, signed: &[Signed]) -> Result<Vec<PathBuf>, PublishError> {
        let keys = self.ring.of(target).ok_or_else(|| PublishError::NoKey(target.clone()))?;
        let keyring = self.keyring(keys).await?;
        let work = self.workplace.folder()?;
        let done = self.publish_by_way_of(&work, target, signed, &keyring).await;
        let _ = fs::remove_dir(&work);
        done
    }

    async fn publish_by_way_of(
        &self,
        work: &Path,
        target: &Target,
        signed: &[Signed],
        keyring: &Keyring,
    ) -> Result<Vec<PathBuf>, PublishError> {
        let mut made = Vec::new();
        for (number, one) in signed.iter().enumerate() {
            let built = self.layout.build(&one.package.build(target), false);
            // What was pruned meanwhile nobody misses.
            if !self.place(target, &one.package).exists() && !finished::is_unlisted(&built) {
                // Builds of one package have files of one name.
                let folder = work.join(number.to_string());
                fs::make_dir(&folder)?;
                let file = folder.join(one.package.file.as_str());
                self.put_together(target, one, &file)?;
                made.push((file, &one.package));
            }
        }
        let files: Vec<PathBuf> = made.iter().map(|(file, _)| file.clone()).collect();
        keyring.check(&files).await?;
        for (file, package) in &made {
            let place = self.place(target, package);
            fs::make_dir(place.parent().unwrap_or(&place))?;
            std::fs::rename(file, &place).map_err(FileError::at("publish", &place))?;
            fs::sync_parent(&place).map_err(FileError::at("sync", &place))?;
        }
        let mut folders: Vec<PathBuf> = signed.iter().map(|one| self.folder(target, &one.package)).collect();
        folders.dedup();
        Ok(folders)
    }

    /// The package that was built, with the signatures.
    fn put_together(&self, target: &Target, signed: &Signed, to: &Path) -> Result<(), PublishError> {
        let Signed { package, header, whole } = signed;
        let built = self.layout.build(&package.build(target), false);
        let name = package.file.as_str();
        if !signable(target, &built).contains(package) {
            return Err(PublishError::NotBuilt { target: target.clone(), file: name.to_owned() });
        }
        let packet = |armored: &String| {
            let file = name.to_owned();
            openpgp::packet(armored).map_err(|reason| PublishError::Signature { file, reason })
        };
        let signatures =
            Signatures { header: packet(header)?, whole: whole.as_ref().map(packet).transpose()? };
        Ok(write_signed(&built.join(name), to, &signatures)?)
    }

    /// Orders all that a target's signed repository lacks.
    async fn order_missing(&self, target: &Target) -> Result<(), PublishError> {
        let keys = self.ring.of(target).ok_or_else(|| PublishError::NoKey(target.clone()))?;
        let mut packages = Vec::new();
        for folder in finished::builds(&self.layout.repository(target, false))? {
            if finished::is_finished(&folder) && !finished::is_unlisted(&folder) {
                let found = signable(target, &folder).into_iter();
                packages.extend(found.map(|package| (folder.clone(), package)));
            }
        }
        let ordered = self.order(target, keys, packages).await?;
        tracing::info!("{target}: signatures ordered, RPMs: {ordered}");
        Ok(())
    }

    async fn keyring(&self, keys: &Keys) -> Result<Keyring, PublishError> {
        let mut keyrings = self.keyrings.lock().await;
        if let Some(keyring) = keyrings.get(&keys.info.fingerprint) {
            return Ok(keyring.clone());
        }
        let armored = keys.public.armored().map_err(PublishError::Key)?;
        let folder = self.workplace.path().join("keyrings").join(&keys.info.fingerprint);
        let keyring = Keyring::make(&folder, &armored).await?;
        keyrings.insert(keys.info.fingerprint.clone(), keyring.clone());
        Ok(keyring)
    }

    /// Of one target: the packages of all answers, then metadata once.
    async fn answers(&self, target: &Target, answers: &[Answer]) -> Vec<Verdict> {
        let (mut verdicts, mut changed) = (Vec::new(), Changed::In(Vec::new()));
        for answer in answers {
            let done = match answer {
                Answer::Follow { .. } => {
                    changed = Changed::Anywhere;
                    self.order_missing(target).await
                }
                Answer::Packages { packages, .. } => {
                    self.publish(target, packages).await.map(|folders| changed.add(folders))
                }
            };
            verdicts.push(verdict(done, "it is not published"));
        }
        if let (false, Some(keys)) = (changed.is_nothing(), self.ring.of(target)) {
            match repository::update(self, target, keys, changed).await {
                Ok(packages) => tracing::info!("{target}: published, RPMs: {packages}"),
                Err(error) => {
                    tracing::error!("{target}: {error}; trying again in {} s", RETRY.as_secs());
                    let again = Verdict::Release { delay: RETRY, reason: error };
                    let waits = |verdict: &Verdict| *verdict == Verdict::Done;
                    verdicts
                        .iter_mut()
                        .filter(|verdict| waits(verdict))
                        .for_each(|verdict| *verdict = again.clone());
                }
            }
        }
        verdicts
    }
}

fn verdict(done: Result<(), PublishError>, what: &str) -> Verdict {
    match done {
        Ok(()) => Verdict::Done,
        Err(error) if error.is_final() => Verdict::Bury { reason: format!("{what}: {error}") },
        Err(error) => Verdict::Release { delay: RETRY, reason: error.to_string() },
    }
}

impl Handler for Publisher {
    // Each is a reserved job that must be kept alive.
    const MOST: usize = 100;

    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; jobs.len()];
        let mut by_target: BTreeMap<Target, Vec<(usize, Answer)>> = BTreeMap::new();
        for (at, delivery) in jobs.iter().enumerate() {
            if delivery.job.tube == TOSIGN {
                verdicts[at] = Some(self.to_sign(delivery).await);
                continue;
            }
            match delivery.body::<Answer>("answer of a signer") {
                Ok(answer) => by_target.entry(answer.target().clone()).or_default().push((at, answer)),
                Err(verdict) => verdicts[at] = Some(verdict),
            }
        }
        for (target, answers) in by_target {
            let (places, answers): (Vec<usize>, Vec<Answer>) = answers.into_iter().unzip();
            for (at, verdict) in places.into_iter().zip(self.answers(&target, &answers).await) {
                verdicts[at] = Some(verdict);
            }
        }
        let unhandled = || Verdict::Release { delay: RETRY, reason: "was not handled".into() };
        verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(unhandled)).collect()
    }
}
