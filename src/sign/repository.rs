//! A signed repository: its metadata, its public key, and the signature of its repomd.xml.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::key::Keys;
use super::order::{Order, Sha256, SignedRepomd};
use super::publisher::Publisher;
use crate::consumer::{Delivery, Handler, Verdict};
use crate::metadata::{Repository, Signing, Wanted};
use crate::model::{Layout, Target};
use crate::queue::Queue;
use crate::sys::fs::{self, FileError};
use crate::sys::openpgp::PublicKeys;
use crate::upload::finished;

/// What clients import.
pub const PUBLIC_KEY: &str = "RPM-GPG-KEY";
const POLL: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(5);

/// Where a signed repository may have changed.
#[derive(Debug)]
pub enum Changed {
    /// In these folders of builds.
    In(Vec<PathBuf>),
    Anywhere,
}

impl Changed {
    pub fn add(&mut self, folders: Vec<PathBuf>) {
        if let Changed::In(known) = self {
            known.extend(folders);
        }
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Changed::In(folders) if folders.is_empty())
    }
}

/// A signed repository's tree, and that of what was built. A build leaves both in the same steps: first their metadata,
/// then its files go.
#[derive(Debug, Clone)]
struct Trees {
    signed: PathBuf,
    built: PathBuf,
}

/// Has the metadata say what is to be in the signed repository, and then removes the files of what was built and is not
/// there any more. Says how many RPMs are in it; an error is a sentence's part.
pub async fn update(
    publisher: &Publisher,
    target: &Target,
    keys: &Keys,
    changed: Changed,
) -> Result<usize, String> {
    let layout = &publisher.layout;
    let trees = Trees { signed: layout.signed(target), built: layout.repository(target, false) };
    if !trees.signed.exists() {
        // Nothing was ever published.
        return Ok(0);
    }
    let (tree, cache) = (trees.signed.clone(), layout.signing(target));
    let repository = Repository { tree: tree.clone(), cache, options: publisher.options.clone() };
    let locked = repository.lock().await.map_err(|error| error.to_string())?;
    publish_key(&tree, &keys.public)?;
    let (is_full, all) = (matches!(changed, Changed::Anywhere), trees.clone());
    let only = trees.changed(changed).map_err(|error| error.to_string())?;
    let wanted = Wanted { only, all: Arc::new(move || all.listed()) };
    let waiting = Waiting {
        layout: layout.clone(),
        queue: publisher.queue.clone(),
        target: target.clone(),
        keys: keys.clone(),
        patience: publisher.patience,
    };
    // Of runs that did not wait long enough.
    fs::remove_dir(&waiting.folder()).map_err(|error| error.to_string())?;
    let sign = move |repomd: Vec<u8>| -> Signing {
        let waiting = waiting.clone();
        Box::pin(async move { waiting.signature(repomd).await })
    };
    let made = locked.update(wanted, Some(&sign)).await.map_err(|error| error.to_string())?;
    for file in &made.excluded {
        tracing::warn!("{target}, signed: {}", file.told());
    }
    if is_full {
        trees.remove_gone().map_err(|error| error.to_string())?;
    }
    Ok(made.packages)
}

fn publish_key(tree: &Path, keys: &PublicKeys) -> Result<(), String> {
    let (file, text) = (tree.join(PUBLIC_KEY), keys.armored()?.concat());
    if std::fs::read(&file).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    fs::write_whole(&file, text.as_bytes()).map_err(|error| error.to_string())
}

/// The signature of a repomd.xml, waited for.
#[derive(Clone)]
struct Waiting {
    layout: Layout,
    queue: Queue,
    target: Target,
    keys: Keys,
    patience: Duration,
}

impl Waiting {
    fn folder(&self) -> PathBuf {
        signatures(&self.layout, &self.target)
    }

