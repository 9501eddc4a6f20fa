//! Names that come from outside, checked where they enter.
//!
//! Each is a newtype over a string that has been found to be a *plain word*: ASCII letters, digits and
//! `. _ + ~ ^ -`, no leading dot or dash, not longer than 200 bytes. So none of them can leave a folder,
//! be taken for an option, or carry a control character.

use std::fmt;
use std::str::FromStr;

use super::Arch;

/// Why a name was not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} '{text}' {why}")]
pub struct BadName {
    what: &'static str,
    text: String,
    why: &'static str,
}

const LONGEST: usize = 200;

/// What is wrong with `text` as a plain word; `None` when it is one.
fn fault(text: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > LONGEST {
        Some("is longer than 200 characters")
    } else if text.starts_with(['.', '-']) {
        Some("begins with a dot or a dash")
    } else if !text.chars().all(plain) {
        Some("has characters other than letters, digits and . _ + ~ ^ -")
    } else {
        None
    }
}

fn checked(what: &'static str, text: &str, fault: Option<&'static str>) -> Result<String, BadName> {
    match fault {
        None => Ok(text.to_owned()),
        Some(why) => Err(BadName { what, text: text.escape_debug().take(60).collect(), why }),
    }
}

/// A plain word that has no type of its own, such as an RPM's arch.
pub fn word(what: &'static str, text: &str) -> Result<String, BadName> {
    checked(what, text, fault(text))
}

/// Serde as the text form: `Display` out, `FromStr` in.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $fault:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let fault: fn(&str) -> Option<&'static str> = $fault;
                checked($what, text, fault(text)).map($type)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        serde_as_text!($type);
    };
}

name!(
    /// What is built against and into, with its arch on the wire: `c7.1708.u.x86_64`.
    Target, "target", fault
);
name!(
    /// A source package's name, as its header says it: `bash`.
    PkgName, "package name", fault
);
name!(
    /// `VERSION-RELEASE`, without epoch: `4.2.46-29.el7`. The wire calls it `evr`.
    VersionRelease, "version-release", fault
);
name!(
    /// The file name of a source RPM in `incoming/`: `bash-4.2.46-29.el7.src.rpm`.
    SrpmName, "source RPM name", |text| fault(text).or_else(|| {
        (!text.ends_with(".src.rpm")).then_some("does not end in .src.rpm")
    })
);
name!(
    /// The file name of an RPM that was built: `bash-4.2.46-29.el7.x86_64.rpm`.
    RpmName, "RPM name", |text| fault(text).or_else(|| {
        text.strip_suffix(".rpm").is_none().then_some("does not end in .rpm")
    })
);
name!(
    /// The value of `%dist`, usually with a leading dot: `.el7`. May be empty.
    Disttag, "disttag", |text| {
        let word = text.strip_prefix('.').unwrap_or(text);
        if word.is_empty() && text.is_empty() { None } else { fault(word) }
    }
);
name!(
    /// A branch, tag or commit of git's (git-check-ref-format(1)), of plain words between slashes.
    GitRef, "git ref", |text| {
        let parts = text.split('/').find_map(fault);
        let ends = |part: &str| part.ends_with('.') || part.strip_suffix("lock").is_some_and(|it| it.ends_with('.'));
        let odd = text.split('/').any(ends);
        parts.or_else(|| (odd || text.contains("..")).then_some("is none that git knows"))
            .or_else(|| (text.len() > LONGEST).then_some("is longer than 200 characters"))
    }
);
name!(
    /// A folder below the lookaside's folder of a package, of plain words between slashes. May be empty.
    SourcesDir, "sources folder", |text| {
        if text.is_empty() { None } else { text.split('/').find_map(fault) }
    }
);
name!(
    /// What a request is known by, chosen by who asks: 16 to 64 letters, digits and dashes.
    Nonce, "nonce", |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(16..=64).contains(&text.len()) {
            Some("has not 16 to 64 characters")
        } else if !text.chars().all(plain) {
            Some("has characters other than letters, digits and -")
        } else {
            None
        }
    }
);
name!(
    /// Who asked for a build: a login name, or a certificate's CN.
    Submitter, "submitter", |text| {
        if text.is_empty() {
            Some("is empty")
        } else if text.len() > LONGEST {
            Some("is longer than 200 characters")
        } else if text.chars().any(char::is_control) {
            Some("has control characters")
        } else {
            None
        }
    }
);

impl Default for GitRef {
    /// The newest commit of the branch.
    fn default() -> GitRef {
        GitRef("HEAD".into())
    }
}

impl Default for SourcesDir {
    /// The branch's.
    fn default() -> SourcesDir {
        SourcesDir(String::new())
    }
}

impl Default for Disttag {
    /// None.
    fn default() -> Disttag {
        Disttag(String::new())
    }
}

impl Target {
    /// The target a submitter named (`mini`), with the arch that the wire wants in it (`mini.x86_64`).
    pub fn with_arch(&self, arch: &str) -> Result<Target, BadName> {
        format!("{}.{arch}", self.0).parse()
    }
}

impl Target {
    /// The arch that the target was submitted for, which its name ends in.
    pub fn arch(&self) -> Option<Arch> {
        self.0.rsplit_once('.')?.1.parse().ok()
    }

