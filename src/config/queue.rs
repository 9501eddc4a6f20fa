//! Where the queue is: `[queue] url`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{ConfigError, Values};

/// Where the queue is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueuePlace {
    /// In the root's own file.
    #[default]
    Root,
    /// In a SQLite file of its own.
    Sqlite(PathBuf),
    Beanstalkd(Address),
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3986: an IPv6 address stands in brackets.
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// `HOST:PORT`, or `HOST` where the port is beanstalkd's own; a `/` may follow.
    fn parse(text: &str) -> Option<Address> {
        const PORT: u16 = 11300;
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, PORT),
            Some((host, rest)) => (host, rest.strip_prefix(':')?.parse().ok()?),
            None => match text.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (text, PORT),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        let good = !host.is_empty() && host.chars().all(plain) && port > 0;
        good.then(|| Address { host: host.to_owned(), port })
    }
}

impl Values<'_> {
    pub(super) fn queue(&self, root: &Path) -> Result<QueuePlace, ConfigError> {
        let Some(url) = self.get("queue", "url").filter(|url| !url.is_empty()) else {
            return Ok(QueuePlace::Root);
        };
        let bad = |wanted: &str| self.bad("queue", "url", url, wanted);
        if url.starts_with("beanstalks://") {
            return Err(bad(
                "beanstalk://HOST:PORT, through stunnel where TLS is wanted: this version does not \
                            speak TLS to beanstalkd itself",
            ));
        }
        let sqlite = url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        let beanstalkd = url.strip_prefix("beanstalk://").and_then(Address::parse);
        match (sqlite, beanstalkd) {
            (Some(path), _) => Ok(QueuePlace::Sqlite(root.join(path))),
            (_, Some(address)) => Ok(QueuePlace::Beanstalkd(address)),
            _ => Err(bad("beanstalk://HOST:PORT or sqlite:PATH")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn place(url: &str) -> Result<QueuePlace, String> {
        let text = format!("[queue]\nurl = {url}\n");
        let config = Config::from_text(&text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.queue).map_err(|error| error.to_string())
    }

    #[test]
    fn the_queue_is_where_its_url_says() {
        let at = |host: &str, port| Ok(QueuePlace::Beanstalkd(Address { host: host.into(), port }));
        assert_eq!(place(""), Ok(QueuePlace::Root));
        assert_eq!(place("sqlite:q.db"), Ok(QueuePlace::Sqlite("/r/q.db".into())));
        assert_eq!(place("beanstalk://localhost:11400"), at("localhost", 11400));
        assert_eq!(place("beanstalk://ctl.example/"), at("ctl.example", 11300));
        assert_eq!(place("beanstalk://[::1]:1"), at("::1", 1));
        assert_eq!(Address { host: "::1".into(), port: 1 }.to_string(), "[::1]:1");
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_is_wanted() {
        for bad in [
            "localhost:11300",
            "beanstalk://",
            "beanstalk://h:0",
            "beanstalk://h:x",
            "beanstalk://a b:1",
            "sqlite:",
            "beanstalk://[::1",
            "beanstalk://[::1]x",
            "redis://h",
        ] {
            let said = place(bad).unwrap_err();
            assert!(said.ends_with("but must be beanstalk://HOST:PORT or sqlite:PATH"), "{said}");
        }
        assert!(place("beanstalks://h:1").unwrap_err().contains("stunnel"));
    }
}
