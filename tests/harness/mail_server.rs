//! A mail server of the tests' own: aiosmtpd, on a free port, with its mails in a temporary folder.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::free_port;
use super::{SOON, eventually};

/// Its mails outlive it: it can begin again.
pub struct MailServer {
    pub port: u16,
    box_of: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl MailServer {
    pub fn start(arguments: &[&str]) -> MailServer {
        let mut server = MailServer::prepare(arguments);
        server.begin();
        server
    }

    /// One that has a port and is not there yet.
    pub fn prepare(arguments: &[&str]) -> MailServer {
        MailServer {
            port: free_port(),
            box_of: tempfile::Builder::new().prefix("reimzul-mail-").tempdir().unwrap(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
        }
    }

    pub fn begin(&mut self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(folder.join("target/python/bin/python"));
        command.arg(folder.join("tests/harness/mail_server.py")).arg(self.port.to_string());
        command.arg(self.box_of.path()).args(&self.arguments).stdin(Stdio::null());
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{command:?}: {error}; run make fixtures")));
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "the mail server does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// All mails, in the order in which they came.
    pub fn mails(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.box_of.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "json"));
        files.sort();
        files.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
    }

    /// Waits for so many mails.
    pub async fn has(&self, number: usize) -> Vec<Value> {
        eventually("mails in the box", async || Some(self.mails()).filter(|mails| mails.len() >= number))
            .await
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.end();
    }
}
