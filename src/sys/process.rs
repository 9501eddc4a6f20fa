//! Running other programs: arguments as arguments, a time limit, and no survivors.
//!
//! Every child leads a process group of its own, is killed when its handle is dropped, and gets SIGKILL from
//! the kernel when the thread that started it dies (prctl(2), PR_SET_PDEATHSIG). That thread must therefore
//! live as long as the child: [`run`] and [`output`] spawn from the calling task's thread, which is a worker
//! of the tokio runtime or the main thread. Do not call them from `spawn_blocking`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use super::cgroup::Cgroup;

/// What to run. Nothing is ever given to a shell.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: OsString,
    pub args: Vec<OsString>,
    /// Set on top of the inherited environment; `clear_env` starts from an empty one.
    pub env: Vec<(OsString, OsString)>,
    pub clear_env: bool,
    pub cwd: Option<PathBuf>,
    /// How long it has to end after SIGTERM before SIGKILL follows; zero: it gets SIGKILL at once.
    pub grace: Duration,
    /// What it writes "0" to before it does anything: the groups that it, and what it starts, are then in.
    entries: Vec<Arc<File>>,
}

impl Program {
    pub fn new(name: impl AsRef<OsStr>) -> Program {
        Program {
            name: name.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            clear_env: false,
            cwd: None,
            grace: Duration::ZERO,
            entries: Vec::new(),
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Program {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn grace(mut self, grace: Duration) -> Program {
        self.grace = grace;
        self
    }

    /// Has it, and all that it starts, run in a control group, if one is given.
    pub fn limited_by(mut self, cgroup: Option<&Cgroup>) -> Program {
        self.entries = cgroup.map(Cgroup::entries).unwrap_or_default();
        self
    }

    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.name);
        command.args(&self.args).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        if self.clear_env {
            command.env_clear();
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let parent = nix::unistd::getpid();
        let entries = self.entries.clone();
        // SAFETY: prctl, getppid and write are async-signal-safe, and nothing is allocated on the way.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the line above.
                if nix::unistd::getppid() != parent {
                    return Err(std::io::Error::from_raw_os_error(nix::libc::ESRCH));
                }
                for entry in &entries {
                    nix::unistd::write(entry, b"0")?;
                }
                Ok(())
            });
        }
        command
    }
}

/// This machine's node name (uname(2)): what events call the builder.
pub fn node_name() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "localhost".into(), |uname| uname.nodename().to_string_lossy().into_owned())
}

/// Whether a program is there: by its name, or where a path says.
pub fn on_path(program: impl AsRef<OsStr>) -> bool {
    let program = program.as_ref();
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Signaled(i32),
    TimedOut,
    Cancelled,
}

impl End {
    pub fn success(self) -> bool {
        self == End::Exited(0)
    }

    fn of(status: ExitStatus) -> End {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Signaled(signal.unwrap_or_default()),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exit status {code}"),
            End::Signaled(signal) => write!(f, "signal {signal}"),
            End::TimedOut => f.write_str("its time limit"),
            End::Cancelled => f.write_str("being cancelled"),
        }
    }
}

/// A program that could not be started or waited for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot run {program}: it is not installed, or not on PATH")]
    Missing { program: String },
    #[error("cannot run {program}: {source}")]
    Spawn { program: String, source: std::io::Error },
    #[error("cannot write the output of {program} to {}: {source}", path.display())]
    Log { program: String, path: PathBuf, source: std::io::Error },
}

/// Runs `program`, both outputs appended to the file `log`, until it ends, `limit` is over, or `cancel` is.
pub async fn run(
    program: &Program,
    log: &Path,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<End, ProcessError> {
    run_apart(program, log, log, limit, cancel).await
}

/// [`run`] with a file for each output.
pub async fn run_apart(
    program: &Program,
    stdout: &Path,
    stderr: &Path,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<End, ProcessError> {
    let name = program.name.to_string_lossy().into_owned();
    let open = |path: &Path| {
        let file = std::fs::File::options().create(true).append(true).open(path);
        file.map_err(|source| ProcessError::Log { program: name.clone(), path: path.to_owned(), source })
    };
    let mut command = program.command();
    command.stdout(open(stdout)?).stderr(open(stderr)?);
    let child = command.spawn().map_err(|source| spawn_error(&name, source))?;
    let mut group = Group::of(child);
    tokio::select! {
        status = group.child.wait() => {
            let end = status.map(End::of).map_err(|source| ProcessError::Spawn { program: name, source });
            // What it left running in its group goes with it.
            group.kill();
            end
        }
        () = sleep_for(limit) => {
            group.end(program.grace).await;
            Ok(End::TimedOut)
        }
        () = cancel.cancelled() => {
            group.end(program.grace).await;
            Ok(End::Cancelled)
        }
    }
}

/// What a short program printed.
#[derive(Debug)]
pub struct Output {
    pub end: End,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program whose output is short, and returns that output.
pub async fn output(program: &Program) -> Result<Output, ProcessError> {
    let name = program.name.to_string_lossy().into_owned();
    let mut command = program.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().await.map_err(|source| spawn_error(&name, source))?;
    Ok(Output {
        end: End::of(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn spawn_error(program: &str, source: std::io::Error) -> ProcessError {
    let program = program.to_owned();
    match source.kind() {
        std::io::ErrorKind::NotFound => ProcessError::Missing { program },
        _ => ProcessError::Spawn { program, source },
    }
}

async fn sleep_for(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// A child with everything it started, as far as that stayed in its process group.
struct Group {
    child: tokio::process::Child,
    leader: Option<Pid>,
}

impl Group {
    fn of(child: tokio::process::Child) -> Group {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Group { child, leader }
    }

    fn kill(&mut self) {
        if let Some(leader) = self.leader {
            // An empty group is what we want: ESRCH is no error.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }

    async fn end(&mut self, grace: Duration) {
        if let (Some(leader), false) = (self.leader, grace.is_zero()) {
            let _ = killpg(leader, Signal::SIGTERM);
            let _ = tokio::time::timeout(grace, self.child.wait()).await;
        }
        self.kill();
        let _ = self.child.wait().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
