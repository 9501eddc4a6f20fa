//! Bringing the site's configurations up to date, by git.
//!
//! Configurations that are outdated build wrong packages without a word, while a git server that is away for minutes
//! should not stop a farm. So a pull that fails is a warning for as long as the last good one is recent
//! (`[mock] stale_after`), and then the builder's fault: the job is tried elsewhere.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::build::engine::diagnose;
use crate::config::MockOptions;
use crate::model::{Class, Failure};
use crate::sys::fs::write_whole;
use crate::sys::process::{self, End, Program};

/// How long a pull may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What is known of the configurations' folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Git {
    /// It is no git work tree, or updating it is turned off: it is as somebody else keeps it.
    Unmanaged,
    /// It is one, and has nothing to be updated from.
    NoUpstream,
    /// It follows a branch.
    Follows(String),
    /// git does not work there.
    Broken(String),
}

/// Asks git about `folder`.
pub async fn look(folder: &Path, options: &MockOptions) -> Git {
    // Further up there may be a work tree that is none of our business.
    let is_work_tree =
        [Some(folder), folder.parent()].into_iter().flatten().any(|at| at.join(".git").exists());
    if options.update == Some(false) || (options.update.is_none() && !is_work_tree) {
        return Git::Unmanaged;
    }
    let asked = git(folder).args(["rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}"]);
    match process::output(&asked).await {
        Ok(said) if said.end.success() => Git::Follows(said.stdout.trim().to_owned()),
        Ok(said) if options.update.is_none() && has_no_upstream(&said.stderr) => Git::NoUpstream,
        Ok(said) => Git::Broken(words(&said.stderr)),
        Err(error) => Git::Broken(error.to_string()),
    }
}

fn has_no_upstream(said: &str) -> bool {
    ["no upstream configured", "no such branch", "does not point to a branch"]
        .iter()
        .any(|words| said.contains(words))
}

/// Updates `folder`, unless another has since `asked`. Returns a warning where that failed and does not matter yet.
/// To be called by one process at a time. `last` is touched by every success, and `log` written by git.
pub async fn update(
    folder: &Path,
    options: &MockOptions,
    asked: SystemTime,
    last: &Path,
    log: &Path,
    cancel: &CancellationToken,
) -> Result<Option<String>, Failure> {
    let this_folder = folder.display().to_string();
    let age = age(last, &this_folder);
    if age.is_some_and(|when| when >= asked) {
        return Ok(None);
    }
    let trouble = match look(folder, options).await {
        Git::Unmanaged | Git::NoUpstream => return Ok(None),
        Git::Broken(why) => Some(why),
        Git::Follows(_) => pull(folder, log, cancel).await,
    };
    let Some(why) = trouble else {
        // If that cannot be noted, the next failing pull is taken more seriously than it need be.
        let _ = write_whole(last, this_folder.as_bytes());
        return Ok(None);
    };
    let since = age.and_then(|when| when.elapsed().ok());
    let what = format!("the configurations in {this_folder} could not be updated: {why}");
    if let Some(since) = since.filter(|since| *since < options.stale_after) {
        return Ok(Some(format!("{what}; building by those of {} s ago", since.as_secs())));
    }
    let ago = since.map_or_else(|| "never".to_owned(), |since| format!("{} s ago", since.as_secs()));
    let line = format!(
        "{what}; they were last updated {ago}, which is too old to build by: mend that, or set update or \
         stale_after in section [mock]"
    );
    Err(Failure::new(Class::Config, "config", line).retried(true))
}

/// When `last` was written, if that was about this folder.
fn age(last: &Path, folder: &str) -> Option<SystemTime> {
    let about = std::fs::read_to_string(last).ok()?;
    (about == folder).then(|| std::fs::metadata(last).and_then(|meta| meta.modified()).ok())?
}

/// Why a pull failed; nothing where it did not.
async fn pull(folder: &Path, log: &Path, cancel: &CancellationToken) -> Option<String> {
    let _ = std::fs::remove_file(log);
    let pull = git(folder).args(["pull", "--ff-only", "--quiet"]);
    match process::run(&pull, log, Some(LIMIT), cancel).await {
        Ok(End::Exited(0)) => None,
        Ok(End::TimedOut) => Some(format!("git pull took longer than {} s", LIMIT.as_secs())),
        Ok(end) => {
            let said = words(&diagnose::read_tail(log, 0));
            Some(if said.is_empty() { format!("git pull ended by {end}") } else { said })
        }
        Err(error) => Some(error.to_string()),
    }
}

/// git in `folder`, which asks nobody anything.
fn git(folder: &Path) -> Program {
    let git = Program::new("git").arg("-C").arg(folder).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    match std::env::var_os("GIT_SSH_COMMAND") {
        Some(_) => git,
        None => git.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
    }
}

/// The line of git's that says what is wrong.
fn words(said: &str) -> String {
    let lines: Vec<String> = said.lines().map(diagnose::clean).filter(|line| !line.is_empty()).collect();
    let is_reason = |line: &&String| line.starts_with("fatal: ") || line.starts_with("error: ");
    let line = lines.iter().find(is_reason).or(lines.last());
    line.map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: ").to_owned())
        .unwrap_or_default()
}
