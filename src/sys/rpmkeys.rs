//! Checking RPMs with rpm's own rpmkeys(8), against a keyring that holds just the keys it should.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fs::{self, FileError};
use super::process::{self, Program};

/// Reading a large RPM takes seconds; what takes this long hangs.
const LIMIT: Duration = Duration::from_secs(600);
const PROGRAM: &str = "rpmkeys";

/// An RPM that must not be published, or rpmkeys that does not work.
#[derive(Debug, thiserror::Error)]
pub enum RpmkeysError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Process(#[from] process::ProcessError),
    #[error("rpmkeys did not end within {} s", LIMIT.as_secs())]
    Hangs,
    #[error("rpmkeys does not take the public key: {0}")]
    Import(String),
    /// What rpmkeys said of the first file that is not right.
    #[error("rpmkeys refuses {}: {said}", file.display())]
    Refused { file: PathBuf, said: String },
}

/// A keyring of its own, in a folder.
#[derive(Debug, Clone)]
pub struct Keyring {
    folder: PathBuf,
}

impl Keyring {
    /// Makes one of armored keys, in place of what `folder` holds.
    pub async fn make(folder: &Path, keys: &[String]) -> Result<Keyring, RpmkeysError> {
        fs::remove_dir(folder)?;
        fs::make_dir(folder)?;
        let keyring = Keyring { folder: folder.to_owned() };
        for (number, key) in keys.iter().enumerate() {
            let file = folder.join(format!("{number}.asc"));
            fs::write_whole(&file, key.as_bytes())?;
            let output = run(keyring.program().arg("--import").arg(&file)).await?;
            if !output.end.success() {
                return Err(RpmkeysError::Import(last_line(&output.stderr)));
            }
        }
        Ok(keyring)
    }

    /// Whether each file is whole and signed by a key of the ring. rpm tells by exit status and by a line for each;
    /// both must say so.
    pub async fn check(&self, files: &[PathBuf]) -> Result<(), RpmkeysError> {
        // Its command line has a limit.
        for files in files.chunks(100) {
            self.check_some(files).await?;
        }
        Ok(())
    }

    async fn check_some(&self, files: &[PathBuf]) -> Result<(), RpmkeysError> {
        let program = self
            .program()
            // Without these a file without any signature passes (rpm's macros.in).
            .args(["--define", "_pkgverify_level all", "--define", "_pkgverify_flags 0"])
            .args(["--checksig", "--"])
            .args(files);
        let output = run(program).await?;
        for file in files {
            let name = file.display().to_string();
            let of_it = |line: &&str| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(':'));
            let line = output.stdout.lines().find(of_it).unwrap_or_default();
            if line != format!("{name}: digests signatures OK") {
                let said = line
                    .strip_prefix(&format!("{name}: "))
                    .map_or_else(|| last_line(&output.stderr), str::to_owned);
                return Err(RpmkeysError::Refused { file: file.clone(), said });
            }
        }
        if output.end.success() {
            return Ok(());
        }
        let file = files.first().cloned().unwrap_or_default();
        Err(RpmkeysError::Refused { file, said: format!("it ended with {}", output.end) })
    }

    fn program(&self) -> Program {
        Program::new(PROGRAM).env("LC_ALL", "C").arg("--dbpath").arg(self.folder.join("db"))
    }
}

async fn run(program: Program) -> Result<process::Output, RpmkeysError> {
    // Dropped, it is killed.
    let output = tokio::time::timeout(LIMIT, process::output(&program)).await;
    Ok(output.map_err(|_| RpmkeysError::Hangs)??)
}

fn last_line(text: &str) -> String {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
