//! What becomes of packages once they are built: sections [sign] and [sign TARGET].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use super::{ConfigError, Values};
use crate::model::Target;

/// How packages are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// Whether RPMs are staged by hard links where that can be; else they are copied.
    pub link: bool,
    /// Where a signer that has no bstore of its own fetches RPMs: what is bstore/ elsewhere.
    pub url: Option<Url>,
    /// How long gpg-agent may take for a signature.
    pub timeout: Duration,
    /// For targets that have no section of their own.
    usual: TargetKeys,
    /// By the target's name in small letters, as the parser has it.
    targets: BTreeMap<String, TargetKeys>,
}

/// The keys of a target. Without any its packages are staged for a signer outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetKeys {
    /// What this host signs with.
    pub key: Option<KeyPlace>,
    pub passphrase_file: Option<PathBuf>,
    /// What signatures are checked with; none: the public part of `key`.
    pub public_key: Option<PathBuf>,
}

/// Where a secret key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    File(PathBuf),
    /// What gpg-agent knows it by.
    Agent(String),
}

impl std::fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyPlace::File(path) => path.display().fmt(f),
            KeyPlace::Agent(key) => write!(f, "{AGENT}{key}"),
        }
    }
}

const SECTION: &str = "sign";
const AGENT: &str = "gpg:";
pub(super) const TARGET_KEYS: &[&str] = &["key", "passphrase_file", "public_key"];

/// The target that a section is for: of `sign c9.x86_64`, `c9.x86_64`.
pub(super) fn target_of(section: &str) -> Option<&str> {
    section.strip_prefix(SECTION)?.strip_prefix(' ').map(str::trim)
}

impl Signing {
    pub fn of(&self, target: &Target) -> &TargetKeys {
        self.targets.get(&target.as_str().to_lowercase()).unwrap_or(&self.usual)
    }

    /// Every set of keys that is configured, with whom it is for.
    pub fn all(&self) -> impl Iterator<Item = (&str, &TargetKeys)> {
        let others = if self.targets.is_empty() { "every target" } else { "every other target" };
        let usual = std::iter::once((others, &self.usual));
        let own = self.targets.iter().map(|(target, keys)| (target.as_str(), keys));
        own.chain(usual).filter(|(_, keys)| keys.publishes())
    }
}

impl TargetKeys {
    /// Whether packages of the target are signed and published, rather than staged.
    pub fn publishes(&self) -> bool {
        self.key.is_some() || self.public_key.is_some()
    }
}

impl Values<'_> {
    pub(super) fn signing(&self, root: &Path) -> Result<Signing, ConfigError> {
        let link = match self.get(SECTION, "stage") {
            None | Some("link") => true,
            Some("copy") => false,
            Some(value) => return Err(self.bad(SECTION, "stage", value, "link or copy")),
        };
        let own = self.sections.keys().filter_map(|section| Some((section, target_of(section)?)));
        let targets = own.map(|(section, target)| {
            target.parse::<Target>().map_err(|error| ConfigError::BadTarget {
                file: self.file.to_owned(),
                section: super::shown(section),
                reason: error.to_string(),
            })?;
            Ok((target.to_owned(), self.target_keys(section, root)?))
        });
        Ok(Signing {
            link,
            url: self.url(SECTION, "url")?,
            timeout: Duration::from_secs(self.number(SECTION, "timeout", 60, 1..=3600)? as u64),
            targets: targets.collect::<Result<_, _>>()?,
            usual: self.target_keys(SECTION, root)?,
        })
    }

    fn target_keys(&self, section: &str, root: &Path) -> Result<TargetKeys, ConfigError> {
        let key = match self.get(section, "key").filter(|value| !value.is_empty()) {
            None => None,
            Some(value) => Some(match value.strip_prefix(AGENT) {
                None => KeyPlace::File(root.join(value)),
                Some(id) if is_key_id(id) => KeyPlace::Agent(id.to_owned()),
                Some(_) => {
                    let wanted = "a file, or gpg: and a fingerprint, a key id or a mail address";
                    return Err(self.bad_in(section, "key", value, wanted));
                }
            }),
        };
        let passphrase_file = self.folder(section, "passphrase_file", root);
        if let (None, Some(file)) = (&key, self.get(section, "passphrase_file")) {
            return Err(self.bad_in(section, "passphrase_file", file, "beside a key that it unlocks"));
        }
        Ok(TargetKeys { key, passphrase_file, public_key: self.folder(section, "public_key", root) })
    }
}

/// What gpg can look a key up by, and what is no option.
fn is_key_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._+-".contains(c);
    !id.is_empty() && !id.starts_with('-') && id.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn signing(text: &str) -> Result<Signing, String> {
        let config = Config::from_text(text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.signing).map_err(|error| error.to_string())
    }

    fn target(name: &str) -> Target {
        name.parse().unwrap()
    }

    #[test]
    fn packages_are_staged_unless_a_key_is_named() {
        let usual = signing("").unwrap();
        assert!(usual.link && !usual.of(&target("c9.x86_64")).publishes());
        assert_eq!(usual.all().count(), 0);
        assert!(!signing("[sign]\nstage = copy\n").unwrap().link);
    }

    #[test]
    fn a_targets_own_section_stands_in_place_of_the_usual_one() {
        let text = "[sign]\nkey = k/a.asc\npassphrase_file = /p\n[sign C9-Core.x86_64]\nkey = gpg:0xABCD\n\
            [sign test.x86_64]\n[sign off.x86_64]\npublic_key = pub.asc\n";
        let signing = signing(text).unwrap();
        let usual = signing.of(&target("any.x86_64"));
        assert_eq!(usual.key, Some(KeyPlace::File("/r/k/a.asc".into())));
        assert_eq!(usual.passphrase_file.as_deref(), Some(Path::new("/p")));
        let own = signing.of(&target("C9-Core.x86_64"));
        assert_eq!((&own.key, &own.passphrase_file), (&Some(KeyPlace::Agent("0xABCD".into())), &None));
        assert!(!signing.of(&target("test.x86_64")).publishes(), "an empty section: staged only");
        assert!(signing.of(&target("off.x86_64")).publishes());
        assert_eq!(signing.all().count(), 3);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, part) in [
            ("[sign]\nstage = move\n", "but must be link or copy"),
            ("[sign]\nkey = gpg:-x\n", "key in section [sign] is 'gpg:-x'"),
            ("[sign c9]\nkey = gpg:a b\n", "key in section [sign c9] is 'gpg:a b'"),
            ("[sign]\npassphrase_file = x\n", "but must be beside a key"),
            ("[sign ../x]\nkey = k\n", "section [sign ../x] is for no target"),
            ("[sign c9]\nkay = k\n", "unknown key 'kay' in section [sign c9], did you mean 'key'?"),
            ("[sign c9]\ntimeout = 3\n", "unknown key 'timeout' in section [sign c9]"),
            ("[sign]\nurl = ftp://h/\n", "but must be http"),
            ("[sign]\ntimeout = 0\n", "a whole number from 1"),
        ] {
            let said = signing(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
