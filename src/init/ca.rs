//! The fleet's own authority: it signs the certificates by which hosts know one another (RFC 5280).
//!
//! `DIR/ca.pem` and `DIR/ca.key` are the authority; `DIR/issued/HOST/` holds what a host gets, and is copied there as
//! it is: `ca.pem`, and `host.pem` with the certificate and its key.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::PublicKeyData;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::sys::fs::{self, FileError};

/// How long an authority is valid, in days. A new one means a visit to every host.
const CA_DAYS: u32 = 3650;
/// The same of a host's certificate. All warn a month before their end.
pub const HOST_DAYS: u32 = 730;
/// Clocks differ.
const EARLIER: Duration = Duration::from_secs(3600);

/// What an authority cannot do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("there is no authority in {}; `reimzul init controller --ca` makes one", .0.display())]
    None(PathBuf),
    #[error("{} is no certificate, or {} is not its key ({said}); put the pair back from a backup", certificate.display(), key.display())]
    Broken { certificate: PathBuf, key: PathBuf, said: String },
    #[error("{} is there; --renew makes a new certificate and key in its place", .0.display())]
    Issued(PathBuf),
    #[error("no certificate can be made for '{host}': {said}")]
    Refused { host: String, said: String },
    #[error(transparent)]
    File(#[from] FileError),
}

/// What becomes of a certificate that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renew {
    /// It is an error that it is there.
    Never,
    Always,
    /// It is kept, unless it ends within so many days, or another authority signed it.
    EndingWithin(u32),
}

/// What a host gets.
#[derive(Debug)]
pub struct Issued {
    pub folder: PathBuf,
    /// Whether it was made just now.
    pub is_new: bool,
}

/// An authority, with its key.
#[derive(Debug)]
pub struct Ca {
    folder: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub fn is_in(folder: &Path) -> bool {
        folder.join("ca.pem").exists() || folder.join("ca.key").exists()
    }

    /// Makes an authority of this name. One that is there is never overwritten.
    pub fn create(folder: &Path, name: &str) -> Result<Ca, CaError> {
        if Ca::is_in(folder) {
            return Ca::open(folder);
        }
        let broken = |error: rcgen::Error| CaError::Refused { host: name.into(), said: error.to_string() };
        let mut params = params(name, CA_DAYS).map_err(broken)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(broken)?;
        let text = key.serialize_pem();
        let made = CertifiedIssuer::self_signed(params, key).map_err(broken)?;
        fs::make_private_dir(folder)?;
        // The key first: a certificate without one would look like an authority.
        fs::write_private(&folder.join("ca.key"), text.as_bytes())?;
        fs::write_whole(&folder.join("ca.pem"), made.pem().as_bytes())?;
        Ca::open(folder)
    }

    pub fn open(folder: &Path) -> Result<Ca, CaError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !Ca::is_in(folder) {
            return Err(CaError::None(folder.to_owned()));
        }
        let read = |path: &Path| std::fs::read_to_string(path).map_err(FileError::at("read", path));
        let text = read(&certificate)?;
        match issuer(&text, &read(&key)?) {
            Ok(issuer) => Ok(Ca { folder: folder.to_owned(), certificate: text, issuer }),
            Err(said) => Err(CaError::Broken { certificate, key, said }),
        }
    }

    /// A folder with what `host` gets, valid for so many days.
    pub fn issue(&self, host: &str, days: u32, renew: Renew) -> Result<Issued, CaError> {
        let folder = self.folder.join("issued").join(host);
        if folder.join("host.pem").exists() {
            match renew {
                Renew::Never => return Err(CaError::Issued(folder)),
                Renew::EndingWithin(days) if self.is_good(&folder, days) => {
                    return Ok(Issued { folder, is_new: false });
                }
                Renew::Always | Renew::EndingWithin(_) => {}
            }
        }
        self.issue_into(&folder, host, days)?;
        Ok(Issued { folder, is_new: true })
    }

    /// Whether what a folder holds is ours, and will be good in so many days.
    fn is_good(&self, folder: &Path, days: u32) -> bool {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let then = SystemTime::now() + Duration::from_secs(u64::from(days) * 86_400);
        let seconds = then.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let lasts = || -> Option<bool> {
            let (_, pem) = x509_parser::pem::parse_x509_pem(read("host.pem").as_bytes()).ok()?;
            let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
            Some(u64::try_from(end).ok()? > seconds)
        };
        read("ca.pem") == self.certificate && lasts().unwrap_or(false)
    }

    /// The same, into any folder.
    pub fn issue_into(&self, folder: &Path, host: &str, days: u32) -> Result<(), CaError> {
        let refused = |error: rcgen::Error| CaError::Refused { host: host.into(), said: error.to_string() };
        let mut params = params(host, days).map_err(refused)?;
        params.subject_alt_names =
            CertificateParams::new(vec![host.to_owned()]).map_err(refused)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(refused)?;
        let made = params.signed_by(&key, &self.issuer).map_err(refused)?;
        fs::make_private_dir(folder)?;
        fs::write_whole(&folder.join("ca.pem"), self.certificate.as_bytes())?;
        Ok(fs::write_private(&folder.join("host.pem"), (made.pem() + &key.serialize_pem()).as_bytes())?)
    }
}

fn params(name: &str, days: u32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + Duration::from_secs(u64::from(days) * 86_400)).into();
    Ok(params)
}

/// A certificate and its key, both PEM; else why they are no authority.
fn issuer(certificate: &str, key: &str) -> Result<Issuer<'static, KeyPair>, String> {
    let pair = KeyPair::from_pem(key).map_err(|error| error.to_string())?;
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|error| error.to_string())?;
    let found = pem.parse_x509().map_err(|error| error.to_string())?;
    if found.public_key().raw != pair.subject_public_key_info() {
        return Err("they do not belong together".into());
    }
    Issuer::from_ca_cert_pem(certificate, pair).map_err(|error| error.to_string())
}
