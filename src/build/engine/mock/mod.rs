//! The mock engine: builds as release engineers have configured them, by mock itself.
//!
//! Every build has a chroot of its own (`--uniqueext`), and all builds of a target and arch share mock's root cache,
//! by a root name and a configuration that stay the same (see [`config`](self::config)). Where a build is ended, or
//! its worker was killed, what runs on in the chroot is ended by mock's `--orphanskill`.

mod call;
mod check;
mod config;
mod outcome;
mod running;
mod state;
mod update;

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::unistd::{Gid, Uid};
use tokio_util::sync::CancellationToken;

pub use self::check::unusable;

use self::config::{Prepared, Wanted};
use self::outcome::Evidence;
use self::running::Held;
use super::check::Finding;
use super::{Outcome, Request, diagnose, states};
use crate::config::MockOptions;
use crate::model::record::{EngineName, RepositoryState};
use crate::model::{Arch, Class, Failure, Layout, PkgName, Target, VersionRelease};
use crate::sys::fs::{FileError, Lock, make_dir};
use crate::sys::process::End;
use crate::sys::rpm;
use crate::targets;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mock {
    layout: Layout,
    settings: Arc<Settings>,
    /// Of the mock that built last.
    version: Arc<Mutex<Option<String>>>,
}

/// How mock is called.
#[derive(Debug, Clone)]
pub struct Settings {
    pub program: OsString,
    pub options: MockOptions,
    /// How long mock has to end after SIGTERM.
    pub grace: Duration,
    /// The pauses before mock is tried again where another has its build root.
    pub busy: Vec<Duration>,
    /// Where mock keeps what dnf has fetched, a folder per root.
    pub caches: PathBuf,
}

impl Settings {
    pub fn new(options: MockOptions) -> Settings {
        Settings {
            program: "mock".into(),
            options,
            grace: Duration::from_secs(20),
            busy: [1, 2, 4, 8, 15, 30].map(Duration::from_secs).into(),
            caches: "/var/cache/mock".into(),
        }
    }
}

impl Mock {
    /// The engine of the root folder that `layout` is about.
    pub fn new(layout: Layout, settings: Settings) -> Mock {
        Mock { layout, settings: Arc::new(settings), version: Arc::default() }
    }

    /// See [`super::Engine::build`].
    pub async fn build(&self, request: Request<'_>, cancel: &CancellationToken) -> Outcome {
        let mut warnings = Vec::new();
        let result = self.work(&request, &mut warnings, cancel).await;
        leave_logs(request.resultdir, &result, &warnings);
        let state = diagnose::read_tail(&request.resultdir.join("state.log"), 0);
        if let Some(version) = state::version(&state) {
            *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
        }
        Outcome {
            result,
            durations: state::durations(&state),
            buildroot: package_list(&request.resultdir.join("installed_pkgs.log")),
            repositories: repositories(request.resultdir, &self.settings.caches),
        }
    }

