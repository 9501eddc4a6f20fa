//! The architectures a build can be asked for; each is also the name of its tube.

use std::fmt;
use std::str::FromStr;

/// An architecture, spelled as the tube that its jobs wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    X86_64,
    I386,
    Noarch,
    Armv7l,
    Aarch64,
    Ppc64,
    Ppc64le,
    Ppc,
}

impl Arch {
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
            Arch::Noarch => "noarch",
            Arch::Armv7l => "armv7l",
            Arch::Aarch64 => "aarch64",
            Arch::Ppc64 => "ppc64",
            Arch::Ppc64le => "ppc64le",
            Arch::Ppc => "ppc",
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
            Arch::I386 => &[Arch::I386],
            Arch::Noarch => &[Arch::Noarch],
            Arch::Armv7l => &[Arch::Armv7l],
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
            Arch::I386 | Arch::Noarch | Arch::Armv7l | Arch::Aarch64 | Arch::Ppc64le | Arch::Ppc => None,
        }
    }

    /// What `rpmbuild --target` is given for it.
    pub fn rpm_target(self) -> &'static str {
        match self {
            Arch::I386 => "i686",
            Arch::Armv7l => "armv7hl",
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
        let name = match text {
            "armhfp" => "armv7l",
            "i686" => "i386",
            other => other,
        };
        Arch::ALL
            .into_iter()
            .find(|arch| arch.as_str() == name)
            .ok_or_else(|| UnknownArch(text.chars().take(40).collect()))
    }
}

super::name::serde_as_text!(Arch);
