//! Where the queue is: `[queue] url`.

use std::path::{Path, PathBuf};

use super::{ConfigError, Values};
use crate::sys::net::Address;

/// Where a beanstalkd listens unless it is told.
const PORT: u16 = 11300;

/// Where the queue is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum QueuePlace {
    /// In the root's own file.
    #[default]
    Root,
    /// In a SQLite file of its own.
    Sqlite(PathBuf),
    Beanstalkd {
        address: Address,
        /// Through TLS, with the files of section [tls].
        tls: bool,
    },
}

impl Values<'_> {
    pub(super) fn queue(&self, root: &Path) -> Result<QueuePlace, ConfigError> {
        let Some(url) = self.get("queue", "url").filter(|url| !url.is_empty()) else {
            return Ok(QueuePlace::Root);
        };
        let wanted = "beanstalk://HOST:PORT, beanstalks://HOST:PORT (with TLS) or sqlite:PATH";
        let place = match url.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Some(QueuePlace::Sqlite(root.join(path))),
            Some(("beanstalk", rest)) => beanstalkd(rest, false),
            Some(("beanstalks", rest)) => beanstalkd(rest, true),
            _ => None,
        };
        place.ok_or_else(|| self.bad("queue", "url", url, wanted))
    }
}

fn beanstalkd(rest: &str, tls: bool) -> Option<QueuePlace> {
    let rest = rest.strip_prefix("//")?;
    let address = Address::parse(rest.strip_suffix('/').unwrap_or(rest), Some(PORT))?;
    Some(QueuePlace::Beanstalkd { address, tls })
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
        let at = |host: &str, port, tls| {
            Ok(QueuePlace::Beanstalkd { address: Address::new(host, port).unwrap(), tls })
        };
        assert_eq!(place(""), Ok(QueuePlace::Root));
        assert_eq!(place("sqlite:q.db"), Ok(QueuePlace::Sqlite("/r/q.db".into())));
        assert_eq!(place("beanstalk://localhost:11400"), at("localhost", 11400, false));
        assert_eq!(place("beanstalk://ctl.example/"), at("ctl.example", 11300, false));
        assert_eq!(place("beanstalk://[::1]:1"), at("::1", 1, false));
        assert_eq!(place("beanstalks://ctl.example:11301"), at("ctl.example", 11301, true));
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
            assert!(said.contains("but must be beanstalk://HOST:PORT, beanstalks://HOST:PORT"), "{said}");
        }
    }
}
