//! Connections to other machines: plain TCP, or TLS over it.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::tls::{self, Tls, TlsError};

/// How long a host has to answer a connection, and then to shake hands.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host and a port, both vetted: a host is a name, an IPv4 address, or an IPv6 address without its brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// None where the host has anything that a shell or an option parser would take for its own.
    pub fn new(host: &str, port: u16) -> Option<Address> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
        let good = !host.is_empty() && !host.starts_with('-') && host.chars().all(plain) && port > 0;
        good.then(|| Address { host: host.to_owned(), port })
    }

    /// `HOST:PORT`, or `HOST` alone where there is a usual port. An IPv6 address stands in brackets (RFC 3986).
    pub fn parse(text: &str, usual: Option<u16>) -> Option<Address> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None => usual.filter(|_| rest.is_empty())?,
        };
        Address::new(host, port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A connection that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("{address} cannot be reached: {source}; is its service running, and the port right?")]
    Connect { address: Address, source: std::io::Error },
    #[error("{address} did not answer within {} s; is a firewall in between?", PATIENCE.as_secs())]
    Silent { address: Address },
    #[error("{address}: {source}")]
    Tls { address: Address, source: TlsError },
}

impl NetError {
    /// What is wrong, for a sentence that has the address already.
    pub fn without_address(&self) -> String {
        match self {
            NetError::Connect { source, .. } => {
                format!("{source}; is its service running, and the port right?")
            }
            NetError::Silent { .. } => format!("no answer within {} s", PATIENCE.as_secs()),
            NetError::Tls { source, .. } => source.to_string(),
        }
    }
}

/// What a protocol runs over.
pub trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}
pub type Stream = Box<dyn Wire>;

/// Connects, through TLS where it is given.
pub async fn connect(address: &Address, tls: Option<&Tls>) -> Result<Stream, NetError> {
    let tcp = dial(address).await?;
    match tls {
        Some(tls) => secure(address, tls, tcp).await,
        None => Ok(Box::new(tcp)),
    }
}

/// A plain connection, for protocols that begin without TLS.
pub(super) async fn dial(address: &Address) -> Result<TcpStream, NetError> {
    let connected = TcpStream::connect((address.host.as_str(), address.port));
    let tcp = tokio::time::timeout(PATIENCE, connected)
        .await
        .map_err(|_| NetError::Silent { address: address.clone() })?
        .map_err(|source| NetError::Connect { address: address.clone(), source })?;
    // Requests are short and waited for.
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

/// Goes on through TLS.
pub(super) async fn secure(address: &Address, tls: &Tls, tcp: TcpStream) -> Result<Stream, NetError> {
    let secured = tokio::time::timeout(PATIENCE, tls.handshake(&address.host, tcp))
        .await
        .map_err(|_| NetError::Silent { address: address.clone() })?;
    secured.map_err(|source| NetError::Tls { address: address.clone(), source })
}

/// Connects through TLS only to see whether that goes well. In TLS 1.3 a server refuses our certificate after the
/// handshake, so it is given a moment to do that.
pub async fn probe(address: &Address, tls: &Tls) -> Result<(), NetError> {
    const MOMENT: Duration = Duration::from_secs(1);
    let mut stream = connect(address, Some(tls)).await?;
    match tokio::time::timeout(MOMENT, stream.read(&mut [0; 1])).await {
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            let source = tls::explain(&error, tls.files());
            Err(NetError::Tls { address: address.clone(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_nothing_that_a_shell_would_take_for_its_own() {
        for good in ["bstore.example.org:873", "127.0.0.1:11874", "[::1]:443"] {
            assert_eq!(Address::parse(good, None).unwrap().to_string(), good);
        }
        for bad in [
            "", "h", "h:0", "h:99999", "-o:1", "a b:1", "a;b:1", "$(x):1", "a'b:1", "a%H:1", ":1", "::1:2",
            "[::1", "[::1]x",
        ] {
            assert_eq!(Address::parse(bad, None), None, "{bad}");
        }
        assert_eq!(Address::parse("[::1]", Some(7)), Address::new("::1", 7));
    }
}
