//! What mock's end means: its exit status, and what it left in the result folder.
//!
//! Exit statuses are those of mock's `exception.py`, as mock(1) lists them; what was seen of each is in
//! docs/failures.md. 1 alone says nothing: whether mock came as far as logging, and as far as rpmbuild, tells the
//! cases apart.

use std::path::Path;

use super::state;
use crate::build::engine::diagnose;
use crate::model::{Class, Failure};
use crate::sys::process::End;

/// What mock left.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Whole: it is short.
    pub state: String,
    /// The ends of these.
    pub root: String,
    pub build: String,
    pub stderr: String,
}

impl Evidence {
    pub fn read(resultdir: &Path) -> Evidence {
        let read = |name: &str| diagnose::read_tail(&resultdir.join(name), 0);
        Evidence {
            state: read("state.log"),
            root: read("root.log"),
            build: read("build.log"),
            stderr: read("stderr"),
        }
    }
}

/// The failure that an end other than success is. `srpm` is the source RPM's file name.
pub fn failure(end: End, evidence: &Evidence, srpm: &str) -> Failure {
    match end {
        End::Cancelled | End::TimedOut => ended(evidence, "ended from outside"),
        End::Signaled(signal) => ended(evidence, &format!("mock was ended by signal {signal}")),
        End::Exited(status) => exited(status, evidence, srpm),
    }
}

fn exited(status: i32, evidence: &Evidence, srpm: &str) -> Failure {
    if let Some(failure) = no_room(evidence) {
        return failure;
    }
    let said = || words(evidence, status);
    let builder = |class, phase| Failure::from_log(class, phase, "stderr", said()).retried(true);
    match status {
        1 | 10 => by_progress(status, evidence),
        3 | 5 | 6 | 50 => Failure::from_log(Class::Config, "config", "stderr", said()),
        2 | 80 => builder(Class::Config, "mock"),
        70 => builder(Class::Config, "resultdir"),
        7 => ended(evidence, "mock was interrupted"),
        11 => timeout(evidence),
        20 | 25 | 30 | 90 => buildroot(evidence, status, srpm),
        31 => Failure::from_log(Class::Buildroot, "builddep", "stderr", said()),
        40 => bad_package(evidence, status),
        60 | 65 => {
            let line = "the build root is in use by another mock, and stayed so";
            Failure::new(Class::Buildroot, "base", line).retried(true)
        }
        129..=192 => ended(evidence, &format!("mock was ended by signal {}", status - 128)),
        _ => builder(Class::Buildroot, "mock"),
    }
}

/// Exit status 1, where the class of the failure is not mock's to say.
fn by_progress(status: i32, evidence: &Evidence) -> Failure {
    if state::began_rpmbuild(&evidence.state) {
        return rpmbuild(evidence, status);
    }
    if evidence.state.is_empty() {
        let lines = words(evidence, status);
        let not_allowed = ["will not run from the root account", "Must be member of"];
        if lines.iter().any(|line| not_allowed.iter().any(|words| line.contains(words))) {
            return Failure::from_log(Class::Config, "mock", "stderr", lines).retried(true);
        }
        return Failure::from_log(Class::Source, "unpack", "stderr", lines);
    }
    if evidence.state.contains(" - Start: build setup for ") && has_failed_rpmbuild(&evidence.build) {
        // The spec does not parse, or cannot be packed.
        return rpmbuild(evidence, status);
    }
    buildroot(evidence, status, "")
}

fn has_failed_rpmbuild(log: &str) -> bool {
    log.lines().any(|line| line.starts_with("error: "))
}

fn rpmbuild(evidence: &Evidence, status: i32) -> Failure {
    let log = rpmbuild_log(&evidence.build);
    let part = diagnose::last_part(&log);
    diagnose::rpmbuild(part.as_deref(), &log, status, false)
}

/// What the last rpmbuild said, without what mock writes around it. mock reads rpmbuild's two outputs side by side, so
/// the summary at the end of one may stand before the last lines of the other: it is left out, for it only repeats.
fn rpmbuild_log(log: &str) -> String {
    let last = log.rfind("\nExecuting command: ").map_or(log, |at| &log[at + 1..]);
    // Behind it mock 3 writes where in itself that was.
    let last = last.split_once("\nChild return code was: ").map_or(last, |(said, _)| said);
    let mock = ["Executing command: ", "Mock Version: "];
    let mut in_summary = false;
    last.lines().filter(|line| !mock.iter().any(|start| line.starts_with(start))).fold(
        String::new(),
        |text, line| {
            let heading = line == "RPM build errors:" || line == "RPM build warnings:";
            in_summary |= heading;
            let repeats = in_summary && line.starts_with("    ");
            if heading || repeats { text } else { text + line + "\n" }
        },
    )
}

/// A chroot that could not be made or filled.
fn buildroot(evidence: &Evidence, status: i32, srpm: &str) -> Failure {
    let said = failed_command(&evidence.root).unwrap_or_default();
    let in_build = evidence.state.contains(" - Start: build setup for ");
    let mut failure = diagnose::dnf(&said, false);
    if said.trim().is_empty() {
        failure =
            Failure::from_log(Class::Buildroot, "base", "stderr", words(evidence, status)).retried(true);
    } else if !in_build {
        failure.phase = "base".into();
    }
    for line in &mut failure.lines {
        if in_build && line.starts_with("nothing provides ") && !line.contains(" needed by ") {
            *line = format!("{line} needed by {srpm}");
        }
    }
    failure
}

