//! What a mail says, and which mails belong together.

use std::fmt::Write as _;

use lettre::Message;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use sha2::{Digest as _, Sha256};

use crate::model::text::plain;
use crate::model::{Event, Status};
use crate::notify::logs::Logs;

/// The last lines of root.log and build.log that a mail has, as the old system's had.
const ROOT_LINES: usize = 30;
const BUILD_LINES: usize = 80;
/// A digest lists so many builds; more would be read by nobody.
const LISTED: usize = 1000;

/// No automatic answers are wanted (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<AutoSubmitted, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(AutoSubmitted::name(), "auto-generated".into())
    }
}

/// The mail about one result.
pub async fn of_event(
    event: &Event,
    from: &Mailbox,
    to: &[Mailbox],
    logs: &Logs,
) -> Result<Message, lettre::error::Error> {
    let Event { timestamp, srpm, arch, target, status, .. } = event;
    let subject =
        format!("[reimzul] Build task {timestamp} {srpm} (arch: {arch}) target {target} : {status}");
    let (root, build) =
        (logs.tail(event, "root.log", ROOT_LINES).await, logs.tail(event, "build.log", BUILD_LINES).await);
    let body = format!(
        "{}\nThe last {ROOT_LINES} lines of root.log:\n\n{root}\nThe last {BUILD_LINES} lines of build.log:\n\n{build}",
        head(event, logs)
    );
    let thread = id(&["build", &thread(event)], from);
    letter(from, to, subject, id(&["event", &event.key()], from), Some(thread), body)
}

/// One mail about many.
pub fn digest(
    events: &[&Event],
    from: &Mailbox,
    to: &[Mailbox],
    logs: &Logs,
) -> Result<Message, lettre::error::Error> {
    let failed = events.iter().filter(|event| event.status == Status::Failed).count();
    let subject =
        format!("[reimzul] {} results: {failed} Failed, {} Success", events.len(), events.len() - failed);
    let mut sorted = events.to_vec();
    sorted
        .sort_by_key(|event| (event.status != Status::Failed, event.target.as_str(), event.pkgname.as_str()));
    let mut body = String::new();
    for event in sorted.iter().take(LISTED) {
        let _ = write!(body, "{:<8} {} for {}", event.status, event.path().label(), event.target);
        let _ = writeln!(body, ", submitted by {}", plain(&event.submitter.to_string()));
        if let Some(failure) = &event.failure {
            let _ = writeln!(body, "         {}", plain(&failure.to_string()));
        }
        let _ = writeln!(body, "         {}", logs.place(event));
    }
    if sorted.len() > LISTED {
        let _ = writeln!(body, "… and {} more, all {}", sorted.len() - LISTED, Status::Success);
    }
    let mut keys: Vec<String> = events.iter().map(|event| event.key()).collect();
    keys.sort();
    let keys: Vec<&str> = std::iter::once("digest").chain(keys.iter().map(String::as_str)).collect();
    letter(from, to, subject, id(&keys, from), None, body)
}

fn letter(
    from: &Mailbox,
    to: &[Mailbox],
    subject: String,
    id: String,
    thread: Option<String>,
    body: String,
) -> Result<Message, lettre::error::Error> {
    let mut letter =
        Message::builder().from(from.clone()).subject(subject).message_id(Some(id)).header(AutoSubmitted);
    for to in to {
        letter = letter.to(to.clone());
    }
    if let Some(thread) = thread {
        letter = letter.in_reply_to(thread.clone()).references(thread);
    }
    // Lettre encodes what is not plain ASCII in short lines.
    letter.singlepart(SinglePart::plain(body))
}

fn head(event: &Event, logs: &Logs) -> String {
    let mut head = format!(
        "Builder: {}\nPackage: {}\nTimestamp: {}\nSubmitter: {}\nStatus: {}\nFull logs: {}\n",
        plain(&event.builder_fqdn),
        event.srpm,
        event.timestamp,
        plain(&event.submitter.to_string()),
        event.status,
        logs.place(event)
    );
    if let Some(failure) = &event.failure {
        let _ = writeln!(head, "Reason: {} failure in {}", failure.class, plain(&failure.phase));
        for line in &failure.lines {
            let _ = writeln!(head, "  {}", plain(line));
        }
    }
    for warning in &event.warnings {
        let _ = writeln!(head, "Warning: {}", plain(warning));
    }
    head
}

/// What all mails about one submission answer to, its other arches' too. That mail itself is never sent, which
/// threading bears (RFC 5322, section 3.6.4).
fn thread(event: &Event) -> String {
    match &event.build_id {
        Some(id) => id.to_string(),
        None => format!("{}/{}/{}", event.target, event.pkgname, event.timestamp),
    }
}

/// An id that is the same whenever it is made of the same.
fn id(of: &[&str], from: &Mailbox) -> String {
    let digest = Sha256::digest(of.join("\n").as_bytes());
    let hex = digest[..16].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("<{}.{hex}@{}>", of[0], from.email.domain())
}
