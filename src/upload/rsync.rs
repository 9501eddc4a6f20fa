//! The fleet's upload: rsync(1) to a daemon's module, which has no rename.
//!
//! Results gather in `upload/<build_id>.<arch>.<attempt>/`, the lease is checked, a second pass puts them into
//! place by hard links (`--link-dest`), and `build.json`, without which a folder does not count, comes last. Where both
//! rsyncs know `--fsync` (3.2.4), all of them are on the store's disk by then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Parcel, UploadError};
use crate::config::{Config, Module};
use crate::model::BuildPath;
use crate::model::record::FILE;
use crate::queue::{Lease, Queue, QueueError};
use crate::sys::fs::{self, FileError};
use crate::sys::process::{self, End, ProcessError, Program};
use crate::sys::tls;

/// No byte for this long is a cut, in seconds.
const SILENCE: &str = "60";
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Old rsyncs do not know it, on either side; then it is left out.
const FSYNC: &str = "--fsync";

/// Why the bstore could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RsyncError {
    #[error("{module}: {trouble} ({said})")]
    Failed { module: String, trouble: &'static str, said: String },
    /// The same, where the connection or the daemon is to blame: another try may do better.
    #[error("{module}: {trouble} ({said})")]
    Away { module: String, trouble: &'static str, said: String },
    #[error("{module}: what was to be copied is not there ({said})")]
    Missing { module: String, said: String },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("this program's path, {0}, has characters that must not reach a shell; install it elsewhere")]
    OwnPath(String),
    #[error("a temporary folder cannot be used: {0}")]
    Temporary(std::io::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

impl RsyncError {
    /// Whether the bstore does not answer, rather than refuse: it is waited for.
    pub fn is_away(&self) -> bool {
        matches!(self, RsyncError::Away { .. })
    }
}

/// Under which lease a build's place is changed.
#[derive(Debug, Clone, Copy)]
struct Held<'a> {
    queue: &'a Queue,
    lease: &'a Lease,
}

/// A module that results go to.
#[derive(Debug, Clone)]
pub struct Rsync {
    module: Module,
    config: Config,
    /// Until one of the two rsyncs turns out not to know [`FSYNC`].
    syncs: Arc<AtomicBool>,
}

impl Rsync {
    pub fn new(module: Module, config: Config) -> Rsync {
        Rsync { module, config, syncs: Arc::new(AtomicBool::new(true)) }
    }

    pub(super) async fn commit(
        &self,
        queue: &Queue,
        lease: &Lease,
        parcel: Parcel<'_>,
    ) -> Result<(), UploadError> {
        let gathered = format!("{}.{}.{}", parcel.build_id, parcel.build.arch, parcel.attempt);
        let place = place(parcel.build, parcel.scratch);
        let record = parcel.from.join(FILE);
        let text = serde_json::to_vec_pretty(parcel.record).expect("a record serializes");
        fs::write_whole(&record, &text)?;
        self.make_parents(&place).await?;
        self.gather(parcel.from, &gathered).await?;
        let held = Held { queue, lease };
        self.put_into_place(held, parcel.from, &gathered, &place).await?;
        let last = ["-t".into(), FSYNC.into(), path(&record), self.url(&format!("{place}/{FILE}"))];
        self.run_under(held, &last).await?;
        // It counts from here on. What is left over is in nobody's way.
        if let Err(error) = self.forget(parcel.build_id.as_str(), parcel.build.arch.as_str()).await {
            tracing::warn!("{error}");
        }
        fs::remove_dir(parcel.from)?;
        Ok(())
    }

    /// The text of `build.json` of a build that is in place.
    pub(super) async fn record(
        &self,
        build: &BuildPath,
        scratch: bool,
    ) -> Result<Option<Vec<u8>>, RsyncError> {
        let folder = Scratch::new(&self.config)?;
        let from = self.url(&format!("{}/{FILE}", place(build, scratch)));
        match self.run(&["-t".into(), from, path(&folder.0.join(FILE))]).await {
            Ok(()) => Ok(std::fs::read(folder.0.join(FILE)).ok()),
            Err(RsyncError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the module is there and lets us in.
    pub async fn check(&self) -> Result<String, RsyncError> {
        match self.once(&["--list-only".into(), self.url("")]).await {
            // The folder is made with the first results.
            Ok(()) | Err(RsyncError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(format!("{} lets us in", self.module))
    }

    /// A tree of empty folders, since old rsyncs make only the last one of a path (`--mkpath` is of 3.2.3).
    async fn make_parents(&self, place: &str) -> Result<(), RsyncError> {
        let tree = Scratch::new(&self.config)?;
        fs::make_dir(&tree.0.join("upload"))?;
        fs::make_dir(tree.0.join(place).parent().unwrap_or(&tree.0))?;
        self.run(&["-r".into(), "--chmod=D755".into(), folder(&tree.0), self.url("")]).await
    }

    /// What a cut leaves here is gone on with, and never read by anybody else.
    async fn gather(&self, from: &Path, gathered: &str) -> Result<(), RsyncError> {
        let to = self.url(&format!("upload/{gathered}/"));
        let mut args = copying();
        args.extend([FSYNC.into(), "--partial".into(), "--delete".into(), folder(from), to]);
        self.run(&args).await
    }

    /// Resends nothing: what has the size and time of a gathered file becomes a link to it. A former attempt's
    /// `build.json` goes before anything changes that it vouches for.
    async fn put_into_place(
        &self,
        held: Held<'_>,
        from: &Path,
        gathered: &str,
        place: &str,
    ) -> Result<(), UploadError> {
        let mut args = copying();
        let link = format!("--link-dest=/{}", self.below(&format!("upload/{gathered}")));
        args.extend(["--delete-before".into(), link, folder(from), self.url(&format!("{place}/"))]);
        self.run_under(held, &args).await
    }

    /// Removes what this build and its former attempts gathered.
    async fn forget(&self, build_id: &str, arch: &str) -> Result<(), RsyncError> {
        let empty = Scratch::new(&self.config)?;
        let filters = [format!("--include=/{build_id}.{arch}.*/***"), "--exclude=*".into()];
        let mut args = vec!["-r".into(), "--delete".into()];
        args.extend(filters);
        args.extend([folder(&empty.0), self.url("upload/")]);
        self.run(&args).await
    }

    async fn run(&self, args: &[String]) -> Result<(), RsyncError> {
        retried(|| self.once(args), RsyncError::is_away).await
    }

    /// The same for what changes a build's place.
    async fn run_under(&self, held: Held<'_>, args: &[String]) -> Result<(), UploadError> {
        retried(|| self.once_under(held, args), UploadError::is_away).await
    }

    /// Killed at once when the lease is known to be lost.
    async fn once_under(&self, Held { queue, lease }: Held<'_>, args: &[String]) -> Result<(), UploadError> {
        // Before each time, and of the queue itself, not of our memory: this process may have been asleep, or another
        // have put its results there while the connection was cut.
        queue.touch(lease).await?;
        tokio::select! {
            ended = self.once(args) => Ok(ended?),
            () = lease.ended().cancelled() => Err(QueueError::LeaseLost(lease.id).into()),
        }
    }

    async fn once(&self, args: &[String]) -> Result<(), RsyncError> {
        let syncs = self.syncs.load(Ordering::Relaxed) && args.iter().any(|arg| arg == FSYNC);
        let program = self.program()?.args(args.iter().filter(|arg| syncs || *arg != FSYNC));
        let output = process::output(&program).await?;
        let warnings = output.stderr.lines().filter_map(|line| line.strip_prefix(tls::WARNING));
        warnings.for_each(tls::warn);
        match output.end {
            End::Exited(0) => Ok(()),
            // Unknown, or refused in rsyncd.conf.
            End::Exited(_) if syncs && output.stderr.contains(FSYNC) => {
                self.go_without_fsync();
                Box::pin(self.once(args)).await
            }
            end => Err(self.told(end, &output.stderr)),
        }
    }

    fn go_without_fsync(&self) {
        if self.syncs.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "{}: results may be lost there with its power, since {FSYNC} is not known or refused; have rsync 3.2.4 or newer on both sides",
                self.module
            );
        }
    }

    fn program(&self) -> Result<Program, RsyncError> {
        let program = Program::new("rsync").arg(format!("--timeout={SILENCE}")).env("LC_ALL", "C");
        if !self.module.tls {
            return Ok(program);
        }
        let own = std::env::current_exe().map_err(RsyncError::Temporary)?.display().to_string();
        // After an upgrade (proc(5)): the new program is where this one was.
        let own = own.strip_suffix(" (deleted)").unwrap_or(&own);
        // rsync has a shell run it, and reads `%` itself. Host and port are vetted where they are parsed.
        if !own.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)) {
            return Err(RsyncError::OwnPath(own.to_owned()));
        }
        let address = &self.module.address;
        let program = program
            .env("RSYNC_CONNECT_PROG", format!("{own} connect {} {}", address.host, address.port))
            .env("REIMZUL_ROOT", self.config.layout.root());
        Ok(match &self.config.file {
            Some(file) => program.env("REIMZUL_CONFIG", file),
            None => program,
        })
    }

    fn told(&self, end: End, stderr: &str) -> RsyncError {
        let (trouble, away) = meaning(end, stderr);
        let said = said(stderr).unwrap_or_else(|| end.to_string());
        let module = self.module.to_string();
        match end {
            _ if away => RsyncError::Away { module, trouble, said },
            End::Exited(23) if is_missing(stderr) => RsyncError::Missing { module, said },
            _ => RsyncError::Failed { module, trouble, said },
        }
    }

    fn below(&self, path: &str) -> String {
        let folder = &self.module.folder;
        if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
    }

    fn url(&self, path: &str) -> String {
        format!("rsync://{}/{}/{}", self.module.address, self.module.name, self.below(path))
    }
}

/// Does it until it ends well, a bounded number of times where the connection is to blame.
async fn retried<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    once: impl Fn() -> F,
    is_away: fn(&E) -> bool,
) -> Result<T, E> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match once().await {
            Err(error) if is_away(&error) => tracing::warn!("{error}; trying again"),
            ended => return ended,
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    once().await
}

/// What is the matter, and whether another try may do better. rsync(1), EXIT VALUES; the daemon's own words tell apart what it has one number for.
fn meaning(end: End, stderr: &str) -> (&'static str, bool) {
    let says = |words: &str| stderr.contains(words);
    match end {
        _ if says("No space left") || says("Disk quota exceeded") => {
            ("the bstore's disk is full; make room there", false)
        }
        _ if says("auth failed") => {
            ("the daemon does not let us in; correct `auth users` or `hosts allow` there", false)
        }
        _ if says("Unknown module") => {
            ("there is no such module; correct [bstore] upload, or rsyncd.conf there", false)
        }
        _ if says("read only") => {
            ("the module is read only; set `read only = no` in rsyncd.conf there", false)
        }
        _ if says("max connections") => ("the daemon has no connection left", true),
        _ if says("ermission denied") => {
            ("the daemon may not write there; give the module's folder to its `uid`", false)
        }
        End::Exited(5) => ("the daemon does not begin", true),
        End::Exited(10) => ("the connection failed; is the daemon running, and the port right?", true),
        End::Exited(11) => ("files could not be read or written", false),
        End::Exited(12) => ("the connection was cut", true),
        End::Exited(30 | 35) => ("the connection was silent for too long", true),
        End::Exited(23 | 24) => ("some files did not get through", false),
        End::Signaled(_) => ("rsync was killed", true),
        _ => ("rsync failed", false),
    }
}

fn is_missing(stderr: &str) -> bool {
    stderr.contains("No such file or directory")
}

/// The line that tells most: the first, which those about its consequences follow.
fn said(stderr: &str) -> Option<String> {
    let tells = |line: &&str| !line.trim().is_empty() && !line.starts_with(tls::WARNING);
    let lines: Vec<&str> = stderr.lines().filter(tells).collect();
    let ours = lines.iter().find(|line| line.starts_with("reimzul:"));
    ours.or(lines.first()).map(|line| line.trim().chars().take(400).collect())
}

/// `build.json` is hidden here and not protected there, as `--exclude` would (rsync(1), FILTER RULES).
fn copying() -> Vec<String> {
    vec!["-rt".into(), "--chmod=D755,F644".into(), format!("--filter=hide /{FILE}")]
}

/// Below the module: as in the root folder's bstore/.
fn place(build: &BuildPath, scratch: bool) -> String {
    format!("{}/{build}", if scratch { "scratch" } else { "repo" })
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// With the slash by which rsync knows that its content is meant.
fn folder(path: &Path) -> String {
    format!("{}/", path.display())
}

/// A folder of ours in the builder's cache, removed with the value.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(config: &Config) -> Result<Scratch, FileError> {
        let path =
            config.layout.builder_cache().join("rsync").join(uuid::Uuid::new_v4().simple().to_string());
        fs::make_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
