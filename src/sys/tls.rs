//! TLS to other machines (RFC 8446) with rustls: a client certificate, a private CA, names verified.
//!
//! Every failure is one sentence that says which certificate, of whom, and what to do.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::net::Stream;
#[cfg(feature = "psk")]
use super::psk;

/// A certificate that ends within this many days is warned of.
const WARN_DAYS: i64 = 30;
const DAY: i64 = 86_400;

/// The files that a section of the configuration names, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The section's name, for sentences about what is wrong.
    pub section: &'static str,
    /// Who signs servers' certificates; unset: whom the system trusts.
    pub ca_cert: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    /// Unset: it is in the same file as the certificate.
    pub tls_key: Option<PathBuf>,
    /// Take any certificate of a server for good.
    pub insecure: bool,
    /// Keys that we share with servers, in place of certificates; lines `IDENTITY:KEY`.
    pub psk_file: Option<PathBuf>,
    /// Whose key of that file; unset: the first.
    pub psk_identity: Option<String>,
}

impl Default for TlsFiles {
    fn default() -> TlsFiles {
        TlsFiles {
            section: "tls",
            ca_cert: None,
            tls_cert: None,
            tls_key: None,
            insecure: false,
            psk_file: None,
            psk_identity: None,
        }
    }
}

/// What is wrong with a certificate, or with a handshake.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} {}: {reason}; correct its path in section [{section}], or let this user read it", path.display())]
    Unreadable { what: &'static str, path: PathBuf, reason: String, section: &'static str },
    #[error("{} holds no {what} in PEM form; put one there", path.display())]
    Empty { what: &'static str, path: PathBuf },
    #[error("the system trusts no CA at all; name the fleet's CA as ca_cert in section [{0}]")]
    NoCa(&'static str),
    #[error("the certificate of {subject} in {} {trouble}", path.display())]
    Own { subject: String, path: PathBuf, trouble: String },
    #[error("the key in {} does not belong to the certificate of {subject} in {}; name the pair that was made together", key.display(), path.display())]
    Pair { subject: String, path: PathBuf, key: PathBuf },
    #[error("the server's certificate, of {subject}, {trouble}")]
    Server { subject: String, trouble: String },
    #[error("the server wants a client certificate, and none is configured: set tls_cert in section [{0}]")]
    Wanted(&'static str),
    #[error("the server does not accept our certificate ({}): it says '{alert}'; have it signed by the CA that the server trusts", path.display())]
    Refused { path: PathBuf, alert: String },
    #[error(
        "psk_file in section [tls] cannot be used: this program was built without pre-shared keys; build it with `cargo build --release --features psk`, or use certificates"
    )]
    NoPsk,
    #[error("the file of pre-shared keys {} {reason}", path.display())]
    PskFile { path: PathBuf, reason: String },
    #[error("the server and we do not agree by the key of {identity} in {} ({said}); have the same line {identity}:KEY on both sides", path.display())]
    Psk { identity: String, path: PathBuf, said: String },
    #[error("no TLS could be agreed on: {0}; is this a TLS port?")]
    Other(String),
}

/// Everything that a TLS connection needs, read and checked once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    files: Arc<TlsFiles>,
    own: Option<String>,
    noticed: Noticed,
    #[cfg(feature = "psk")]
    psk: Option<Arc<psk::Secret>>,
}

/// The last warning of a server's certificate that ends soon.
type Noticed = Arc<Mutex<Option<String>>>;

impl Tls {
    pub fn open(files: &TlsFiles) -> Result<Tls, TlsError> {
        if let Some(file) = &files.psk_file {
            return Tls::with_psk(files, file);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let other = |error: &dyn Error| TlsError::Other(error.to_string());
        let roots = Arc::new(roots(files)?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| other(&error))?;
        let noticed = Noticed::default();
        let verifier = Arc::new(Verifier { inner, files: files.clone(), noticed: Arc::clone(&noticed) });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| other(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let (config, own) = match &files.tls_cert {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                let pair = Pair::read(files, path)?;
                let warning = pair.check()?;
                let belongs = pair.certificates.clone();
                let config = builder.with_client_auth_cert(belongs, pair.key.clone_key());
                (config.map_err(|error| pair.told(&error))?, warning)
            }
        };
        if let Some(warning) = &own {
            tracing::warn!("{warning}");
        }
        Ok(Tls {
            config: Arc::new(config),
            files: Arc::new(files.clone()),
            own,
            noticed,
            #[cfg(feature = "psk")]
            psk: None,
        })
    }

    #[cfg(not(feature = "psk"))]
    fn with_psk(_: &TlsFiles, _: &Path) -> Result<Tls, TlsError> {
        Err(TlsError::NoPsk)
    }

    /// Whoever uses rustls nevertheless trusts nobody.
    #[cfg(feature = "psk")]
    fn with_psk(files: &TlsFiles, file: &Path) -> Result<Tls, TlsError> {
        let psk = psk::Secret::read(file, files.psk_identity.as_deref())?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Other(error.to_string()))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let config = Arc::new(config);
        let files = Arc::new(files.clone());
        Ok(Tls { config, files, own: None, noticed: Noticed::default(), psk: Some(Arc::new(psk)) })
    }

    #[cfg(feature = "psk")]
    pub(super) fn has_psk(&self) -> bool {
        self.psk.is_some()
    }

    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// For clients that bring a TLS of their own.
    pub fn rustls(&self) -> ClientConfig {
        (*self.config).clone()
    }

    /// Certificates that end soon: our own, and that of the server met last.
    pub fn warnings(&self) -> Vec<String> {
        let server = self.noticed.lock().ok().and_then(|noticed| noticed.clone());
        self.own.clone().into_iter().chain(server).collect()
    }

