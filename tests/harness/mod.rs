//! What the tests stand on: a root of their own, real source RPMs, and the real binary.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod beanstalkd;
pub mod ca;
pub mod ircd;
pub mod keys;
pub mod mail_server;
pub mod mongodb;
pub mod mosquitto;
pub mod plans;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use reimzul::config::Config;
use reimzul::history::{Document, Find};
use reimzul::model::{BuildRecord, Target};
use reimzul::queue::State;
use reimzul::role::Site;
use reimzul::submit::{self, Submitted};

pub const BINARY: &str = env!("CARGO_BIN_EXE_reimzul");
/// How long anything may take that is waited for. Nothing takes a tenth of it on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A root folder in a temporary place, with the null engine, which builds nothing.
pub struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    pub fn new() -> Root {
        Root::with("")
    }

    /// With more lines for `[worker]` in its configuration.
    pub fn with(worker: &str) -> Root {
        let folder = tempfile::Builder::new().prefix("reimzul-test-").tempdir().unwrap();
        let root = Root { folder };
        let delay = if worker.contains("retry_delay") { "" } else { "retry_delay = 0\n" };
        root.write("reimzul.ini", &format!("[worker]\nengine = null\n{delay}{worker}\n"));
        root
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The files below a folder, relative to the root, sorted; none where it is not there.
    pub fn files(&self, below: &str) -> Vec<String> {
        fn gather(folder: &Path, into: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    gather(&entry.path(), into);
                } else {
                    into.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        gather(&self.join(below), &mut found);
        let short = |path: &PathBuf| path.strip_prefix(self.path()).unwrap().display().to_string();
        let mut found: Vec<String> = found.iter().map(short).collect();
        found.sort();
        found
    }

    /// The engines of this root, opened in this process.
    pub fn site(&self) -> Site {
        Site::open(Config::load(None, Some(self.path())).unwrap()).unwrap()
    }

    /// The binary with `--root`, its environment free of what could colour or redirect it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--root").arg(self.path()).args(arguments);
        clean(&mut command);
        command
    }

    /// Runs a command of the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Starts roles in a process of their own, killed with the value.
    pub fn start(&self, arguments: &[&str]) -> Process {
        self.start_with(arguments, &[])
    }

    pub fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let mut command = self.command(&[&["run"], arguments].concat());
        command.envs(environment.iter().copied());
        Process::start(command)
    }

    /// Starts roles as if on another machine: in namespaces that have a node name and a boot id of their own.
    pub fn start_on(&self, node: &'static str, arguments: &[&str]) -> Process {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        use std::os::unix::process::CommandExt;
        let mut command = self.command(&[&["run"], arguments].concat());
        self.write(&format!("boot_id-{node}"), &uuid::Uuid::new_v4().to_string());
        let boot_id = self.join(format!("boot_id-{node}"));
        let enter = move || {
            let (nothing, ours) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            unshare(CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS)?;
            nix::unistd::sethostname(node)?;
            mount(nothing, "/", nothing, ours, nothing)?;
            let place = "/proc/sys/kernel/random/boot_id";
            Ok(mount(Some(&boot_id), place, nothing, MsFlags::MS_BIND, nothing)?)
        };
        // SAFETY: both are mere system calls.
        unsafe { command.pre_exec(enter) };
        Process::start(command)
    }

    /// Starts any command in a process of its own, killed with the value.
    pub fn launch(&self, arguments: &[&str], environment: &[(&str, &str)], out: Stdio) -> Process {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        Process::start_into(command, out)
    }

    /// A PATH on which createrepo_c is this script of sh's, in which `$real` is the true one.
    pub fn with_createrepo(&self, script: &str) -> String {
        let paths = std::env::var("PATH").unwrap();
        let real = std::env::split_paths(&paths).map(|folder| folder.join("createrepo_c"));
        let real = real.into_iter().find(|path| path.exists()).expect("install the package createrepo-c");
        self.write("bin/createrepo_c", &format!("#!/bin/sh\nreal={}\n{script}\n", real.display()));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.join("bin/createrepo_c"), open).unwrap();
        format!("{}:{paths}", self.join("bin").display())
    }

    pub fn start_all(&self) -> Process {
        self.start(&["all"])
    }
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REIMZUL_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE").env_remove("COLUMNS").stdin(Stdio::null());
}

/// The binary without a root of its own.
pub fn reimzul(arguments: &[&str]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    clean(&mut command);
    Ran::of(&mut command)
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It must have gone well.
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "out: {}\nerr: {}", self.out, self.err);
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// A running process of ours; killed when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    said: String,
    /// How much of that is not looked at any more.
    forgotten: usize,
}

impl Process {
    pub fn start(command: Command) -> Process {
        Process::start_into(command, Stdio::null())
    }

