//! What goes wrong with MongoDB, a sentence each. The URL, which may hold a password, is in none of them.

use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::LIMIT;
use crate::sys::tls::TlsError;

/// What went wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MongodbError {
    #[error("the URL of section [history] is not a MongoDB URL: {0}")]
    Url(String),
    #[error(
        "the URL of section [history] turns the verification of certificates off ({0}); take that out, and name the \
         authority in ca_cert of section [tls]"
    )]
    Unverified(&'static str),
    #[error("the {what} {file} for MongoDB cannot be used: {reason}")]
    TlsFile { what: &'static str, file: String, reason: String },
    #[error(
        "MongoDB at {hosts} cannot be reached: {reason}; is it running, and is url in section [history] right?"
    )]
    Unreachable { hosts: String, reason: String },
    #[error(
        "TLS with MongoDB at {hosts} failed: {reason}; look at the certificates that section [tls] names, at those of \
         the server, and whether both sides speak TLS"
    )]
    Tls { hosts: String, reason: String },
    #[error("TLS with MongoDB at {hosts} failed: {source}")]
    Certificate { hosts: String, source: TlsError },
    #[error(
        "MongoDB at {hosts} refused the user or password in url of section [history]: {reason}; user, password and \
         authSource must be those the server knows"
    )]
    Refused { hosts: String, reason: String },
    #[error(
        "the user in url of section [history] may not create indexes in database {database} of MongoDB at {hosts}: \
         {reason}; grant it readWrite on that database"
    )]
    NoIndexes { hosts: String, database: String, reason: String },
    #[error(
        "the user in url of section [history] may not do this in database {database} of MongoDB at {hosts}: {reason}; \
         grant it readWrite on that database, or read where it only queries"
    )]
    Forbidden { hosts: String, database: String, reason: String },
    #[error("MongoDB at {hosts} gave no answer within {} seconds; is it overloaded or stopped?", .limit.as_secs())]
    Silent { hosts: String, limit: Duration },
    #[error(
        "MongoDB at {hosts} is of another version than this program can use: {reason}; 4.4 or newer is needed"
    )]
    Version { hosts: String, reason: String },
    #[error("MongoDB at {hosts} failed: {reason}")]
    Other { hosts: String, reason: String },
    #[error("other notifiers changed the history of {0} all the while; it is tried again")]
    Busy(String),
    #[error("an event cannot be kept in MongoDB: {0}")]
    Event(#[from] serde_json::Error),
}

impl MongodbError {
    /// Whether whatever is asked of the server would fare the same now.
    pub fn is_down(&self) -> bool {
        !matches!(self, MongodbError::Other { .. } | MongodbError::Busy(_) | MongodbError::Event(_))
    }
}

/// Codes of the server (its source: `src/mongo/base/error_codes.yml`).
const BAD_VALUE: i32 = 2;
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const TIME_IS_OVER: i32 = 50;
const DUPLICATE_KEY: i32 = 11000;

/// The code that the server refused something with.
fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(refused) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteError(refused)) => Some(refused.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(refused)) => Some(refused.code),
        ErrorKind::InsertMany(refused) => refused.write_errors.as_ref()?.first().map(|first| first.code),
        _ => None,
    }
}

/// A unique index has refused it.
pub(super) fn is_duplicate(error: &Error) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

/// A hint named an index that nobody has made yet.
pub(super) fn is_unknown_hint(error: &Error) -> bool {
    code(error) == Some(BAD_VALUE) && error.to_string().contains("hint")
}

/// What was being done: whose rights are missing is told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Indexes,
    Other,
}

/// The sentence for what the driver says.
pub(super) fn told(error: &Error, doing: Doing, hosts: &str, database: &str) -> MongodbError {
    let (hosts, database, reason) = (hosts.to_owned(), database.to_owned(), reason(error));
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => MongodbError::Refused { hosts, reason },
        ErrorKind::IncompatibleServer { .. } => MongodbError::Version { hosts, reason },
        _ if is_about_authentication(&reason) => MongodbError::Refused { hosts, reason },
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => {
            if is_about_tls(&reason) {
                MongodbError::Tls { hosts, reason }
            } else if reason.contains("wire version") {
                MongodbError::Version { hosts, reason }
            } else {
                MongodbError::Unreachable { hosts, reason }
            }
        }
        ErrorKind::InvalidTlsConfig { .. } => MongodbError::Tls { hosts, reason },
        _ => match (code(error), doing) {
            (Some(AUTHENTICATION_FAILED), _) => MongodbError::Refused { hosts, reason },
            (Some(TIME_IS_OVER), _) => MongodbError::Silent { hosts, limit: LIMIT },
            (Some(UNAUTHORIZED), Doing::Indexes) => MongodbError::NoIndexes { hosts, database, reason },
            (Some(UNAUTHORIZED), Doing::Other) => MongodbError::Forbidden { hosts, database, reason },
            _ => MongodbError::Other { hosts, reason },
        },
    }
}

fn is_about_authentication(reason: &str) -> bool {
    ["SCRAM failure", "Authentication failed", "Password not provided"]
        .iter()
        .any(|part| reason.contains(part))
}

fn is_about_tls(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["certificate", "tls", "handshake", "corrupt message", "unknownissuer"]
        .iter()
        .any(|part| reason.contains(part))
}

/// The driver's words without its own labels and its dump of the topology.
fn reason(error: &Error) -> String {
    let text = match error.kind.as_ref() {
        ErrorKind::Command(refused) => refused.message.clone(),
        ErrorKind::Io(error) => error.to_string(),
        kind => kind.to_string(),
    };
    // "… Topology: { …, Servers: [ { Address: h:1, Type: Unknown, Error: Kind: <what> , labels: {} } ] }"
    let why = text.split("Error: Kind: ").nth(1).map_or(text.as_str(), |rest| {
        rest.split(", labels:").next().unwrap_or(rest).split(" }").next().unwrap_or(rest)
    });
    let why = why.strip_prefix("I/O error: ").unwrap_or(why);
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
