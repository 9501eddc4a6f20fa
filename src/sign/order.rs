//! What publishers and signers tell one another, as jobs.
//!
//! Whoever has a key takes orders from a tube of the key's own, `sign-<KEY ID>`, so they reach the host that has it.
//! Only what is signed travels back, in tubes `signed` and `repomd`: signatures, never packages.

use serde::{Deserialize, Serialize};

use crate::model::name::word;
use crate::model::{Arch, BuildPath, PkgName, RpmName, Target, Timestamp, VersionRelease};
use crate::queue::{NewJob, PRIORITY_FOLLOW_UP};
use crate::sys::fs::sha256_of;
use crate::sys::openpgp::KeyInfo;

/// Signatures of packages, and other work for a publisher.
pub const SIGNED: &str = "signed";
/// Signatures of repomd.xml: apart, since a publisher waits for one in the middle of its work.
pub const REPOMD: &str = "repomd";
/// How the tubes of orders begin.
pub const ORDERS: &str = "sign-";

/// The tube of a key's orders.
pub fn tube(key: &KeyInfo) -> String {
    format!("{ORDERS}{}", key.id())
}

/// What is to be signed: the body of a job in a key's tube.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Order {
    Packages {
        target: Target,
        packages: Vec<Package>,
    },
    /// The text of a repomd.xml. It fits into a job: it has a few lines for each kind of metadata.
    Repomd {
        target: Target,
        text: String,
    },
}

impl Order {
    pub fn target(&self) -> &Target {
        match self {
            Order::Packages { target, .. } | Order::Repomd { target, .. } => target,
        }
    }

    pub fn job(&self, key: &KeyInfo) -> NewJob {
        NewJob::new(&tube(key), self, PRIORITY_FOLLOW_UP)
    }
}

/// An RPM of a finished build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub pkgname: PkgName,
    pub timestamp: Timestamp,
    pub evr: VersionRelease,
    pub arch: Arch,
    pub file: RpmName,
    /// Of the file as it was built.
    pub sha256: Sha256,
}

impl Package {
    pub fn build(&self, target: &Target) -> BuildPath {
        BuildPath {
            target: target.clone(),
            pkgname: self.pkgname.clone(),
            timestamp: self.timestamp,
            evr: self.evr.clone(),
            arch: self.arch,
        }
    }
}

/// How many packages an order holds at most, so that it and its answer fit into a job: signatures by the largest RSA
/// keys, armored, two a package.
pub const MOST: usize = 16;

/// What comes back: the body of a job in tube `signed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Answer {
    Packages {
        target: Target,
        packages: Vec<Signed>,
    },
    /// No answer, but a wish: that the signed repository follow the one of what was built.
    Follow {
        target: Target,
    },
}

impl Answer {
    pub fn target(&self) -> &Target {
        match self {
            Answer::Packages { target, .. } | Answer::Follow { target } => target,
        }
    }

    pub fn job(&self) -> NewJob {
        NewJob::new(SIGNED, self, PRIORITY_FOLLOW_UP)
    }
}

/// The signatures of a package, in ASCII armor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Signed {
    #[serde(flatten)]
    pub package: Package,
    pub header: String,
    /// Of header and payload, where the header does not vouch for the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
}

/// The signature of a repomd.xml: the body of a job in tube `repomd`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignedRepomd {
    pub target: Target,
    /// Of the repomd.xml.
    pub sha256: Sha256,
    pub signature: String,
}

impl SignedRepomd {
    pub fn job(&self) -> NewJob {
        NewJob::new(REPOMD, self, PRIORITY_FOLLOW_UP)
    }
}

/// A SHA-256, 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Sha256 {
        Sha256(sha256_of(bytes))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sha256 {
    type Error = String;
    fn try_from(text: String) -> Result<Sha256, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let text = word("SHA-256", &text).map_err(|error| error.to_string())?;
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Sha256(text))
        } else {
            Err(format!("SHA-256 '{text}' is not 64 hexadecimal digits"))
        }
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> String {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_most_packages_fits_into_a_job() {
        let long = "x".repeat(200);
        let package = Package {
            pkgname: long.parse().unwrap(),
            timestamp: Timestamp::now(),
            evr: long.parse().unwrap(),
            arch: Arch::X86_64,
            file: format!("{}.rpm", "x".repeat(196)).parse().unwrap(),
            sha256: Sha256::try_from("a".repeat(64)).unwrap(),
        };
        // RSA with 4096 bits: 512 bytes, what tells of them, and the armor's third and frame.
        let signature = "x\n".repeat(450);
        let signed = Signed { package, header: signature.clone(), whole: Some(signature) };
        let answer = Answer::Packages { target: long.parse().unwrap(), packages: vec![signed; MOST] };
        assert!(answer.job().body.len() < crate::queue::LARGEST_JOB, "{}", answer.job().body.len());
    }

    #[test]
    fn what_could_leave_a_folder_is_no_order() {
        let order = |field: &str, value: &str| {
            let mut package = serde_json::json!({"pkgname": "a", "timestamp": "20261123204406", "evr": "1-1",
                "arch": "x86_64", "file": "a-1-1.x86_64.rpm", "sha256": "a".repeat(64)});
            package[field] = value.into();
            let order = serde_json::json!({"what": "packages", "target": "c9.x86_64", "packages": [package]});
            serde_json::from_value::<Order>(order)
        };
        assert!(order("evr", "1-2").is_ok());
        for (field, value) in [
            ("pkgname", "../a"),
            ("evr", ""),
            ("file", "../../x.rpm"),
            ("file", "a/b.rpm"),
            ("file", "a.txt"),
            ("sha256", "../x"),
            ("sha256", "ABCD"),
            ("timestamp", "now"),
        ] {
            assert!(order(field, value).is_err(), "{field}: {value}");
        }
    }
}
