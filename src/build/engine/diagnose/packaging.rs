//! rpm's complaints about what was installed and packaged.

use super::text::{self, clean, distinct};

/// What rpm's own checks say after %install, in its part of the log.
const CHECKS: [&str; 7] = [
    " in installed files; aborting",
    "ERROR   0",
    "No build ID note found in ",
    "ambiguous python shebang in ",
    "error: Missing build-id in ",
    "error: Generating build-id links failed",
    "error: Installed (but unpackaged)",
];

/// Whether one of these lines is about the files, rather than how they came about.
pub fn is_check(lines: &[String]) -> bool {
    lines.iter().any(|line| CHECKS.iter().any(|mark| line.contains(mark)))
}

/// The complaints, each with the files that are listed below it.
pub fn lines(tail: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut listing = false;
    for line in text::lines(text::body(text::part_of(tail, Some("package")))) {
        let words = line.trim_start();
        let complaint = words.starts_with("error: ") && !text::epilogue(words);
        listing = complaint || (listing && line.starts_with("   "));
        if listing {
            lines.push(clean(words));
        }
    }
    distinct(lines.into_iter())
}
