//! Mail over SMTP (RFC 5321) to one relay: plain, with STARTTLS (RFC 3207) or inside TLS (RFC 8314).
//!
//! A connection per mail: an idle one that a relay has dropped would lose the next mail's time, or the mail.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use lettre::address::{Address as MailAddress, Envelope};
use lettre::transport::smtp::Error as SmtpFault;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::net::{self, Address, NetError};
use super::process::node_name;
use super::tls::{self, TlsError, TlsFiles};

/// How long a relay has for a connection, and how long for a whole mail (RFC 5321, section 4.5.3.2, has 10 minutes
/// for the end of the data alone; one that takes so long is as good as down, and nobody but mail waits for it).
const CONNECT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(600);
/// More than any line of a relay's has (RFC 5321, section 4.5.3.1.5).
const LONGEST_LINE: u64 = 4096;

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    None,
    /// Begins plain, and goes no further without TLS.
    Starttls,
    Tls,
}

impl Security {
    /// Where relays listen for it (RFC 5321, 6409, 8314).
    pub fn port(self) -> u16 {
        match self {
            Security::None => 25,
            Security::Starttls => 587,
            Security::Tls => 465,
        }
    }
}

/// A relay, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub address: Address,
    pub security: Security,
    /// Who signs the relay's certificate; unset: whom the system trusts.
    pub ca_cert: Option<PathBuf>,
    /// A user, and the file that has the password in its first line; none: no authentication.
    pub login: Option<(String, PathBuf)>,
}

/// A mail that the relay did not take.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SmtpError {
    /// It would take no other either.
    #[error("the mail server {address} cannot be used: {reason}")]
    Down { address: Address, reason: String },
    /// For good, as it says.
    #[error("the mail server {address} refuses the mail: {reason}")]
    Refused { address: Address, reason: String },
    /// For now, as it says.
    #[error("the mail server {address} does not take the mail now: {reason}")]
    Later { address: Address, reason: String },
}

impl Options {
    /// Has the relay take the mail for these recipients.
    pub async fn send(&self, mail: &Message, to: Vec<MailAddress>) -> Result<(), SmtpError> {
        let refused = |error: lettre::error::Error| SmtpError::Refused {
            address: self.address.clone(),
            reason: error.to_string(),
        };
        let envelope = Envelope::new(mail.envelope().from().cloned(), to).map_err(refused)?;
        let transport = self.transport()?;
        let sent = tokio::time::timeout(PATIENCE, transport.send_raw(&envelope, &mail.formatted())).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.told(&error).await),
            Err(_) => Err(self.down(format!("it took longer than {} minutes", PATIENCE.as_secs() / 60))),
        }
    }

    /// Whether the relay lets us in: connects, and authenticates where it should.
    pub async fn check(&self) -> Result<String, SmtpError> {
        match self.transport()?.test_connection().await {
            Ok(true) => Ok(format!("the mail server {} lets us in", self.address)),
            Ok(false) => Err(self.down("it does not answer as a mail server".into())),
            Err(error) => Err(self.told(&error).await),
        }
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, SmtpError> {
        let host = self.address.host.as_str();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(self.address.port)
            .tls(match self.security {
                Security::None => Tls::None,
                Security::Starttls => Tls::Required(self.tls()?),
                Security::Tls => Tls::Wrapper(self.tls()?),
            })
            .hello_name(ClientId::Domain(node_name()))
            .timeout(Some(CONNECT));
        if let Some((user, file)) = &self.login {
            let read = super::fs::first_line(file);
            let password = read.map_err(|error| self.down(error.to_string()))?;
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(builder.build())
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { section: "mail", ca_cert: self.ca_cert.clone(), ..TlsFiles::default() }
    }

    /// Read anew for each mail: certificates are renewed while we run.
    fn tls(&self) -> Result<TlsParameters, SmtpError> {
        let mut builder = TlsParameters::builder(self.address.host.clone());
        if let Some(path) = &self.ca_cert {
            // What is wrong with the file, it says as for all others.
            tls::Tls::open(&self.files()).map_err(|error| self.down(error.to_string()))?;
            let unusable = |error: &dyn std::error::Error| {
                self.down(format!("the CA in {} cannot be used: {error}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        builder.build().map_err(|error| self.down(error.to_string()))
    }

    fn down(&self, reason: String) -> SmtpError {
        SmtpError::Down { address: self.address.clone(), reason }
    }

    async fn told(&self, error: &SmtpFault) -> SmtpError {
        let found = tls::find(error, &self.files());
        let reason = match found {
            Some(TlsError::Other(why)) => self.why_no_tls(&why).await,
            Some(told) => told.to_string(),
            None => error.source().map_or_else(|| error.to_string(), ToString::to_string),
        };
        let address = self.address.clone();
        let Some(code) = error.status().map(u16::from) else { return SmtpError::Down { address, reason } };
        let reason = format!("{code} {reason}");
        match code {
            // It is closing, or does not let us in at all (RFC 5321, 4954).
            421 | 530 | 534 | 535 => SmtpError::Down { address, reason },
            _ if error.is_permanent() => SmtpError::Refused { address, reason },
            _ => SmtpError::Later { address, reason },
        }
    }

    /// lettre's TLS says neither whose certificate it met nor what to do about it. Ours does, so it has a look, too.
    async fn why_no_tls(&self, why: &str) -> String {
        match tokio::time::timeout(CONNECT, self.shake_hands()).await {
            Ok(Err(NetError::Tls { source, .. })) if !matches!(source, TlsError::Other(_)) => {
                source.to_string()
            }
            _ => format!(
                "no TLS could be agreed on: {why}; correct security, port or ca_cert in section [mail]"
            ),
        }
    }

    /// Connects as far as TLS.
    async fn shake_hands(&self) -> Result<(), NetError> {
        let address = self.address.clone();
        let mut tcp = net::dial(&self.address).await?;
        if self.security == Security::Starttls {
            let begun = begin_tls(&mut tcp).await;
            begun.map_err(|source| NetError::Connect { address: address.clone(), source })?;
        }
        let tls = tls::Tls::open(&self.files()).map_err(|source| NetError::Tls { address, source })?;
        net::secure(&self.address, &tls, tcp).await.map(drop)
    }
}

/// Brings a connection to where TLS begins (RFC 3207, section 4). A server that refuses will not shake hands.
async fn begin_tls(tcp: &mut TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(tcp);
    for command in ["", &format!("EHLO {}\r\n", node_name()), "STARTTLS\r\n"] {
        stream.get_mut().write_all(command.as_bytes()).await?;
        let mut line = String::new();
        // All lines of an answer but the last have a dash after their number (RFC 5321, section 4.2.1).
        while line.is_empty() || line.as_bytes().get(3) == Some(&b'-') {
            line.clear();
            if (&mut stream).take(LONGEST_LINE).read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
