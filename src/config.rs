//! The configuration: one INI file, as existing sites have it, with our keys beside theirs.
//!
//! Unknown sections and keys are errors that name the nearest known one; values are checked when the file is
//! loaded, so that nothing is found wrong in the middle of a build.

mod fleet;
mod irc;
mod mail;
mod mock;
mod mqtt;
mod policy;
mod prune;
mod queue;
mod repo;
mod scm;
mod sign;
mod transport;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use configparser::ini::{Ini, IniDefault};

use crate::model::{Layout, Limits, Size};
use crate::sys::ini::{self, Double};
use crate::sys::process::node_name;
pub use crate::sys::tls::TlsFiles;
pub use fleet::{HistoryPlace, MongodbUrl};
pub use irc::{IrcOptions, Which};
pub use mail::{MailOptions, MailWhen};
pub use mock::MockOptions;
pub use mqtt::Broker;
pub use policy::{Policy, Rule};
pub use prune::{Keep, PruneOptions};
pub use queue::QueuePlace;
pub use repo::{Compression, RepoEngine, RepoOptions};
pub use scm::Scm;
pub use sign::{KeyPlace, Signing, TargetKeys};
pub use transport::Module;
pub use worker::EngineChoice;

/// Where a site's configuration is when nothing else is said.
pub const SITE_FILE: &str = "/etc/reimzul/reimzul.ini";
const SITE_ROOT: &str = "/srv/reimzul";
const SITE_LOG: &str = "/var/log/reimzul/reimzul.log";

/// A configuration that cannot be used: one sentence each.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("cannot read the configuration {file}: {reason}")]
    Unreadable { file: String, reason: String },
    #[error("{file}: unknown section [{section}]{nearest}")]
    UnknownSection { file: String, section: String, nearest: Nearest },
    #[error("{file}: section [{section}] stands there twice; make it one")]
    SectionTwice { file: String, section: String },
    #[error("{file}: key '{key}' stands twice in section [{section}]; keep one of them")]
    KeyTwice { file: String, section: String, key: String },
    #[error("{file}: '{key}' stands before the first section, such as [worker]")]
    NoSection { file: String, key: String },
    #[error("{file}: unknown key '{key}' in section [{section}]{nearest}")]
    UnknownKey { file: String, section: String, key: String, nearest: Nearest },
    #[error("{file}: {key} in section [{section}] is '{value}', but must be {wanted}")]
    BadValue { file: String, section: String, key: &'static str, value: String, wanted: String },
    #[error("{file}: section [{section}] is for no target: {reason}")]
    BadTarget { file: String, section: String, reason: String },
    #[error("{file}: {key} in section [{section}]: {reason}")]
    BadEntry { file: String, section: &'static str, key: String, reason: String },
    #[error("the root folder {path} cannot be used: {reason}")]
    BadRoot { path: String, reason: String },
}

/// ", did you mean 'x'?", or nothing where no known name is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest(Option<&'static str>);

impl std::fmt::Display for Nearest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(name) => write!(f, ", did you mean '{name}'?"),
            None => Ok(()),
        }
    }
}

fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Nearest {
    Nearest(ini::nearest(name, known))
}

