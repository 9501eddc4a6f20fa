//! The second stage: init of a sandbox, from the plan to the report.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::libc;

use super::init::{Logs, run_steps};
use super::{BUILD_HOME, BUILD_ID, BUILD_USER, Plan, Report, View, collect, mounts};

/// Exit statuses of the hidden subcommand itself; those of the steps are in the report.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const MISUSED: i32 = 2;

/// The hidden subcommand, given its arguments. Only `unshare` should call it.
pub fn stage2(arguments: impl Iterator<Item = OsString>) -> i32 {
    let arguments: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    match arguments.as_slice() {
        [remove_them, folders @ ..] if remove_them.as_os_str() == super::REMOVE => remove(folders),
        [file] => match read(file) {
            Ok((plan, log_limit)) => run(&plan, log_limit),
            Err(error) => misused(&format!("{}: {error}", file.display())),
        },
        _ => misused("it takes a plan"),
    }
}

fn read(file: &Path) -> io::Result<(Plan, u64)> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn misused(why: &str) -> i32 {
    eprintln!("reimzul: {} is not for people: {why}", super::SUBCOMMAND);
    MISUSED
}

fn remove(folders: &[PathBuf]) -> i32 {
    let mut status = DONE;
    for folder in folders {
        if let Err(error) = crate::sys::fs::remove_dir(folder) {
            eprintln!("{error}");
            status = FAILED;
        }
    }
    status
}

fn run(plan: &Plan, log_limit: u64) -> i32 {
    // As init of its namespace this process gets no signal that it has no handler for, and the kernel ends
    // everything with it.
    if nix::unistd::getpid().as_raw() != 1 {
        eprintln!("reimzul: {} must be started by unshare --pid --fork", super::SUBCOMMAND);
        return MISUSED;
    }
    end_at_sigterm();
    if orphaned() {
        return MISUSED;
    }
    close_inherited();
    let Ok(report_file) = reserve(&plan.report) else { return FAILED };
    let mut report = Report::default();
    if let Err(error) = carry_out(plan, log_limit, &mut report) {
        report.error = Some(error.to_string());
    }
    let complete = report.error.is_none() && report.steps.len() == plan.steps.len();
    let failed = report.last().is_some_and(|step| step.status != 0 && !step.accepted);
    let written = write_report(report_file, &report);
    if written.is_ok() && complete && !failed { DONE } else { FAILED }
}

/// Room that is enough for nearly every report.
const ROOM: [u8; 16384] = [b' '; 16384];

/// The report's file, its room taken before a build can fill the disk.
fn reserve(path: &Path) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&ROOM)?;
    Ok(file)
}

fn write_report(mut file: File, report: &Report) -> io::Result<()> {
    let json = serde_json::to_vec(report)?;
    file.rewind()?;
    file.write_all(&json)?;
    file.set_len(json.len() as u64)
}

type Problem = Box<dyn std::error::Error>;

fn carry_out(plan: &Plan, log_limit: u64, report: &mut Report) -> Result<(), Problem> {
    // Everything of the host is opened before it is out of sight.
    let logs = Logs::open(plan, log_limit)?;
    let collect_to = plan.collect_to.as_deref().map(File::open).transpose()?;
    mounts::make(plan)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::unistd::sethostname("localhost")?;
    // Into an upper folder that nothing but the base has had a say in: no link in it leads elsewhere.
    for (path, content) in &plan.files {
        fs::write(place_for_user(&plan.at, path)?, content)?;
        own(&plan.at, path)?;
    }
    for (from, path) in &plan.copies {
        let place = place_for_user(&plan.at, path)?;
        fs::copy(from, &place)?;
        // Times go into source RPMs, which are to be the same for the same sources.
        File::options().write(true).open(&place)?.set_modified(fs::metadata(from)?.modified()?)?;
        own(&plan.at, path)?;
    }
    if plan.view == View::Chroot {
        mounts::enter(&plan.at)?;
        bring_lo_up()?;
        nix::sys::prctl::set_no_new_privs()?;
    }
    if plan.bits32 {
        show_32_bits();
    }
    limit_resources()?;
    run_steps(plan, logs, report)?;
    // A step that was taken back leaves those before it, and their results.
    if report.last().is_some_and(|step| step.status != 0 && !step.accepted && !step.retracted) {
        return Ok(());
    }
    if let Some(to) = collect_to {
        let collected = collect::rpms(&plan.collect, &to)?;
        (report.collected, report.refused) = (collected.taken, collected.refused);
    }
    if plan.furnish {
        furnish(&plan.at)?;
    }
    Ok(())
}