    /// The recipe.
    async fn work(
        &self,
        request: &Request<'_>,
        warnings: &mut Vec<String>,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let (pkgname, evr) = identity(request.srpm)?;
        let wanted = Wanted { pkgname: &pkgname, evr: &evr, target: request.target, arch: request.arch };
        give_to_mock(request.resultdir).map_err(|error| disk(&error))?;
        let mut pauses = self.settings.busy.iter();
        loop {
            let held = self.prepare(wanted, warnings, cancel).await?;
            keep_config(&held.note.prepared, request.resultdir).map_err(|error| disk(&error))?;
            let end = self.run(held, request, cancel).await?;
            let Some(pause) = pauses.next().filter(|_| end == call::BUSY) else { return judge(end, request) };
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                () = cancel.cancelled() => return judge(End::Cancelled, request),
            }
            forget_try(request.resultdir).map_err(|error| disk(&error))?;
        }
    }

    /// Updates the configurations, generates this build's, and notes that it is used. One build at a time does so.
    async fn prepare(
        &self,
        wanted: Wanted<'_>,
        warnings: &mut Vec<String>,
        cancel: &CancellationToken,
    ) -> Result<Held, Failure> {
        let (asked, cache) = (SystemTime::now(), cache(&self.layout));
        make_dir(&cache).map_err(|error| disk(&error))?;
        let _lock = Lock::take(&cache.join("configs.lock")).await.map_err(|error| disk(&error))?;
        let options = &self.settings.options;
        let (last, log) = (cache.join("updated"), cache.join("git.log"));
        let site = self.layout.mock_configs();
        if let Some(warning) = update::update(site, options, asked, &last, &log, cancel).await? {
            tracing::warn!("{warning}");
            warnings.push(warning);
        }
        let prepared = config::prepare(&self.layout, &options.base_url, wanted)?;
        running::note(&self.layout, &prepared).await.map_err(|error| disk(&error))
    }

    /// Runs mock, and sees to it that nothing of the build is left but its results.
    async fn run(
        &self,
        held: Held,
        request: &Request<'_>,
        cancel: &CancellationToken,
    ) -> Result<End, Failure> {
        let ended = tokio::select! {
            ended = call::run(&self.settings, &held.note, request, cancel) => ended,
            never = tell_quota(request) => match never {},
        };
        let end = match ended {
            Ok(end) => end,
            Err(error) => {
                held.remove();
                return Err(Failure::new(Class::Config, "mock", error.to_string()).retried(true));
            }
        };
        if was_ended(end) {
            call::clear(&self.settings, held, &request.resultdir.join("stderr")).await;
        } else {
            // The result need not wait for that, and may be moved meanwhile.
            let (settings, root) = (Arc::clone(&self.settings), root_path(request.resultdir));
            let log = cache(&self.layout).join("clean.log");
            tokio::spawn(async move { call::clear_rest(&settings, held, root.as_deref(), &log).await });
        }
        Ok(end)
    }

    /// See [`super::Engine::knows`].
    pub fn knows(&self, target: &Target, arch: Arch) -> bool {
        targets::mock_config(&self.layout, None, target, arch).is_some()
    }

    /// See [`super::Engine::name`].
    pub fn name(&self) -> EngineName {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        EngineName { name: "mock".into(), version: version.unwrap_or_else(|| "unknown".into()) }
    }

    /// Ends and removes what builders that died left behind. To be called when a worker starts.
    pub async fn sweep(&self) {
        let log = cache(&self.layout).join("clean.log");
        for held in running::abandoned(&self.layout) {
            tracing::info!("cleaning up after a build whose worker is gone (--uniqueext {})", held.note.ext);
            call::clear(&self.settings, held, &log).await;
        }
    }

    /// Whether this machine and user can build with the engine, a sentence for each thing that was looked at.
    pub async fn check(&self) -> Vec<Finding> {
        check::check(self).await
    }
}

