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

/// What clients import.
pub const PUBLIC_KEY: &str = "RPM-GPG-KEY";
const POLL: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(5);

/// Has the metadata say what the tree holds, of which only `folders` changed. An error is a sentence's part.
pub async fn update(
    publisher: &Publisher,
    target: &Target,
    keys: &Keys,
    folders: Vec<PathBuf>,
) -> Result<(), String> {
    let layout = &publisher.layout;
    let (tree, cache) = (layout.signed(target), layout.signing(target));
    let repository = Repository { tree: tree.clone(), cache, options: publisher.options.clone() };
    let locked = repository.lock().await.map_err(|error| error.to_string())?;
    publish_key(&tree, &keys.public)?;
    let wanted = Wanted { only: Some(changed(&tree, folders)?), all: Arc::new(move || all(&tree)) };
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
        tracing::warn!("{target}, signed: {} is left out: {}", file.file.display(), file.reason);
    }
    Ok(())
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
        self.queue.put(vec![order.job(&self.keys.info)]).await.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(self.patience, appearance(&file)).await;
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
        let SignedRepomd { target, sha256, signature } = match serde_json::from_slice(&delivery.job.body) {
            Ok(signed) => signed,
            Err(error) => {
                return Verdict::Bury {
                    reason: format!("its body is no signature of a repomd.xml: {error}"),
                };
            }
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

/// The folders of builds below a tree: `<pkgname>/<timestamp>/<version-release>.<arch>`.
pub fn builds(tree: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for package in folders(tree)? {
        for timestamp in folders(&package)? {
            found.extend(folders(&timestamp)?);
        }
    }
    Ok(found)
}

/// Folders in a folder, hidden ones and metadata left out; none where it is not there.
fn folders(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::at("read", path))?,
    };
    let wanted = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_folder && name != "repodata" && !name.as_encoded_bytes().starts_with(b".")
    };
    Ok(entries.flatten().filter(wanted).map(|entry| entry.path()).collect())
}

/// The RPMs of a tree, relative to it, sorted.
fn all(tree: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    for folder in builds(tree)? {
        found.extend(rpms(tree, &folder)?);
    }
    found.sort();
    Ok(found)
}

/// The RPMs of a folder, relative to the tree.
pub fn rpms(tree: &Path, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at("read", folder))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let rpms = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rpm"));
    Ok(rpms.filter_map(|path| path.strip_prefix(tree).ok().map(Path::to_owned)).collect())
}

/// What the folders hold that changed, by folder, both relative to the tree.
fn changed(tree: &Path, folders: Vec<PathBuf>) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>, String> {
    let mut changed = BTreeMap::new();
    for folder in folders {
        let found = rpms(tree, &folder).map_err(|error| error.to_string())?;
        if let Ok(below) = folder.strip_prefix(tree) {
            changed.insert(below.to_owned(), found);
        }
    }
    Ok(changed)
}
