//! What went wrong, told from the end of a log. Pure functions, but for reading that end.

mod dnf;
mod marks;
mod packaging;
mod telling;
mod text;

use crate::model::{Class, Failure};

pub use self::dnf::dnf;
pub use self::text::{clean, last_lines, last_part, last_said, read_head, read_tail};

use self::text::distinct;

/// What the C library calls ENOSPC.
pub const NO_SPACE: &str = "No space left on device";

/// A failed rpmbuild. `part` is the last part of the spec that was begun, if any was.
pub fn rpmbuild(part: Option<&str>, tail: &str, status: i32, full: bool) -> Failure {
    let phase = part.unwrap_or("build");
    let lines = telling::lines(tail, part);
    if full {
        let said = lines.into_iter().find(|line| line.contains(NO_SPACE));
        // Where there was no room for the line either:
        let said = said.unwrap_or_else(|| format!("{NO_SPACE}, on the builder"));
        return Failure::from_log(Class::Disk, phase, "build.log", vec![said]);
    }
    if status > 128 {
        let said = format!("rpmbuild was ended by signal {}", status - 128);
        // What came after it was said by accident.
        let lines = telling::killer(tail, part).map_or(lines, |killer| vec![killer]);
        let lines = distinct([said].into_iter().chain(lines));
        return Failure::from_log(Class::Killed, phase, "build.log", lines);
    }
    if let Some(killed) = lines.iter().find(|line| line.contains("Killed signal terminated program")) {
        // Somebody, most likely the kernel for want of memory: the package need not be at fault.
        let lines = vec![killed.clone()];
        return Failure::from_log(Class::Killed, phase, "build.log", lines);
    }
    let Some(part) = part else { return spec(tail, lines, status) };
    let (class, phase) = match part {
        "package" | "doc" | "license" | "clean" | "rmbuild" => (Class::Packaging, "package"),
        "check" => (Class::Check, "check"),
        "install" if packaging::is_check(&lines) => (Class::Packaging, "install"),
        other => (Class::Build, other),
    };
    let complaints = if phase == "package" { packaging::lines(tail) } else { Vec::new() };
    let lines = if complaints.is_empty() { lines } else { complaints };
    Failure::from_log(class, phase, "build.log", or_silence(lines, status))
}

/// A [`Class::Killed`] that is the build's own doing: its processes sent the signal themselves. `by` names the one
/// that ended rpmbuild.
pub fn own_doing(failure: Failure, by: Option<&str>) -> Failure {
    let class = if failure.phase == "check" { Class::Check } else { Class::Build };
    let mut lines = failure.lines;
    if let (Some(by), Some(first)) = (by, lines.first_mut()) {
        *first = format!("{first}, which {} of this build sent", clean(by));
    }
    Failure { class, lines, retry: false, ..failure }
}

/// A spec that does not parse, or whose sources cannot be packed.
fn spec(tail: &str, lines: Vec<String>, status: i32) -> Failure {
    let missing = missing_sources(tail);
    if !missing.is_empty() {
        return Failure::from_log(Class::Source, "srpm", "build.log", missing);
    }
    Failure::from_log(Class::Build, "spec", "build.log", or_silence(lines, status))
}

/// Sources that rpmbuild could not pack.
pub fn packing(tail: &str) -> Failure {
    let missing = missing_sources(tail);
    let lines = if missing.is_empty() { telling::lines(tail, None) } else { missing };
    Failure { log: None, ..Failure::from_log(Class::Source, "srpm", "", or_silence(lines, 1)) }
}

fn missing_sources(tail: &str) -> Vec<String> {
    distinct(tail.lines().map(clean).filter_map(|line| {
        let rest = line.trim_start().strip_prefix("error: Bad file: ")?.to_owned();
        let (path, why) = rest.rsplit_once(": ")?;
        let name = path.rsplit('/').next()?;
        Some(format!("source {name}: {why}"))
    }))
}

/// A source RPM that rpm could not unpack.
pub fn source(tail: &str, status: i32, full: bool) -> Failure {
    let class = if full { Class::Disk } else { Class::Source };
    Failure::from_log(class, "unpack", "root.log", or_silence(telling::lines(tail, None), status))
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
