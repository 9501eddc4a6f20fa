//! What went wrong, told from the end of a log. Pure functions, but for reading that end.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::model::{Class, Failure};

/// How much of a log is looked at, however long it is.
const TAIL: u64 = 512 * 1024;
const LONGEST_LINE: usize = 300;
/// What the C library calls ENOSPC.
pub const NO_SPACE: &str = "No space left on device";
const MOST_LINES: usize = 5;

/// The end of a log past `from`, with what is no text replaced. An unreadable log is an empty one.
pub fn read_tail(log: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        // One that was shortened since has its end where it has it.
        let from = if from > length { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The beginning of a log, likewise.
pub fn read_head(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|file| file.take(TAIL).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line as it may be shown: without escape sequences and control characters, and not too long.
pub fn clean(line: &str) -> String {
    let plain = console::strip_ansi_codes(line);
    let mut text: String =
        plain.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
    text.truncate(text.trim_end().len());
    if text.chars().count() > LONGEST_LINE {
        text = text.chars().take(LONGEST_LINE - 1).chain(['…']).collect();
    }
    text
}

/// A failed rpmbuild. `part` is the last part of the spec that was begun, if any was.
pub fn rpmbuild(part: Option<&str>, tail: &str, status: i32, full: bool) -> Failure {
    let lines = telling_lines(tail, part);
    if full {
        let said = lines.into_iter().find(|line| line.contains(NO_SPACE));
        // Where there was no room for the line either:
        let said = said.unwrap_or_else(|| format!("{NO_SPACE}, on the builder"));
        return Failure::from_log(Class::Disk, part.unwrap_or("build"), "build.log", vec![said]);
    }
    if status > 128 && lines.is_empty() {
        let said = vec![format!("rpmbuild was ended by signal {}", status - 128)];
        return Failure::from_log(Class::Killed, part.unwrap_or("build"), "build.log", said);
    }
    if let Some(killed) = lines.iter().find(|line| line.contains("Killed signal terminated program")) {
        // Somebody, most likely the kernel for want of memory: the package need not be at fault.
        let lines = vec![killed.clone()];
        return Failure::from_log(Class::Killed, part.unwrap_or("build"), "build.log", lines);
    }
    let (class, phase) = match part {
        _ if packaging(tail) => (Class::Packaging, "package"),
        Some("package" | "clean" | "rmbuild") => (Class::Packaging, "package"),
        Some("check") => (Class::Check, "check"),
        Some(other) => (Class::Build, other),
        None => (Class::Build, "spec"),
    };
    let lines = if class == Class::Packaging { packaging_lines(tail) } else { lines };
    Failure::from_log(class, phase, "build.log", or_silence(lines, status))
}

/// Sources that rpmbuild could not pack.
pub fn packing(tail: &str) -> Failure {
    let missing = tail.lines().map(clean).filter_map(|line| {
        let rest = line.trim_start().strip_prefix("error: Bad file: ")?.to_owned();
        let (path, why) = rest.rsplit_once(": ")?;
        let name = path.rsplit('/').next()?;
        Some(format!("source {name}: {why}"))
    });
    let mut lines = distinct(missing);
    if lines.is_empty() {
        lines = telling_lines(tail, None);
    }
    Failure { log: None, ..Failure::from_log(Class::Source, "srpm", "", or_silence(lines, 1)) }
}

/// A source RPM that rpm could not unpack.
pub fn source(tail: &str, status: i32, full: bool) -> Failure {
    let class = if full { Class::Disk } else { Class::Source };
    Failure::from_log(class, "unpack", "root.log", or_silence(telling_lines(tail, None), status))
}

/// The last part of the spec that a log saw begin.
pub fn last_part(tail: &str) -> Option<String> {
    let (_, rest) = tail.rsplit_once("Executing(%")?;
    let (part, _) = rest.split_once(')')?;
    part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| part.to_owned())
}

/// The last line of a log that says what was being done.
pub fn last_said(tail: &str) -> Option<String> {
    tail.lines().rev().map(clean).find(|line| !line.is_empty())
}

/// A failed dnf.
pub fn dnf(tail: &str, full: bool) -> Failure {
    let cleaned: Vec<String> = tail.lines().map(clean).filter(|line| !line.is_empty()).collect();
    let having = |words: &[&str]| -> Vec<String> {
        let found = cleaned.iter().filter(|line| words.iter().any(|word| line.contains(word)));
        distinct(found.map(|line| dnf_line(line)))
    };
    let said = |lines: Vec<String>| or_silence(lines, 1);
    let failure = |class, lines| Failure::from_log(class, "builddep", "root.log", lines);
    let no_room = having(&["No space left on device", "more space needed on", "Disk quota exceeded"]);
    if full || !no_room.is_empty() {
        return failure(Class::Disk, said(no_room));
    }
    let unmet = having(&[
        "nothing provides",
        "No matching package to install",
        "No match for argument",
        "No match for group",
    ]);
    if !unmet.is_empty() {
        return failure(Class::Buildroot, unmet);
    }
    let unsolvable =
        having(&["conflicting requests", "conflicts with", "cannot install", "- problem with", "obsoletes"]);
    if !unsolvable.is_empty() && tail.contains("Problem") {
        return failure(Class::Buildroot, unsolvable);
    }
    // What remains is the farm's: a repository that does not answer or was caught half-written, a bad signature,
    // a scriptlet that failed.
    let errors = having(&[
        "Error:",
        "error:",
        "Errors during downloading",
        "Failed to download",
        "Curl error",
        "Cannot",
    ]);
    let lines =
        if errors.is_empty() { cleaned.iter().rev().take(2).rev().cloned().collect() } else { errors };
    failure(Class::Buildroot, said(lines)).retried(true)
}

/// dnf's lines without its bullets.
fn dnf_line(line: &str) -> String {
    let line = line.trim_start().trim_start_matches("- ").trim_start_matches("Error: ");
    match line.strip_prefix("No matching package to install: ") {
        Some(what) => format!("nothing provides {what}"),
        None => line.to_owned(),
    }
}

/// rpmbuild's complaints about files and packages.
const PACKAGING: [&str; 12] = [
    "Installed (but unpackaged) file(s) found",
    "error: File not found",
    "error: Directory not found",
    "error: File must begin with",
    "error: Empty %files file",
    "error: Could not open %files file",
    "error: Explicit file attributes required",
    "error: Arch dependent binaries in noarch package",
    "error: Dependency tokens must begin",
    "error: Package already exists",
    "error: Bad file",
    "error: create archive failed",
];

fn packaging(tail: &str) -> bool {
    let trimmed = tail.lines().map(str::trim_start);
    trimmed.into_iter().any(|line| {
        PACKAGING.iter().any(|mark| line.starts_with(mark) || (mark.starts_with('I') && line.contains(mark)))
    })
}

fn packaging_lines(tail: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut listing = false;
    for line in body(tail) {
        let starts = line.trim_start();
        if starts.starts_with("Installed (but unpackaged)")
            || starts.starts_with("error: Installed (but unpackaged)")
        {
            listing = true;
            lines.push(clean(starts));
        } else if listing && line.starts_with("   ") {
            lines.push(clean(starts));
        } else {
            listing = false;
            if starts.starts_with("error: ") && !epilogue(starts) {
                lines.push(clean(starts));
            }
        }
    }
    distinct(lines.into_iter())
}

/// The lines that tell why a part of a spec failed, the most telling first.
fn telling_lines(tail: &str, part: Option<&str>) -> Vec<String> {
    let lines: Vec<String> = part_of(tail, part).map(clean).filter(|line| !line.is_empty()).collect();
    let pick = |wanted: fn(&str) -> bool| distinct(lines.iter().filter(|line| wanted(line)).cloned());
    let mut told = Vec::new();
    if part == Some("check") {
        told = pick(test_failure);
    }
    told.extend(pick(hard_error));
    if told.is_empty() {
        told = pick(soft_error);
    }
    if told.is_empty() {
        // What was said last, before rpmbuild's own words.
        let last: Vec<String> = lines.iter().filter(|line| !noise(line)).rev().take(3).cloned().collect();
        told = last.into_iter().rev().collect();
    }
    told.truncate(MOST_LINES);
    distinct(told.into_iter())
}

/// The output of the last part of the spec that was run, without rpmbuild's summary after it.
fn part_of<'a>(tail: &'a str, part: Option<&str>) -> impl Iterator<Item = &'a str> + use<'a> {
    let from = part.and_then(|_| tail.rfind("\nExecuting(%")).map_or(0, |at| at + 1);
    body(&tail[from..])
}

fn body(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "RPM build errors:" && *line != "RPM build warnings:")
}

