//! What dnf says when it fails, and whose fault that is.

use super::text::{clean, distinct};
use super::{NO_SPACE, or_silence};
use crate::model::{Class, Failure};

/// The builder has no room.
const NO_ROOM: [&str; 3] = [NO_SPACE, "more space needed on", "Disk quota exceeded"];
/// A package asks for what is nowhere.
const UNMET: [&str; 5] = [
    "nothing provides",
    "No matching package to install",
    "No match for argument",
    "No match for group",
    "Unable to find a match",
];
/// Packages that cannot be together.
const UNSOLVABLE: [&str; 5] =
    ["conflicting requests", "conflicts with", "cannot install", "- problem with", "obsoletes"];
/// What remains is the farm's: a repository that does not answer or was caught half-written, a bad signature, a
/// scriptlet that failed.
const BROKEN: [&str; 6] =
    ["Error:", "error:", "Errors during downloading", "Failed to download", "Curl error", "Cannot"];

/// A failed dnf.
pub fn dnf(tail: &str, full: bool) -> Failure {
    let said: Vec<String> = tail.lines().map(clean).filter(|line| !line.is_empty()).collect();
    let having = |words: &[&str]| -> Vec<String> {
        let found = said.iter().filter(|line| words.iter().any(|word| line.contains(word)));
        distinct(found.map(|line| without_bullets(line)))
    };
    let failure = |class, lines| Failure::from_log(class, "builddep", "root.log", or_silence(lines, 1));
    let no_room = having(&NO_ROOM);
    if full || !no_room.is_empty() {
        return failure(Class::Disk, no_room);
    }
    let unmet = having(&UNMET);
    if !unmet.is_empty() {
        return failure(Class::Buildroot, unmet);
    }
    let unsolvable = having(&UNSOLVABLE);
    if !unsolvable.is_empty() && tail.contains("Problem") {
        return failure(Class::Buildroot, unsolvable);
    }
    let broken = having(&BROKEN);
    let last = || said.iter().rev().take(2).rev().cloned().collect();
    failure(Class::Buildroot, if broken.is_empty() { last() } else { broken }).retried(true)
}

/// A line without dnf's bullets.
fn without_bullets(line: &str) -> String {
    let line = line.trim_start().trim_start_matches("- ").trim_start_matches("Error: ");
    let line = line.trim_start_matches("Problem: ");
    let unmet = ["No matching package to install: ", "nothing provides requested "];
    match unmet.iter().find_map(|words| line.strip_prefix(words)) {
        Some(what) => format!("nothing provides {what}"),
        None => line.to_owned(),
    }
}
