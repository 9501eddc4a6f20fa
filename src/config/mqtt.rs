//! The MQTT broker: `[mqtt]`.

use std::path::Path;

use super::{ConfigError, Values, check_names, parse};
use crate::sys::ini;
use crate::sys::mqtt::is_topic;
use crate::sys::net::Address;
use crate::sys::tls::TlsFiles;

/// MQTT over TLS (IANA: secure-mqtt).
const PORT: usize = 8883;
const TOPIC: &str = "reimzul";
/// Where a client's requests go, unless its file says otherwise.
const SUBMIT_TOPIC: &str = "reimzul/submit";

/// A broker, which is spoken to through TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub address: Address,
    pub tls: TlsFiles,
    /// Without slashes at its ends: everything of ours is published below it.
    pub topic: String,
    /// Whether everybody is told of results there.
    pub results: bool,
}

impl Broker {
    /// The broker of a client's own file, `~/.reimzul.ini`, whose topic is where requests go. Paths in it are below
    /// `home`, `~/` or not.
    pub fn of_client(file: &Path, home: &Path) -> Result<Broker, ConfigError> {
        let name = file.display().to_string();
        let text = ini::read(file)
            .map_err(|error| ConfigError::Unreadable { file: name.clone(), reason: error.to_string() })?;
        let sections = parse(&text, &name)?;
        check_names(&sections, &name)?;
        let values = Values { file: &name, sections: &sections };
        let broker = values.broker_with(home, SUBMIT_TOPIC)?;
        let mut broker =
            broker.ok_or_else(|| values.bad("mqtt", "host", "", "the broker's name or address"))?;
        let TlsFiles { ca_cert, tls_cert, tls_key, .. } = &mut broker.tls;
        for path in [ca_cert, tls_cert, tls_key].into_iter().flatten() {
            if let Ok(below) = path.strip_prefix(home.join("~")) {
                *path = home.join(below);
            }
        }
        Ok(broker)
    }
}

impl Values<'_> {
    pub(super) fn broker(&self, root: &Path) -> Result<Option<Broker>, ConfigError> {
        self.broker_with(root, TOPIC)
    }

    fn broker_with(&self, root: &Path, topic: &str) -> Result<Option<Broker>, ConfigError> {
        let tls = self.tls("mqtt", root)?;
        let results = self.boolean("mqtt", "notifications", false)?;
        let port = u16::try_from(self.number("mqtt", "port", PORT, 1..=65_535)?).unwrap_or_default();
        let topic = self.get("mqtt", "topic").unwrap_or(topic);
        if !is_topic(topic) || topic.starts_with('/') || topic.ends_with('/') {
            let wanted = "an MQTT topic such as reimzul, without + and #, and without slashes at its ends";
            return Err(self.bad("mqtt", "topic", topic, wanted));
        }
        let Some(host) = self.get("mqtt", "host").filter(|host| !host.is_empty()) else { return Ok(None) };
        let address = Address::new(host, port);
        let address = address.ok_or_else(|| self.bad("mqtt", "host", host, "a host's name or address"))?;
        Ok(Some(Broker { address, tls, topic: topic.to_owned(), results }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn broker(text: &str) -> Result<Option<Broker>, String> {
        let text = format!("[mqtt]\n{text}\n");
        let config = Config::from_text(&text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.mqtt).map_err(|error| error.to_string())
    }

    #[test]
    fn false_is_false_and_a_broker_is_where_its_keys_say() {
        let text = "host = b.example\nca_cert = /ca.pem\ntls_cert = c.pem\ntls_insecure = False\n";
        let found = broker(text).unwrap().unwrap();
        assert_eq!((found.address.to_string().as_str(), found.topic.as_str()), ("b.example:8883", "reimzul"));
        assert_eq!(found.tls.tls_cert.as_deref(), Some(Path::new("/r/c.pem")));
        assert!(!found.tls.insecure);
        assert!(broker("host = h\ntls_insecure = yes").unwrap().unwrap().tls.insecure);
        assert_eq!(broker("port = 1883"), Ok(None));
    }

    #[test]
    fn a_clients_file_is_read_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".reimzul.ini");
        let text = "[mqtt]\nhost = b\nport = 8883\ntopic = cbs/submit\nca_cert = ~/ca.pem\ntls_cert = own.pem\n\
            tls_key = /etc/own.pem\ntls_insecure = False\n";
        std::fs::write(&file, text).unwrap();
        let broker = Broker::of_client(&file, home.path()).unwrap();
        assert_eq!(broker.topic, "cbs/submit");
        assert_eq!(broker.tls.ca_cert, Some(home.path().join("ca.pem")));
        assert_eq!(broker.tls.tls_cert, Some(home.path().join("own.pem")));
        assert_eq!(broker.tls.tls_key.as_deref(), Some(Path::new("/etc/own.pem")));
        std::fs::write(&file, "[mqtt]\nport = 1\n").unwrap();
        assert!(Broker::of_client(&file, home.path()).is_err());
    }

    #[test]
    fn what_is_no_broker_is_refused() {
        for bad in ["host = a b", "port = 0", "port = mqtt", "topic = a/#", "topic = /a", "tls_insecure = ?"]
        {
            assert!(
                broker(&format!("host = h\n{bad}").replacen("host = h\nhost", "host", 1)).is_err(),
                "{bad}"
            );
        }
    }
}
