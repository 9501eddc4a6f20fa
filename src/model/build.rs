//! What makes a build this build: its id, its timestamp and its path in the bstore.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::name::{BadName, serde_as_text};
use super::{Arch, PkgName, Target, VersionRelease};

/// Unique per submission; what builds are followed by, since old workers stamp a new time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BuildId(String);

impl BuildId {
    pub fn new() -> BuildId {
        BuildId(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The same one whenever it is made of the same.
    pub fn of(what: &[u8]) -> BuildId {
        let digest = Sha256::digest(what);
        let half = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        BuildId(format!("{half:032x}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for BuildId {
    fn default() -> Self {
        BuildId::new()
    }
}

impl FromStr for BuildId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<BuildId, BadName> {
        text.parse::<PkgName>().map(|word| BuildId(word.to_string()))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
serde_as_text!(BuildId);

/// When a build was submitted, UTC, `YYYYMMDDhhmmss`; unique per target and package on one controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(jiff::civil::DateTime);

const TIMESTAMP: &str = "%Y%m%d%H%M%S";

impl Timestamp {
    pub fn now() -> Timestamp {
        let second = jiff::Timestamp::new(jiff::Timestamp::now().as_second(), 0).unwrap_or_default();
        Timestamp(jiff::tz::TimeZone::UTC.to_datetime(second))
    }

    /// How long ago that was.
    pub fn age(self) -> std::time::Duration {
        let since = Timestamp::now().0.duration_since(self.0);
        std::time::Duration::try_from(since).unwrap_or_default()
    }

    /// One second later: what a second build of the same package in one second gets.
    pub fn next(self) -> Timestamp {
        Timestamp(self.0.saturating_add(jiff::Span::new().seconds(1)))
    }
}

/// Not fourteen digits that make a date and a time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("timestamp '{0}' is not of the form YYYYMMDDhhmmss")]
pub struct BadTimestamp(String);

impl FromStr for Timestamp {
    type Err = BadTimestamp;
    fn from_str(text: &str) -> Result<Timestamp, BadTimestamp> {
        let bad = || BadTimestamp(text.escape_debug().take(40).collect());
        if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        jiff::civil::DateTime::strptime(TIMESTAMP, text).map(Timestamp).map_err(|_| bad())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.strftime(TIMESTAMP).to_string())
    }
}
serde_as_text!(Timestamp);

/// One try at a build, unique among all tries at it, so that two of them never share a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt(pub String);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `<target>/<pkgname>/<timestamp>/<version-release>.<arch>`: a build's place in the bstore, and the name
/// people know it by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BuildPath {
    pub target: Target,
    pub pkgname: PkgName,
    pub timestamp: Timestamp,
    pub evr: VersionRelease,
    pub arch: Arch,
}

impl BuildPath {
    /// The package as people call it: `hello-2.10-1.x86_64`.
    pub fn label(&self) -> String {
        format!("{}-{}.{}", self.pkgname, self.evr, self.arch)
    }

    /// The path below `repo/`, `scratch/` or `results/`. Its parts are plain words, so it cannot leave them.
    pub fn relative(&self) -> PathBuf {
        PathBuf::from(self.to_string())
    }
}

impl fmt::Display for BuildPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuildPath { target, pkgname, timestamp, evr, arch } = self;
        write!(f, "{target}/{pkgname}/{timestamp}/{evr}.{arch}")
    }
}

/// Not a build's path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not of the form target/pkgname/YYYYMMDDhhmmss/version-release.arch")]
pub struct BadBuildPath(String);

impl FromStr for BuildPath {
    type Err = BadBuildPath;

    fn from_str(text: &str) -> Result<BuildPath, BadBuildPath> {
        let read = || {
            let parts: Vec<&str> = text.split('/').collect();
            let [target, pkgname, timestamp, last] = parts.as_slice() else { return None };
            let (evr, arch) = last.rsplit_once('.')?;
            Some(BuildPath {
                target: target.parse().ok()?,
                pkgname: pkgname.parse().ok()?,
                timestamp: timestamp.parse().ok()?,
                evr: evr.parse().ok()?,
                arch: arch.parse().ok()?,
            })
        };
        read().ok_or_else(|| BadBuildPath(text.escape_debug().take(80).collect()))
    }
}
serde_as_text!(BuildPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builds_path_is_read_as_it_is_written_and_leads_nowhere_else() {
        let text = "c7.u.x86_64/a-b/20261123204406/1.0-2.el7.x86_64";
        let path: BuildPath = text.parse().unwrap();
        assert_eq!(
            (path.to_string().as_str(), path.evr.as_str(), path.arch),
            (text, "1.0-2.el7", Arch::X86_64)
        );
        for bad in [
            "",
            "a",
            "c7/a/20261123204406/1-1",
            "../a/20261123204406/1-1.x86_64",
            "/c7/a/20261123204406/1-1.i386",
            "c7/a/20261123204406/1-1.x86_64/..",
            "c7/a/20261123204406/../1-1.x86_64",
        ] {
            assert!(bad.parse::<BuildPath>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_timestamp_is_fourteen_digits_of_a_real_date() {
        let text = "20261123204406";
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        assert_eq!(text.parse::<Timestamp>().unwrap().next().to_string(), "20261123204407");
        for bad in ["", "2026112320440", "20261323204406", "2026112320440x", "../../../../etc"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!(Timestamp::now().to_string().len(), 14);
    }
}
