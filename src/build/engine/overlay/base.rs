//! Base chroots: what every build of a target starts from, made once by `dnf --installroot`.
//!
//! A base is never changed. Whether it is still what dnf would make today is asked when a repository changed (its
//! `repomd.xml` is another one, or it lies elsewhere and was last asked about a while ago), and asked while the
//! build is running already: nearly always the answer is yes. It is no when a package that the base would hold has
//! another NEVRA, or the same with another checksum, so an RPM rebuilt in place counts. Then the build is started
//! again on a new base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::dnf::{Call, Dnf, Done, Transaction, disk};
use super::work::Work;
use crate::model::record::RepositoryState;
use crate::model::{Class, Failure};
use crate::sys::fs::{FileError, Lock, sha256, write_whole};

/// How long what was resolved against repositories elsewhere is believed.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long making a base may take: a first download from a slow mirror is long.
pub const MAKING: Duration = Duration::from_secs(2 * 3600);
/// The phase in failures and durations.
pub const PHASE: &str = "base";

/// What is written down of a base.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    /// Of the target file, see [`super::target::TargetFile::identity`].
    target: String,
    /// What dnf installed.
    transaction: Transaction,
    /// The repositories when it was last found that dnf would install just that.
    repositories: BTreeMap<String, Option<String>>,
    /// And when that was, in seconds of Unix time.
    checked: u64,
    /// The states that the repositories were in then.
    #[serde(default)]
    seen: Vec<RepositoryState>,
}

/// A base in use: it stays while this value does.
#[derive(Debug)]
pub struct Base {
    folder: PathBuf,
    state: State,
    _share: Lock,
}

/// What became of a question about a base.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what dnf would make of these states of the repositories.
    Current(Vec<RepositoryState>),
    /// A new one must be made, and the old no longer be used.
    Outdated,
}

impl Base {
    /// The chroot's root folder.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Its packages, in the format of installed_pkgs.log.
    pub fn package_list(&self) -> PathBuf {
        self.folder.join("packages")
    }
}

/// Takes the newest base, or makes the first one.
pub async fn acquire(dnf: &Dnf, log: &Path, state_log: &Path, work: &Work<'_>) -> Result<Base, Failure> {
    let problem = |error: FileError| disk(&error);
    if let Some(base) = newest(dnf).map_err(problem)? {
        return Ok(base);
    }
    let _making = lock(&dnf.place.path("make.lock"), work).await?;
    // Another process may have made it while we waited.
    if let Some(base) = newest(dnf).map_err(problem)? {
        return Ok(base);
    }
    make(dnf, log, state_log, work).await?;
    newest(dnf).map_err(problem)?.ok_or_else(|| {
        Failure::new(Class::Lost, PHASE, "the base chroot vanished right after it was made").retried(true)
    })
}

/// Whether `base` is what dnf would make now. Notes it if so, and puts the base out of use if not.
/// What dnf said goes into `log` where it failed, and nowhere else: it is no part of the build.
pub async fn verify(
    dnf: &Dnf,
    base: &Base,
    scratch: &Path,
    log: &Path,
    work: &Work<'_>,
) -> Result<Verdict, Failure> {
    if is_fresh(dnf, &base.state) {
        return Ok(Verdict::Current(base.state.seen.clone()));
    }
    // One question at a time: builds that start together want the same answer.
    let _asking = lock(&dnf.place.path("ask.lock"), work).await?;
    let state = match read_state(&base.folder) {
        Some(state) if is_fresh(dnf, &state) => return Ok(Verdict::Current(state.seen)),
        Some(state) => state,
        None => return Ok(Verdict::Outdated),
    };
    // Taken before dnf looks: what changes in between is then asked about the next time.
    let (repositories, checked) = (fingerprint(dnf), now());
    let Done { transaction, repositories: seen } = resolve(dnf, scratch, log, work).await?;
    if transaction.unwrap_or_default() != state.transaction {
        // Without its state it is nobody's newest.
        let _ = std::fs::remove_file(base.folder.join(STATE));
        return Ok(Verdict::Outdated);
    }
    let state = State { repositories, checked, seen, ..state };
    write_state(&base.folder, &state).map_err(|error| disk(&error))?;
    Ok(Verdict::Current(state.seen))
}

const STATE: &str = "state.json";

/// The newest base made for the target file as it is now. Removes those that are of no use and not in use.
fn newest(dnf: &Dnf) -> Result<Option<Base>, FileError> {
    let mut numbers = numbers(dnf);
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = None;
    for number in numbers {
        let folder = dnf.place.path(&format!("base-{number}"));
        let lock_path = dnf.place.path(&format!("base-{number}.lock"));
        let usable = |state: &State| state.target == dnf.target.identity();
        if found.is_none()
            && let Some(state) = read_state(&folder).filter(usable)
            && let Some(share) = Lock::try_share(&lock_path)?
            // It may have been removed before we had the share.
            && folder.join(STATE).exists()
        {
            found = Some(Base { folder, state, _share: share });
        } else if let Some(_alone) = Lock::try_take(&lock_path)? {
            dnf.place.discard(&folder)?;
            let _ = std::fs::remove_file(&lock_path);
        }
    }
    Ok(found)
}