    /// A signature that is right, or why there is none.
    async fn signature(&self, repomd: Vec<u8>) -> Result<Vec<u8>, String> {
        let file = self.folder().join(Sha256::of(&repomd).as_str());
        let text = String::from_utf8_lossy(&repomd).into_owned();
        let order = Order::Repomd { target: self.target.clone(), text };
        let orders =
            self.queue.put(vec![order.job(&self.keys.info)]).await.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(self.patience, appearance(&file)).await;
        if answer.is_err() {
            // The next try has an order of its own. One that is being worked on is answered, to nobody.
            for order in orders {
                let _ = self.queue.withdraw(order).await;
            }
        }
        let signature = answer.map_err(|_| {
            let (seconds, key) = (self.patience.as_secs(), self.keys.info.id());
            format!("no signer with key {key} answered within {seconds} s; is one running, and not held up?")
        })?;
        let _ = std::fs::remove_file(&file);
        self.keys
            .public
            .check(&repomd, &signature)
            .map_err(|error| format!("the signature is refused: {error}"))?;
        Ok(signature.into_bytes())
    }
}

/// The content of a file, once it is there.
async fn appearance(file: &Path) -> String {
    loop {
        if let Ok(text) = std::fs::read_to_string(file) {
            return text;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Where signatures of a target's repomd.xml wait for who ordered them, by its SHA-256.
fn signatures(layout: &Layout, target: &Target) -> PathBuf {
    layout.signing(target).join("repomd")
}

/// Takes signatures of repomd.xml from the queue to whichever process ordered them.
#[derive(Debug)]
pub struct Receiver {
    pub layout: Layout,
}

impl Handler for Receiver {
    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        jobs.iter().map(|delivery| self.receive(delivery)).collect()
    }
}

impl Receiver {
    fn receive(&self, delivery: &Delivery) -> Verdict {
        let SignedRepomd { target, sha256, signature } = match delivery.body("signature of a repomd.xml") {
            Ok(signed) => signed,
            Err(verdict) => return verdict,
        };
        let folder = signatures(&self.layout, &target);
        let kept = fs::make_dir(&folder)
            .and_then(|()| fs::write_whole(&folder.join(sha256.as_str()), signature.as_bytes()));
        match kept {
            Ok(()) => Verdict::Done,
            Err(error) => Verdict::Release { delay: RETRY, reason: error.to_string() },
        }
    }
}

/// The RPMs of a folder.
fn rpms(folder: &Path) -> Result<impl Iterator<Item = PathBuf>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at("read", folder))?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "rpm")))
}

impl Trees {
    /// Where a signed RPM, or a folder of some, is in the tree of what was built.
    fn built(&self, signed: &Path) -> PathBuf {
        signed.strip_prefix(&self.signed).map(|below| self.built.join(below)).unwrap_or_default()
    }

    /// The RPMs that are to be listed, relative to the tree, sorted.
    fn listed(&self) -> Result<Vec<PathBuf>, FileError> {
        let mut found = Vec::new();
        for folder in finished::builds(&self.signed)? {
            found.extend(self.listed_in(&folder)?);
        }
        found.sort();
        Ok(found)
    }

    fn listed_in(&self, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
        if finished::is_unlisted(&self.built(folder)) {
            return Ok(Vec::new());
        }
        let there = rpms(folder)?.filter(|path| self.built(path).exists());
        Ok(there.filter_map(|path| path.strip_prefix(&self.signed).ok().map(Path::to_owned)).collect())
    }

    /// What is to be listed of the folders that changed, by folder, all relative to the tree; nothing where all of it
    /// is to be looked at.
    fn changed(&self, changed: Changed) -> Result<Option<BTreeMap<PathBuf, Vec<PathBuf>>>, FileError> {
        let Changed::In(folders) = changed else { return Ok(None) };
        let mut only = BTreeMap::new();
        for folder in folders {
            if let Ok(below) = folder.strip_prefix(&self.signed) {
                only.insert(below.to_owned(), self.listed_in(&folder)?);
            }
        }
        Ok(Some(only))
    }

    /// Removes the RPMs of what was built and is not there any more.
    fn remove_gone(&self) -> Result<(), FileError> {
        for folder in finished::builds(&self.signed)? {
            let gone: Vec<PathBuf> = rpms(&folder)?.filter(|path| !self.built(path).exists()).collect();
            for path in &gone {
                fs::remove_file(path)?;
            }
            if !gone.is_empty() {
                // With the folders of its build, if nothing else is in them; into that of its package others may come.
                folder.ancestors().take(2).map(std::fs::remove_dir).take_while(Result::is_ok).for_each(drop);
            }
        }
        Ok(())
    }
}
