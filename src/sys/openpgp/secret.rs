//! Secret keys in files: opened once, held in memory, signed with.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pgp::composed::{ArmorOptions, Deserializable, DetachedSignature, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    SecretKey as Primary, SecretSubkey, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData,
};
use pgp::types::{Password, SigningKey};

use super::{
    KeyError, KeyInfo, PublicKeys, expires, flags, hex, is_revocation, now, read, self_signatures, supported,
};
use crate::sys::fs::FileError;

/// A secret key, unlocked.
#[derive(Debug, Clone)]
pub struct SecretKey {
    certificate: SignedSecretKey,
    part: Part,
    /// When the part that signs expires: seconds since the epoch.
    expires: Option<i64>,
}

/// The part that signs. rpm before 4.14 knows no subkeys, so the primary key where it may sign.
#[derive(Debug, Clone)]
enum Part {
    Primary(Primary),
    Sub(SecretSubkey),
}

impl SecretKey {
    /// Reads a file as `gpg --export-secret-keys` writes it, armored or not, and unlocks it with the first line of
    /// the file `passphrase`. Both must be their owner's alone.
    pub fn read(path: &Path, passphrase: Option<&Path>) -> Result<SecretKey, KeyError> {
        check_private(path)?;
        let no_key = |reason: String| KeyError::NoKey { path: path.to_owned(), what: "secret", reason };
        let bytes = read(path)?;
        let (certificate, _) =
            SignedSecretKey::from_reader_single(&bytes[..]).map_err(|error| no_key(error.to_string()))?;
        certificate
            .verify_bindings()
            .map_err(|error| no_key(format!("its own signatures are wrong: {error}")))?;
        supported(certificate.primary_key.public_key())?;
        if !certificate.details.revocation_signatures.is_empty() {
            return Err(KeyError::Revoked { key: hex(&certificate.primary_key) });
        }
        SecretKey::unlock(certificate, passphrase)
    }

    fn unlock(certificate: SignedSecretKey, passphrase: Option<&Path>) -> Result<SecretKey, KeyError> {
        let password = passphrase.map(read_passphrase).transpose()?;
        let key = hex(&certificate.primary_key);
        let mut failure = KeyError::CannotSign { key: key.clone() };
        for (part, expires) in candidates(&certificate) {
            match part.unlocked(password.as_deref()) {
                Ok(part) => return Ok(SecretKey { certificate, part, expires }),
                // A primary key that is kept elsewhere leaves an empty place in the file.
                Err(Unusable::Absent) => {}
                Err(Unusable::Locked) => {
                    let key = key.clone();
                    failure = match passphrase {
                        None => KeyError::Locked { key },
                        Some(file) => KeyError::WrongPassphrase { key, passphrase: file.to_owned() },
                    };
                }
            }
        }
        Err(failure)
    }

    pub fn public(&self) -> PublicKeys {
        PublicKeys::of(self.certificate.to_public_key())
    }

    pub fn info(&self) -> KeyInfo {
        let info = self.public().info();
        // A subkey may end before the primary key does.
        let expires = [info.expires, self.expires].into_iter().flatten().min();
        KeyInfo { expires, ..info }
    }

    /// A detached signature, in ASCII armor, of all that `content` yields; a key that has expired makes none.
    pub fn sign(&self, content: impl Read) -> Result<String, KeyError> {
        let info = self.info();
        if info.expires.is_some_and(|end| end <= now()) {
            let when = info.expiry_day().unwrap_or_default();
            return Err(KeyError::Expired { key: info.fingerprint, when });
        }
        let signed = match &self.part {
            Part::Primary(key) => sign_with(key, content),
            Part::Sub(key) => sign_with(key, content),
        };
        signed
            .and_then(|signature| {
                DetachedSignature::new(signature).to_armored_string(ArmorOptions::default())
            })
            .map_err(|error| KeyError::Failed { key: info.fingerprint, reason: error.to_string() })
    }
}

fn sign_with(key: &impl SigningKey, content: impl Read) -> pgp::errors::Result<Signature> {
    let mut config = SignatureConfig::v4(SignatureType::Binary, key.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
        Subpacket::regular(SubpacketData::SignatureCreationTime(pgp::types::Timestamp::now()))?,
    ];
    // What rpm finds the key by.
    config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
    config.sign(key, &Password::empty(), content)
}

/// Those parts of a key that may sign and are not revoked or expired, in the order to be tried; expired ones last,
/// so that they are named.
fn candidates(certificate: &SignedSecretKey) -> Vec<(Part, Option<i64>)> {
    let public = certificate.to_public_key();
    let mut found = Vec::new();
    if flags(self_signatures(&public)).sign() {
        let expires = expires(&public.primary_key, self_signatures(&public));
        found.push((Part::Primary(certificate.primary_key.clone()), expires));
    }
    for subkey in certificate.secret_subkeys.iter().rev() {
        let revoked = subkey.signatures.iter().any(is_revocation);
        if flags(subkey.signatures.iter()).sign() && !revoked && supported(&subkey.key).is_ok() {
            let expires = expires(&subkey.key, subkey.signatures.iter());
            found.push((Part::Sub(subkey.key.clone()), expires));
        }
    }
    found.sort_by_key(|(_, expires)| expires.is_some_and(|end| end <= now()));
    found
}

enum Unusable {
    Absent,
    Locked,
}

impl Part {
    fn unlocked(self, password: Option<&str>) -> Result<Part, Unusable> {
        let password = Password::from(password.unwrap_or_default());
        match self {
            Part::Primary(mut key) => {
                check_present(key.secret_params())?;
                key.remove_password(&password).map_err(|_| Unusable::Locked)?;
                Ok(Part::Primary(key))
            }
            Part::Sub(mut key) => {
                check_present(key.secret_params())?;
                key.remove_password(&password).map_err(|_| Unusable::Locked)?;
                Ok(Part::Sub(key))
            }
        }
    }
}

/// GnuPG writes a private string-to-key specifier where it has no secret (`gnu-dummy`, doc/DETAILS).
fn check_present(secret: &pgp::types::SecretParams) -> Result<(), Unusable> {
    use pgp::types::{S2kParams, SecretParams, StringToKey};
    let SecretParams::Encrypted(locked) = secret else { return Ok(()) };
    match locked.string_to_key_params() {
        S2kParams::Cfb { s2k: StringToKey::Private { .. }, .. }
        | S2kParams::MalleableCfb { s2k: StringToKey::Private { .. }, .. } => Err(Unusable::Absent),
        _ => Ok(()),
    }
}

fn read_passphrase(path: &Path) -> Result<String, KeyError> {
    check_private(path)?;
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A secret that others may read is none.
pub fn check_private(path: &Path) -> Result<(), KeyError> {
    let found = std::fs::metadata(path).map_err(FileError::at("read", path))?;
    let of_others = found.permissions().mode() & 0o077;
    if of_others == 0 { Ok(()) } else { Err(KeyError::Permissions(path.to_owned())) }
}
