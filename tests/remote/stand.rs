//! A site that serves requests: its root, a mosquitto, a git server and a lookaside, and people with certificates.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reimzul::config::Broker;
use reimzul::model::request::Request;
use reimzul::remote::signature::Signer;
use reimzul::sys::net::Address;
use reimzul::sys::tls::TlsFiles;
use serde_json::{Value, json};

use crate::harness::free_port;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::{Ran, Root, SOON};

/// A server, ended with the value.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, port: u16) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.process_group(0).spawn();
        let server = Server(child.unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `git daemon` is a program started by git.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

pub struct Stand {
    pub root: Root,
    pub broker: Mosquitto,
    work: tempfile::TempDir,
    _servers: Vec<Server>,
}

/// Servers of git and of sources, and the lines of [scm] that say where they are.
type Servers = (Vec<Server>, String);

/// Everybody of the tests may have everything built, but for those whom a test is about.
pub const POLICY: &str = "[policy]\nallow =\n    alice | * | * | * | all\n    \
    bob | mini | * | * | scratch\n    carol | other | * | * | all\n";

impl Stand {
    /// With more lines for [scm], and for the configuration.
    pub fn new(engine: &str, more: &str) -> Stand {
        Stand::made(Mosquitto::start(), "controller", engine, more, plain)
    }

    /// On a broker as docs/requests.md has it.
    pub fn documented(more: &str) -> Stand {
        Stand::made(Mosquitto::documented(), "controller.example.org", "null", more, plain)
    }

    /// With git and the lookaside on one server, as sites have them, through TLS by this certificate and key.
    pub fn by_https(pem: &str, more: &str) -> Stand {
        Stand::made(Mosquitto::start(), "controller", "null", more, |work| https(work, pem))
    }

    fn made(
        broker: Mosquitto,
        controller: &str,
        engine: &str,
        more: &str,
        servers: impl FnOnce(&Path) -> Servers,
    ) -> Stand {
        let root = Root::new();
        let work = tempfile::Builder::new().prefix("reimzul-scm-").tempdir().unwrap();
        for folder in ["git/r/rpms", "lookaside"] {
            std::fs::create_dir_all(work.path().join(folder)).unwrap();
        }
        let (servers, scm) = servers(work.path());
        let config = format!(
            "[worker]\nengine = {engine}\nretry_delay = 0\n{}notifications = yes\n[scm]\n{scm}{more}",
            broker.section(controller, "reimzul")
        );
        root.write("reimzul.ini", &config);
        Stand { root, broker, work, _servers: servers }
    }

    /// Lets it build against the mini distribution.
    pub fn add_mini_distro(&self) {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mini-distro");
        let text = std::fs::read_to_string(made.join("mini.x86_64.repo")).expect("`make fixtures` makes it");
        let text = text.replace("$root/mini-distro", &made.display().to_string());
        self.root.write("targets/mini.x86_64.repo", &text);
    }

    /// A package's repository on the git server, with one commit of these files on a branch.
    pub fn repository(&self, pkg: &str, branch: &str, message: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let bare = self.work.path().join(format!("git/r/rpms/{pkg}.git"));
        git(&["init", "--quiet", "--bare", &bare.display().to_string()]);
        self.commit(pkg, branch, message, files);
        bare
    }

    /// One more commit; returns its id.
    pub fn commit(&self, pkg: &str, branch: &str, message: &str, files: &[(&str, &[u8])]) -> String {
        let bare = self.work.path().join(format!("git/r/rpms/{pkg}.git")).display().to_string();
        let tree = self.tree(pkg);
        let at = tree.display().to_string();
        if !tree.exists() {
            git(&["clone", "--quiet", &bare, &at]);
        }
        git(&["-C", &at, "checkout", "--quiet", "-B", branch]);
        for (name, content) in files {
            let path = tree.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        git(&["-C", &at, "add", "--all", "--force"]);
        git(&["-C", &at, "commit", "--quiet", "--allow-empty", "-m", message]);
        git(&["-C", &at, "push", "--quiet", "--force", "origin", branch]);
        git(&["-C", &at, "rev-parse", "HEAD"]).trim().to_owned()
    }

    /// The work tree that commits are made in.
    pub fn tree(&self, pkg: &str) -> PathBuf {
        self.work.path().join(format!("tree-{pkg}"))
    }

    /// Puts a file into the lookaside.
    pub fn upload(&self, place: &str, content: &[u8]) {
        let path = self.work.path().join("lookaside").join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// `reimzul request` by somebody.
    pub fn request(&self, who: &str, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.request_command(who, arguments))
    }

    pub fn request_command(&self, who: &str, arguments: &[&str]) -> Command {
        let home = self.work.path().join(who);
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join(".reimzul.ini"), self.broker.section(who, "reimzul/submit")).unwrap();
        let mut command = Command::new(crate::harness::BINARY);
        command.arg("request").args(arguments).env("HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
        command.env_remove("REIMZUL_ROOT").env_remove("REIMZUL_CONFIG");
        command
    }

    pub fn files(&self, certificate: &Path) -> TlsFiles {
        TlsFiles {
            section: "mqtt",
            ca_cert: Some(self.broker.ca()),
            tls_cert: Some(certificate.to_owned()),
            ..TlsFiles::default()
        }
    }

    /// The broker as somebody's client knows it.
    pub fn client(&self, who: &str) -> (Broker, Signer) {
        let files = self.files(&self.broker.certificate(who));
        let signer = Signer::open(&files).unwrap();
        let address = Address::new("127.0.0.1", self.broker.port()).unwrap();
        (Broker { address, tls: files, topic: "reimzul/submit".into(), results: false }, signer)
    }

    /// The audit log, line by line.
    pub fn audit(&self) -> Vec<Value> {
        let text = self.audit_log();
        // The last line may be half written.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many lines it has.
    pub fn audited(&self) -> usize {
        self.audit_log().matches('\n').count()
    }

    fn audit_log(&self) -> String {
        std::fs::read_to_string(self.root.join("log/requests.log")).unwrap_or_default()
    }
}

/// git daemon, and a web server beside it.
fn plain(work: &Path) -> Servers {
    let (git, files) = (free_port(), free_port());
    let daemon = Server::start(
        Command::new("git")
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={git}"))
            .arg(format!("--base-path={}", work.join("git").display())),
        git,
    );
    let lookaside = Server::start(
        Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &files.to_string()])
            .current_dir(work.join("lookaside")),
        files,
    );
    let urls = format!("git_url = git://127.0.0.1:{git}\nlookaside_url = http://127.0.0.1:{files}\n");
    (vec![daemon, lookaside], urls)
}

/// git http-backend and the lookaside, behind TLS.
fn https(work: &Path, pem: &str) -> Servers {
    let port = free_port();
    let certificate = work.join("server.pem");
    std::fs::write(&certificate, pem).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote/git_server.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(port.to_string()).arg(certificate);
    command.arg(work.join("git")).arg(work.join("lookaside"));
    (vec![Server::start(&mut command, port)], format!("git_url = https://127.0.0.1:{port}\n"))
}

/// A request for a package, as the wire has it.
pub fn asked(pkg: &str, who: &str) -> Request {
    serde_json::from_value(
        json!({"pkg": pkg, "git_branch": "c9", "arch": crate::harness::arch(), "submitter": who,
        "target": "mini", "disttag": "", "sources_dir": "", "scratch": false}),
    )
    .unwrap()
}

/// A spec that packs in no time.
pub fn spec(name: &str) -> String {
    format!(
        "Name: {name}\nVersion: 1.0\nRelease: 1%{{?dist}}\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n\
         %description\nA package that is there to be built.\n%files\n"
    )
}

pub fn git(arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for (name, value) in [("AUTHOR", "Alice"), ("COMMITTER", "Alice")] {
        command.env(format!("GIT_{name}_NAME"), value).env(format!("GIT_{name}_EMAIL"), "alice@example.org");
    }
    let output = command.output().expect("git runs: install the package git");
    let _ = std::io::stderr().write_all(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
