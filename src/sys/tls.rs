//! TLS to other machines (RFC 8446) with rustls: a client certificate, a private CA, names verified.
//!
//! Every failure is one sentence that says which certificate, of whom, and what to do.

mod certificate;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::certificate::{Pair, Seen, roots};
use super::net::Stream;
#[cfg(feature = "psk")]
use super::psk;

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
    #[cfg(feature = "psk")]
    psk: Option<Arc<psk::Secret>>,
}

/// What this process has warned of. Connections are many, and a warning tells the days that are left: so it is given
/// once a day.
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// How a line that passes a warning on begins.
pub const WARNING: &str = "reimzul-connect warns: ";

/// Warns of a certificate, unless that was done.
pub fn warn(warning: &str) {
    if WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.to_owned()) {
        tracing::warn!("{warning}");
    }
}

/// Certificates that end soon, as far as connections have met any: ours and those of servers.
pub fn warnings() -> Vec<String> {
    WARNED.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

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
        let pair = files.tls_cert.as_ref().map(|path| Pair::read(files, path)).transpose()?;
        if let Some(pair) = &pair {
            pair.check()?;
        }
        let own = pair.as_ref().map(|pair| (Seen::of(&pair.certificates[0]), pair.path.clone()));
        let verifier = Arc::new(Verifier { inner, files: files.clone(), own });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| other(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let belongs = pair.certificates.clone();
                let config = builder.with_client_auth_cert(belongs, pair.key.clone_key());
                config.map_err(|error| pair.told(&error))?
            }
        };
        Ok(Tls {
            config: Arc::new(config),
            files: Arc::new(files.clone()),
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
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let config = Arc::new(config);
        let files = Arc::new(files.clone());
        Ok(Tls { config, files, psk: Some(Arc::new(psk)) })
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

/// webpki's verifier, that can say whose certificate it was.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    files: TlsFiles,
    /// Our certificate, and its file.
    own: Option<(Seen, PathBuf)>,
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

    /// Roles run for months: so at each connection it is seen whether a certificate ends soon.
    fn notice(&self, seen: &Seen, name: &ServerName<'_>) {
        if let Some((own, path)) = &self.own
            && let Some(trouble) = own.ends_soon()
        {
            let (subject, path) = (own.subject.clone(), path.clone());
            warn(&TlsError::Own { subject, path, trouble }.to_string());
        }
        if let Some(trouble) = seen.ends_soon() {
            warn(&format!("the certificate of {} at {} {trouble}", seen.subject, name.to_str()));
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