    pub(super) async fn handshake(&self, host: &str, tcp: TcpStream) -> Result<Stream, TlsError> {
        #[cfg(feature = "psk")]
        if let Some(psk) = &self.psk {
            return psk.handshake(tcp).await;
        }
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| TlsError::Other(error.to_string()))?;
        let secured = TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await;
        let stream = secured.map_err(|error| explain(&error, &self.files))?;
        Ok(Box::new(stream))
    }
}

/// Our certificate with its key.
struct Pair {
    path: PathBuf,
    key_path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    fn read(files: &TlsFiles, path: &Path) -> Result<Pair, TlsError> {
        let key_path = files.tls_key.as_deref().unwrap_or(path);
        let key = PrivateKeyDer::from_pem_slice(&read(files, "the key", key_path)?)
            .map_err(|_| TlsError::Empty { what: "private key", path: key_path.to_owned() })?;
        let certificates = certificates(files, "the certificate", path)?;
        Ok(Pair { path: path.to_owned(), key_path: key_path.to_owned(), certificates, key })
    }

    /// Fails where it is not valid now; a warning where it will not be for long.
    fn check(&self) -> Result<Option<String>, TlsError> {
        let seen = Seen::of(&self.certificates[0]);
        let own = |trouble| TlsError::Own { subject: seen.subject.clone(), path: self.path.clone(), trouble };
        if let Some(trouble) = seen.trouble() {
            return Err(own(trouble));
        }
        Ok(seen.ends_soon().map(|trouble| own(trouble).to_string()))
    }

    fn told(&self, error: &rustls::Error) -> TlsError {
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

fn roots(files: &TlsFiles) -> Result<RootCertStore, TlsError> {
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
struct Seen {
    subject: String,
    names: Vec<String>,
    issuer: String,
    begins: i64,
    ends: i64,
}

impl Seen {
    fn of(der: &CertificateDer<'_>) -> Seen {
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

    fn trouble(&self) -> Option<String> {
        let now = jiff::Timestamp::now().as_second();
        if self.ends < now {
            Some(format!("has expired on {}; renew it", day(self.ends)))
        } else if self.begins > now {
            Some(format!("is not valid before {}; check the clocks, or wait", day(self.begins)))
        } else {
            None
        }
    }

    fn ends_soon(&self) -> Option<String> {
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

/// webpki's verifier, that can say whose certificate it was.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    files: TlsFiles,
    noticed: Noticed,
}

impl Verifier {
    fn told(&self, error: &rustls::Error, seen: &Seen, name: &ServerName<'_>) -> TlsError {
        use CertificateError as Bad;
        let trusted = self.files.ca_cert.as_ref();
        let trusted =
            trusted.map_or_else(|| "whom this system trusts".into(), |path| path.display().to_string());
        let trouble = match error {
            rustls::Error::InvalidCertificate(
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
            ) => seen.trouble().unwrap_or_else(|| "or its CA's is not valid now; renew it".into()),
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                format!(
                    "is not for {} but for {}; connect by that name, or have the certificate made for this one",
                    name.to_str(),
                    if seen.names.is_empty() { "no host at all".into() } else { seen.names.join(", ") }
                )
            }
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => format!(
                "is signed by {}, which is not among {trusted}; name its CA as ca_cert in section [{}]",
                seen.issuer, self.files.section
            ),
            error => format!("cannot be accepted ({error}); have it made anew"),
        };
        TlsError::Server { subject: seen.subject.clone(), trouble }
    }

    /// Warns once a day: connections are many.
    fn notice(&self, seen: &Seen, name: &ServerName<'_>) {
        let Some(trouble) = seen.ends_soon() else { return };
        let warning = format!("the certificate of {} at {} {trouble}", seen.subject, name.to_str());
        if let Ok(mut noticed) = self.noticed.lock()
            && noticed.as_ref() != Some(&warning)
        {
            tracing::warn!("{warning}");
            *noticed = Some(warning);
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.files.insecure {
            return Ok(ServerCertVerified::assertion());
        }
        let seen = Seen::of(certificate);
        let verified = self.inner.verify_server_cert(certificate, others, name, ocsp, now);
        match &verified {
            Ok(_) => self.notice(&seen, name),
            Err(error) => {
                let told = Arc::new(self.told(error, &seen, name));
                return Err(rustls::Error::Other(rustls::OtherError(told)));
            }
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a failed connection means. In TLS 1.3 a server's refusal of our certificate arrives with the first read,
/// so readers ask this too.
pub fn explain(error: &std::io::Error, files: &TlsFiles) -> TlsError {
    find(error, files).unwrap_or_else(|| TlsError::Other(error.to_string()))
}

/// The TLS error in a chain of others, if there is one.
pub fn find(error: &(dyn Error + 'static), files: &TlsFiles) -> Option<TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(told(found, files));
        }
        // An io::Error's source skips the error that it was made of.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn told(error: &rustls::Error, files: &TlsFiles) -> TlsError {
    match error {
        rustls::Error::Other(other) => match other.0.downcast_ref::<TlsError>() {
            Some(told) => told.clone(),
            None => TlsError::Other(other.to_string()),
        },
        rustls::Error::AlertReceived(alert) => match (&files.tls_cert, alert) {
            (None, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
                TlsError::Wanted(files.section)
            }
            (Some(path), alert) if is_about_certificates(*alert) => {
                TlsError::Refused { path: path.clone(), alert: format!("{alert:?}") }
            }
            (_, alert) => TlsError::Other(format!("the server says {alert:?}")),
        },
        error => TlsError::Other(error.to_string()),
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    )
}
