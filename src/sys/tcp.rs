//! TCP connections to servers.

use std::time::Duration;

use tokio::net::TcpStream;

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection for small requests, each of which is waited for. An error is the reason, for a sentence.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect((host, port)))
        .await
        .map_err(|_| format!("no connection within {} s", PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}