    /// Whether the RPM file `name`, made by a build of `arch` into this target, is for its repository and for
    /// signing. Companions make the same source and noarch RPMs as the main arch does: the main arch's count.
    pub fn publishes(&self, arch: Arch, name: &str) -> bool {
        let is_companion = self.arch().is_some_and(|main| main.companion() == Some(arch));
        let is_extra = arch == Arch::Noarch && self.arch().is_some_and(|main| main != Arch::Noarch);
        let is_source = name.ends_with(".src.rpm") || name.ends_with(".nosrc.rpm");
        match (is_companion, is_extra) {
            (true, _) => !is_source && !name.ends_with(".noarch.rpm"),
            (_, true) => !is_source,
            _ => true,
        }
    }

    /// What the configuration for builds of `arch` into this target is called: for i386 the `x86_64` in its name
    /// becomes `i386`, for ppc `ppc64` becomes `ppc`, for noarch whichever arch stands in it becomes `noarch`.
    pub fn configured_as(&self, arch: Arch) -> Target {
        let swap = |from: &str, to: &str| self.0.contains(from).then(|| Target(self.0.replace(from, to)));
        let other = match arch {
            Arch::I386 | Arch::I686 => swap("x86_64", "i386"),
            Arch::Ppc => swap("ppc64", "ppc"),
            Arch::Noarch => {
                ["x86_64", "ppc64le", "ppc64", "i386", "i686"].iter().find_map(|from| swap(from, "noarch"))
            }
            Arch::X86_64 | Arch::Armv7l | Arch::Armhfp | Arch::Aarch64 | Arch::Ppc64 | Arch::Ppc64le => None,
        };
        other.unwrap_or_else(|| self.clone())
    }
}

impl SrpmName {
    /// Name and version-release as the *file name* says them, for events about a source RPM whose header
    /// cannot be read: `bash-4.2.46-29.el7.src.rpm` is `bash`, `4.2.46-29.el7`.
    pub fn split(&self) -> (PkgName, VersionRelease) {
        let stem = self.0.trim_end_matches(".src.rpm");
        let parts: Vec<&str> = stem.rsplitn(3, '-').collect();
        let (name, evr) = match parts.as_slice() {
            [release, version, name] => ((*name).to_owned(), format!("{version}-{release}")),
            _ => (stem.to_owned(), "0-0".to_owned()),
        };
        // A part of a plain word can still begin with a dot or a dash, or be empty.
        (
            name.parse().unwrap_or_else(|_| PkgName("unknown".into())),
            evr.parse().unwrap_or_else(|_| VersionRelease("0-0".into())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for bad in ["", "../x", "a/b", "-rf", ".hidden", "a;b", "a\nb", "a b", "ä", &"x".repeat(201)] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!(
            "a;b.src.rpm".parse::<SrpmName>().unwrap_err().to_string(),
            "source RPM name 'a;b.src.rpm' has characters other than letters, digits and . _ + ~ ^ -"
        );
        assert!("hello-1-1.x86_64.rpm".parse::<SrpmName>().is_err());
    }

    #[test]
    fn a_disttag_may_be_empty_or_begin_with_one_dot() {
        for good in ["", ".el7", "el7", ".el7.centos"] {
            assert!(good.parse::<Disttag>().is_ok(), "{good:?} was refused");
        }
        for bad in [".", "..", "..el7", ".el7 x", ".%(id)"] {
            assert!(bad.parse::<Disttag>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_srpm_file_name_splits_at_the_last_two_dashes() {
        let split = |text: &str| {
            let (name, evr) = text.parse::<SrpmName>().unwrap().split();
            (name.to_string(), evr.to_string())
        };
        assert_eq!(split("a-b-1.0-2.el7.src.rpm"), ("a-b".into(), "1.0-2.el7".into()));
        assert_eq!(split("odd.src.rpm"), ("odd".into(), "0-0".into()));
        assert_eq!(split("x--1.src.rpm"), ("x".into(), "0-0".into()));
    }

    #[test]
    fn source_and_noarch_rpms_are_published_once() {
        let target: Target = "c7.u.x86_64".parse().unwrap();
        for (arch, file, published) in [
            (Arch::X86_64, "a-1-1.src.rpm", true),
            (Arch::X86_64, "a-doc-1-1.noarch.rpm", true),
            (Arch::I386, "a-1-1.i686.rpm", true),
            (Arch::I386, "a-1-1.src.rpm", false),
            (Arch::I386, "a-doc-1-1.noarch.rpm", false),
            (Arch::Noarch, "kernel-doc-1-1.noarch.rpm", true),
            (Arch::Noarch, "kernel-1-1.src.rpm", false),
        ] {
            assert_eq!(target.publishes(arch, file), published, "{arch} {file}");
        }
        let own: Target = "c7.u.i686".parse().unwrap();
        assert!(own.publishes(Arch::I386, "a-1-1.src.rpm"), "i386 alone is no companion");
    }

    #[test]
    fn a_companion_is_configured_under_a_name_of_its_own() {
        let named = |target: &str, arch| target.parse::<Target>().unwrap().configured_as(arch).to_string();
        assert_eq!(named("c7.u.x86_64", Arch::I386), "c7.u.i386");
        assert_eq!(named("c7.u.ppc64", Arch::Ppc), "c7.u.ppc");
        assert_eq!(named("c7.u.ppc64le", Arch::Noarch), "c7.u.noarch");
        assert_eq!(named("c7.u.x86_64", Arch::X86_64), "c7.u.x86_64");
    }
}
