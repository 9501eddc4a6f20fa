//! How this machine reaches others: where sources come from, where results go, and the files of TLS.

use std::path::Path;

use reqwest::Url;

use super::{ConfigError, Values};
use crate::sys::net::Address;
use crate::sys::tls::TlsFiles;

/// A module of an rsync daemon, and a folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    pub address: Address,
    pub tls: bool,
    /// The module's name.
    pub name: String,
    /// Below the module, without slashes at its ends; mostly empty.
    pub folder: String,
}

impl Module {
    fn parse(url: &str) -> Option<Module> {
        let (tls, rest) = match (url.strip_prefix("rsync://"), url.strip_prefix("rsyncs://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return None,
        };
        let (address, path) = rest.split_once('/')?;
        let path = path.trim_end_matches('/');
        let word = |part: &str| {
            let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
            plain && !part.is_empty() && !part.starts_with(['-', '.'])
        };
        let (name, folder) = path.split_once('/').unwrap_or((path, ""));
        let good = word(name) && (folder.is_empty() || folder.split('/').all(word));
        let address = Address::parse(address, None).filter(|_| good)?;
        Some(Module { address, tls, name: name.to_owned(), folder: folder.to_owned() })
    }
}

impl std::fmt::Display for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "rsyncs" } else { "rsync" };
        write!(f, "{scheme}://{}/{}", self.address, self.name)?;
        if self.folder.is_empty() { Ok(()) } else { write!(f, "/{}", self.folder) }
    }
}

impl Values<'_> {
    /// The folder that sources are fetched from; none: `incoming/` of the root.
    pub(super) fn sources(&self) -> Result<Option<Url>, ConfigError> {
        self.url("sources", "url")
    }

    /// The folder that people find builds in; none: the root.
    pub(super) fn base_url(&self) -> Result<Option<Url>, ConfigError> {
        self.url("bstore", "base_url")
    }

    /// A folder of a web server, with a slash at its end.
    pub(super) fn url(&self, section: &'static str, key: &'static str) -> Result<Option<Url>, ConfigError> {
        let Some(value) = self.get(section, key) else { return Ok(None) };
        let slash = if value.ends_with('/') { "" } else { "/" };
        let url = Url::parse(&format!("{value}{slash}")).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
        });
        let wanted = "http://HOST:PORT/FOLDER/ or https://HOST:PORT/FOLDER/";
        url.map(Some).ok_or_else(|| self.bad(section, key, value, wanted))
    }

    /// The module that results go to; none: `bstore/` of the root.
    pub(super) fn upload(&self) -> Result<Option<Module>, ConfigError> {
        let Some(value) = self.get("bstore", "upload") else { return Ok(None) };
        let wanted = "rsync://HOST:PORT/MODULE or rsyncs://HOST:PORT/MODULE";
        Module::parse(value).map(Some).ok_or_else(|| self.bad("bstore", "upload", value, wanted))
    }

    /// The files that a section names; relative paths are below `below`.
    pub(super) fn tls(&self, section: &'static str, below: &Path) -> Result<TlsFiles, ConfigError> {
        let files = TlsFiles {
            section,
            ca_cert: self.folder(section, "ca_cert", below),
            tls_cert: self.folder(section, "tls_cert", below),
            tls_key: self.folder(section, "tls_key", below),
            insecure: self.boolean(section, "tls_insecure", false)?,
            psk_file: self.folder(section, "psk_file", below),
            psk_identity: self
                .get(section, "psk_identity")
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        };
        if let (Some(file), Some(_)) = (self.get(section, "psk_file"), &files.tls_cert) {
            let wanted = "unset beside a tls_cert: it is the one or the other";
            return Err(self.bad(section, "psk_file", file, wanted));
        }
        if let (Some(identity), None) = (&files.psk_identity, &files.psk_file) {
            return Err(self.bad(section, "psk_identity", identity, "beside a psk_file that has its key"));
        }
        if let (Some(key), None) = (self.get(section, "tls_key"), &files.tls_cert) {
            return Err(self.bad(section, "tls_key", key, "beside a tls_cert that it belongs to"));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_by_plain_words() {
        let shown = |url: &str| Module::parse(url).map(|module| module.to_string());
        for good in ["rsync://h:873/reimzul-bstore", "rsyncs://10.0.0.1:11874/m/a/b"] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        for bad in [
            "h:873/m",
            "rsync://h/m",
            "rsync://h:873/",
            "rsync://h:1/../m",
            "rsync://h:1/m/../..",
            "rsync://h:1/$(x)",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
