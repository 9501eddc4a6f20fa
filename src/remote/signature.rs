//! Proving who asks: requests are signed with the key of a TLS certificate, and verified against the CAs that sign
//! such certificates (RFC 5280), whatever the broker has let through.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use serde_json::{Map, Value};
use webpki::{EndEntityCert, KeyUsage};

use crate::model::request::{Proof, SIGNATURE, signed_bytes};
use crate::model::{Nonce, Submitter};
use crate::sys::tls::TlsFiles;

/// No clock may be ahead by more.
const AHEAD: Duration = Duration::from_secs(600);
/// A certificate and its CAs; more are a waste of our time.
const LONGEST_CHAIN: usize = 5;

/// A way to sign: its name in RFC 8446 (4.2.3), rustls's, and who verifies it.
type Algorithm = (&'static str, SignatureScheme, &'static dyn SignatureVerificationAlgorithm);

const ALGORITHMS: [Algorithm; 4] = [
    ("ed25519", SignatureScheme::ED25519, webpki::ring::ED25519),
    ("ecdsa_secp256r1_sha256", SignatureScheme::ECDSA_NISTP256_SHA256, webpki::ring::ECDSA_P256_SHA256),
    ("ecdsa_secp384r1_sha384", SignatureScheme::ECDSA_NISTP384_SHA384, webpki::ring::ECDSA_P384_SHA384),
    (
        "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA256,
        webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    ),
];

/// A certificate that requests cannot be signed with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no certificate is configured: set tls_cert in section [mqtt]")]
    None,
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} holds no {what} in PEM form that requests can be signed with", path.display())]
    Unusable { path: PathBuf, what: &'static str },
}

/// Why a request is not believed to be from whom it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("its certificate cannot be read; sign with a certificate in PEM form")]
    Unreadable,
    #[error("the certificate of {cn} is not of a CA that this controller trusts, or was changed")]
    Foreign { cn: String },
    #[error("the certificate of {cn} has expired, or is not valid yet; have it renewed")]
    NotValid { cn: String },
    #[error("the certificate of {cn} cannot prove who asks ({why})")]
    Bad { cn: String, why: String },
    #[error("it is signed by '{algorithm}', which is none of {}", known())]
    Algorithm { algorithm: String },
    #[error("its signature is not by the key of the certificate of {cn}, or it was changed on the way")]
    Forged { cn: String },
    #[error("it names {claimed} as who asks, but is signed by {cn}")]
    Other { claimed: String, cn: String },
    #[error("its time, '{0}', is none of RFC 3339")]
    Time(String),
    #[error("it was made at {time}, which is longer ago than {} s; ask again", max_age.as_secs())]
    Old { time: String, max_age: Duration },
    #[error("it was made at {time}, which is yet to come; set the clock, and ask again")]
    Early { time: String },
}

fn known() -> String {
    ALGORITHMS.map(|(name, ..)| name).join(", ")
}

/// A certificate and its key, to sign with.
#[derive(Debug)]
pub struct Signer {
    certificate: String,
    pub submitter: Submitter,
    key: std::sync::Arc<dyn rustls::sign::SigningKey>,
}

impl Signer {
    /// The certificate that we speak to the broker with.
    pub fn open(files: &TlsFiles) -> Result<Signer, KeyError> {
        let path = files.tls_cert.as_ref().ok_or(KeyError::None)?;
        let key_path = files.tls_key.as_ref().unwrap_or(path);
        let certificate = certificates_of(&read(path)?);
        let unusable = |path: &Path, what| KeyError::Unusable { path: path.to_owned(), what };
        let first = CertificateDer::from_pem_slice(certificate.as_bytes());
        let submitter = first.ok().and_then(|first| common_name(&first)).and_then(|cn| cn.parse().ok());
        let submitter = submitter.ok_or_else(|| unusable(path, "certificate with one CN"))?;
        let key = PrivateKeyDer::from_pem_slice(read(key_path)?.as_bytes())
            .ok()
            .and_then(|key| rustls::crypto::ring::sign::any_supported_type(&key).ok())
            .ok_or_else(|| unusable(key_path, "private key (RSA, ECDSA or Ed25519)"))?;
        Ok(Signer { certificate, submitter, key })
    }