/// What the last package manager said that failed, from root.log: its lines are `DEBUG util.py:610:  <line>`.
fn failed_command(log: &str) -> Option<String> {
    let (mut command, mut said, mut failed) = ("", Vec::new(), None);
    for line in log.lines().map(without_origin) {
        if let Some(started) = line.strip_prefix("Executing command: ") {
            command = started;
            said.clear();
        } else if let Some(code) = line.strip_prefix("Child return code was: ") {
            if code.trim() != "0" && (command.contains("dnf") || command.contains("yum")) {
                failed = Some(said.join("\n"));
            }
        } else {
            said.push(line);
        }
    }
    failed
}

fn without_origin(line: &str) -> &str {
    let rest = ["DEBUG ", "INFO ", "WARNING ", "ERROR "].iter().find_map(|level| line.strip_prefix(level));
    let said = rest.and_then(|rest| rest.split_once(":  "));
    said.filter(|(origin, _)| origin.contains(".py:")).map_or(line, |(_, said)| said)
}

/// The source RPM cannot be unpacked, or nothing came out of it.
fn bad_package(evidence: &Evidence, status: i32) -> Failure {
    if state::began_rpmbuild(&evidence.state) {
        let line = "the build succeeded and made no RPM";
        return Failure::new(Class::Packaging, "package", line);
    }
    let is_reason =
        |line: &str| line.contains("unpacking of archive failed") || line.contains("cannot be installed");
    let lines: Vec<String> =
        evidence.build.lines().filter(|line| is_reason(line)).map(diagnose::clean).collect();
    if lines.is_empty() {
        return Failure::from_log(Class::Source, "unpack", "stderr", words(evidence, status));
    }
    Failure::from_log(Class::Source, "unpack", "build.log", lines.into_iter().take(MOST_LINES).collect())
}

fn timeout(evidence: &Evidence) -> Failure {
    let line = format!("not done within the time that it was given: {}", doing(evidence));
    let phase = diagnose::last_part(&evidence.build).unwrap_or_else(|| "build".into());
    let mut lines = vec![line];
    lines.extend(diagnose::last_said(&rpmbuild_log(&evidence.build)));
    Failure::from_log(Class::Timeout, &phase, "build.log", lines)
}

/// Ended by a signal, of ours or of somebody else.
fn ended(evidence: &Evidence, line: &str) -> Failure {
    let phase = diagnose::last_part(&evidence.build).unwrap_or_else(|| "build".into());
    Failure::new(Class::Killed, &phase, format!("{line}: {}", doing(evidence)))
}

fn doing(evidence: &Evidence) -> String {
    match (diagnose::last_part(&evidence.build), state::unfinished(&evidence.state)) {
        (Some(part), _) => format!("it was in %{part}"),
        (None, Some(what)) => format!("mock was at '{what}'"),
        (None, None) => "mock had begun nothing".into(),
    }
}

/// A full disk, told by who ran into it. mock has cleaned up by now, so there may be room again.
fn no_room(evidence: &Evidence) -> Option<Failure> {
    let full = [diagnose::NO_SPACE, "more space needed on", "Disk quota exceeded"];
    let having = |text: &str| -> Option<String> {
        let line =
            text.lines().map(without_origin).find(|line| full.iter().any(|words| line.contains(words)))?;
        Some(diagnose::clean(line))
    };
    // What a build prints may be about a file system of its test suite: there only a telling line counts.
    if state::began_rpmbuild(&evidence.state) {
        let failure = rpmbuild(evidence, 1);
        let line = failure.lines.iter().find(|line| having(line).is_some())?.clone();
        return Some(Failure::from_log(Class::Disk, &failure.phase, "build.log", vec![line]));
    }
    let (log, line) = [("root.log", &evidence.root), ("stderr", &evidence.stderr)]
        .into_iter()
        .find_map(|(log, text)| Some((log, having(text)?)))?;
    Some(Failure::from_log(Class::Disk, "base", log, vec![line]))
}

const MOST_LINES: usize = 5;

/// mock's own words on what went wrong: its last error, with the command that failed and what that said, if it was one.
fn words(evidence: &Evidence, status: i32) -> Vec<String> {
    let text = evidence.stderr.as_str();
    let is_reason = |line: &&str| line.starts_with("ERROR: ") && !line.starts_with("ERROR: Exception(");
    let from = text.lines().collect::<Vec<_>>().iter().rposition(is_reason);
    let said = text.lines().skip(from.unwrap_or(usize::MAX)).map(|line| line.trim_start_matches("ERROR: "));
    let said = said.map(|line| diagnose::clean(line.trim_start_matches(" # ")));
    let mut lines: Vec<String> =
        said.filter(|line| !line.is_empty() && line != "Command failed:").take(MOST_LINES).collect();
    if lines.is_empty() {
        lines.extend(diagnose::last_said(text));
    }
    if lines.is_empty() {
        lines.push(format!("mock ended with exit status {status} and gave no reason"));
    }
    lines
}
