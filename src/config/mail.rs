//! Who is mailed of results, when, and by which server: `[mail]` and `[mail_rcpts]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lettre::message::{Mailbox, Mailboxes};

use super::{ConfigError, Values, nearest, shown};
use crate::model::Arch;
use crate::sys::net::Address;
use crate::sys::smtp::{self, Security};

/// How mail is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct MailOptions {
    pub server: smtp::Options,
    pub from: Mailbox,
    /// Who hears of an arch's results, by the name of its tube.
    pub recipients: BTreeMap<String, Vec<Mailbox>>,
    pub when: MailWhen,
    /// Where submitters have their mail, if they may ask to hear of their scratch builds.
    pub scratch_domain: Option<String>,
}

/// Which results are mailed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailWhen {
    Each,
    Failures,
    /// All that came in such a time, in one mail.
    Digest(Duration),
}

impl Values<'_> {
    /// None where nothing is mailed.
    pub(super) fn mail(&self, root: &Path) -> Result<Option<MailOptions>, ConfigError> {
        let recipients = self.recipients()?;
        let options = (self.mail_server(root)?, self.mail_when()?, self.scratch_domain()?);
        let from = self.get("mail", "mail_from").map(|from| self.mailbox("mail_from", from)).transpose()?;
        if !self.boolean("mail", "notifications", false)? {
            return Ok(None);
        }
        let from =
            from.ok_or_else(|| self.bad("mail", "mail_from", "", "an address such as builds@example.org"))?;
        let (server, when, scratch_domain) = options;
        Ok(Some(MailOptions { server, from, recipients, when, scratch_domain }))
    }

    fn mail_server(&self, root: &Path) -> Result<smtp::Options, ConfigError> {
        let security = match self.get("mail", "security") {
            None | Some("none") => Security::None,
            Some("starttls") => Security::Starttls,
            Some("tls") => Security::Tls,
            Some(value) => return Err(self.bad("mail", "security", value, "none, starttls or tls")),
        };
        let port = self.number("mail", "port", usize::from(security.port()), 1..=65_535)?;
        let host = self.get("mail", "host").unwrap_or("localhost");
        let address = Address::new(host, u16::try_from(port).unwrap_or_default())
            .ok_or_else(|| self.bad("mail", "host", host, "a host's name or address"))?;
        let login = match (self.get("mail", "user"), self.folder("mail", "password_file", root)) {
            (None, None) => None,
            (Some(user), Some(file)) => Some((user.to_owned(), file)),
            (Some(user), None) => return Err(self.bad("mail", "user", user, "beside a password_file")),
            (None, Some(file)) => {
                return Err(self.bad("mail", "password_file", &file.display().to_string(), "beside a user"));
            }
        };
        Ok(smtp::Options { address, security, ca_cert: self.folder("mail", "ca_cert", root), login })
    }

    fn mail_when(&self) -> Result<MailWhen, ConfigError> {
        let interval = self.number("mail", "digest_interval", 3600, 1..=604_800)? as u64;
        match self.get("mail", "mail") {
            None | Some("each") => Ok(MailWhen::Each),
            Some("failures") => Ok(MailWhen::Failures),
            Some("digest") => Ok(MailWhen::Digest(Duration::from_secs(interval))),
            Some(value) => Err(self.bad("mail", "mail", value, "each, failures or digest")),
        }
    }

    fn scratch_domain(&self) -> Result<Option<String>, ConfigError> {
        let Some(domain) = self.get("mail", "scratch_domain").filter(|domain| !domain.is_empty()) else {
            return Ok(None);
        };
        match lettre::Address::new("submitter", domain) {
            Ok(_) => Ok(Some(domain.to_owned())),
            Err(_) => Err(self.bad("mail", "scratch_domain", domain, "a mail domain such as example.org")),
        }
    }

    fn recipients(&self) -> Result<BTreeMap<String, Vec<Mailbox>>, ConfigError> {
        let mut all = BTreeMap::new();
        for (arch, list) in self.sections.get("mail_rcpts").into_iter().flatten() {
            let known: Arch = arch.parse().map_err(|_| ConfigError::UnknownKey {
                file: self.file.to_owned(),
                section: "mail_rcpts".into(),
                key: shown(arch),
                nearest: nearest(arch, Arch::ALL.into_iter().map(Arch::as_str)),
            })?;
            let list: String = list.split_whitespace().collect::<Vec<_>>().join(" ");
            let list = list.trim_matches([',', ' ']);
            let wanted = "addresses with commas between them";
            let found: Mailboxes = match list {
                "" => Mailboxes::new(),
                list => list.parse().map_err(|_| self.bad("mail_rcpts", known.as_str(), list, wanted))?,
            };
            all.entry(known.tube().to_owned()).or_insert_with(Vec::new).extend(found);
        }
        Ok(all)
    }

    fn mailbox(&self, key: &'static str, text: &str) -> Result<Mailbox, ConfigError> {
        text.parse().map_err(|_| self.bad("mail", key, text, "an address such as builds@example.org"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn mail(text: &str) -> Result<Option<MailOptions>, String> {
        let config = Config::from_text(text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.mail).map_err(|error| error.to_string())
    }

    #[test]
    fn an_old_sites_mail_goes_through_the_local_server() {
        let text = "[mail]\nnotifications = True\nmail_from = Builds <b@example.org>\n\
            [mail_rcpts]\nx86_64 = a@b, \n c@d,\narmhfp = e@f\naarch64 =\n";
        let found = mail(text).unwrap().unwrap();
        let to =
            |arch: &str| found.recipients[arch].iter().map(|to| to.email.to_string()).collect::<Vec<_>>();
        assert_eq!(found.server.address.to_string(), "localhost:25");
        assert_eq!(
            (to("x86_64").join(" "), to("armv7l").join(" "), to("aarch64").len()),
            ("a@b c@d".into(), "e@f".into(), 0)
        );
        assert_eq!(mail("[mail]\nnotifications = False\nmail_from = b@example.org\n"), Ok(None));
    }

    #[test]
    fn what_cannot_be_mailed_with_is_refused() {
        for bad in [
            "[mail]\nnotifications = yes\n",
            "[mail]\nmail_from = nobody\n",
            "[mail]\nmail_from = a@b\\r\\nBcc: c@d\n",
            "[mail]\nhost = a b\n",
            "[mail]\nsecurity = ssl\n",
            "[mail]\nuser = me\n",
            "[mail]\npassword_file = p\n",
            "[mail]\nmail = weekly\n",
            "[mail]\ndigest_interval = 0\n",
            "[mail]\nscratch_domain = a b\n",
            "[mail_rcpts]\nx86_64 = nobody\n",
            "[mail_rcpts]\nx68_64 = a@b\n",
        ] {
            assert!(mail(bad).is_err(), "{bad}");
        }
        let said = mail("[mail_rcpts]\nx68_64 = a@b\n").unwrap_err();
        assert!(said.ends_with("did you mean 'x86_64'?"), "{said}");
    }
}
