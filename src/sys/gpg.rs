//! Keys that gpg-agent holds, through gpg(1): on a smart card, or unlocked once by a person.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fs::{self, FileError};
use super::openpgp::PublicKeys;
use super::process::{self, Output, Program};

/// A signature that gpg did not make.
#[derive(Debug, thiserror::Error)]
pub enum GpgError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Process(#[from] process::ProcessError),
    #[error("gpg did not answer within {} s: does its agent hang, or wait for a person?", limit.as_secs())]
    Hangs { limit: Duration },
    #[error(
        "gpg has no secret key {key} ({said}); import it for the user that this runs as, or correct [sign] key"
    )]
    NoKey { key: String, said: String },
    #[error("gpg cannot sign with key {key}: {said}")]
    Refused { key: String, said: String },
}

/// A key of gpg's.
#[derive(Debug, Clone)]
pub struct Agent {
    key: String,
    passphrase: Option<PathBuf>,
    limit: Duration,
}

impl Agent {
    /// `key` is what gpg knows it by: best its fingerprint. `limit` is how long gpg may take for anything.
    pub fn new(key: &str, passphrase: Option<&Path>, limit: Duration) -> Agent {
        Agent { key: key.to_owned(), passphrase: passphrase.map(Path::to_owned), limit }
    }

    /// The public part, if gpg has the secret one.
    pub async fn public(&self) -> Result<PublicKeys, GpgError> {
        let no_key = |said: String| GpgError::NoKey { key: self.key.clone(), said };
        let secret = self.run(gpg().args(["--with-colons", "--list-secret-keys", "--", &self.key])).await?;
        if !secret.end.success() {
            return Err(no_key(said(&secret.stderr)));
        }
        let public = self.run(gpg().args(["--armor", "--export", "--", &self.key])).await?;
        PublicKeys::parse(public.stdout.as_bytes()).map_err(no_key)
    }

    /// A detached signature of the file `content`, in ASCII armor.
    pub async fn sign(&self, content: &Path) -> Result<String, GpgError> {
        let signature = beside(content);
        let mut program = gpg();
        if let Some(passphrase) = &self.passphrase {
            program = program.args(["--pinentry-mode", "loopback", "--passphrase-file"]).arg(passphrase);
        } else {
            // Nobody is there to be asked: a locked key is an error, not a wait.
            program = program.args(["--pinentry-mode", "error"]);
        }
        let program = program
            .args(["--digest-algo", "SHA256", "--armor", "--yes"])
            .args(["--local-user", &self.key, "--detach-sign", "--output"])
            .arg(&signature)
            .arg("--")
            .arg(content);
        let output = self.run(program).await?;
        if !output.end.success() {
            return Err(GpgError::Refused { key: self.key.clone(), said: said(&output.stderr) });
        }
        let made = std::fs::read_to_string(&signature).map_err(FileError::at("read", &signature))?;
        let _ = std::fs::remove_file(&signature);
        Ok(made)
    }

    /// Signs bytes, by way of a file in `folder`, which must be this signer's alone.
    pub async fn sign_bytes(&self, content: &[u8], folder: &Path) -> Result<String, GpgError> {
        let file = folder.join("content");
        fs::write_private(&file, content)?;
        let signed = self.sign(&file).await;
        let _ = std::fs::remove_file(&file);
        signed
    }

    async fn run(&self, program: Program) -> Result<Output, GpgError> {
        // Dropped, it is killed.
        let output = tokio::time::timeout(self.limit, process::output(&program)).await;
        Ok(output.map_err(|_| GpgError::Hangs { limit: self.limit })??)
    }
}

fn gpg() -> Program {
    Program::new("gpg").env("LC_ALL", "C").args(["--batch", "--no-tty", "--quiet"])
}

fn beside(content: &Path) -> PathBuf {
    let mut name = content.file_name().unwrap_or_default().to_owned();
    name.push(".sig");
    content.with_file_name(name)
}

/// gpg's last line says what its failure comes to, the first why.
fn said(stderr: &str) -> String {
    let mut lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.dedup();
    if lines.is_empty() { "it said nothing".into() } else { lines.join("; ").chars().take(300).collect() }
}