fn numbers(dnf: &Dnf) -> Vec<u64> {
    super::place::files_starting(&dnf.place.path(""), "base-")
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.strip_prefix("base-")?.parse().ok())
        .collect()
}

async fn make(dnf: &Dnf, log: &Path, state_log: &Path, work: &Work<'_>) -> Result<(), Failure> {
    let problem = |error: FileError| disk(&error);
    let number = next_number(dnf).map_err(problem)?;
    let folder = dnf.place.path(&format!("new-{}", uuid::Uuid::new_v4().simple()));
    crate::sys::fs::make_dir(&folder.join("root")).map_err(problem)?;
    let (repositories, checked) = (fingerprint(dnf), now());
    let call = Call {
        verb: [&["install".to_owned()], dnf.target.buildroot()].concat(),
        at: folder.join("root"),
        layers: None,
        log,
        label: format!("base chroot of {}", dnf.target.name()),
        state_log: Some(state_log.to_owned()),
        scratch: &folder,
        package_list: Some(folder.join("packages")),
        dry: false,
        furnish: true,
    };
    let made = dnf.run(&call, &Work::within(MAKING, work.cancel)).await;
    let finish = |done: Done| -> Result<(), FileError> {
        let transaction = done.transaction.unwrap_or_default();
        let state = State {
            target: dnf.target.identity(),
            transaction,
            repositories,
            checked,
            seen: done.repositories,
        };
        write_state(&folder, &state)?;
        let to = dnf.place.path(&format!("base-{number}"));
        std::fs::rename(&folder, &to).map_err(FileError::at("put in place", &to))
    };
    match made {
        Ok(done) => finish(done).map_err(problem),
        Err(failure) => {
            let _ = dnf.place.discard(&folder);
            Err(Failure { phase: PHASE.into(), ..failure })
        }
    }
}

/// Numbers are never used twice, so that a lock file means one base for ever.
fn next_number(dnf: &Dnf) -> Result<u64, FileError> {
    let path = dnf.place.path("base-last");
    let last: u64 =
        std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    write_whole(&path, (last + 1).to_string().as_bytes())?;
    Ok(last + 1)
}

/// What a base would hold that were made now.
async fn resolve(dnf: &Dnf, scratch: &Path, root_log: &Path, work: &Work<'_>) -> Result<Done, Failure> {
    let at = scratch.join("nothing");
    crate::sys::fs::make_dir(&at).map_err(|error| disk(&error))?;
    let log = scratch.join("resolve.log");
    let call = Call {
        verb: [&["install".to_owned()], dnf.target.buildroot()].concat(),
        at,
        layers: None,
        log: &log,
        label: String::new(),
        state_log: None,
        scratch,
        package_list: None,
        dry: true,
        furnish: false,
    };
    match dnf.run(&call, work).await {
        Ok(done) => Ok(done),
        Err(failure) => {
            append(&log, root_log).map_err(|error| disk(&error))?;
            Err(Failure { phase: PHASE.into(), ..failure })
        }
    }
}

/// Puts what a log holds at the end of another.
fn append(from: &Path, to: &Path) -> Result<(), FileError> {
    let copy = || -> std::io::Result<u64> {
        let mut to = std::fs::File::options().create(true).append(true).open(to)?;
        std::io::copy(&mut std::fs::File::open(from)?, &mut to)
    };
    match copy() {
        // It failed before it had said anything.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop).map_err(FileError::at("write", to)),
    }
}

fn is_fresh(dnf: &Dnf, state: &State) -> bool {
    let repositories = fingerprint(dnf);
    let elsewhere = repositories.values().any(Option::is_none);
    let old = now().saturating_sub(state.checked) >= BELIEVED.as_secs();
    repositories == state.repositories && !(elsewhere && (old || dnf.fresh))
}

/// Per repository the digest of its `repomd.xml`; none for those that are not folders of this machine.
fn fingerprint(dnf: &Dnf) -> BTreeMap<String, Option<String>> {
    let digest = |folder: &Path| match sha256(&folder.join("repodata/repomd.xml")) {
        Ok((digest, _)) => digest,
        Err(error) => error.to_string(),
    };
    dnf.target.repositories().iter().map(|one| (one.id.clone(), one.folder.as_deref().map(digest))).collect()
}

fn read_state(folder: &Path) -> Option<State> {
    serde_json::from_slice(&std::fs::read(folder.join(STATE)).ok()?).ok()
}

fn write_state(folder: &Path, state: &State) -> Result<(), FileError> {
    // Strings and numbers always serialize.
    write_whole(&folder.join(STATE), &serde_json::to_vec(state).unwrap_or_default())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Takes a lock unless the work is cancelled first.
async fn lock(path: &Path, work: &Work<'_>) -> Result<Lock, Failure> {
    tokio::select! {
        lock = Lock::take(path) => lock.map_err(|error| disk(&error)),
        () = work.cancel.cancelled() => Err(Failure::new(Class::Killed, PHASE, "ended from outside")),
    }
}
