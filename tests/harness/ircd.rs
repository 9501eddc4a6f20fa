//! An IRC network of the tests' own: inspircd, and atheme-services for accounts, on free ports; and somebody who reads
//! along. All of it goes with the value.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ca::Ca;
use super::free_port;
use super::{SOON, eventually};

pub struct Network {
    pub port: u16,
    pub tls_port: u16,
    folder: tempfile::TempDir,
    server: Option<Child>,
    services: Option<Child>,
}

impl Network {
    pub fn start() -> Network {
        let folder = tempfile::Builder::new().prefix("reimzul-irc-").tempdir().unwrap();
        let mut network =
            Network { port: free_port(), tls_port: free_port(), folder, server: None, services: None };
        network.configure(free_port());
        network.begin();
        network
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// It throws out who floods: a JOIN counts two, other commands one, fifteen are borne, and one is forgiven a second.
    fn configure(&self, link: u16) {
        let ca = Ca::new("IRC CA");
        let write = |name: &str, text: &str| std::fs::write(self.path(name), text).unwrap();
        write("ca.pem", &ca.pem());
        write("server.pem", &ca.sign("irc", "127.0.0.1", (-1, 365)));
        let (folder, port, tls) = (self.folder.path().display(), self.port, self.tls_port);
        write(
            "inspircd.conf",
            &format!(
                r#"<server name="irc.test" description="test" network="Test" id="1AA">
<admin name="a" email="a@test" nick="a">
<module name="ssl_gnutls"><module name="cap"><module name="services_account"><module name="sasl">
<module name="spanningtree">
<sslprofile name="Clients" provider="gnutls" certfile="{folder}/server.pem" keyfile="{folder}/server.pem">
<bind address="127.0.0.1" port="{port}" type="clients">
<bind address="127.0.0.1" port="{tls}" type="clients" sslprofile="Clients">
<bind address="127.0.0.1" port="{link}" type="servers">
<connect allow="*" timeout="60" localmax="100" globalmax="100" resolvehostnames="no" useident="no"
 threshold="15" fakelag="off">
<link name="services.test" ipaddr="127.0.0.1" port="{link}" allowmask="127.0.0.1" sendpass="l" recvpass="l">
<uline server="services.test" silent="yes">
<sasl target="services.test">
"#
            ),
        );
        let modules = [
            "protocol/inspircd",
            "backend/opensex",
            "crypto/pbkdf2v2",
            "nickserv/main",
            "nickserv/register",
            "saslserv/main",
            "saslserv/plain",
        ];
        let modules = modules.map(|module| format!("loadmodule \"modules/{module}\";")).join("\n");
        write(
            "atheme.conf",
            &format!(
                r#"{modules}
serverinfo {{ name = "services.test"; desc = "s"; numeric = "00A"; recontime = 1; netname = "Test";
 adminname = "a"; adminemail = "a@test"; registeremail = "a@test"; auth = none; casemapping = rfc1459;
 mta = "/bin/false"; maxaccts = 5; maxnicks = 5; loglevel = {{ error; }}; }};
uplink "irc.test" {{ host = "127.0.0.1"; port = {link}; send_password = "l"; receive_password = "l"; }};
nickserv {{ nick = "NickServ"; user = "NickServ"; host = "services.test"; real = "n"; }};
saslserv {{ nick = "SaslServ"; user = "SaslServ"; host = "services.test"; real = "s"; }};
general {{ commit_interval = 1; default_clone_allowed = 100; }};
database {{ }};
"#
            ),
        );
    }

    /// The server, then the services: who had an account has it again.
    pub fn begin(&mut self) {
        let config = format!("--config={}", self.path("inspircd.conf").display());
        let mut command = Command::new("inspircd");
        // Where it leaves a core when it crashes.
        command.current_dir(self.path("."));
        command.args([&config, "--nofork", "--runasroot", "--nopid", "--nolog"]);
        self.server = Some(start(command, "inspircd"));
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "inspircd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::create_dir(self.path("data"));
        let mut command = Command::new("atheme-services");
        command.arg("-n").arg("-c").arg(self.path("atheme.conf")).arg("-D").arg(self.path("data"));
        command.arg("-l").arg(self.path("atheme.log")).arg("-p").arg(self.path("atheme.pid"));
        self.services = Some(start(command, "atheme-services"));
    }

    pub fn end(&mut self) {
        // SIGTERM: the services write down who has an account.
        for mut child in [self.services.take(), self.server.take()].into_iter().flatten() {
            let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }

    /// An account `reimzul` with this password; tried again until the services are there.
    pub async fn register(&self, password: &str) {
        let user = Reader::join(self.port, "reimzul", &[]);
        eventually("an account", async || {
            user.put(&format!("PRIVMSG NickServ :REGISTER {password} a@example.org"));
            // More often than once a second is a flood to the server.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            user.lines().iter().any(|line| line.contains("now registered")).then_some(())
        })
        .await;
        user.put("QUIT");
        let _ = user.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(mut command: Command, package: &str) -> Child {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}; install the package {package}"))
}

/// ngircd, which knows no SASL.
pub struct Ngircd {
    pub port: u16,
    _folder: tempfile::TempDir,
    child: Child,
}

impl Ngircd {
    pub fn start() -> Ngircd {
        let folder = tempfile::Builder::new().prefix("reimzul-ngircd-").tempdir().unwrap();
        let port = free_port();
        let text = format!(
            "[Global]\nName = irc.test\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\nServerUID = root\n\
             ServerGID = root\n[Options]\nIdent = no\nPAM = no\nDNS = no\n[Limits]\nMaxConnectionsIP = 0\n"
        );
        let config = folder.path().join("ngircd.conf");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("ngircd");
        command.arg("--nodaemon").arg("--config").arg(&config);
        let child = start(command, "ngircd");
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "ngircd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ngircd { port, _folder: folder, child }
    }
}

impl Drop for Ngircd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody on a channel, by the bare protocol.
pub struct Reader {
    stream: TcpStream,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Reader {
    pub fn join(port: u16, nick: &str, channels: &[&str]) -> Reader {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let reader = Reader { stream, lines: Arc::default() };
        let (mut answers, lines) = (reader.stream.try_clone().unwrap(), Arc::clone(&reader.lines));
        let input = BufReader::new(reader.stream.try_clone().unwrap());
        std::thread::spawn(move || {
            for line in input.lines().map_while(Result::ok) {
                if let Some(token) = line.strip_prefix("PING ") {
                    let _ = write!(answers, "PONG {token}\r\n");
                }
                lines.lock().unwrap().push(line);
            }
        });
        reader.put(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}"));
        reader.waits_for(" 001 ");
        for channel in channels {
            reader.put(&format!("JOIN {channel}"));
            reader.waits_for(&format!(" {channel} :End of"));
        }
        reader
    }

    pub fn put(&self, line: &str) {
        let mut stream: &TcpStream = &self.stream;
        let _ = write!(stream, "{line}\r\n");
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// What was said on a channel.
    pub fn said(&self, channel: &str) -> Vec<String> {
        let mark = format!(" PRIVMSG {channel} :");
        self.lines()
            .iter()
            .filter_map(|line| line.split_once(&mark))
            .map(|(_, text)| text.to_owned())
            .collect()
    }

    /// Waits for so many lines on a channel.
    pub async fn hears(&self, channel: &str, number: usize) -> Vec<String> {
        let what = format!("{number} lines on {channel}");
        eventually(&what, async || Some(self.said(channel)).filter(|said| said.len() >= number)).await
    }

    fn waits_for(&self, part: &str) {
        let until = Instant::now() + SOON;
        while !self.lines().iter().any(|line| line.contains(part)) {
            assert!(Instant::now() < until, "'{part}' never came: {:?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where a file with a password is.
pub fn secret(folder: &Path, password: &str) -> PathBuf {
    let path = folder.join("irc.password");
    std::fs::write(&path, format!("{password}\n")).unwrap();
    path
}
