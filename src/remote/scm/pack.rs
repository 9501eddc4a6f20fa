//! rpmbuild -bs in a sandbox: a spec runs what it likes while it is parsed, so it sees the machine's /usr, its own
//! checkout, and nothing else; it can write to a folder that is thrown away, and reach no network.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::ScmError;
use super::checkout::Checkout;
use super::sources::Layout;
use crate::model::text::plain;
use crate::model::{Disttag, Limits, Size};
use crate::sys::cgroup::{Cgroup, Cgroups};
use crate::sys::fs::{self, FileError};
use crate::sys::process::{self, End};
use crate::sys::sandbox::{
    BUILD_HOME, BUILD_ID, BUILD_USER, Bind, Failing, Launcher, Plan, Report, Step, View,
};

/// How long parsing a spec and packing its sources may take.
const LIMIT: Duration = Duration::from_secs(300);
/// What it may use, where control groups can be had.
const LIMITS: Limits = Limits { memory: Some(Size(2 << 30)), processes: Some(512), cpus: None, disk: None };
/// Where the checkout is in the sandbox.
const TOPDIR: &str = "/src";

/// Packs a checkout whose sources are complete; returns the source RPM below `work`.
pub async fn pack(
    launcher: &Launcher,
    work: &Path,
    checkout: &Checkout,
    layout: &Layout,
    disttag: &Disttag,
    cancel: &CancellationToken,
) -> Result<PathBuf, ScmError> {
    // Times go into source RPMs, which are to be the same for the same commit. And another user is to read them.
    level(&checkout.folder, checkout.time)?;
    let out = work.join("packed");
    fs::make_dir(&out)?;
    let root = work.join("root");
    let plan = plan(&furnish(&root)?, work, checkout, layout, disttag, &out);
    let cgroup = cgroup();
    let program = launcher.clone().with_log_limit(1 << 20).run(&plan)?.limited_by(cgroup.as_ref());
    let end = process::run(&program, &work.join("sandbox.log"), Some(LIMIT), cancel).await;
    if let Some(cgroup) = cgroup {
        cgroup.remove().await;
    }
    let log = plan.steps[0].log.clone();
    match (end?, Report::read(&plan.report)) {
        (End::Cancelled, _) => Err(ScmError::Interrupted),
        (End::TimedOut, _) => Err(ScmError::refused(format!(
            "rpmbuild -bs was not done within {} s, and ended",
            LIMIT.as_secs()
        ))),
        (_, Some(Report { error: Some(error), .. })) => {
            Err(ScmError::refused(format!("the controller cannot make a sandbox: {error}")))
        }
        (_, Some(report)) if !report.refused.is_empty() => {
            Err(ScmError::refused(plain(&report.refused.join("; "))))
        }
        (_, Some(report)) if report.last().is_some_and(|step| step.status == 0) => {
            match report.collected.as_slice() {
                [only] => Ok(out.join(only)),
                _ => Err(ScmError::refused("rpmbuild -bs did not make one source RPM")),
            }
        }
        (end, _) => Err(ScmError::refused(format!("rpmbuild -bs failed: {}", said(&log, work, end)))),
    }
}

fn cgroup() -> Option<Cgroup> {
    let cgroups = Cgroups::find();
    cgroups.prepare().and_then(|()| cgroups.make(&LIMITS)).ok()
}

/// The lines that say why.
fn said(log: &Path, work: &Path, end: End) -> String {
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let text = read(log) + &read(&work.join("sandbox.log"));
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    let errors: Vec<&String> = lines.iter().filter(|line| line.contains("error:")).collect();
    let told: Vec<&String> =
        if errors.is_empty() { lines.iter().rev().take(3).rev().collect() } else { errors };
    if told.is_empty() {
        return format!("it said nothing and ended by {end}");
    }
    let told: Vec<String> = told.iter().take(5).map(|line| line.trim().chars().take(300).collect()).collect();
    told.join("; ")
}

