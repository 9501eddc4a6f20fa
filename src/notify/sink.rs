//! The sinks by name, and how telling one of them can fail.

use std::fmt;
use std::str::FromStr;

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    History,
    Log,
    Journal,
    Tosign,
    /// Builds that follow a failed one.
    Waiting,
    Mail,
    /// Everybody, by MQTT.
    Results,
    /// Who asked for the build, by MQTT.
    Requests,
}

impl Sink {
    pub const ALL: [Sink; 8] = [
        Sink::History,
        Sink::Log,
        Sink::Journal,
        Sink::Tosign,
        Sink::Waiting,
        Sink::Mail,
        Sink::Results,
        Sink::Requests,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Sink::History => "history",
            Sink::Log => "log",
            Sink::Journal => "journal",
            Sink::Tosign => "tosign",
            Sink::Waiting => "waiting",
            Sink::Mail => "mail",
            Sink::Results => "results",
            Sink::Requests => "requests",
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No sink has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no sink '{0}': give one of {sinks}", sinks = Sink::ALL.map(Sink::as_str).join(", "))]
pub struct UnknownSink(String);

impl FromStr for Sink {
    type Err = UnknownSink;

    fn from_str(text: &str) -> Result<Sink, UnknownSink> {
        let found = Sink::ALL.into_iter().find(|sink| sink.as_str() == text);
        found.ok_or_else(|| UnknownSink(text.escape_debug().take(40).collect()))
    }
}

/// Why a sink was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing can be told to it now, whatever the event.
    Down(String),
    /// This event cannot.
    Refused(String),
}

impl Fault {
    /// One that is the event's as far as can be seen.
    pub fn refused(error: impl fmt::Display) -> Fault {
        Fault::Refused(error.to_string())
    }

    pub fn reason(&self) -> &str {
        match self {
            Fault::Down(reason) | Fault::Refused(reason) => reason,
        }
    }
}
