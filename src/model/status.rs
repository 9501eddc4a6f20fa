//! The states of a build in the history, and how events move it between them.

use std::fmt;
use std::str::FromStr;

/// A build's state, spelled as on the wire and in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Building,
    Success,
    Failed,
    /// A finished build's former `Building` record.
    Done,
    /// A failure that a person has declared settled.
    Override,
}

impl Status {
    pub const ALL: [Status; 5] =
        [Status::Building, Status::Success, Status::Failed, Status::Done, Status::Override];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Building => "Building",
            Status::Success => "Success",
            Status::Failed => "Failed",
            Status::Done => "Done",
            Status::Override => "Override",
        }
    }

    /// Whether an event with this status ends its build.
    pub fn is_result(self) -> bool {
        match self {
            Status::Success | Status::Failed => true,
            Status::Building | Status::Done | Status::Override => false,
        }
    }

    /// What an event is stored as: a `Building` that arrives after its build's result is `Done` at once.
    pub fn stored(self, result_is_known: bool) -> Status {
        match (self, result_is_known) {
            (Status::Building, true) => Status::Done,
            (Status::Building, false) => Status::Building,
            (Status::Success, _) => Status::Success,
            (Status::Failed, _) => Status::Failed,
            (Status::Done, _) => Status::Done,
            (Status::Override, _) => Status::Override,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No status has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown status '{0}': give one of Building, Success, Failed, Done, Override")]
pub struct UnknownStatus(String);

impl FromStr for Status {
    type Err = UnknownStatus;

    /// Upper and lower case are the same here, since people type it.
    fn from_str(text: &str) -> Result<Status, UnknownStatus> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownStatus(text.escape_debug().take(40).collect()))
    }
}

super::name::serde_as_text!(Status);
