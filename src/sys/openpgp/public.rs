//! Public keys: those that signatures are checked with, and that clients are given.

use std::path::Path;

use pgp::composed::{ArmorOptions, Deserializable, DetachedSignature, SignedPublicKey};

use super::{KeyError, KeyInfo, SignatureError, read};

/// The keys of a file: the first is the one in use, the others may have been before.
#[derive(Debug, Clone)]
pub struct PublicKeys {
    first: SignedPublicKey,
    others: Vec<SignedPublicKey>,
}

impl PublicKeys {
    /// Reads a file as `gpg --export` writes it, armored or not.
    pub fn read(path: &Path) -> Result<PublicKeys, KeyError> {
        let bytes = read(path)?;
        PublicKeys::parse(&bytes).map_err(|reason| KeyError::NoKey {
            path: path.to_owned(),
            what: "public",
            reason,
        })
    }

    /// Several armored keys may follow one another, as `cat` makes it of files.
    pub fn parse(bytes: &[u8]) -> Result<PublicKeys, String> {
        let mut keys = Vec::new();
        for part in parts(bytes) {
            let (found, _) = SignedPublicKey::from_reader_many(part).map_err(|error| error.to_string())?;
            for key in found {
                let key = key.map_err(|error| error.to_string())?;
                key.verify_bindings().map_err(|error| format!("its own signatures are wrong: {error}"))?;
                super::supported(&key.primary_key).map_err(|error| error.to_string())?;
                keys.push(key);
            }
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or("there is none in it")?;
        Ok(PublicKeys { first, others: keys.collect() })
    }

    pub(super) fn of(key: SignedPublicKey) -> PublicKeys {
        PublicKeys { first: key, others: Vec::new() }
    }

    /// Of the key in use.
    pub fn info(&self) -> KeyInfo {
        KeyInfo::of(&self.first)
    }

    /// Each key, armored (RFC 4880, 6.2).
    pub fn armored(&self) -> Result<Vec<String>, String> {
        let armored = |key: &SignedPublicKey| key.to_armored_string(ArmorOptions::default());
        self.all().map(|key| armored(key).map_err(|error| error.to_string())).collect()
    }

    /// Whether `signature`, armored, is one of `content` by one of the keys.
    pub fn check(&self, content: &[u8], signature: &str) -> Result<(), SignatureError> {
        let (signature, _) = DetachedSignature::from_string(signature)
            .map_err(|error| SignatureError::NoSignature(error.to_string()))?;
        let by = |key: &SignedPublicKey| {
            let subkeys = key.public_subkeys.iter();
            signature.verify(&key.primary_key, content).is_ok()
                || subkeys.into_iter().any(|subkey| signature.verify(&subkey.key, content).is_ok())
        };
        if self.all().any(by) { Ok(()) } else { Err(SignatureError::Wrong(self.info().fingerprint)) }
    }

    fn all(&self) -> impl Iterator<Item = &SignedPublicKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

const BEGIN: &[u8] = b"-----BEGIN PGP ";

/// The armored blocks of a file; a file without any is one part.
fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    let begins: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(BEGIN)).collect();
    if begins.is_empty() {
        return vec![bytes];
    }
    let ends = begins.iter().skip(1).copied().chain([bytes.len()]);
    begins.iter().zip(ends).map(|(begin, end)| &bytes[*begin..end]).collect()
}