    fn start_into(mut command: Command, out: Stdio) -> Process {
        let mut child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        let (to, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    break;
                }
            }
        });
        Process { child, lines, said: String::new(), forgotten: 0 }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has logged a line with `part` in it.
    pub fn until_it_says(&mut self, part: &str) {
        let until = Instant::now() + SOON;
        while !self.said[self.forgotten..].contains(part) {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                }
                Err(error) => panic!("it never said '{part}' ({error}), but:\n{}", self.said),
            }
        }
    }

    /// What it has said is not looked at any more.
    pub fn forget(&mut self) {
        self.forgotten = self.said.len();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(id, signal).unwrap();
    }

    pub fn terminate(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    /// SIGKILL, and gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; the exit code, and all that it logged.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end; it said:\n{}", self.said);
            std::thread::sleep(Duration::from_millis(5));
        };
        let rest: Vec<String> = self.lines.iter().collect();
        (status.code(), std::mem::take(&mut self.said) + &rest.join("\n"))
    }

    /// SIGTERM to roles, and a good end.
    pub fn stop(mut self) {
        // From then on the signal does not end it as it would end any program.
        self.forgotten = 0;
        self.until_it_says("running ");
        self.terminate();
        let (code, said) = self.ended();
        assert_eq!(code, Some(0), "{said}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `look` finds something.
pub async fn eventually<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut look: F) -> T {
    let until = Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a test asks of a site.
pub trait Ask {
    async fn submit(&self, srpm: &Path) -> Submitted;
    async fn submit_scratch(&self, srpm: &Path) -> Submitted;
    /// The result of a build, once the history has it.
    async fn result(&self, build: &Submitted) -> Document;
    /// Waits until nothing is queued but buried jobs, and every sink has been told.
    async fn quiet(&self);
}

impl Ask for Site {
    async fn submit(&self, srpm: &Path) -> Submitted {
        submitted(self, srpm, false).await
    }

    async fn submit_scratch(&self, srpm: &Path) -> Submitted {
        submitted(self, srpm, true).await
    }

    async fn result(&self, build: &Submitted) -> Document {
        let id = build.job.stamp.as_ref().unwrap().build_id.clone();
        eventually("the result of a build", async || {
            let find = Find { build_id: Some(id.clone()), all: true, ..Find::default() };
            let found = self.history.find(find).await.unwrap();
            found.into_iter().find(|document| document.event.status.is_result())
        })
        .await
    }

    async fn quiet(&self) {
        let left = async || {
            let jobs = self.queue.list(None).await.unwrap();
            let undelivered = self.outbox.waiting().await.unwrap();
            let jobs = jobs.iter().filter(|job| job.state != State::Buried).count();
            (jobs, undelivered.iter().map(|sink| sink.waiting + sink.buried).sum::<u64>())
        };
        let (mut last, mut until) = (left().await, Instant::now() + SOON);
        // Twice: between two looks a job may go from the one to the other.
        while last != (0, 0) || left().await != (0, 0) {
            assert!(Instant::now() < until, "waited in vain for an idle queue: {last:?} are left");
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = left().await;
            if now != last {
                (last, until) = (now, Instant::now() + SOON);
            }
        }
    }
}

async fn submitted(site: &Site, srpm: &Path, scratch: bool) -> Submitted {
    let request = submit::Request { scratch, ..request(srpm) };
    submit::submit(&site.config.layout, &site.queue, &site.stamps, &request).await.unwrap()
}

/// What a tester asks for.
pub fn request(srpm: &Path) -> submit::Request {
    submit::Request {
        srpm: srpm.to_owned(),
        arch: arch().to_owned(),
        target: "mini".parse().unwrap(),
        disttag: ".el9".parse().unwrap(),
        scratch: false,
        mail: false,
        now: false,
        submitter: "tester".parse().unwrap(),
    }
}

/// This machine's arch: what its workers build.
pub fn arch() -> &'static str {
    reimzul::model::Arch::of_this_machine().expect("this machine's arch has a tube").as_str()
}

/// The target that tests build for.
pub fn target() -> Target {
    format!("mini.{}", arch()).parse().unwrap()
}

/// The `build.json` in a folder.
pub fn record(folder: &Path) -> BuildRecord {
    let text = std::fs::read(folder.join("build.json"))
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    serde_json::from_slice(&text).unwrap()
}

/// A real source RPM `<name>-1.0-<release>.src.rpm`, made by rpmbuild once and kept below `target/`.
pub fn srpm(name: &str, release: u32) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("srpms-1");
    let path = kept.join(format!("{name}-1.0-{release}.src.rpm"));
    if path.exists() {
        return path;
    }
    std::fs::create_dir_all(&kept).unwrap();
    let work = tempfile::tempdir_in(&kept).unwrap();
    let spec = work.path().join(format!("{name}.spec"));
    std::fs::write(&spec, spec_text(name, release)).unwrap();
    rpmbuild(&["-bs"], work.path(), &spec);
    keep(&work.path().join(path.file_name().unwrap()), &path);
    path
}