/// The configuration of one process.
#[derive(Debug, Clone)]
pub struct Config {
    pub layout: Layout,
    /// The file it came from; none where the defaults serve.
    pub file: Option<PathBuf>,
    /// This machine's node name: what events call the builder.
    pub node: String,
    /// Builds at a time.
    pub slots: usize,
    pub engine: EngineChoice,
    pub mock: MockOptions,
    /// How often a build that failed through the farm's fault is tried in all.
    pub tries: usize,
    pub retry_delay: Duration,
    /// What a build's log may be; past it the middle is left out.
    pub log_limit: Size,
    /// What a build may use.
    pub limits: Limits,
    /// A worker takes no jobs while less is free where it builds; zero: it does not look.
    pub min_free: Size,
    /// Whether scratch builds lie in the build repository, as they did in the old system.
    pub scratch_in_repo: bool,
    pub repo: RepoOptions,
    pub prune: PruneOptions,
    pub logfile: PathBuf,
    /// How long a notification is tried before it is buried.
    pub give_up_after: Duration,
    /// None: nothing is mailed.
    pub mail: Option<MailOptions>,
    /// None: nothing is posted on IRC.
    pub irc: Option<IrcOptions>,
    /// Where people find the build repository, `repo/` of the bstore; none: in the root folder.
    pub base_url: Option<reqwest::Url>,
    /// Where sources come from; none: the root folder.
    pub sources: Option<reqwest::Url>,
    /// Where results go; none: the root folder.
    pub upload: Option<Module>,
    pub tls: TlsFiles,
    pub queue: QueuePlace,
    pub history: HistoryPlace,
    /// The MQTT broker; none where no host is named.
    pub mqtt: Option<Broker>,
    pub signing: Signing,
    /// Where packages' sources are; none where no URL is configured.
    pub scm: Option<Scm>,
    /// Who may ask for builds by MQTT.
    pub policy: Policy,
}

/// Every section with its keys. A section with no keys listed takes any.
const KNOWN: &[(&str, &[&str])] = &[
    ("reimzul", &["root"]),
    (
        "worker",
        &[
            "slots",
            "engine",
            "tries",
            "retry_delay",
            "log_limit",
            "memory",
            "processes",
            "cpus",
            "disk",
            "min_free",
        ],
    ),
    ("mock", &["configs", "own_configs", "base_url", "update", "stale_after"]),
    ("sources", &["url"]),
    ("bstore", &["base_url", "scratch_in_repo", "upload"]),
    ("prune", &["newest", "days", "log_days", "scratch_days", "source_days", "leftover_days", "grace"]),
    ("keep", &[]),
    ("repo", &["engine", "compression", "verify_every", "keep", "keep_for", "createrepo_options"]),
    ("tls", &["ca_cert", "tls_cert", "tls_key", "psk_file", "psk_identity"]),
    ("logs", &["logfile"]),
    ("queue", &["url"]),
    ("history", &["url"]),
    ("sign", &["stage", "url", "timeout", "key", "passphrase_file", "public_key"]),
    ("scm", &["git_url", "lookaside_url", "disttag_command", "ca_cert", "tls_cert", "tls_key"]),
    ("policy", &["ca_cert", "allow", "groups", "allow_unsigned", "max_age", "audit_log"]),
    ("notifier", &["give_up_after"]),
    (
        "mail",
        &[
            "notifications",
            "mail_from",
            "host",
            "port",
            "security",
            "ca_cert",
            "user",
            "password_file",
            "mail",
            "digest_interval",
            "scratch_domain",
        ],
    ),
    ("mail_rcpts", &[]),
    (
        "irc",
        &[
            "host",
            "port",
            "tls",
            "ca_cert",
            "tls_cert",
            "tls_key",
            "tls_insecure",
            "nick",
            "user",
            "password_file",
        ],
    ),
    ("irc_channels", &[]),
    ("mqtt", &["notifications", "host", "port", "ca_cert", "tls_cert", "tls_key", "tls_insecure", "topic"]),
];

/// Settings as they stand in a file: keys with their values, by section.
pub type Sections = BTreeMap<String, BTreeMap<String, String>>;

impl Config {
    /// `file` as given on the command line; else `reimzul.ini` in the root given; else the site's. `root`
    /// overrides the file's.
    pub fn load(file: Option<&Path>, root: Option<&Path>) -> Result<Config, ConfigError> {
        let file = match (file, root) {
            (Some(file), _) => Some(file.to_owned()),
            (None, Some(root)) => Some(root.join("reimzul.ini")).filter(|file| file.exists()),
            (None, None) => Some(PathBuf::from(SITE_FILE)).filter(|file| file.exists()),
        };
        match &file {
            None => Config::from_text("", None, root),
            Some(path) => {
                let text = ini::read(path).map_err(|error| ConfigError::Unreadable {
                    file: path.display().to_string(),
                    reason: error.to_string(),
                })?;
                Config::from_text(&text, Some(path), root)
            }
        }
    }

