//! Where results are posted on IRC: `[irc]` and `[irc_channels]`.

use std::path::Path;

use super::{ConfigError, Values, shown};
use crate::model::{Event, Status};
use crate::sys::irc::{self, Channel, is_nick};
use crate::sys::net::Address;

/// IRC over TLS, and without (RFC 7194, 1459).
const TLS_PORT: usize = 6697;
const PORT: usize = 6667;
const NICK: &str = "reimzul";

/// An IRC server, and what is posted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IrcOptions {
    pub server: irc::Options,
    pub routes: Vec<(Which, Vec<Channel>)>,
}

/// Which results a channel is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Status(Status),
    /// A target, without regard to case.
    Target(String),
    /// Targets that begin so.
    Targets(String),
}

impl Which {
    fn parse(text: &str) -> Which {
        match (text.parse().ok().filter(|status: &Status| status.is_result()), text.strip_suffix('*')) {
            (Some(status), _) => Which::Status(status),
            (None, Some(beginning)) => Which::Targets(beginning.to_ascii_lowercase()),
            (None, None) => Which::Target(text.to_ascii_lowercase()),
        }
    }

    fn is(&self, event: &Event) -> bool {
        let target = || event.target.as_str().to_ascii_lowercase();
        match self {
            Which::Status(status) => *status == event.status,
            Which::Target(name) => *name == target(),
            Which::Targets(beginning) => target().starts_with(beginning),
        }
    }
}

impl IrcOptions {
    /// The channels that are told of an event, each once.
    pub fn channels(&self, event: &Event) -> Vec<&Channel> {
        let meant = self.routes.iter().filter(|(which, _)| which.is(event));
        let mut channels: Vec<&Channel> = meant.flat_map(|(_, channels)| channels).collect();
        channels.sort();
        channels.dedup();
        channels
    }
}

impl Values<'_> {
    /// None where no server is named.
    pub(super) fn irc(&self, root: &Path) -> Result<Option<IrcOptions>, ConfigError> {
        let routes = self.routes()?;
        let files = self.tls("irc", root)?;
        let tls = self.boolean("irc", "tls", true)?.then_some(files);
        let usual = if tls.is_some() { TLS_PORT } else { PORT };
        let port = u16::try_from(self.number("irc", "port", usual, 1..=65_535)?).unwrap_or_default();
        let nick = self.get("irc", "nick").unwrap_or(NICK);
        if !is_nick(nick) {
            return Err(self.bad("irc", "nick", nick, "a nickname of letters, digits and []\\`_^{|}-"));
        }
        let login = match (self.get("irc", "user"), self.folder("irc", "password_file", root)) {
            (Some(user), Some(file)) => Some((user.to_owned(), file)),
            (Some(user), None) => return Err(self.bad("irc", "user", user, "beside a password_file")),
            (None, Some(file)) => {
                return Err(self.bad("irc", "password_file", &file.display().to_string(), "beside a user"));
            }
            (None, None) => None,
        };
        let Some(host) = self.get("irc", "host").filter(|host| !host.is_empty()) else { return Ok(None) };
        let address = Address::new(host, port);
        let address = address.ok_or_else(|| self.bad("irc", "host", host, "a host's name or address"))?;
        let mut channels: Vec<Channel> = routes.iter().flat_map(|(_, channels)| channels.clone()).collect();
        channels.sort();
        channels.dedup();
        let server = irc::Options { address, tls, nick: nick.to_owned(), login, channels };
        Ok(Some(IrcOptions { server, routes }))
    }

    fn routes(&self) -> Result<Vec<(Which, Vec<Channel>)>, ConfigError> {
        let mut routes = Vec::new();
        for (which, list) in self.sections.get("irc_channels").into_iter().flatten() {
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            let channels: Result<Vec<Channel>, _> = names.map(str::parse).collect();
            let channels = channels.map_err(|error| ConfigError::BadEntry {
                file: self.file.to_owned(),
                section: "irc_channels",
                key: shown(which),
                reason: error.to_string(),
            })?;
            routes.push((Which::parse(which), channels));
        }
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn irc(text: &str) -> Result<Option<IrcOptions>, String> {
        let config = Config::from_text(text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.irc).map_err(|error| error.to_string())
    }

    #[test]
    fn results_go_to_channels_by_target_and_outcome() {
        let text = "[irc]\nhost = irc.example.org\n[irc_channels]\nfailed = #alerts, #all\nC9.x86_64 = #nine\n\
            c* = #all\n";
        let options = irc(text).unwrap().unwrap();
        let told = |target: &str, status: &str| {
            let event: Event = serde_json::from_value(serde_json::json!({
                "srpm": "a-1-1.src.rpm", "arch": "x86_64", "target": target, "disttag": "", "scratch": false,
                "submitter": "kb", "status": status, "builder_fqdn": "b", "evr": "1-1", "pkgname": "a",
                "timestamp": "20261123204406"}))
            .unwrap();
            options.channels(&event).iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(options.server.address.to_string(), "irc.example.org:6697");
        assert_eq!(options.server.channels.len(), 3);
        assert_eq!(told("c9.x86_64", "Success"), "#all #nine");
        assert_eq!(told("C9.x86_64", "Failed"), "#alerts #all #nine");
        assert_eq!(told("mini.x86_64", "Failed"), "#alerts #all");
        assert_eq!(told("mini.x86_64", "Success"), "");
    }

    #[test]
    fn what_is_no_channel_or_server_is_refused() {
        for bad in [
            "[irc]\nhost = a b\n",
            "[irc]\nnick = 1 2\n",
            "[irc]\nuser = x\n",
            "[irc]\ntls = maybe\n",
            "[irc_channels]\nfailed = builds\n",
        ] {
            assert!(irc(bad).is_err(), "{bad}");
        }
        assert_eq!(irc("[irc_channels]\nfailed = #a\n"), Ok(None));
    }
}
