//! git: a clone of one branch, and a checkout in which nothing is dangerous to look at.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::ScmError;
use crate::config::Scm;
use crate::model::GitRef;
use crate::model::request::Request;
use crate::model::text::plain;
use crate::sys::process::{self, End, Program};
use crate::sys::tls::TlsFiles;

/// How long a clone may take.
const LIMIT: Duration = Duration::from_secs(600);

/// git as it is called here: it knows no configuration but ours, asks nobody, runs nothing, and makes no links.
#[derive(Debug)]
pub struct Git<'a> {
    pub scm: &'a Scm,
    pub work: &'a Path,
}

/// A commit's files.
#[derive(Debug)]
pub struct Checkout {
    pub folder: PathBuf,
    /// In full.
    pub commit: String,
    /// When it was committed.
    pub time: SystemTime,
}

impl<'a> Git<'a> {
    pub fn new(scm: &'a Scm, work: &'a Path) -> Git<'a> {
        Git { scm, work }
    }

    /// Clones the branch that a request names, and checks its ref out.
    pub async fn check_out(
        &self,
        request: &Request,
        cancel: &CancellationToken,
    ) -> Result<Checkout, ScmError> {
        let folder = self.work.join("checkout");
        let url = self.scm.repository(&request.pkg);
        let clone = self
            .program()
            .args([
                "clone",
                "--quiet",
                "--single-branch",
                "--no-local",
                "--no-recurse-submodules",
                "--template=",
            ])
            .arg(format!("--branch={}", request.git_branch))
            .arg("--")
            .args([&url, &folder.display().to_string()]);
        let what = format!("branch {} of {url} cannot be cloned", request.git_branch);
        self.run(clone, &what, cancel).await?;
        let commit = self.commit(&folder, request).await?;
        let checkout = self.within(&folder).args(["checkout", "--quiet", "--detach", &commit, "--"]);
        self.run(checkout, &format!("{commit} cannot be checked out"), cancel).await?;
        let seconds = self.ask(&folder, &["show", "--no-patch", "--format=%ct", &commit, "--"]).await?;
        // Whoever made the commit has chosen it, and RPMs have 32 bits for theirs.
        let no_date =
            || ScmError::refused(format!("{commit} has a date that no RPM can have: {}", plain(&seconds)));
        let seconds: u32 = seconds.parse().map_err(|_| no_date())?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
        Ok(Checkout { folder, commit, time })
    }

    /// The newest commit of a branch, where that is what a request asks for.
    pub async fn tip(&self, request: &Request) -> Option<String> {
        if request.git_ref != GitRef::default() {
            return None;
        }
        let branch = format!("refs/heads/{}", request.git_branch);
        let url = self.scm.repository(&request.pkg);
        let list = self.program().args(["ls-remote", "--quiet", "--", &url, &branch]);
        let said = tokio::time::timeout(LIMIT, process::output(&list))
            .await
            .ok()?
            .ok()
            .filter(|said| said.end.success())?;
        let (commit, name) = said.stdout.trim().split_once('\t')?;
        (name == branch && is_commit(commit)).then(|| commit.to_owned())
    }

    async fn commit(&self, folder: &Path, request: &Request) -> Result<String, ScmError> {
        let wanted = format!("{}^{{commit}}", request.git_ref);
        let found =
            self.ask(folder, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).await;
        found.ok().filter(|found| is_commit(found)).ok_or_else(|| {
            ScmError::refused(format!(
                "branch {} of {} has no {}: give a commit or tag that is in that branch",
                request.git_branch, request.pkg, request.git_ref
            ))
        })
    }

    /// What git prints about a clone.
    pub async fn ask(&self, folder: &Path, arguments: &[&str]) -> Result<String, ScmError> {
        let said = process::output(&self.within(folder).args(arguments)).await?;
        if said.end.success() {
            Ok(said.stdout.trim().to_owned())
        } else {
            Err(ScmError::refused(format!(
                "git {} failed: {}",
                arguments[0],
                reason(&said.stderr, &said.end)
            )))
        }
    }

    async fn run(&self, program: Program, what: &str, cancel: &CancellationToken) -> Result<(), ScmError> {
        let log = self.work.join("git.log");
        match process::run(&program, &log, Some(LIMIT), cancel).await? {
            End::Exited(0) => Ok(()),
            End::Cancelled => Err(ScmError::Interrupted),
            end => {
                let said = std::fs::read(&log).unwrap_or_default();
                Err(ScmError::refused(format!("{what}: {}", reason(&String::from_utf8_lossy(&said), &end))))
            }
        }
    }

    fn within(&self, folder: &Path) -> Program {
        self.program().arg("-C").arg(folder)
    }

    fn program(&self) -> Program {
        let mut git = bare("git", self.work);
        // A link in a checkout could lead anywhere: it becomes a file that says where to.
        for setting in ["core.symlinks=false", "core.hooksPath=/dev/null", "credential.helper=", "gc.auto=0"]
        {
            git = git.args(["-c", setting]);
        }
        if self.scm.protocol == "https" {
            let TlsFiles { ca_cert, tls_cert, tls_key, .. } = &self.scm.tls;
            let key = tls_key.as_ref().or(tls_cert.as_ref());
            let files = [("CAInfo", ca_cert.as_ref()), ("Cert", tls_cert.as_ref()), ("Key", key)];
            for (name, path) in files {
                if let Some(path) = path {
                    git = git.arg("-c").arg(format!("http.ssl{name}={}", path.display()));
                }
            }
        }
        git = git
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", &self.scm.protocol);
        if self.scm.protocol == "ssh" {
            // Its keys are there.
            let home = std::env::var_os("HOME").unwrap_or_default();
            git = git.env("HOME", home).env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        git
    }
}

/// Whether it is the full id of one.
fn is_commit(text: &str) -> bool {
    text.len() >= 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// A program with next to nothing in its environment, and a home of its own.
pub fn bare(name: &str, home: &Path) -> Program {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut program = Program::new(name).env("PATH", path).env("HOME", home).env("LC_ALL", "C.UTF-8");
    program.clear_env = true;
    program
}

/// The line that says what is wrong.
fn reason(said: &str, end: &dyn Display) -> String {
    let lines: Vec<String> = said.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    let is_reason = |line: &&String| line.starts_with("fatal: ") || line.starts_with("error: ");
    let line = lines.iter().find(is_reason).or(lines.last());
    line.map_or_else(|| format!("git ended by {end}"), |line| line.chars().take(300).collect())
}