    /// What a file with this text says.
    pub fn from_text(text: &str, file: Option<&Path>, root: Option<&Path>) -> Result<Config, ConfigError> {
        let name = file.map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
        let sections = sections(text, &name)?;
        let values = Values { file: &name, sections: &sections };
        let own_root = root.map(Path::to_owned).or_else(|| values.get("reimzul", "root").map(PathBuf::from));
        let root = own_root.clone().unwrap_or_else(|| SITE_ROOT.into());
        let root = std::path::absolute(&root).map_err(|error| ConfigError::BadRoot {
            path: root.display().to_string(),
            reason: error.to_string(),
        })?;
        // dnf splits and expands what it is told at these, and has no way to quote them.
        if let Some(bad) = root.to_string_lossy().chars().find(|c| c.is_whitespace() || ",%$#".contains(*c)) {
            return Err(ConfigError::BadRoot {
                path: root.display().to_string(),
                reason: format!("its path contains {bad:?}, which dnf cannot be told; choose another"),
            });
        }
        let logfile = match values.get("logs", "logfile") {
            Some("") => return Err(values.bad("logs", "logfile", "", "a file's path")),
            Some(path) => PathBuf::from(path),
            None if own_root.is_some() => root.join("log/reimzul.log"),
            None => SITE_LOG.into(),
        };
        Ok(Config {
            mock: values.mock()?,
            layout: Layout::new(&root).with_mock_configs(
                values.folder("mock", "configs", &root),
                values.folder("mock", "own_configs", &root),
            ),
            file: file.map(Path::to_owned),
            node: node_name(),
            slots: values.number("worker", "slots", 1, 1..=1024)?,
            engine: values.engine()?,
            tries: values.number("worker", "tries", 3, 1..=100)?,
            retry_delay: Duration::from_secs(values.number("worker", "retry_delay", 10, 0..=86_400)? as u64),
            log_limit: values.log_limit()?,
            limits: values.limits()?,
            min_free: values.min_free()?,
            scratch_in_repo: values.boolean("bstore", "scratch_in_repo", false)?,
            repo: values.repo()?,
            prune: values.prune()?,
            logfile: logfile.clone(),
            give_up_after: Duration::from_secs(values.number(
                "notifier",
                "give_up_after",
                86_400,
                0..=31_536_000,
            )? as u64),
            mail: values.mail(&root)?,
            irc: values.irc(&root)?,
            base_url: values.base_url()?,
            sources: values.sources()?,
            upload: values.upload()?,
            tls: values.tls("tls", &root)?,
            queue: values.queue(&root)?,
            history: values.history(&root)?,
            mqtt: values.broker(&root)?,
            signing: values.signing(&root)?,
            scm: values.scm(&root)?,
            policy: values.policy(&root, &logfile)?,
        })
    }
}

/// The settings in a text, which `file` names in errors: each name is known, no value looked at.
pub fn sections(text: &str, file: &str) -> Result<Sections, ConfigError> {
    let sections = parse(text, file)?;
    check_names(&sections, file)?;
    Ok(sections)
}

