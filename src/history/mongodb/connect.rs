//! From a URL to a client: limits of time, durable writes, and TLS with the files of `[tls]`.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, HostInfo, ReadPreference, SelectionCriteria,
    ServerAddress, Tls, WriteConcern,
};

use super::error::MongodbError;
use crate::config::{MongodbUrl, TlsFiles};
use crate::sys::net::{self, Address, NetError};
use crate::sys::tls::{self, TlsError};

/// How long a server is looked for, and a connection tried, unless the URL says otherwise.
const REACH: Duration = Duration::from_secs(5);
/// Where a URL names none.
const USUAL_PORT: u16 = 27017;

/// What a URL comes to, before anything is connected.
#[derive(Debug)]
pub(super) struct Plan {
    url: MongodbUrl,
    tls: TlsFiles,
    pub hosts: String,
    pub database: String,
}

impl Plan {
    /// Reads the URL; connects to nothing.
    pub fn of(url: &MongodbUrl, tls: &TlsFiles) -> Result<Plan, MongodbError> {
        let parsed = ConnectionString::parse(url.as_str()).map_err(|error| unreadable(&error))?;
        if parsed.tls_insecure() == Some(true) {
            return Err(MongodbError::Unverified("tlsInsecure"));
        }
        if let Some(Tls::Enabled(options)) = &parsed.tls
            && options.allow_invalid_certificates == Some(true)
        {
            return Err(MongodbError::Unverified("tlsAllowInvalidCertificates"));
        }
        Ok(Plan {
            hosts: hosts(&parsed.host_info),
            database: parsed.default_database.clone().unwrap_or_else(|| "reimzul".into()),
            url: url.clone(),
            tls: tls.clone(),
        })
    }

    /// A client, which connects when it is used first.
    pub async fn client(&self, observer: Option<Observer>) -> Result<Connected, MongodbError> {
        let mut options =
            ClientOptions::parse(self.url.as_str()).await.map_err(|error| unreadable(&error))?;
        options.app_name.get_or_insert_with(|| "reimzul".into());
        // One host is that host: the names by which it knows itself are of no use behind a tunnel. Who has a replica
        // set names it (replicaSet=) or more than one of its hosts.
        if options.hosts.len() == 1 && options.repl_set_name.is_none() {
            options.direct_connection.get_or_insert(true);
        }
        options.server_selection_timeout.get_or_insert(REACH);
        options.connect_timeout.get_or_insert(REACH);
        // What is written must be read by the next step, whatever replica sets are asked for.
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        // An event leaves the outbox once it is written, so it must survive a power failure then.
        let durable = options.write_concern.get_or_insert_with(WriteConcern::default);
        durable.w.get_or_insert(Acknowledgment::Majority);
        durable.journal.get_or_insert(true);
        durable.w_timeout.get_or_insert(Duration::from_secs(20));
        options.command_event_handler = observer.map(|Observer(handler)| handler);
        let mut kept = None;
        if let Some(Tls::Enabled(with)) = &mut options.tls {
            with.ca_file_path = with.ca_file_path.take().or_else(|| self.tls.ca_cert.clone());
            if let Some(file) = &with.ca_file_path {
                has_certificate("certificate of the authority", file)?;
            }
            if with.cert_key_file_path.is_none() {
                (with.cert_key_file_path, kept) = self.tls.identity()?;
            }
        }
        let client = Client::with_options(options).map_err(|error| {
            super::error::told(&error, super::error::Doing::Other, &self.hosts, &self.database)
        })?;
        Ok(Connected { client, _identity: kept })
    }

