//! The audit log: a line of JSON for every request that was decided on.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::sys::fs::{self, FileError};

/// What was decided on a request.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Who asked; of a request that is not believed, whom it named.
    pub who: &'a str,
    pub proven: bool,
    pub nonce: &'a str,
    /// What was asked for: the request's own fields.
    pub what: Value,
    /// `accepted`, `refused`, `repeated` (asked before, answered alike).
    pub verdict: &'a str,
    pub why: &'a str,
}

/// Appends a line. One that cannot be written is told in the role's own log, with what it would have said.
pub fn write(path: &Path, entry: &Entry<'_>) {
    let Entry { who, proven, nonce, what, verdict, why } = entry;
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let line = json!({"time": time, "who": who, "proven": proven, "nonce": nonce, "verdict": verdict,
        "why": why, "what": what});
    tracing::info!("request {nonce} of {who} {verdict}{}{why}", if why.is_empty() { "" } else { ": " });
    if let Err(error) = append(path, &line) {
        tracing::error!("{error}; it would have said: {line}");
    }
}

fn append(path: &Path, line: &Value) -> Result<(), FileError> {
    if let Some(folder) = path.parent() {
        fs::make_dir(folder)?;
    }
    let mut file =
        File::options().create(true).append(true).open(path).map_err(FileError::at("open", path))?;
    // One write: lines of several bridges do not mix.
    file.write_all(format!("{line}\n").as_bytes()).map_err(FileError::at("write", path))
}