/// A real binary RPM of the same package.
pub fn binary_rpm(name: &str) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("srpms-1");
    let path = kept.join(format!("{name}-1.0-1.noarch.rpm"));
    if path.exists() {
        return path;
    }
    std::fs::create_dir_all(&kept).unwrap();
    let work = tempfile::tempdir_in(&kept).unwrap();
    let spec = work.path().join(format!("{name}.spec"));
    std::fs::write(&spec, spec_text(name, 1)).unwrap();
    rpmbuild(&["-bb"], work.path(), &spec);
    keep(&work.path().join("noarch").join(path.file_name().unwrap()), &path);
    path
}

/// In one step, since tests that run beside this one look for it too; whose was first stays, for they differ.
fn keep(made: &Path, path: &Path) {
    if let Err(error) = std::fs::hard_link(made, path) {
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{}: {error}", path.display());
    }
}

/// The one binary RPM that a spec makes, built below `work`.
pub fn built(spec: &str, name: &str, work: &Path) -> PathBuf {
    let path = work.join(format!("{name}.spec"));
    std::fs::write(&path, spec).unwrap();
    rpmbuild(&["-bb"], work, &path);
    std::fs::read_dir(work.join("noarch")).unwrap().next().unwrap().unwrap().path()
}

/// The source RPM of a spec, built below `work`.
pub fn packed(spec: &str, name: &str, work: &Path) -> PathBuf {
    let (path, folder) = (work.join(format!("{name}.spec")), work.join(name));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&path, spec).unwrap();
    rpmbuild(&["-bs"], &folder, &path);
    let mut made = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    made.find(|path| path.to_string_lossy().ends_with(".src.rpm")).unwrap()
}

fn spec_text(name: &str, release: u32) -> String {
    format!(
        "Name: {name}\nVersion: 1.0\nRelease: {release}\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n\
         %description\nA package that is there to be built.\n%files\n"
    )
}

fn rpmbuild(how: &[&str], work: &Path, spec: &Path) {
    let folder = |name: &str| format!("{name} {}", work.display());
    let mut command = Command::new("rpmbuild");
    command.args(how).args(["--quiet", "--nodeps"]);
    for name in ["_topdir", "_sourcedir", "_srcrpmdir", "_rpmdir", "_builddir"] {
        command.arg("--define").arg(folder(name));
    }
    let output = need(command.arg(spec).output(), "rpmbuild", "rpm");
    assert!(output.status.success(), "rpmbuild: {}", String::from_utf8_lossy(&output.stderr));
}

/// A port for a server to come. It is none that outgoing connections are given (ip(7), `ip_local_port_range`): one of
/// those would take it before the server does.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const PORTS: u32 = 20_000;
    loop {
        // Tests run side by side in several processes.
        let next = std::process::id().wrapping_mul(131) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(next % PORTS).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A program that is not there fails the test with the name of its package.
fn need<T>(ran: std::io::Result<T>, program: &str, package: &str) -> T {
    ran.unwrap_or_else(|error| panic!("cannot run {program} ({error}): install the package {package}"))
}

/// Fails where createrepo_c is missing: without it no metadata is made, and a test would wait in vain.
pub fn need_createrepo() {
    need(Command::new("createrepo_c").arg("--version").output(), "createrepo_c", "createrepo-c");
}

/// The file names of the RPMs that a repository's metadata lists, sorted. Fails where a file that repomd.xml
/// names is not there.
pub fn listed(repository: &Path) -> Vec<String> {
    let repomd = std::fs::read_to_string(repository.join("repodata/repomd.xml")).unwrap();
    let primary = values(&repomd, "href=\"").into_iter().find(|path| path.contains("-primary.xml")).unwrap();
    let text = unpacked(&repository.join(primary));
    let mut files: Vec<String> = values(&text, " href=\"")
        .into_iter()
        .map(|path| path.rsplit('/').next().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

/// The values of an attribute, wherever it stands.
pub fn values(xml: &str, before: &str) -> Vec<String> {
    xml.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn unpacked(path: &Path) -> String {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        Some("xz") => "xz",
        other => panic!("{}: how is {other:?} unpacked?", path.display()),
    };
    let file = std::fs::File::open(path).unwrap();
    let mut command = Command::new(program);
    let mut child = need(command.arg("-dc").stdin(file).stdout(Stdio::piped()).spawn(), program, program);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{program} cannot unpack {}", path.display());
    text
}