    /// What our own TLS finds wrong with the certificates, which the driver does not tell; none where that is nothing,
    /// or where the URL asks for no TLS.
    pub async fn look_closer(&self) -> Option<TlsError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let parsed = ConnectionString::parse(self.url.as_str()).ok()?;
        let (Some(Tls::Enabled(with)), HostInfo::HostIdentifiers(hosts)) = (parsed.tls, parsed.host_info)
        else {
            return None;
        };
        let ours = self.tls.clone();
        let (tls_cert, tls_key) = match with.cert_key_file_path {
            Some(path) => (Some(path), None),
            None => (ours.tls_cert, ours.tls_key),
        };
        let ca_cert = with.ca_file_path.or(ours.ca_cert);
        let tls = match tls::Tls::open(&TlsFiles { ca_cert, tls_cert, tls_key, ..TlsFiles::default() }) {
            Ok(tls) => tls,
            Err(error) => return Some(error),
        };
        for host in hosts {
            let ServerAddress::Tcp { host, port } = host else { continue };
            let Some(address) = Address::new(&host, port.unwrap_or(USUAL_PORT)) else { continue };
            let probed = tokio::time::timeout(PATIENCE, net::probe(&address, &tls)).await;
            if let Ok(Err(NetError::Tls { source, .. })) = probed {
                return Some(source);
            }
        }
        None
    }
}

fn hosts(info: &HostInfo) -> String {
    match info {
        HostInfo::HostIdentifiers(hosts) => {
            hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        // Not made by a mongodb:// URL.
        _ => "its server".into(),
    }
}

/// A client, and the file that its TLS connections may read again.
#[derive(Debug)]
pub(super) struct Connected {
    pub client: Client,
    _identity: Option<File>,
}

/// Is told of every command that is sent, for tests.
#[derive(Debug, Clone)]
pub struct Observer(EventHandler<CommandEvent>);

impl Observer {
    pub fn new(tell: impl Fn(&str, &mongodb::bson::Document) + Send + Sync + 'static) -> Observer {
        let tell = Arc::new(tell);
        Observer(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                tell(&started.command_name, &started.command);
            }
        }))
    }
}

/// The driver repeats values, and with them passwords, in a few of its messages.
fn unreadable(error: &mongodb::error::Error) -> MongodbError {
    let text = error.kind.to_string();
    let text = text.trim_start_matches("An invalid argument was provided: ");
    let shown = if text.contains("://") || text.contains('@') { "it cannot be parsed" } else { text };
    MongodbError::Url(shown.to_owned())
}

/// The driver takes an authority's file without a certificate for no authority at all.
fn has_certificate(what: &'static str, file: &Path) -> Result<String, MongodbError> {
    let bad = |reason: String| MongodbError::TlsFile { what, file: file.display().to_string(), reason };
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(bad("it holds no certificate in PEM format".into()));
    }
    Ok(text)
}

impl TlsFiles {
    /// One file with our certificate and key, as the driver wants it; where they are two, one in memory that lives
    /// as long as what is returned with it.
    fn identity(&self) -> Result<(Option<PathBuf>, Option<File>), MongodbError> {
        let Some(cert) = &self.tls_cert else { return Ok((None, None)) };
        let certificate = has_certificate("client certificate", cert)?;
        let key_file = self.tls_key.as_ref().unwrap_or(cert);
        let bad = |reason: String| MongodbError::TlsFile {
            what: "client key",
            file: key_file.display().to_string(),
            reason,
        };
        let key = std::fs::read_to_string(key_file).map_err(|error| bad(error.to_string()))?;
        if !key.contains("PRIVATE KEY-----") {
            return Err(bad("it holds no private key in PEM format; name the key's file in tls_key".into()));
        }
        if key_file == cert {
            return Ok((Some(cert.clone()), None));
        }
        let both = in_memory(&format!("{certificate}\n{key}\n")).map_err(|error| bad(error.to_string()))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", both.as_raw_fd()));
        Ok((Some(path), Some(both)))
    }
}

/// A key is never written to a disk on which it was not before.
fn in_memory(text: &str) -> std::io::Result<File> {
    let fd = nix::sys::memfd::memfd_create(c"reimzul-tls", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())?;
    Ok(file)
}