fn epilogue(line: &str) -> bool {
    line.starts_with("error: Bad exit status from ") || line.starts_with("Bad exit status from ")
}

fn noise(line: &str) -> bool {
    epilogue(line)
        || line.starts_with("+ ")
        || line.starts_with("Executing(")
        || line.starts_with("warning: ")
        || line.starts_with("Building target platforms")
        || line.starts_with("Building for target")
        || line.starts_with("setting SOURCE_DATE_EPOCH")
}

fn test_failure(line: &str) -> bool {
    ["FAIL:", "FAIL ", "ERROR:", "not ok ", "--- FAIL", "FAILED ", "panicked at", "AssertionError"]
        .iter()
        .any(|mark| line.starts_with(mark))
        || (line.contains("***Failed") || line.contains("***Timeout") || line.ends_with("... FAILED"))
        || line.contains("Assertion `")
        || line.contains("' panicked at ")
}

fn hard_error(line: &str) -> bool {
    let start = line.trim_start();
    if epilogue(start) || start.starts_with('+') || start.starts_with("make") {
        return false;
    }
    [
        ": error:",
        ": fatal error:",
        ": undefined reference to",
        ": cannot find -l",
        ": command not found",
        "configure: error:",
    ]
    .iter()
    .any(|mark| line.contains(mark))
        || ["error: ", "error[", "fatal: ", "CMake Error", "ERROR: ", "Error: ", "meson.build:"]
            .iter()
            .any(|mark| start.starts_with(mark))
        || python_error(start)
        || start.ends_with(": not found")
        || start.ends_with(": No such file or directory")
        || start.ends_with(": Permission denied")
        || start.ends_with(": No space left on device")
        || (start.starts_with("Hunk #") && start.contains("FAILED"))
}

/// `ModuleNotFoundError: No module named 'x'`, a traceback's last line.
fn python_error(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    line.contains(": ")
        && name.ends_with("Error")
        && name.len() > "Error".len()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_')
}

/// What only repeats that something went wrong.
fn soft_error(line: &str) -> bool {
    line.contains("*** [") || line.contains(": *** ") || line.starts_with("ninja: build stopped")
}

fn distinct(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for line in lines {
        if kept.len() < MOST_LINES && !kept.contains(&line) {
            kept.push(line);
        }
    }
    kept
}

fn or_silence(lines: Vec<String>, status: i32) -> Vec<String> {
    if lines.is_empty() {
        vec![format!("it ended with exit status {status} and gave no reason")]
    } else {
        lines
    }
}

#[cfg(test)]
mod tests;
