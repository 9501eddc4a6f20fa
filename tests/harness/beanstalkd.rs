//! A beanstalkd of the tests' own, on a free port with its binlog in a temporary folder; it goes with the value.
//! And a TCP proxy before it, whose connections can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reimzul::queue::beanstalkd::Queue;
use reimzul::sys::net::Address;

use super::{SOON, free_port, need};

/// A running server.
pub struct Beanstalkd {
    port: u16,
    folder: tempfile::TempDir,
    largest: usize,
    child: Mutex<Option<Child>>,
}

impl Beanstalkd {
    pub fn start() -> Beanstalkd {
        Beanstalkd::with_limit(65_535)
    }

    /// One with another limit for a job's size.
    pub fn with_limit(largest: usize) -> Beanstalkd {
        let folder = tempfile::Builder::new().prefix("reimzul-beanstalkd-").tempdir().unwrap();
        let server = Beanstalkd { port: free_port(), folder, largest, child: Mutex::new(None) };
        server.begin();
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("beanstalk://127.0.0.1:{}", self.port)
    }

    pub fn begin(&self) {
        let mut command = Command::new("beanstalkd");
        command
            .args([
                "-l",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-z",
                &self.largest.to_string(),
                "-f",
                "0",
                "-b",
            ])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        *self.child.lock().unwrap() = Some(need(command.spawn(), "beanstalkd", "beanstalkd"));
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "beanstalkd does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL: what it has acknowledged must be there when it begins again.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Beanstalkd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The queue on it, as a process of that node has it.
pub fn queue(port: u16, node: &str) -> Queue {
    Queue::new(Address { host: "127.0.0.1".into(), port }, None, node)
}

/// What stands between a client and a server, and can come between them.
#[derive(Clone)]
pub struct Proxy {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    open: Arc<AtomicBool>,
}

impl Proxy {
    /// One that severs once `words` have got through to the server.
    pub fn until(words: &'static str, server: u16) -> Proxy {
        Proxy::begin(server, Some(words))
    }

    pub fn to(server: u16) -> Proxy {
        Proxy::begin(server, None)
    }

    fn begin(server: u16, until: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let open = Arc::new(AtomicBool::new(true));
        let proxy = Proxy { port, streams, open };
        let this = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let mut kept = this.streams.lock().unwrap();
                if this.open.load(Ordering::SeqCst) {
                    kept.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                    let up = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    match until {
                        Some(words) => pump_until(words, up, this.clone()),
                        None => pump(up.0, up.1),
                    }
                    pump(server, client);
                }
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection; new ones may come.
    pub fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends every connection, and lets no new ones come about, until [`Proxy::mend`].
    pub fn sever(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.cut();
    }

    pub fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

fn pump_until(words: &'static str, (mut from, mut to): (TcpStream, TcpStream), proxy: Proxy) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    std::thread::spawn(move || {
        let (mut buffer, mut passed) = (vec![0; 1 << 16], Vec::new());
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
            passed.extend_from_slice(&buffer[..read]);
            if passed.windows(words.len()).any(|window| window == words.as_bytes()) {
                proxy.sever();
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}
