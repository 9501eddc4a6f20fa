//! `reimzul connect`: standard input and output through TLS, for rsync's RSYNC_CONNECT_PROG (rsync(1)).

use clap::Args;
use tokio::io::{AsyncWriteExt, stdin, stdout};

use super::{Done, Failure, exit};
use crate::config::Config;
use crate::sys::net::{self, Address};
use crate::sys::tls::{self, Tls};

/// Pipe standard input and output through TLS, with the files of section [tls]
#[derive(Debug, Args)]
pub struct Connect {
    host: String,
    port: u16,
}

impl Connect {
    pub async fn run(self, config: &Config) -> Done {
        let bad = || Failure::Usage(format!("'{}' cannot be a host's name or address", self.host));
        let address = Address::new(&self.host, self.port).ok_or_else(bad)?;
        let system = |error: &dyn std::error::Error| Failure::System(error.to_string());
        let tls = Tls::open(&config.tls).map_err(|error| system(&error))?;
        let stream = net::connect(&address, Some(&tls)).await.map_err(|error| system(&error))?;
        // The worker that has rsync run this puts them into its log.
        for warning in tls::warnings() {
            eprintln!("{}{warning}", tls::WARNING);
        }
        let (mut from, mut to) = tokio::io::split(stream);
        let (mut typed, mut shown) = (stdin(), stdout());
        let up = async {
            let sent = tokio::io::copy(&mut typed, &mut to).await;
            let _ = to.shutdown().await;
            // A server that has heard enough says so in what it sends.
            if sent.is_err() { Ok(()) } else { std::future::pending().await }
        };
        let down = async {
            tokio::io::copy(&mut from, &mut shown).await?;
            shown.flush().await
        };
        tokio::pin!(down);
        let ended = tokio::select! { ended = &mut down => ended, up = up => up.and(down.await) };
        match ended {
            Ok(()) => Ok(exit::OK),
            // Many end without TLS's own goodbye; rsync has one of its own.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(exit::OK),
            Err(error) => Err(Failure::System(format!("{address}: {}", tls::explain(&error, &config.tls)))),
        }
    }
}
