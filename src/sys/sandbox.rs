//! Programs in namespaces of their own, so that a build sees its chroot and nothing else, and so that nothing of
//! it is left, whatever ends it.
//!
//! A sandbox is made in three steps. This process starts `unshare` (util-linux), which makes the namespaces and,
//! run by an ordinary user, the map of subordinate ids. That starts our own binary again ([`stage2`]) as the init
//! of the new process namespace; it makes the mounts, which exist nowhere but there, and then runs the [`Step`]s
//! of its [`Plan`] one after the other. Init's end is the end of every process and mount of the sandbox: the kernel
//! sees to that. Init dies with `unshare` (`--kill-child`), `unshare` dies with the thread that started it
//! (PR_SET_PDEATHSIG in [`super::process`]).

mod collect;
mod init;
mod mounts;
mod signals;
mod stage2;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use stage2::stage2;

use super::fs::FileError;
use super::process::Program;

/// The hidden subcommand under which the binary runs [`stage2`].
pub const SUBCOMMAND: &str = "__sandbox";

/// The build user's ids, as mock has them.
pub const BUILD_ID: u32 = 1000;
/// The build user's name, as mock has it.
pub const BUILD_USER: &str = "mockbuild";
/// The build user's home.
pub const BUILD_HOME: &str = "/builddir";

/// Has the hidden subcommand remove the folders that follow, whoever owns what is in them. Otherwise it is given the
/// file that holds its [`Plan`]: as an argument a plan could be too long, and everybody could read it.
const REMOVE: &str = "--remove";

/// A sandbox: its mounts and what runs in it. Paths are the host's unless said otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The chroot's folder; with `layers`, the folder that the overlay is mounted on.
    pub at: PathBuf,
    pub layers: Option<Layers>,
    pub view: View,
    pub binds: Vec<Bind>,
    /// Files of the host copied for the build user before the first step: from, path in the chroot.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// Files made for the build user before the first step: path in the chroot, content.
    pub files: Vec<(PathBuf, String)>,
    pub steps: Vec<Step>,
    /// Give the chroot, once the steps have succeeded, what a base needs beyond its packages.
    pub furnish: bool,
    /// Take the RPMs below these folders of the chroot ...
    pub collect: Vec<PathBuf>,
    /// ... to this one, once the steps have succeeded.
    pub collect_to: Option<PathBuf>,
    /// Gets a line at every step's start and end.
    pub state_log: Option<PathBuf>,
    /// Where the [`Report`] goes.
    pub report: PathBuf,
    /// `uname -m` shows the 32-bit machine.
    pub bits32: bool,
}

/// An overlay: a base that is only read, and where changes go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layers {
    pub lower: PathBuf,
    pub upper: PathBuf,
    /// Emptied before every mount.
    pub work: PathBuf,
}

/// What the steps see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// The chroot alone, without any network but `lo`, and no way to new privileges.
    Chroot,
    /// The host, with the chroot mounted and furnished at its place, and the host's network: for dnf.
    Host,
}

/// A file or folder of the host, shown at a place in the chroot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    pub from: PathBuf,
    /// In the chroot.
    pub to: PathBuf,
    pub read_only: bool,
}

/// A program run in the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// What the state log calls it; empty: it says nothing.
    pub label: String,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Run as the build user rather than root.
    pub as_user: bool,
    /// Both outputs are appended here.
    pub log: PathBuf,
    /// What to do when it fails.
    pub failing: Failing,
}

/// What a failing step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failing {
    /// The end.
    Ends,
    /// Nothing.
    Ignored,
    /// Nothing if it fails with this status, else the end.
    Accepts(i32),
    /// The end; and if it failed before it had run a part of a spec, it did not happen: its output is taken
    /// back. So `rpmbuild` can be tried before it is known whether its BuildRequires are installed. Likewise if
    /// it failed with rpmbuild's status for packages that %generate_buildrequires asked for.
    Probe,
}

/// What came of a sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// As many as were run.
    pub steps: Vec<StepReport>,
    /// File names in `collect_to`.
    pub collected: Vec<String>,
    /// Why results were not taken, a sentence each.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Why the sandbox could not be made, or the results not be collected.
    pub error: Option<String>,
    /// A log could not be written for want of room.
    pub full: bool,
}

