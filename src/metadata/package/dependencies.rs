//! What a package provides, requires and so on, as far as readers need it.
//!
//! Requirements leave out what says nothing: rpmlib's features, files and capabilities of the package's own,
//! repetitions, and of libc's versions all but the highest.

use std::collections::{HashMap, HashSet};
use std::io;

use rpm_version::Evr;

use super::files::{File, is_primary};
use crate::sys::rpm::Tags;

/// What a package depends on in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency<'a> {
    pub name: &'a [u8],
    /// `EQ`, `LT` …; with none the rest does not count.
    pub flags: Option<&'static str>,
    pub epoch: &'a [u8],
    pub version: &'a [u8],
    pub release: &'a [u8],
    /// Needed by a scriptlet, so that it has to be installed before.
    pub pre: bool,
}

/// All of them, in the order of the header.
#[derive(Debug, Default)]
pub struct Dependencies<'a> {
    pub provides: Vec<Dependency<'a>>,
    pub requires: Vec<Dependency<'a>>,
    pub conflicts: Vec<Dependency<'a>>,
    pub obsoletes: Vec<Dependency<'a>>,
    pub suggests: Vec<Dependency<'a>>,
    pub enhances: Vec<Dependency<'a>>,
    pub recommends: Vec<Dependency<'a>>,
    pub supplements: Vec<Dependency<'a>>,
}

/// Tags of names, flags and versions.
type Three = [u32; 3];
const PROVIDES: Three = [1047, 1112, 1113];
const REQUIRES: Three = [1049, 1048, 1050];
const CONFLICTS: Three = [1054, 1053, 1055];
const OBSOLETES: Three = [1090, 1114, 1115];
const RECOMMENDS: Three = [5046, 5048, 5047];
const SUGGESTS: Three = [5049, 5051, 5050];
const SUPPLEMENTS: Three = [5052, 5054, 5053];
const ENHANCES: Three = [5055, 5057, 5056];
/// What some distributions had before rpm 4.12.
const OLD_SUGGESTS: Three = [1156, 1158, 1157];
const OLD_ENHANCES: Three = [1159, 1161, 1160];

/// PREREQ, SCRIPT_PRE, SCRIPT_POST (rpmds.h): what createrepo_c calls `pre`, PRETRANS and POSTTRANS not.
const PRE: u64 = 1 << 6 | 1 << 9 | 1 << 10;
const MISSING_OK: u64 = 1 << 19;
const STRONG: u64 = 1 << 27;

pub fn of<'a>(header: &'a Tags, files: &[File]) -> io::Result<Dependencies<'a>> {
    let plain = |tags| -> io::Result<Vec<Dependency<'a>>> {
        Ok(entries(header, tags)?.into_iter().filter_map(|entry| entry.dependency()).collect())
    };
    let (requires, recommends) = requires(header, files)?;
    let mut all = Dependencies {
        provides: plain(PROVIDES)?,
        requires,
        conflicts: plain(CONFLICTS)?,
        obsoletes: plain(OBSOLETES)?,
        suggests: plain(SUGGESTS)?,
        enhances: plain(ENHANCES)?,
        recommends,
        supplements: plain(SUPPLEMENTS)?,
    };
    all.recommends.extend(plain(RECOMMENDS)?);
    for entry in entries(header, OLD_SUGGESTS)? {
        let list = if entry.flags & STRONG != 0 { &mut all.recommends } else { &mut all.suggests };
        list.extend(entry.dependency());
    }
    for entry in entries(header, OLD_ENHANCES)? {
        let list = if entry.flags & STRONG != 0 { &mut all.supplements } else { &mut all.enhances };
        list.extend(entry.dependency());
    }
    Ok(all)
}

/// One as the header has it.
struct Entry<'a> {
    name: &'a [u8],
    flags: u64,
    version: &'a [u8],
}

fn entries(header: &Tags, [names, flags, versions]: Three) -> io::Result<Vec<Entry<'_>>> {
    let names = header.strings(names)?.into_iter();
    let rest = header.numbers(flags).into_iter().zip(header.strings(versions)?);
    Ok(names.zip(rest).map(|(name, (flags, version))| Entry { name, flags, version }).collect())
}

impl<'a> Entry<'a> {
    /// None where its version's epoch is no number.
    fn dependency(&self) -> Option<Dependency<'a>> {
        let (epoch, version, release) = evr(self.version)?;
        Some(Dependency { name: self.name, flags: sense(self.flags), epoch, version, release, pre: false })
    }

    /// Name, flags and version in one.
    fn key(&self) -> (&'a [u8], Option<&'static str>, &'a [u8]) {
        (self.name, sense(self.flags), self.version)
    }
}