/// SIGTERM from outside ends the sandbox: the handler exits, and the kernel kills and reaps all the rest
/// before `unshare` hears of it.
fn end_at_sigterm() {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(143) }
    }
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but exit.
    let set = unsafe { sigaction(Signal::SIGTERM, &action) };
    debug_assert!(set.is_ok());
}

/// Whether `unshare` died before it had the kernel end us with it. /proc is still the host's, and shows its ids.
fn orphaned() -> bool {
    let parent = || -> Option<String> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fs::read_to_string(format!("/proc/{}/comm", fields.split(' ').nth(1)?)).ok()
    };
    parent().is_none_or(|name| name.trim_end() != "unshare")
}

fn close_inherited() {
    // SAFETY: at the program's start nobody in this process owns a descriptor past the standard ones.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

fn show_32_bits() {
    const PER_LINUX32: libc::c_ulong = 8;
    // SAFETY: it changes what uname(2) says, and nothing in memory.
    unsafe { libc::personality(PER_LINUX32) };
}

fn limit_resources() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, getrlimit(Resource::RLIMIT_CORE)?.1)?;
    // Some programs close every possible descriptor, which takes minutes where there may be a billion.
    let files = 10240.min(getrlimit(Resource::RLIMIT_NOFILE)?.1);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)
}

/// Sets `lo` up: test suites talk to themselves over it.
fn bring_lo_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    // SAFETY: the request is a valid ifreq that outlives the call, which only reads it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where a path of the chroot is now; the folders on the way, below the build user's home, are made for it.
fn place_for_user(at: &Path, path: &Path) -> io::Result<PathBuf> {
    let place = |path: &Path| at.join(path.strip_prefix("/").unwrap_or(path));
    let mut folders: Vec<&Path> =
        path.ancestors().skip(1).filter(|part| part.starts_with(BUILD_HOME)).collect();
    folders.reverse();
    for folder in folders {
        if !place(folder).exists() {
            fs::create_dir(place(folder))?;
            own(at, folder)?;
        }
    }
    Ok(place(path))
}

fn own(at: &Path, path: &Path) -> io::Result<()> {
    chown(at.join(path.strip_prefix("/").unwrap_or(path)), Some(BUILD_ID), Some(BUILD_ID))
}

/// What a base needs beyond its packages: the build user and its home, the folders that are mounted on, and
/// the files that programs look for and no package of a small chroot may bring.
fn furnish(at: &Path) -> io::Result<()> {
    // So that no link in the chroot leads out of it. Nothing runs after this.
    std::os::unix::fs::chroot(at)?;
    std::env::set_current_dir("/")?;
    for folder in ["/proc", "/sys", "/dev", "/etc", "/run", BUILD_HOME] {
        fs::create_dir_all(folder)?;
    }
    for folder in ["/tmp", "/var/tmp"] {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))?;
    }
    add_line("/etc/group", BUILD_USER, &format!("{BUILD_USER}:x:{BUILD_ID}:"))?;
    add_line(
        "/etc/passwd",
        BUILD_USER,
        &format!("{BUILD_USER}:x:{BUILD_ID}:{BUILD_ID}::{BUILD_HOME}:/bin/bash"),
    )?;
    chown(BUILD_HOME, Some(BUILD_ID), Some(BUILD_ID))?;
    for (path, content) in [("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"), ("/etc/resolv.conf", "")]
    {
        if !Path::new(path).exists() {
            fs::write(path, content)?;
        }
    }
    if !Path::new("/etc/mtab").exists() {
        std::os::unix::fs::symlink("../proc/self/mounts", "/etc/mtab")?;
    }
    Ok(())
}

/// Adds a line to a file of the passwd kind, unless it has one for `name`.
fn add_line(path: &str, name: &str, line: &str) -> io::Result<()> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    if text.lines().any(|line| line.split(':').next() == Some(name)) {
        return Ok(());
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    fs::write(path, format!("{text}{gap}{line}\n"))
}
