//! The architectures a build can be asked for.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// An architecture, spelled as who asked for it did: old programs look for their spelling in jobs, events, documents
/// and paths. Two spellings of one arch are equal.
#[derive(Debug, Clone, Copy)]
pub enum Arch {
    X86_64,
    I386,
    /// How some submitters spell i386.
    I686,
    Noarch,
    Armv7l,
    /// How some submitters spell armv7l.
    Armhfp,
    Aarch64,
    Ppc64,
    Ppc64le,
    Ppc,
}

impl PartialEq for Arch {
    fn eq(&self, other: &Arch) -> bool {
        self.usual() as u8 == other.usual() as u8
    }
}

impl Eq for Arch {}

impl Hash for Arch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.usual() as u8).hash(state);
    }
}

impl PartialOrd for Arch {
    fn partial_cmp(&self, other: &Arch) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arch {
    fn cmp(&self, other: &Arch) -> Ordering {
        (self.usual() as u8).cmp(&(other.usual() as u8))
    }
}

impl Arch {
    /// Each once, spelled as its tube.
    pub const ALL: [Arch; 8] = [
        Arch::X86_64,
        Arch::I386,
        Arch::Noarch,
        Arch::Armv7l,
        Arch::Aarch64,
        Arch::Ppc64,
        Arch::Ppc64le,
        Arch::Ppc,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::I386 => "i386",
            Arch::I686 => "i686",
            Arch::Noarch => "noarch",
            Arch::Armv7l => "armv7l",
            Arch::Armhfp => "armhfp",
            Arch::Aarch64 => "aarch64",
            Arch::Ppc64 => "ppc64",
            Arch::Ppc64le => "ppc64le",
            Arch::Ppc => "ppc",
        }
    }

    /// The spelling that stands for both.
    fn usual(self) -> Arch {
        match self {
            Arch::I686 => Arch::I386,
            Arch::Armhfp => Arch::Armv7l,
            other => other,
        }
    }

    /// The tube that its jobs wait in.
    pub fn tube(self) -> &'static str {
        self.usual().as_str()
    }

    /// How it may be spelled; twice the same where there is one way.
    pub fn spellings(self) -> [&'static str; 2] {
        match self {
            Arch::I386 | Arch::I686 => ["i386", "i686"],
            Arch::Armv7l | Arch::Armhfp => ["armv7l", "armhfp"],
            other => [other.as_str(); 2],
        }
    }

    /// The arch of the machine this runs on, as `uname -m` says it; `None` where no tube is for it.
    pub fn of_this_machine() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86" => Some(Arch::I386),
            "arm" => Some(Arch::Armv7l),
            "powerpc64" if cfg!(target_endian = "little") => Some(Arch::Ppc64le),
            "powerpc64" => Some(Arch::Ppc64),
            "powerpc" => Some(Arch::Ppc),
            other => other.parse().ok(),
        }
    }

    /// The tubes that a worker on a machine of this arch takes jobs from.
    pub fn builds(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 => &[Arch::X86_64, Arch::I386, Arch::Noarch],
            Arch::I386 | Arch::I686 => &[Arch::I386],
            Arch::Noarch => &[Arch::Noarch],
            Arch::Armv7l | Arch::Armhfp => &[Arch::Armv7l],
            Arch::Aarch64 => &[Arch::Aarch64],
            Arch::Ppc64 => &[Arch::Ppc64, Arch::Ppc],
            Arch::Ppc64le => &[Arch::Ppc64le],
            Arch::Ppc => &[Arch::Ppc],
        }
    }

    /// The 32-bit arch that is built along with this one, from the same source RPM into the same target.
    pub fn companion(self) -> Option<Arch> {
        match self {
            Arch::X86_64 => Some(Arch::I386),
            Arch::Ppc64 => Some(Arch::Ppc),
            Arch::I386
            | Arch::I686
            | Arch::Noarch
            | Arch::Armv7l
            | Arch::Armhfp
            | Arch::Aarch64
            | Arch::Ppc64le
            | Arch::Ppc => None,
        }
    }

    /// What `rpmbuild --target` is given for it.
    pub fn rpm_target(self) -> &'static str {
        match self {
            Arch::I386 | Arch::I686 => "i686",
            Arch::Armv7l | Arch::Armhfp => "armv7hl",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No tube has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown arch '{0}': give one of x86_64, i386, noarch, aarch64, armv7l, armhfp, ppc64, ppc64le, ppc")]
pub struct UnknownArch(pub String);

impl FromStr for Arch {
    type Err = UnknownArch;

    /// Accepts the tubes' names and the two other spellings that submitters use (armhfp, i686).
    fn from_str(text: &str) -> Result<Arch, UnknownArch> {
        Arch::ALL
            .into_iter()
            .chain([Arch::I686, Arch::Armhfp])
            .find(|arch| arch.as_str() == text)
            .ok_or_else(|| UnknownArch(text.chars().take(40).collect()))
    }
}

super::name::serde_as_text!(Arch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arch_is_spelled_as_it_was_asked_for_and_is_the_same_arch() {
        for (asked, tube) in [("i686", "i386"), ("armhfp", "armv7l"), ("i386", "i386"), ("x86_64", "x86_64")]
        {
            let arch: Arch = asked.parse().unwrap();
            assert_eq!((arch.to_string().as_str(), arch.tube()), (asked, tube));
            assert_eq!(Ok(arch), tube.parse());
            assert!(arch.spellings().contains(&asked) && arch.spellings().contains(&tube));
        }
        assert_ne!(Arch::I686, Arch::X86_64);
        assert!(Arch::ALL.iter().all(|arch| arch.as_str() == arch.tube()));
    }
}