/// Python's configparser dialect, which existing files are written in.
fn parse(text: &str, file: &str) -> Result<Sections, ConfigError> {
    check_doubles(text, file)?;
    let mut dialect = IniDefault::default();
    dialect.multiline = true;
    dialect.enable_inline_comments = false;
    let mut ini = Ini::new_from_defaults(dialect);
    let map = ini
        .read(text.to_owned())
        .map_err(|reason| ConfigError::Unreadable { file: file.to_owned(), reason })?;
    Ok(map
        .into_iter()
        .map(|(section, keys)| {
            (section, keys.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
        })
        .collect())
}

/// Python's configparser refuses them; ours would let the last one win, in silence.
fn check_doubles(text: &str, file: &str) -> Result<(), ConfigError> {
    match ini::first_double(text) {
        None => Ok(()),
        Some(Double::Section(section)) => Err(ConfigError::SectionTwice { file: file.to_owned(), section }),
        Some(Double::Key { section, key }) => {
            Err(ConfigError::KeyTwice { file: file.to_owned(), section, key })
        }
    }
}

fn check_names(sections: &Sections, file: &str) -> Result<(), ConfigError> {
    for (section, keys) in sections {
        // What the parser calls the part before the first section.
        if let ("default", Some(key)) = (section.as_str(), keys.keys().next()) {
            return Err(ConfigError::NoSection { file: file.to_owned(), key: shown(key) });
        }
        let listed = KNOWN.iter().find(|(name, _)| name == section).map(|(_, known)| *known);
        let of_target = sign::target_of(section).map(|_| sign::TARGET_KEYS);
        let Some(known) = listed.or(of_target) else {
            return Err(ConfigError::UnknownSection {
                file: file.to_owned(),
                section: shown(section),
                nearest: nearest(section, KNOWN.iter().map(|(name, _)| *name)),
            });
        };
        if let Some(key) = keys.keys().find(|key| !known.is_empty() && !known.contains(&key.as_str())) {
            return Err(ConfigError::UnknownKey {
                file: file.to_owned(),
                section: shown(section),
                key: shown(key),
                nearest: nearest(key, known.iter().copied()),
            });
        }
    }
    Ok(())
}

/// Part of a configuration, as it may be shown in a sentence.
fn shown(text: &str) -> String {
    text.escape_debug().take(60).collect()
}

struct Values<'a> {
    file: &'a str,
    sections: &'a Sections,
}

impl Values<'_> {
    fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.sections.get(section)?.get(key).map(String::as_str)
    }

    fn bad(
        &self,
        section: &'static str,
        key: &'static str,
        value: &str,
        wanted: impl Into<String>,
    ) -> ConfigError {
        self.bad_in(section, key, value, wanted)
    }

    /// The same of a section whose name is not known beforehand.
    fn bad_in(
        &self,
        section: &str,
        key: &'static str,
        value: &str,
        wanted: impl Into<String>,
    ) -> ConfigError {
        ConfigError::BadValue {
            file: self.file.to_owned(),
            section: shown(section),
            key,
            value: shown(value),
            wanted: wanted.into(),
        }
    }

    fn number(
        &self,
        section: &'static str,
        key: &'static str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, ConfigError> {
        let Some(value) = self.get(section, key) else { return Ok(default) };
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.bad(section, key, value, format!("a whole number from {least} to {most}"))
        })
    }

    fn boolean(&self, section: &'static str, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.get(section, key) else { return Ok(default) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" | "on" => Ok(true),
            "false" | "no" | "0" | "off" => Ok(false),
            _ => Err(self.bad(section, key, value, "True or False, yes or no, 1 or 0")),
        }
    }

    fn size(
        &self,
        section: &'static str,
        key: &'static str,
        range: std::ops::RangeInclusive<Size>,
    ) -> Result<Option<Size>, ConfigError> {
        let Some(value) = self.get(section, key) else { return Ok(None) };
        let size = value.parse().ok().filter(|size| range.contains(size));
        let (least, most) = (range.start(), range.end());
        let bad =
            || self.bad(section, key, value, format!("a size such as 64M or 8G, from {least} to {most}"));
        size.ok_or_else(bad).map(Some)
    }

    /// A folder; one that is named relatively is below the root folder.
    fn folder(&self, section: &str, key: &str, root: &Path) -> Option<PathBuf> {
        self.get(section, key).filter(|path| !path.is_empty()).map(|path| root.join(path))
    }
}

#[cfg(test)]
mod tests;
