//! Certificates as files have them and as people know them: whose it is, for which names, and until when.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, TlsFiles};

/// A certificate that ends within this many days is warned of.
const WARN_DAYS: i64 = 30;
const DAY: i64 = 86_400;

/// Our certificate with its key.
pub struct Pair {
    pub path: PathBuf,
    key_path: PathBuf,
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Pair {
    pub fn read(files: &TlsFiles, path: &Path) -> Result<Pair, TlsError> {
        let key_path = files.tls_key.as_deref().unwrap_or(path);
        let key = PrivateKeyDer::from_pem_slice(&read(files, "the key", key_path)?)
            .map_err(|_| TlsError::Empty { what: "private key", path: key_path.to_owned() })?;
        let certificates = certificates(files, "the certificate", path)?;
        Ok(Pair { path: path.to_owned(), key_path: key_path.to_owned(), certificates, key })
    }

    /// Fails where it is not valid now.
    pub fn check(&self) -> Result<(), TlsError> {
        let seen = Seen::of(&self.certificates[0]);
        match seen.trouble() {
            None => Ok(()),
            Some(trouble) => Err(TlsError::Own { subject: seen.subject, path: self.path.clone(), trouble }),
        }
    }

    pub fn told(&self, error: &rustls::Error) -> TlsError {
        let subject = Seen::of(&self.certificates[0]).subject;
        match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Pair { subject, path: self.path.clone(), key: self.key_path.clone() }
            }
            error => {
                let trouble = format!("cannot be used ({error}); have it made anew");
                TlsError::Own { subject, path: self.path.clone(), trouble }
            }
        }
    }
}

pub fn roots(files: &TlsFiles) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match &files.ca_cert {
        Some(path) => {
            store.add_parsable_certificates(certificates(files, "the CA's certificate", path)?);
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    match (&files.ca_cert, store.is_empty()) {
        (_, false) => Ok(store),
        (Some(path), true) => Err(TlsError::Empty { what: "CA certificate", path: path.clone() }),
        (None, true) => Err(TlsError::NoCa(files.section)),
    }
}

fn read(files: &TlsFiles, what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable {
        what,
        path: path.to_owned(),
        reason: error.to_string(),
        section: files.section,
    })
}

fn certificates(
    files: &TlsFiles,
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(files, what, path)?).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(TlsError::Empty { what: "certificate", path: path.to_owned() });
    }
    Ok(found)
}

/// What people need to know of a certificate.
#[derive(Debug)]
pub struct Seen {
    pub subject: String,
    pub names: Vec<String>,
    pub issuer: String,
    begins: i64,
    ends: i64,
}

impl Seen {
    pub fn of(der: &CertificateDer<'_>) -> Seen {
        use x509_parser::extensions::GeneralName;
        let Ok((_, found)) = x509_parser::parse_x509_certificate(der) else {
            let unknown = || "an unreadable name".to_owned();
            return Seen {
                subject: unknown(),
                names: Vec::new(),
                issuer: unknown(),
                begins: i64::MIN,
                ends: i64::MAX,
            };
        };
        let plain = |text: &str| text.escape_debug().take(100).collect::<String>();
        let name = |of: &x509_parser::x509::X509Name<'_>| {
            let common = of.iter_common_name().next().and_then(|name| name.as_str().ok());
            common.map_or_else(|| plain(&of.to_string()), plain)
        };
        let others = found.subject_alternative_name().ok().flatten();
        let names = others.into_iter().flat_map(|names| &names.value.general_names);
        Seen {
            subject: name(found.subject()),
            names: names
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(plain(name)),
                    GeneralName::IPAddress(bytes) => ip(bytes),
                    _ => None,
                })
                .collect(),
            issuer: name(found.issuer()),
            begins: found.validity().not_before.timestamp(),
            ends: found.validity().not_after.timestamp(),
        }
    }

    pub fn trouble(&self) -> Option<String> {
        let now = jiff::Timestamp::now().as_second();
        if self.ends < now {
            Some(format!("has expired on {}; renew it", day(self.ends)))
        } else if self.begins > now {
            Some(format!("is not valid before {}; check the clocks, or wait", day(self.begins)))
        } else {
            None
        }
    }

    pub fn ends_soon(&self) -> Option<String> {
        let days = (self.ends - jiff::Timestamp::now().as_second()) / DAY;
        (days < WARN_DAYS).then(|| format!("expires in {days} days, on {}; renew it", day(self.ends)))
    }
}

fn ip(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    let six = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    four.or_else(|_| six()).ok()
}

fn day(second: i64) -> String {
    jiff::Timestamp::from_second(second)
        .map_or_else(|_| "an unknown day".into(), |at| at.strftime("%Y-%m-%d").to_string())
}
