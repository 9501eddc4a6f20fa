//! TLS with a pre-shared key (RFC 4279; RFC 8446, 2.2), which rustls does not have: by OpenSSL, for servers such as
//! stunnel with `PSKsecrets`. Compiled with feature `psk`.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode, SslVersion};
use reqwest::{Body, Request, Response, header};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::net::Stream;
use super::tls::TlsError;

/// With forward secrecy where the server has it (ciphers(1)).
const CIPHERS: &str = "kECDHEPSK:kDHEPSK:kPSK:!eNULL";
/// stunnel(8) wants as many bytes.
const SHORTEST: usize = 16;

/// A key, and the name by which the server knows it.
#[derive(Clone)]
pub struct Secret {
    identity: String,
    key: Vec<u8>,
    file: PathBuf,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {} in {}", self.identity, self.file.display())
    }
}

impl Secret {
    /// From a file of lines `IDENTITY:KEY`, as stunnel's: the first of them, or the one that is named. A key is
    /// hexadecimal, or else taken as it is.
    pub fn read(file: &Path, identity: Option<&str>) -> Result<Secret, TlsError> {
        let bad = |reason: String| TlsError::PskFile { path: file.to_owned(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let open = std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
        if open {
            return Err(bad("may be read by everybody; chmod o-rwx it".into()));
        }
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
        let found = lines.find(|(its, _)| identity.is_none_or(|wanted| wanted == *its));
        let Some((identity, key)) = found else {
            let wanted = identity.map_or_else(|| "IDENTITY:KEY".into(), |name| format!("{name}:KEY"));
            return Err(bad(format!("has no line {wanted}; add it, the same as on the server")));
        };
        let key = from_hex(key).unwrap_or_else(|| key.as_bytes().to_vec());
        if key.len() < SHORTEST {
            return Err(bad(format!(
                "has a key of {identity} with less than {SHORTEST} bytes; make a longer one"
            )));
        }
        Ok(Secret { identity: identity.to_owned(), key, file: file.to_owned() })
    }

    pub(super) async fn handshake(&self, tcp: TcpStream) -> Result<Stream, TlsError> {
        let other = |error: ErrorStack| TlsError::Other(error.to_string());
        let ssl = self.context().and_then(|context| Ssl::new(&context)).map_err(other)?;
        let mut stream = SslStream::new(ssl, tcp).map_err(other)?;
        match Pin::new(&mut stream).connect().await {
            Ok(()) => Ok(Box::new(stream)),
            Err(error) => Err(self.told(&error)),
        }
    }

    fn context(&self) -> Result<SslContext, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_cipher_list(CIPHERS)?;
        // No authority is trusted: a server that answers with a certificate, and not by the key, is refused.
        context.set_verify(SslVerifyMode::PEER);
        let secret = self.clone();
        context.set_psk_client_callback(move |_, _, identity, key| Ok(secret.fill(identity, key)));
        Ok(context.build())
    }

    /// Says how long the key is; nothing where OpenSSL has no room for it.
    fn fill(&self, identity: &mut [u8], key: &mut [u8]) -> usize {
        let name = self.identity.as_bytes();
        if name.len() >= identity.len() || self.key.len() > key.len() {
            return 0;
        }
        identity[..name.len()].copy_from_slice(name);
        identity[name.len()] = 0;
        key[..self.key.len()].copy_from_slice(&self.key);
        self.key.len()
    }

    fn told(&self, error: &openssl::ssl::Error) -> TlsError {
        let (identity, path) = (self.identity.clone(), self.file.clone());
        match error.ssl_error() {
            Some(stack) => {
                let reasons: Vec<&str> =
                    stack.errors().iter().filter_map(openssl::error::Error::reason).collect();
                TlsError::Psk { identity, path, said: reasons.join(", ") }
            }
            None => TlsError::Psk { identity, path, said: "it closed the connection".into() },
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// One request on a connection of its own (RFC 9112).
pub(super) async fn send(request: Request, stream: Stream) -> Result<Response, String> {
    let authority = request.url().authority().to_owned();
    let path = request.url().path().to_owned();
    let mut request: hyper::Request<Body> =
        request.try_into().map_err(|error: reqwest::Error| error.to_string())?;
    *request.uri_mut() = path.parse().map_err(|_| format!("'{path}' cannot be asked for"))?;
    let host = authority.parse().map_err(|_| format!("'{authority}' is no host"))?;
    request.headers_mut().insert(header::HOST, host);
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(answer.map(Body::wrap).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, identity: Option<&str>) -> Result<Secret, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        Secret::read(file.path(), identity).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_found_by_its_identity_and_read_as_stunnel_reads_it() {
        let text = "builder1:000102030405060708090a0b0c0d0e0f\nbuilder2:plain words of some length\n";
        let first = read(text, None).unwrap();
        assert_eq!((first.identity.as_str(), first.key), ("builder1", (0..16).collect()));
        assert_eq!(read(text, Some("builder2")).unwrap().key, b"plain words of some length");
        assert!(!format!("{:?}", read(text, Some("builder2")).unwrap()).contains("plain"));
        assert!(read(text, Some("builder3")).unwrap_err().contains("has no line builder3:KEY"));
        assert!(read("a:0011\n", None).unwrap_err().contains("less than 16 bytes"));
        assert!(read("", None).unwrap_err().contains("IDENTITY:KEY"));
    }
}