/// Requirements, and those among them that may be missing, which are recommendations.
fn requires<'a>(header: &'a Tags, files: &[File]) -> io::Result<(Vec<Dependency<'a>>, Vec<Dependency<'a>>)> {
    let provided: HashSet<_> = entries(header, PROVIDES)?
        .iter()
        .filter(|entry| evr(entry.version).is_some())
        .map(|entry| glued(entry.key()))
        .collect();
    let own: HashSet<Vec<u8>> = files.iter().map(File::path).filter(|path| is_primary(path)).collect();
    let (mut requires, mut recommends, mut libc) = (Vec::new(), Vec::new(), None::<Dependency>);
    let mut seen = HashMap::new();
    for entry in entries(header, REQUIRES)? {
        let pre = entry.flags & PRE != 0;
        let says = (sense(entry.flags), entry.version, pre);
        let says_nothing = entry.name.starts_with(b"rpmlib(")
            || entry.name.first() == Some(&b'/') && own.contains(entry.name)
            || provided.contains(&glued(entry.key()))
            || seen.get(entry.name) == Some(&says);
        let Some(dependency) = entry.dependency().filter(|_| !says_nothing) else { continue };
        if entry.flags & MISSING_OK != 0 {
            recommends.push(dependency);
            continue;
        }
        let dependency = Dependency { pre, ..dependency };
        if dependency.name.starts_with(b"libc.so.6") {
            let is_higher = libc.as_ref().is_none_or(|highest| is_lower(highest.name, dependency.name));
            libc = if is_higher { Some(dependency) } else { libc };
        } else {
            seen.insert(entry.name, says);
            requires.push(dependency);
        }
    }
    requires.extend(libc);
    Ok((requires, recommends))
}

fn glued((name, flags, version): (&[u8], Option<&str>, &[u8])) -> Vec<u8> {
    [name, flags.unwrap_or_default().as_bytes(), version].concat()
}

/// RPMSENSE_LESS, GREATER and EQUAL.
fn sense(flags: u64) -> Option<&'static str> {
    match flags & 0xf {
        2 => Some("LT"),
        4 => Some("GT"),
        8 => Some("EQ"),
        10 => Some("LE"),
        12 => Some("GE"),
        _ => None,
    }
}

/// Epoch, version and release of `[EPOCH:]VERSION[-RELEASE]`; none where the epoch is no number.
fn evr(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if text.is_empty() {
        return Some((b"", b"", b""));
    }
    let (epoch, rest) = match text.iter().position(|byte| *byte == b':') {
        None | Some(0) => (&b"0"[..], text.strip_prefix(b":").unwrap_or(text)),
        Some(at) if is_number(&text[..at]) => (&text[..at], &text[at + 1..]),
        Some(_) => return None,
    };
    let (version, release) = match rest.iter().position(|byte| *byte == b'-') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b""[..]),
    };
    Some((epoch, version, release))
}

/// As strtol(3) sees it.
fn is_number(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Whether of two requirements of libc.so.6 the first is for the lower version:
/// `libc.so.6()` < `libc.so.6(GLIBC_2.3.4)(64bit)` < `libc.so.6(GLIBC_2.4)`.
fn is_lower(one: &[u8], other: &[u8]) -> bool {
    let version = |name: &[u8]| -> Option<String> {
        let open = name.iter().position(|byte| *byte == b'(')?;
        let close = open + name[open..].iter().position(|byte| *byte == b')')?;
        let inside = &name[open + 1..close];
        let digit = inside.iter().position(u8::is_ascii_digit)?;
        Some(String::from_utf8_lossy(&inside[digit..]).into_owned())
    };
    match (version(one), version(other)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => Evr::new("0", one.as_str(), "0") < Evr::new("0", other.as_str(), "0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_apart() {
        let parts = |text: &'static str| {
            evr(text.as_bytes()).map(|(epoch, version, release)| {
                [epoch, version, release].map(|part| String::from_utf8_lossy(part))
            })
        };
        assert_eq!(parts("1:2.0-3").unwrap(), ["1", "2.0", "3"]);
        assert_eq!(parts("2.0").unwrap(), ["0", "2.0", ""]);
        assert_eq!(parts(":2.0-3").unwrap(), ["0", "2.0", "3"]);
        assert_eq!(parts("").unwrap(), ["", "", ""]);
        assert_eq!(parts("a:2.0"), None);
    }

    #[test]
    fn libcs_versions_have_an_order() {
        let names: [&[u8]; 4] = [
            b"libc.so.6",
            b"libc.so.6(GLIBC_2.3.4)(64bit)",
            b"libc.so.6(GLIBC_2.4)(64bit)",
            b"libc.so.6(GLIBC_2.34)(64bit)",
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(names[index + 1..].iter().all(|higher| is_lower(name, higher)));
            assert!(!names[..=index].iter().any(|lower| is_lower(name, lower)));
        }
        assert!(!is_lower(b"libc.so.6()(64bit)", b"libc.so.6"));
    }
}