/// Has the chroot count as the build's, once mock has said where it is.
async fn tell_quota(request: &Request<'_>) -> std::convert::Infallible {
    if let Some(quota) = request.quota {
        let root = loop {
            match root_path(request.resultdir) {
                Some(root) => break root,
                None => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        quota.occupies(&root);
    }
    std::future::pending().await
}

/// Where mock makes its chroots, unless configured otherwise.
pub const CHROOTS: &str = "/var/lib/mock";

/// The engine's folder.
fn cache(layout: &Layout) -> PathBuf {
    layout.builder_cache().join("mock")
}

/// Whether mock was ended, and so has not cleaned up.
fn was_ended(end: End) -> bool {
    !matches!(end, End::Exited(status) if status < 128 && status != 7)
}

/// Where the chroot is or was, as mock says it near the beginning of root.log; nothing where it had not come to that.
fn root_path(resultdir: &Path) -> Option<PathBuf> {
    use std::io::Read as _;
    let mut head = Vec::new();
    std::fs::File::open(resultdir.join("root.log")).ok()?.take(1 << 20).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    head.lines().find_map(|line| line.split_once(":  rootdir = ")).map(|(_, path)| path.trim().into())
}

/// The states of the repositories, as dnf's copies say them that all builds on a root share: as far as no other build
/// has fetched newer ones before this one was through with dnf.
fn repositories(resultdir: &Path, caches: &Path) -> Vec<RepositoryState> {
    let read = || {
        let root = root_path(resultdir)?;
        let (root, _ext) = root.parent()?.file_name()?.to_str()?.rsplit_once('-')?;
        let listed = std::fs::metadata(resultdir.join("installed_pkgs.log")).ok()?;
        let until = (listed.mtime(), listed.mtime_nsec());
        let caches = ["dnf_cache", "dnf5_cache"].map(|name| caches.join(root).join(name));
        Some(states::of_copies_until(caches.iter().find(|cache| cache.is_dir())?, until))
    };
    read().unwrap_or_default()
}

/// Name and version as the source RPM's header says them.
fn identity(srpm: &Path) -> Result<(PkgName, VersionRelease), Failure> {
    let bad = |error: rpm::RpmError| Failure::new(Class::Source, "unpack", error.to_string());
    let header = rpm::header(srpm).map_err(bad)?;
    Ok((header.name, header.evr))
}

/// mock writes its results as who called sudo, where that is how we became root.
fn give_to_mock(resultdir: &Path) -> Result<(), FileError> {
    match sudo_ids() {
        Some((uid, gid)) if Uid::effective().is_root() => {
            std::os::unix::fs::chown(resultdir, Some(uid.as_raw()), gid.map(Gid::as_raw))
                .map_err(FileError::at("give to mock's user", resultdir))
        }
        _ => Ok(()),
    }
}

/// Who called sudo, as sudo(8) and usermode's helper say it in the environment.
fn sudo_ids() -> Option<(Uid, Option<Gid>)> {
    let id = |name: &str| std::env::var(name).ok()?.parse().ok();
    let uid = id("USERHELPER_UID").or_else(|| id("SUDO_UID"))?;
    Some((Uid::from_raw(uid), id("SUDO_GID").map(Gid::from_raw)))
}

/// The configuration that is used stays with the results.
fn keep_config(prepared: &Prepared, resultdir: &Path) -> Result<(), FileError> {
    let to = resultdir.join("mock.cfg");
    std::fs::copy(&prepared.config, &to).map(drop).map_err(FileError::at("write", &to))
}

/// Removes what a try left, since mock appends to its logs.
fn forget_try(resultdir: &Path) -> Result<(), FileError> {
    for entry in std::fs::read_dir(resultdir).map_err(FileError::at("read", resultdir))?.flatten() {
        let path = entry.path();
        std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
    }
    Ok(())
}

/// What mock's end means for the build. mock leaves the source RPM whatever happens: alone it is no result.
fn judge(end: End, request: &Request<'_>) -> Result<(), Failure> {
    if !end.success() {
        let srpm = request.srpm.file_name().unwrap_or_default().to_string_lossy();
        return Err(outcome::failure(end, &Evidence::read(request.resultdir), &srpm));
    }
    let mut names = std::fs::read_dir(request.resultdir).into_iter().flatten().flatten();
    if names.any(|entry| is_binary_rpm(&entry.path())) {
        return Ok(());
    }
    Err(Failure::new(Class::Packaging, "package", "the build succeeded and made no RPM"))
}

fn is_binary_rpm(path: &Path) -> bool {
    let source = path
        .file_stem()
        .is_some_and(|stem| Path::new(stem).extension().is_some_and(|arch| arch == "src" || arch == "nosrc"));
    !source && path.extension().is_some_and(|end| end == "rpm")
}

/// build.log, root.log, state.log and installed_pkgs.log always exist: where mock made none, its standard error stands
/// in for the first two, and where it said nothing, the failure. root.log has our warnings at its end. Best effort,
/// since the failure may be that nothing can be written.
fn leave_logs(resultdir: &Path, result: &Result<(), Failure>, warnings: &[String]) {
    let stderr = diagnose::read_tail(&resultdir.join("stderr"), 0);
    let stand_in = match result {
        _ if !stderr.trim().is_empty() => stderr,
        Err(failure) => format!("{failure}\n"),
        Ok(()) => String::new(),
    };
    for (log, text) in [
        ("build.log", stand_in.as_str()),
        ("root.log", &stand_in),
        ("state.log", ""),
        ("installed_pkgs.log", ""),
    ] {
        let path = resultdir.join(log);
        if !path.exists() {
            let _ = std::fs::write(path, text);
        }
    }
    if !warnings.is_empty() {
        use std::io::Write as _;
        let text = format!("WARNING: {}\n", warnings.join("\nWARNING: "));
        let log = std::fs::File::options().append(true).open(resultdir.join("root.log"));
        let _ = log.and_then(|mut log| log.write_all(text.as_bytes()));
    }
}

/// The NEVRAs of `installed_pkgs.log`, sorted: its lines are `<nevra> <build time> <size> …`.
fn package_list(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut nevras: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    nevras.sort();
    nevras.dedup();
    nevras
}

fn disk(error: &FileError) -> Failure {
    Failure::new(Class::Disk, "mock", error.to_string())
}