/// What a root needs for this machine's rpmbuild to run in it: empty but for links, and for a user.
fn furnish(root: &Path) -> Result<Vec<Bind>, FileError> {
    let make = |folder: &str| fs::make_dir(&root.join(folder));
    ["etc", "usr", "var/lib/rpm", "var/tmp", "tmp"].into_iter().try_for_each(make)?;
    let tmp = root.join("tmp");
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777))
        .map_err(FileError::at("open", &tmp))?;
    let users = [
        (
            "etc/passwd",
            format!(
                "root:x:0:0::/root:/bin/sh\n{BUILD_USER}:x:{BUILD_ID}:{BUILD_ID}::{BUILD_HOME}:/bin/sh\n"
            ),
        ),
        ("etc/group", format!("root:x:0:\n{BUILD_USER}:x:{BUILD_ID}:\n")),
    ];
    for (name, text) in users {
        fs::write_whole(&root.join(name), text.as_bytes())?;
    }
    let bind = |path: &Path| Bind { from: path.to_owned(), to: path.to_owned(), read_only: true };
    let mut binds = vec![bind(Path::new("/usr"))];
    for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
        let host = Path::new("/").join(name);
        match std::fs::read_link(&host) {
            Ok(to) => symlink(&to, root.join(name)).map_err(FileError::at("link", &root.join(name)))?,
            Err(_) if host.is_dir() => binds.push(bind(&host)),
            Err(_) => {}
        }
    }
    let settings = ["/etc/rpm", "/etc/alternatives"].map(Path::new);
    binds.extend(settings.into_iter().filter(|path| path.is_dir()).map(bind));
    Ok(binds)
}

fn plan(
    binds: &[Bind],
    work: &Path,
    checkout: &Checkout,
    layout: &Layout,
    disttag: &Disttag,
    out: &Path,
) -> Plan {
    let inside = |path: &Path| {
        Path::new(TOPDIR).join(path.strip_prefix(&checkout.folder).unwrap_or(path)).display().to_string()
    };
    let results = Path::new(BUILD_HOME).join("srpms");
    let dist = if disttag.as_str().is_empty() { String::new() } else { format!("%dist {disttag}\n") };
    let macros = format!(
        "%_topdir {TOPDIR}\n%_sourcedir {}\n%_srcrpmdir {}\n%_rpmdir {BUILD_HOME}/work\n\
         %_builddir {BUILD_HOME}/work\n%_buildrootdir {BUILD_HOME}/work\n%_tmppath /tmp\n\
         %_dbpath /var/lib/rpm\n%_buildhost localhost\n%use_source_date_epoch_as_buildtime 1\n{dist}",
        inside(&layout.sources),
        results.display()
    );
    let epoch =
        checkout.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let env = [
        ("HOME", BUILD_HOME),
        ("LC_ALL", "C.UTF-8"),
        ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
        ("SOURCE_DATE_EPOCH", &epoch),
    ];
    let step = Step {
        label: String::new(),
        argv: ["rpmbuild", "-bs", "--nodeps", &inside(&layout.spec)].map(str::to_owned).to_vec(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        as_user: true,
        log: work.join("rpmbuild.log"),
        failing: Failing::Ends,
    };
    let source = Bind { from: checkout.folder.clone(), to: TOPDIR.into(), read_only: true };
    Plan {
        at: work.join("root"),
        layers: None,
        view: View::Chroot,
        binds: binds.iter().cloned().chain([source]).collect(),
        copies: Vec::new(),
        files: vec![
            (Path::new(BUILD_HOME).join(".rpmmacros"), macros),
            (results.join(".keep"), String::new()),
            (Path::new(BUILD_HOME).join("work/.keep"), String::new()),
        ],
        steps: vec![step],
        furnish: false,
        collect: vec![results],
        collect_to: Some(out.to_owned()),
        state_log: None,
        report: work.join("report.json"),
        bits32: false,
    }
}

/// Gives the files their commit's time, and lets everybody read them. Only files and folders are in a checkout.
fn level(folder: &Path, time: SystemTime) -> Result<(), FileError> {
    open_to_all(folder, 0o755)?;
    for entry in std::fs::read_dir(folder).map_err(FileError::at("read", folder))?.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && entry.file_name() != ".git" => level(&path, time)?,
            Ok(kind) if kind.is_file() => {
                let set = std::fs::File::open(&path).and_then(|file| file.set_modified(time));
                set.map_err(FileError::at("set the time of", &path))?;
                open_to_all(&path, 0o644)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn open_to_all(path: &Path, mode: u32) -> Result<(), FileError> {
    let set = || {
        let had = std::fs::metadata(path)?.permissions().mode() & 0o777;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(had | mode))
    };
    set().map_err(FileError::at("open to all", path))
}
