//! Where packages' specs and sources are: `[scm]`.

use std::path::Path;

use reqwest::Url;

use super::{ConfigError, Values};
use crate::model::PkgName;
use crate::sys::tls::TlsFiles;

/// A git server, and the lookaside beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scm {
    /// Without a slash at its end.
    git_url: String,
    /// The one protocol that git may speak: `https`.
    pub protocol: String,
    /// Without a slash at its end; http or https.
    pub lookaside: String,
    /// A program and its arguments, which prints the disttag of the checkout that it is run in; empty: there is none.
    pub disttag_command: Vec<String>,
    /// For both servers.
    pub tls: TlsFiles,
}

impl Scm {
    /// Where a package is.
    pub fn repository(&self, pkg: &PkgName) -> String {
        format!("{}/r/rpms/{pkg}.git", self.git_url)
    }

    /// Those of its servers that speak HTTP.
    pub fn http_urls(&self) -> Vec<Url> {
        let urls = [&self.git_url, &self.lookaside].into_iter().filter_map(|url| Url::parse(url).ok());
        urls.filter(|url| url.scheme().starts_with("http")).collect()
    }
}

const PROTOCOLS: [&str; 5] = ["https", "http", "git", "ssh", "file"];

impl Values<'_> {
    pub(super) fn scm(&self, root: &Path) -> Result<Option<Scm>, ConfigError> {
        let own = self.tls("scm", root)?;
        let names_none = own == TlsFiles { section: "scm", ..TlsFiles::default() };
        let tls = if names_none { self.tls("tls", root)? } else { own };
        let Some(git_url) = self.get("scm", "git_url").filter(|url| !url.is_empty()) else { return Ok(None) };
        let plain = |url: &str| {
            let url = Url::parse(url).ok()?;
            let bare = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
            bare.then(|| url.scheme().to_owned())
        };
        let protocol = plain(git_url).filter(|scheme| PROTOCOLS.contains(&scheme.as_str()));
        let protocol = protocol
            .ok_or_else(|| self.bad("scm", "git_url", git_url, "a URL of https, http, git, ssh or file"))?;
        let git_url = git_url.trim_end_matches('/');
        let beside = format!("{git_url}/sources");
        let lookaside = self.get("scm", "lookaside_url").unwrap_or(&beside).trim_end_matches('/');
        if !plain(lookaside).is_some_and(|scheme| matches!(scheme.as_str(), "http" | "https")) {
            let wanted = "an http:// or https:// URL, which must be named where git_url is none";
            return Err(self.bad("scm", "lookaside_url", lookaside, wanted));
        }
        let command = self.get("scm", "disttag_command").unwrap_or_default();
        let helper = command.split_whitespace().next().unwrap_or_default();
        if helper.contains('/') && !helper.starts_with('/') {
            // It runs in the checkout, where such a path would lead to a program of the branch's.
            return Err(self.bad(
                "scm",
                "disttag_command",
                command,
                "a program's name, or its path from / on",
            ));
        }
        Ok(Some(Scm {
            git_url: git_url.to_owned(),
            protocol,
            lookaside: lookaside.to_owned(),
            disttag_command: command.split_whitespace().map(str::to_owned).collect(),
            tls,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn scm(text: &str) -> Result<Option<Scm>, ConfigError> {
        let text = format!("[scm]\n{text}\n");
        Config::from_text(&text, Some(Path::new("t.ini")), Some(Path::new("/r"))).map(|config| config.scm)
    }

    #[test]
    fn the_lookaside_is_beside_git_unless_said_otherwise() {
        let found = scm("git_url = https://git.example.org/").unwrap().unwrap();
        assert_eq!(found.repository(&"bash".parse().unwrap()), "https://git.example.org/r/rpms/bash.git");
        assert_eq!(
            (found.protocol.as_str(), found.lookaside.as_str()),
            ("https", "https://git.example.org/sources")
        );
        let found = scm("git_url = git://g\nlookaside_url = http://l/x/").unwrap().unwrap();
        assert_eq!(found.lookaside, "http://l/x");
        for bad in [
            "git_url = git://g",
            "git_url = ext::sh",
            "git_url = /srv/git",
            "git_url = https://u:p@g",
            "git_url = https://g\ndisttag_command = ./disttag",
        ] {
            assert!(scm(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn its_servers_certificates_are_of_its_own_ca_or_of_that_for_everything() {
        let ca = |text: &str| {
            let found = scm(&format!("git_url = https://g\n{text}")).unwrap().unwrap().tls;
            (found.section, found.ca_cert.unwrap().display().to_string())
        };
        assert_eq!(ca("[tls]\nca_cert = fleet.pem"), ("tls", "/r/fleet.pem".into()));
        assert_eq!(ca("ca_cert = git.pem\n[tls]\nca_cert = fleet.pem"), ("scm", "/r/git.pem".into()));
    }
}
