//! OpenPGP keys in files (RFC 4880): reading them, signing with them, checking detached signatures.
//!
//! What rpm and dnf of the last ten years understand: version 4 keys, RSA and Ed25519 (in GnuPG's form, RFC 9580's
//! "EdDSALegacy"), signatures with SHA-256.

mod public;
mod secret;

use std::io::Read;
use std::path::{Path, PathBuf};

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey};
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{KeyFlags, PacketTrait, Signature, SignatureType};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyVersion, PublicParams};

use super::fs::{FileError, open_regular};
pub use public::PublicKeys;
pub use secret::{SecretKey, check_private};

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key cannot be used: {0}")]
    File(#[from] FileError),
    #[error("{} holds no {what} key: {reason}", path.display())]
    NoKey { path: PathBuf, what: &'static str, reason: String },
    #[error("{} may be read by others; its mode must be 600 or 400 (chmod 600 FILE)", .0.display())]
    Permissions(PathBuf),
    #[error("key {key} is locked; name the file of its passphrase in passphrase_file")]
    Locked { key: String },
    #[error("the passphrase in {} does not unlock key {key}", passphrase.display())]
    WrongPassphrase { key: String, passphrase: PathBuf },
    #[error("key {key} is {what}; rpm and dnf take version 4 keys, RSA or Ed25519")]
    Unsupported { key: String, what: String },
    #[error("key {key} has expired on {when}; extend it, and name the extended one")]
    Expired { key: String, when: String },
    #[error("key {key} is revoked; make another")]
    Revoked { key: String },
    #[error(
        "key {key} cannot sign: neither it nor a subkey is meant for that, or the secret is not in the file"
    )]
    CannotSign { key: String },
    #[error("signing with key {key} failed: {reason}")]
    Failed { key: String, reason: String },
}

/// A detached signature that is not right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    #[error("it is no signature: {0}")]
    NoSignature(String),
    #[error("it is not by {0}, or what it signs was changed")]
    Wrong(String),
}

/// The packet (RFC 4880, 5.2) in an armored signature: what RPM files hold.
pub fn packet(armored: &str) -> Result<Vec<u8>, SignatureError> {
    let signature = DetachedSignature::from_string(armored);
    let (signature, _) = signature.map_err(|error| SignatureError::NoSignature(error.to_string()))?;
    let mut bytes = Vec::new();
    let written = signature.signature.to_writer_with_header(&mut bytes);
    written.map_err(|error| SignatureError::NoSignature(error.to_string()))?;
    Ok(bytes)
}

/// What is told of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// 40 hexadecimal digits, in capitals.
    pub fingerprint: String,
    /// The first of its user ids.
    pub user: String,
    /// `RSA 4096`, `Ed25519`.
    pub algorithm: String,
    /// Seconds since the epoch; none: never.
    pub expires: Option<i64>,
}

impl KeyInfo {
    fn of(certificate: &SignedPublicKey) -> KeyInfo {
        let user = certificate.details.users.first();
        KeyInfo {
            fingerprint: hex(&certificate.primary_key),
            user: user.and_then(|user| user.id.as_str()).unwrap_or_default().to_owned(),
            algorithm: algorithm(&certificate.primary_key),
            expires: expires(&certificate.primary_key, self_signatures(certificate)),
        }
    }

    /// The last 16 digits of the fingerprint: what signatures and people call the key by.
    pub fn id(&self) -> &str {
        &self.fingerprint[self.fingerprint.len().saturating_sub(16)..]
    }

    /// The day that it expires on, UTC, if it does.
    pub fn expiry_day(&self) -> Option<String> {
        self.expires.map(day)
    }

    /// Whole days until then; negative afterwards.
    pub fn days_left(&self) -> Option<i64> {
        self.expires.map(|end| (end - now()).div_euclid(86_400))
    }
}

impl std::fmt::Display for KeyInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KeyInfo { fingerprint, user, algorithm, .. } = self;
        let user = crate::model::text::plain(user);
        let expiry = self.expiry_day().map_or("never expires".into(), |day| format!("expires {day}"));
        write!(f, "{fingerprint} ({user}), {algorithm}, {expiry}")
    }
}

fn hex(key: &impl KeyDetails) -> String {
    key.fingerprint().to_string().to_uppercase()
}

fn algorithm(key: &impl KeyDetails) -> String {
    match key.public_params() {
        // Two lengths of two bytes, the modulus, and the exponent, which is 65537 (RFC 4880, 5.5.2).
        PublicParams::RSA(params) => format!("RSA {}", params.write_len().saturating_sub(7) * 8),
        PublicParams::EdDSALegacy(_) => "Ed25519".into(),
        _ => format!("{:?}", key.algorithm()),
    }
}

/// Whether rpm can check signatures of the key.
fn supported(key: &impl KeyDetails) -> Result<(), KeyError> {
    let good = matches!(key.algorithm(), PublicKeyAlgorithm::RSA | PublicKeyAlgorithm::EdDSALegacy);
    if key.version() == KeyVersion::V4 && good {
        return Ok(());
    }
    let what = format!("of version {:?} and algorithm {:?}", key.version(), key.algorithm());
    Err(KeyError::Unsupported { key: hex(key), what })
}

/// The signatures that say what the primary key is for and until when.
fn self_signatures(certificate: &SignedPublicKey) -> impl Iterator<Item = &Signature> {
    let users = certificate.details.users.iter().flat_map(|user| &user.signatures);
    users.chain(&certificate.details.direct_signatures)
}

/// The newest one, which counts.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created())
}

fn expires<'a>(key: &impl KeyDetails, signatures: impl Iterator<Item = &'a Signature>) -> Option<i64> {
    let lasts = newest(signatures)?.key_expiration_time()?.as_secs();
    (lasts > 0).then(|| i64::from(key.created_at().as_secs()) + i64::from(lasts))
}

fn flags<'a>(signatures: impl Iterator<Item = &'a Signature>) -> KeyFlags {
    newest(signatures).map(Signature::key_flags).unwrap_or_default()
}

fn is_revocation(signature: &Signature) -> bool {
    matches!(signature.typ(), Some(SignatureType::KeyRevocation | SignatureType::SubkeyRevocation))
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn day(second: i64) -> String {
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    time.strftime("%Y-%m-%d").to_string()
}

/// No file with keys is as large.
const LARGEST: u64 = 4 << 20;

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(LARGEST).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    Ok(bytes)
}
