//! GPG keys, made by gpg once and kept below `target/`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::need;

/// The passphrase of [`Kind::Locked`].
pub const PASSPHRASE: &str = "geheim und lang";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rsa,
    /// As a site has it; slow to make.
    Rsa4096,
    Ed25519,
    /// A second one of those, of somebody else.
    Other,
    /// Ed25519, with [`PASSPHRASE`].
    Locked,
    /// Ed25519, from its first second on.
    Expired,
    /// A primary key that only certifies, and a subkey that signs, both RSA.
    Subkey,
    /// Not among those that are taken.
    Nistp256,
}

/// Files of a key.
#[derive(Debug, Clone)]
pub struct Key {
    pub secret: PathBuf,
    pub public: PathBuf,
    pub fingerprint: String,
}

impl Key {
    /// Its last 16 digits.
    pub fn id(&self) -> &str {
        &self.fingerprint[24..]
    }
}

/// The key, made if it is not there yet.
pub fn key(kind: Kind) -> Key {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys-1").join(format!("{kind:?}"));
    if !kept.exists() {
        make(kind, &kept);
    }
    let fingerprint = std::fs::read_to_string(kept.join("fingerprint")).unwrap();
    Key { secret: kept.join("secret.asc"), public: kept.join("public.asc"), fingerprint }
}

/// By a rename, since tests that run beside this one look for it too.
fn make(kind: Kind, kept: &Path) {
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let work = tempfile::tempdir_in(kept.parent().unwrap()).unwrap();
    let gpg = Home::new();
    let passphrase = if kind == Kind::Locked { PASSPHRASE } else { "" };
    let user = format!("Test {kind:?} <{kind:?}@example.org>");
    let (algorithm, usage, expiry) = match kind {
        Kind::Rsa => ("rsa2048", "sign", "2y"),
        Kind::Rsa4096 => ("rsa4096", "sign", "2y"),
        Kind::Subkey => ("rsa2048", "cert", "never"),
        Kind::Expired => ("ed25519", "sign", "seconds=1"),
        Kind::Nistp256 => ("nistp256", "sign", "never"),
        Kind::Ed25519 | Kind::Other | Kind::Locked => ("ed25519", "sign", "never"),
    };
    gpg.make(&["--passphrase", passphrase, "--quick-gen-key", &user, algorithm, usage, expiry]);
    let listed = gpg.run(&["--with-colons", "--list-keys"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':');
    if kind == Kind::Subkey {
        gpg.make(&["--passphrase", "", "--quick-add-key", fingerprint, "rsa2048", "sign", "1y"]);
    }
    let write = |name: &str, bytes: &[u8], mode: u32| {
        let path = work.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let secret =
        ["--pinentry-mode", "loopback", "--passphrase", passphrase, "--armor", "--export-secret-keys"];
    write("secret.asc", &gpg.run(&secret).stdout, 0o600);
    write("public.asc", &gpg.run(&["--armor", "--export"]).stdout, 0o644);
    write("fingerprint", fingerprint.as_bytes(), 0o644);
    if kind == Kind::Expired {
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    // Another test may have been faster.
    let _ = std::fs::rename(work.keep(), kept);
}

/// A gpg of the tests' own, with its agent; both go with the value.
pub struct Home {
    // Its path is short: sockets' names have a limit.
    folder: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Home {
        let folder = tempfile::Builder::new().prefix("gpg-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Home { folder }
    }

    /// One that holds a key.
    pub fn with(key: &Key) -> Home {
        let home = Home::new();
        let secret = key.secret.display().to_string();
        home.make(&["--import", &secret]);
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--no-tty"]).args(arguments).env("GNUPGHOME", self.path());
        need(command.stdin(Stdio::null()).output(), "gpg", "gnupg")
    }

    fn make(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        let _ = command.args(["--kill", "gpg-agent"]).env("GNUPGHOME", self.path()).output();
    }
}