    /// Adds the proof to the fields of a request. `None` where the key signs in no way that is known here.
    pub fn sign(
        &self,
        mut fields: Map<String, Value>,
        nonce: &Nonce,
        time: jiff::Timestamp,
    ) -> Option<Map<String, Value>> {
        let (name, signer) = ALGORITHMS
            .iter()
            .find_map(|(name, scheme, _)| Some((*name, self.key.choose_scheme(&[*scheme])?)))?;
        let time = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for (field, value) in [
            ("nonce", nonce.as_str()),
            ("time", time.as_str()),
            ("certificate", &self.certificate),
            ("algorithm", name),
        ] {
            fields.insert(field.to_owned(), value.into());
        }
        let signature = signer.sign(&signed_bytes(&fields)).ok()?;
        fields.insert(SIGNATURE.to_owned(), crate::sys::fs::hex(&signature).into());
        Some(fields)
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })
}

/// The certificates of a file, without its keys.
fn certificates_of(pem: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem.split(BEGIN).skip(1).filter_map(|rest| Some(rest.split_once(END)?.0));
    let whole = blocks.map(|block| [BEGIN, &block.replace('\r', ""), END, "\n"].concat());
    whole.collect::<Vec<_>>().concat()
}

/// The CAs that requesters' certificates are of.
#[derive(Debug, Clone)]
pub struct Authority {
    anchors: Vec<TrustAnchor<'static>>,
}

impl Authority {
    pub fn open(path: &Path) -> Result<Authority, KeyError> {
        let pem = read(path)?;
        let found = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
        let anchors: Vec<TrustAnchor<'static>> = found
            .filter_map(|der| webpki::anchor_from_trusted_cert(&der).ok().map(|anchor| anchor.to_owned()))
            .collect();
        if anchors.is_empty() {
            return Err(KeyError::Unusable { path: path.to_owned(), what: "CA certificate" });
        }
        Ok(Authority { anchors })
    }

    /// Who has signed the request: chain, validity, signature and name. How old it is, [`check_age`] tells.
    pub fn verify(
        &self,
        fields: &Map<String, Value>,
        proof: &Proof,
        claimed: &Submitter,
        now: SystemTime,
    ) -> Result<Submitter, Unproven> {
        let chain: Result<Vec<CertificateDer<'_>>, _> =
            CertificateDer::pem_slice_iter(proof.certificate.as_bytes()).take(LONGEST_CHAIN).collect();
        let chain = chain.map_err(|_| Unproven::Unreadable)?;
        let (own, between) = chain.split_first().ok_or(Unproven::Unreadable)?;
        let cn = common_name(own).ok_or(Unproven::Unreadable)?;
        let certificate = EndEntityCert::try_from(own).map_err(|_| Unproven::Unreadable)?;
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        certificate
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                between,
                now,
                // Where a certificate names its uses, this must be one.
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|error| told(&error, &cn))?;
        let algorithm = ALGORITHMS.iter().find(|(name, ..)| *name == proof.algorithm);
        let (.., verifier) = algorithm.ok_or_else(|| Unproven::Algorithm {
            algorithm: proof.algorithm.escape_debug().take(40).collect(),
        })?;
        let signature = unhex(&proof.signature).ok_or_else(|| Unproven::Forged { cn: cn.clone() })?;
        certificate
            .verify_signature(*verifier, &signed_bytes(fields), &signature)
            .map_err(|_| Unproven::Forged { cn: cn.clone() })?;
        if cn != claimed.as_str() {
            return Err(Unproven::Other { claimed: claimed.to_string(), cn });
        }
        Ok(claimed.clone())
    }
}

/// Whether a request that was not seen before may be that old, or young.
pub fn check_age(time: &str, now: jiff::Timestamp, max_age: Duration) -> Result<(), Unproven> {
    let made: jiff::Timestamp =
        time.parse().map_err(|_| Unproven::Time(time.escape_debug().take(40).collect()))?;
    let seconds = now.as_second().saturating_sub(made.as_second());
    if seconds > i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX) {
        Err(Unproven::Old { time: made.to_string(), max_age })
    } else if -seconds > i64::try_from(AHEAD.as_secs()).unwrap_or(i64::MAX) {
        Err(Unproven::Early { time: made.to_string() })
    } else {
        Ok(())
    }
}

fn told(error: &webpki::Error, cn: &str) -> Unproven {
    use webpki::Error as Bad;
    let cn = cn.escape_debug().take(100).collect();
    match error {
        Bad::CertExpired { .. } | Bad::CertNotValidYet { .. } => Unproven::NotValid { cn },
        Bad::UnknownIssuer | Bad::InvalidSignatureForPublicKey => Unproven::Foreign { cn },
        error => Unproven::Bad { cn, why: error.to_string() },
    }
}

/// The CN of a certificate, if it has exactly one.
fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let (_, found) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut names = found.subject().iter_common_name();
    let only = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(only)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0 && digits.len() <= 4096)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests;
