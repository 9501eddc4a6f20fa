//! Calling mock: its arguments, how it is ended, and what is cleaned after it.
//!
//! mock(1). An unknown option would be taken for a source RPM's name, and `--target nosuch` for a target: whatever
//! reaches these arguments has been checked before.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Settings;
use super::running::{Held, Note};
use crate::build::engine::{Request, diagnose};
use crate::build::limits::Quota;
use crate::sys::process::{self, End, ProcessError, Program};

/// mock's exit status where another has the build root.
pub const BUSY: End = End::Exited(60);
/// How long cleaning may take.
const CLEANING: Duration = Duration::from_secs(600);
/// How often what runs in the chroot is ended while mock itself does not end.
const AGAIN: Duration = Duration::from_secs(5);

/// mock on one build's chroot.
fn mock(settings: &Settings, note: &Note) -> Program {
    Program::new(&settings.program)
        .arg("-r")
        .arg(&note.prepared.config)
        .arg("--configdir")
        .arg(&note.prepared.configdir)
        .args(["--uniqueext", &note.ext])
        .grace(settings.grace)
}

/// The build itself.
pub fn build(settings: &Settings, note: &Note, request: &Request<'_>) -> Program {
    let mut program = mock(settings, note).arg("--resultdir").arg(request.resultdir);
    if !request.disttag.as_str().is_empty() {
        program = program.arg("--define").arg(format!("dist {}", request.disttag));
    }
    program = program.arg("--cleanup-after");
    let cgroup = request.quota.and_then(Quota::cgroup);
    if cgroup.is_some() {
        // systemd-nspawn would have systemd move the build to a group of its own.
        program = program.arg("--isolation=simple");
    }
    if let Some(timeout) = request.timeout {
        program = program.arg("--rpmbuild_timeout").arg(timeout.as_secs().max(1).to_string());
    }
    program.arg(request.srpm).limited_by(cgroup)
}

/// Runs a build. Where `cancel` ends it, nothing of it runs on.
pub async fn run(
    settings: &Settings,
    note: &Note,
    request: &Request<'_>,
    cancel: &CancellationToken,
) -> Result<End, ProcessError> {
    let program = build(settings, note, request);
    let (stdout, stderr) = (request.resultdir.join("stdout"), request.resultdir.join("stderr"));
    let running = process::run_apart(&program, &stdout, &stderr, None, cancel);
    tokio::pin!(running);
    let outlives_signals = async {
        cancel.cancelled().await;
        tokio::time::sleep(settings.grace + AGAIN).await;
    };
    tokio::select! {
        end = &mut running => return end,
        () = outlives_signals => {}
    }
    // An ordinary user may not signal it, where usermode's helper has made it root. It ends when rpmbuild does.
    loop {
        orphanskill(settings, note, &stderr).await;
        tokio::select! {
            end = &mut running => return end,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Ends what runs on in the chroot of a build that was ended, and removes it. `log` gets mock's words.
pub async fn clear(settings: &Settings, held: Held, log: &Path) {
    let asked = process::output(&mock(settings, &held.note).arg("--print-root-path")).await;
    let root = asked.ok().filter(|said| said.end.success()).map(|said| PathBuf::from(said.stdout.trim()));
    let cleaned = clear_root(settings, &held.note, log).await;
    let cleaned = cleaned && clear_bootstrap(settings, &held.note, root.as_deref(), log).await;
    done(held, cleaned, log);
}

/// After a build that mock has cleaned up after itself: what it left nonetheless. `root` is where the chroot was.
pub async fn clear_rest(settings: &Settings, held: Held, root: Option<&Path>, log: &Path) {
    let is_left = root.and_then(Path::parent).is_some_and(Path::exists);
    let cleaned = !is_left || clear_root(settings, &held.note, log).await;
    let cleaned = cleaned && clear_bootstrap(settings, &held.note, root, log).await;
    done(held, cleaned, log);
}

fn done(held: Held, cleaned: bool, log: &Path) {
    if cleaned {
        return held.remove();
    }
    let Note { ext, prepared } = &held.note;
    let said = diagnose::last_said(&diagnose::read_tail(log, 0)).unwrap_or_default();
    tracing::warn!(
        "a build root of {} (--uniqueext {ext}) could not be removed: {said}; the next worker that starts tries again",
        prepared.config.display()
    );
}

async fn clear_root(settings: &Settings, note: &Note, log: &Path) -> bool {
    orphanskill(settings, note, log).await;
    clean(settings, mock(settings, note), log).await
}

async fn orphanskill(settings: &Settings, note: &Note, log: &Path) {
    // What came of it, `--clean` sees.
    let _ = short(&mock(settings, note).arg("--orphanskill"), log).await;
}

async fn clean(settings: &Settings, program: Program, log: &Path) -> bool {
    let program = program.arg("--clean");
    let mut end = short(&program, log).await;
    for pause in &settings.busy {
        if !matches!(end, Ok(BUSY)) {
            break;
        }
        // A mock that we could not signal is at its end.
        tokio::time::sleep(*pause).await;
        end = short(&program, log).await;
    }
    matches!(end, Ok(End::Exited(0)))
}

/// Runs what nobody should interrupt.
async fn short(program: &Program, log: &Path) -> Result<End, ProcessError> {
    process::run(program, log, Some(CLEANING), &CancellationToken::new()).await
}

/// mock makes a bootstrap chroot per unique extension as well, and cleans it never. `--scrub=bootstrap` would remove
/// the cache with it that all builds share; so it is cleaned as a build root of its own name.
async fn clear_bootstrap(settings: &Settings, note: &Note, root: Option<&Path>, log: &Path) -> bool {
    let Some(name) = root.and_then(|root| bootstrap_root(root, &note.ext)) else { return true };
    let bootstrap =
        || mock(settings, note).args(["--no-bootstrap-chroot", "--config-opts"]).arg(format!("root={name}"));
    let _ = short(&bootstrap().arg("--orphanskill"), log).await;
    clean(settings, bootstrap(), log).await
}

/// What mock calls the bootstrap chroot beside `/var/lib/mock/<root>-<ext>/root`, if it is there.
fn bootstrap_root(root: &Path, ext: &str) -> Option<String> {
    let folder: PathBuf = root.parent()?.to_owned();
    let name = folder.file_name().and_then(OsStr::to_str)?.strip_suffix(&format!("-{ext}"))?;
    let bootstrap = format!("{name}-bootstrap");
    folder.with_file_name(format!("{bootstrap}-{ext}")).exists().then_some(bootstrap)
}
