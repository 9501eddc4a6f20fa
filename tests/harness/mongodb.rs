//! A MongoDB-wire server of the tests' own: SecantusDB, in a Python environment below `target/` that `make fixtures`
//! makes. A server is a process on a free port, with its data in a temporary folder; both go with the value.

#![allow(dead_code)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use reimzul::config::{MongodbUrl, TlsFiles};
use reimzul::history::mongodb::{History, Observer};

use super::{SOON, free_port};

/// A running server.
pub struct Server {
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    running: Mutex<Option<Running>>,
}

/// The process, and the thread that it dies with should the tests be killed.
struct Running {
    id: u32,
    end: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    /// One that all tests of this process share while any of them needs it; each takes a database of its own.
    pub fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::start(&[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    pub fn start(arguments: &[&str]) -> Server {
        let server = Server::prepare(arguments);
        server.begin();
        server
    }

    /// One that has a port and is not there yet.
    pub fn prepare(arguments: &[&str]) -> Server {
        Server {
            port: free_port(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            folder: tempfile::Builder::new().prefix("reimzul-mongodb-").tempdir().unwrap(),
            running: Mutex::new(None),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A URL of the server with a database that nobody else uses.
    pub fn url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/t{}", self.port, uuid::Uuid::new_v4().simple())
    }

    pub fn history(&self) -> History {
        History::open(&MongodbUrl::new(&self.url()), &TlsFiles::default()).unwrap()
    }

    pub fn begin(&self) {
        self.begin_with(&[]);
    }

    pub fn begin_with(&self, more: &[&str]) {
        let (begun, child) = channel();
        let (end, ended) = channel::<()>();
        let mut command = self.command();
        command.args(more);
        let thread = std::thread::spawn(move || {
            let mut child =
                command.spawn().unwrap_or_else(|error| panic!("cannot start the server: {error}"));
            begun.send(child.id()).unwrap();
            let _ = ended.recv();
            kill(&mut child);
        });
        let id = child.recv().expect("a server that starts");
        *self.running.lock().unwrap() = Some(Running { id, end, thread });
        self.until_it_answers();
    }

    /// SIGKILL: what was acknowledged must be there when it begins again.
    pub fn kill(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            drop(running.end);
            running.thread.join().unwrap();
        }
    }

    /// Stopped and let go on: a server that is there and says nothing.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = self.running.lock().unwrap().as_ref().unwrap().id;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    fn command(&self) -> Command {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(python("secantusd-py"));
        command
            .args(["--host", "127.0.0.1", "--log-level", "ERROR", "--sync-on-commit", "--port"])
            .arg(self.port.to_string())
            .arg("--storage-path")
            .arg(self.data())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // SAFETY: a mere system call.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
        }
        command
    }

    fn until_it_answers(&self) {
        let until = Instant::now() + SOON;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "the server does not answer:\n{}", log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A program of the tests' Python environment.
pub fn python(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin").join(program);
    assert!(path.exists(), "{} is missing: run `make fixtures`", path.display());
    path
}

/// A history whose every command is told.
pub fn watched(url: &str, tell: impl Fn(&str, &mongodb::bson::Document) + Send + Sync + 'static) -> History {
    History::observed(&MongodbUrl::new(url), &TlsFiles::default(), Some(Observer::new(tell))).unwrap()
}