/// What came of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The exit status; 128 + the signal's number where one ended it.
    pub status: i32,
    pub seconds: f64,
    /// The parts of the spec that were run, `prep`, `build` …, in order, and when each began, in seconds.
    pub parts: Vec<(String, f64)>,
    /// It failed in a way that the plan takes for no failure.
    pub accepted: bool,
    /// A [`Failing::Probe`] that did not happen.
    pub retracted: bool,
    #[serde(default)]
    pub own: OwnSignals,
}

/// What is known of signals that a step's processes sent one another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnSignals {
    /// The name of the process that ended the step's own program, where one of the step's did.
    pub ended_by: Option<String>,
    /// One of them was sent SIGKILL by another.
    pub killed: bool,
}

/// How this process makes sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    exe: PathBuf,
    rootless: bool,
    /// Bytes that a step's log may have.
    log_limit: u64,
}

/// As long as a log that tells something can be.
const LOG_LIMIT: u64 = 64 << 20;

/// How long init has to end after SIGTERM. It only has to exit; the rest is the kernel's.
const GRACE: Duration = Duration::from_secs(5);

impl Launcher {
    /// Sandboxes whose init is this very program, even if its file was replaced since it started.
    pub fn of_this_program() -> Launcher {
        let ours = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
        // From a user namespace of its own an ordinary user's sandbox may not follow that link.
        let exe = if nix::unistd::geteuid().is_root() { None } else { std::env::current_exe().ok() };
        Launcher::new(exe.unwrap_or(ours))
    }

    /// Sandboxes whose init is `exe`, which must know [`SUBCOMMAND`].
    pub fn new(exe: PathBuf) -> Launcher {
        Launcher { exe, rootless: !nix::unistd::geteuid().is_root(), log_limit: LOG_LIMIT }
    }

    /// Sandboxes whose steps' logs are kept to so many bytes.
    pub fn with_log_limit(self, log_limit: u64) -> Launcher {
        Launcher { log_limit, ..self }
    }

    /// Whether this is an ordinary user, and sandboxes need subordinate ids.
    pub fn rootless(&self) -> bool {
        self.rootless
    }

    /// The program that carries out `plan`, which is left beside its report for it.
    pub fn run(&self, plan: &Plan) -> Result<Program, FileError> {
        let file = plan.report.with_extension("plan");
        // Strings, numbers and lists of them always serialize.
        let json = serde_json::to_vec(&(plan, self.log_limit)).unwrap_or_default();
        std::fs::write(&file, json).map_err(FileError::at("write", &file))?;
        let mut program =
            self.unshare().args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]);
        if plan.view == View::Chroot {
            program = program.arg("--net");
        }
        Ok(self.stage2(program).arg(file))
    }

    /// The program that removes `folders` with all that is in them, whoever owns it.
    pub fn remove(&self, folders: &[&Path]) -> Program {
        self.stage2(self.unshare().arg("--mount")).arg(REMOVE).args(folders)
    }

    /// The program that prints how many bytes of disk `folders` take, all in all in its last line (du(1)): files of
    /// other owners included, nothing behind links, and nothing that a deep tree could hide.
    pub fn measure(&self, folders: &[impl AsRef<Path>]) -> Program {
        let program = if self.rootless { self.unshare().args(["--", "du"]) } else { Program::new("du") };
        let how = ["--summarize", "--total", "--one-file-system", "--block-size=1", "--"];
        program.args(how).args(folders.iter().map(AsRef::as_ref))
    }

    fn unshare(&self) -> Program {
        let program = Program::new("unshare").grace(GRACE);
        if self.rootless { program.args(["--user", "--map-auto", "--map-root-user"]) } else { program }
    }

    fn stage2(&self, unshare: Program) -> Program {
        unshare.arg("--").arg(&self.exe).arg(SUBCOMMAND)
    }
}

impl Report {
    /// Reads the report of a sandbox that has ended; `None` where it was killed before it could write one.
    pub fn read(path: &Path) -> Option<Report> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// The last step that was run.
    pub fn last(&self) -> Option<&StepReport> {
        self.steps.last()
    }
}
