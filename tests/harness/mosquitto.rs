//! A mosquitto of the tests' own, with TLS and client certificates, on a free port, its persistence in a temporary
//! folder; it goes with the value.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reimzul::sys::mqtt::{Message, Mqtt, Options};
use reimzul::sys::net::Address;
use reimzul::sys::tls::{Tls, TlsFiles};
use tokio::sync::mpsc::UnboundedReceiver;

use super::ca::Ca;
use super::free_port;
use super::{SOON, need};

/// A broker, with the authority that its clients' certificates are of.
pub struct Mosquitto {
    port: u16,
    folder: tempfile::TempDir,
    ca: Ca,
    child: Mutex<Option<Child>>,
}

/// With the paths of docs/requests.md. Users are the certificates' names.
const CONFIG: &str = "listener 8883\ncafile /etc/mosquitto/reimzul-ca.pem\ncertfile /etc/mosquitto/server.pem\n\
    keyfile /etc/mosquitto/server.key\nrequire_certificate true\nuse_identity_as_username true\n\
    acl_file /etc/mosquitto/reimzul.acl\npersistence true\npersistence_location /var/lib/mosquitto/\n\
    max_queued_messages 100000\n";

impl Mosquitto {
    /// Who has a certificate may read and write everything.
    pub fn start() -> Mosquitto {
        Mosquitto::configured(CONFIG, "pattern readwrite #\n")
    }

    /// As docs/requests.md has it.
    pub fn documented() -> Mosquitto {
        let page = include_str!("../../docs/requests.md");
        Mosquitto::configured(&block(page, "listener 8883"), &block(page, "user controller.example.org"))
    }

    /// With these texts as its configuration and its ACL file (mosquitto.conf(5)).
    fn configured(config: &str, acl: &str) -> Mosquitto {
        let folder = tempfile::Builder::new().prefix("reimzul-mosquitto-").tempdir().unwrap();
        let broker =
            Mosquitto { port: free_port(), folder, ca: Ca::new("Broker CA"), child: Mutex::new(None) };
        let path = |name: &str| broker.folder.path().join(name);
        std::fs::write(path("ca.pem"), broker.ca.pem()).unwrap();
        std::fs::write(path("server.pem"), broker.ca.sign("broker", "127.0.0.1", (-1, 365))).unwrap();
        std::fs::write(path("acl"), acl).unwrap();
        let mut text = format!("user root\n{config}log_dest file {}\nlog_type all\n", path("log").display());
        for (documented, ours) in [
            ("listener 8883", format!("listener {} 127.0.0.1", broker.port)),
            ("/etc/mosquitto/reimzul-ca.pem", path("ca.pem").display().to_string()),
            ("/etc/mosquitto/server.pem", path("server.pem").display().to_string()),
            ("/etc/mosquitto/server.key", path("server.pem").display().to_string()),
            ("/etc/mosquitto/reimzul.acl", path("acl").display().to_string()),
            ("/var/lib/mosquitto/", path("").display().to_string()),
        ] {
            assert!(text.contains(documented), "{documented} is not in {text}");
            text = text.replace(documented, &ours);
        }
        std::fs::write(path("mosquitto.conf"), text).unwrap();
        broker.begin();
        broker
    }

    pub fn begin(&self) {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(need(command.spawn(), "mosquitto", "mosquitto"));
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A good certificate of that name, with its key.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.certificate_of(name, (-1, 365))
    }

    /// One that is valid from and to so many days from now.
    pub fn certificate_of(&self, name: &str, days: (i64, i64)) -> PathBuf {
        let path = self.folder.path().join(format!("{name}{}.pem", days.1));
        if !path.exists() {
            std::fs::write(&path, self.ca.sign(name, name, days)).unwrap();
        }
        path
    }

    /// The section [mqtt] of a configuration, for somebody of that name.
    pub fn section(&self, name: &str, topic: &str) -> String {
        format!(
            "[mqtt]\nhost = 127.0.0.1\nport = {}\nca_cert = {}\ntls_cert = {}\ntls_insecure = False\n\
             topic = {topic}\n",
            self.port,
            self.ca().display(),
            self.certificate(name).display()
        )
    }

    /// A client with a good certificate.
    pub fn client(&self, name: &str, subscriptions: &[&str]) -> (Mqtt, UnboundedReceiver<Message>) {
        Mqtt::start(self.options(name, subscriptions))
    }

    pub fn options(&self, name: &str, subscriptions: &[&str]) -> Options {
        self.options_by(&self.certificate(name), name, subscriptions)
    }

    pub fn options_by(&self, certificate: &Path, name: &str, subscriptions: &[&str]) -> Options {
        let files = TlsFiles {
            section: "mqtt",
            ca_cert: Some(self.ca()),
            tls_cert: Some(certificate.to_owned()),
            ..TlsFiles::default()
        };
        Options {
            address: Address::new("127.0.0.1", self.port).unwrap(),
            tls: Tls::open(&files).unwrap(),
            client_id: format!("{name}-{}", uuid::Uuid::new_v4().simple()),
            persistent: false,
            subscriptions: subscriptions.iter().map(|&topic| topic.to_owned()).collect(),
            hello: None,
        }
    }

    /// How many messages on a topic it has acknowledged to clients whose names begin so, by its own log.
    pub fn acknowledged(&self, client: &str, topic: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let topic = format!("'{topic}'");
        let (mut open, mut number) = (BTreeSet::new(), 0);
        for line in log.lines() {
            // Received PUBLISH from CLIENT (d0, q1, r0, m5, 'TOPIC', ... (712 bytes))
            // Sending PUBACK to CLIENT (m5, rc0)
            let words: Vec<&str> = line.split([' ', ',', '(']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                [_, "Received", "PUBLISH", "from", who, _, _, _, id, on, ..] if *on == topic => {
                    open.insert((*who, *id));
                }
                [_, "Sending", "PUBACK", "to", who, id, ..] if who.starts_with(client) => {
                    number += usize::from(open.remove(&(*who, *id)));
                }
                _ => {}
            }
        }
        number
    }

    /// SIGTERM: it writes down what it holds.
    pub fn terminate(&self) {
        self.end(Signal::SIGTERM);
    }

    /// SIGKILL: it loses what it had not written down.
    pub fn kill(&self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&self, signal: Signal) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A block of code in a page, which begins with this line.
fn block(page: &str, first: &str) -> String {
    let lines = page.lines().skip_while(|line| line.trim() != first);
    let block = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    block.fold(String::new(), |text, line| text + line.trim() + "\n")
}

/// What comes next.
pub async fn next(messages: &mut UnboundedReceiver<Message>) -> Message {
    let next = tokio::time::timeout(SOON, messages.recv()).await;
    next.expect("a message comes").expect("the client lives")
}
