//! The log file: a line per event, in the old fleet's format, which sites have scripts for.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::model::Event;
use crate::model::text::plain;
use crate::sys::fs::{self, FileError};

/// Appends the event's line. The file is opened for each, so a rotated one needs no signal.
pub fn append(path: &Path, event: &Event) -> Result<(), FileError> {
    if let Some(folder) = path.parent() {
        fs::make_dir(folder)?;
    }
    let line = line(event, &jiff::ZonedDateTime::now());
    let mut file =
        File::options().create(true).append(true).open(path).map_err(FileError::at("open", path))?;
    // One write: lines of several notifiers do not mix.
    file.write_all(line.as_bytes()).map_err(FileError::at("write", path))
}

/// `asctime` is that of Python's logging module; the odd end is the old system's. A builder's name is one word, since
/// scripts look for what follows it.
fn line(event: &Event, now: &jiff::ZonedDateTime) -> String {
    let line = format!(
        "[{}] Build job SRPM {} ({}) for arch {} builder {} status {} [{}] (Scratch job: {}) submitted by {}",
        now.strftime("%Y-%m-%d %H:%M:%S,%3f"),
        event.srpm,
        event.timestamp,
        event.arch,
        plain(&event.builder_fqdn).replace(' ', "_"),
        event.status,
        event.evr,
        if event.scratch { "True" } else { "False" },
        event.submitter,
    );
    plain(&line) + " \r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_builder_can_write_a_line_of_its_own() {
        let event: Event = serde_json::from_value(serde_json::json!({
            "srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": "", "scratch": false,
            "submitter": "kb\u{2028}\u{202e}x", "status": "Failed", "evr": "4-1", "pkgname": "bash",
            "timestamp": "20261123204406",
            "builder_fqdn": "b1 status Success [4-1]\r\n\u{1b}[2K[2026-11-23 20:45:01,042] Build job"
        }))
        .unwrap();
        let line = line(&event, &jiff::ZonedDateTime::now());
        assert_eq!(line.lines().count(), 1);
        let builder =
            "builder b1_status_Success_[4-1]__[2026-11-23_20:45:01,042]_Build_job status Failed [4-1] ";
        assert!(line.contains(builder) && line.ends_with(" submitted by kb x \r\n"), "{line}");
    }

    #[test]
    fn the_line_is_the_old_fleets() {
        let event: Event = serde_json::from_value(serde_json::json!({
            "srpm": "bash-4.2-1.el7.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": ".el7",
            "scratch": true, "submitter": "kb", "status": "Success", "builder_fqdn": "b1.example.org",
            "evr": "4.2-1.el7", "pkgname": "bash", "timestamp": "20261123204406"
        }))
        .unwrap();
        let at: jiff::ZonedDateTime = "2026-11-23T20:45:01.042[UTC]".parse().unwrap();
        insta::assert_snapshot!(line(&event, &at).escape_debug().to_string(), @r"[2026-11-23 20:45:01,042] Build job SRPM bash-4.2-1.el7.src.rpm (20261123204406) for arch x86_64 builder b1.example.org status Success [4.2-1.el7] (Scratch job: True) submitted by kb \r\n");
    }
}
