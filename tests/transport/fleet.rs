//! The hosts around a builder, on free ports of this machine: a CA, nginx with client certificates, rsyncd, stunnel,
//! and a proxy that cuts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use crate::harness::SOON;
pub use crate::harness::ca::Ca;
pub use crate::harness::free_port;

/// A server, ended with the value.
pub struct Server(Child);

impl Server {
    pub fn start(command: &mut Command, package: &str, port: u16) -> Server {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{command:?}: {error}; install the package {package}"));
        let server = Server(child);
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "{command:?} does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// nginx on a port, with TLS and client certificates, serving `incoming` below /reimzul-incoming/.
pub fn nginx(work: &Path, incoming: &Path, port: u16) -> Server {
    let tls = format!(
        "ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.pem;\n\
         ssl_client_certificate {0}/ca.pem; ssl_verify_client on;",
        work.display()
    );
    nginx_with(work, incoming, port, "ssl", &tls)
}

/// The same without TLS.
pub fn nginx_plain(work: &Path, incoming: &Path, port: u16) -> Server {
    nginx_with(work, incoming, port, "", "")
}

fn nginx_with(work: &Path, incoming: &Path, port: u16, kind: &str, tls: &str) -> Server {
    let work = work.display();
    let text = format!(
        "daemon off; master_process off; user root; pid {work}/nginx.pid; error_log {work}/nginx.log;\nevents {{}}\n\
         http {{ log_format asked '$status $http_range'; access_log {work}/access.log asked; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;\n\
         uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;\n\
         server {{ listen 127.0.0.1:{port} {kind}; {tls}\n\
         location /reimzul-incoming/ {{ alias {}/; autoindex on; }} }} }}\n",
        incoming.display()
    );
    let path = write(Path::new(&work.to_string()), "nginx.conf", &text);
    Server::start(Command::new("nginx").arg("-c").arg(path), "nginx-light", port)
}

/// rsyncd with module reimzul-bstore at `store`.
pub fn rsyncd(work: &Path, store: &Path, port: u16) -> Server {
    std::fs::create_dir_all(store).unwrap();
    let text = format!(
        "use chroot = no\nuid = root\ngid = root\nlog file = {0}/rsyncd.log\ntransfer logging = yes\nlog format = %o %f %b\n\
         pid file = {0}/rsyncd.pid\n[reimzul-bstore]\npath = {1}\nread only = no\n",
        work.display(),
        store.display()
    );
    let config = write(work, "rsyncd.conf", &text);
    let mut command = Command::new("rsync");
    command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]).arg(format!("--port={port}"));
    Server::start(command.arg(format!("--config={}", config.display())), "rsync", port)
}

/// stunnel: TLS with client certificates on `accept`, plain to `connect`.
pub fn stunnel(work: &Path, accept: u16, connect: u16) -> Server {
    let text = format!(
        "foreground = yes\npid =\n[service]\naccept = 127.0.0.1:{accept}\nconnect = 127.0.0.1:{connect}\n\
         cert = {0}/server.pem\nCAfile = {0}/ca.pem\nverifyChain = yes\n",
        work.display()
    );
    let config = write(work, &format!("stunnel-{accept}.conf"), &text);
    Server::start(Command::new("stunnel4").arg(config), "stunnel4", accept)
}

/// Hands connections on to another port, and cuts them once so many bytes have passed one way; it does that as
/// often as it is told.
pub fn cutter(to: u16, after: usize, downwards: bool, times: i64) -> (u16, Arc<AtomicI64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicI64::new(times));
    let cuts = Arc::clone(&left);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            pipe(&client, &server, (!downwards).then(|| (after, Arc::clone(&cuts))));
            pipe(&server, &client, downwards.then(|| (after, Arc::clone(&cuts))));
        }
    });
    (port, left)
}

/// Hands connections on to another port. The one of that number waits until it is told whether it is let through, or cut.
pub fn gate(to: u16, number: usize) -> (u16, Receiver<Sender<bool>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, arrived) = channel();
    std::thread::spawn(move || {
        for (at, client) in (1..).zip(listener.incoming().map_while(Result::ok)) {
            if at == number {
                let (decide, decided) = channel();
                let _ = tell.send(decide);
                if !decided.recv().unwrap_or(false) {
                    continue;
                }
            }
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            pipe(&client, &server, None);
            pipe(&server, &client, None);
        }
    });
    (port, arrived)
}

/// Waits for the connection that a gate holds.
pub async fn held(arrived: Receiver<Sender<bool>>) -> Sender<bool> {
    let wait = move || arrived.recv_timeout(SOON).expect("there are not so many connections");
    tokio::task::spawn_blocking(wait).await.unwrap()
}

fn pipe(from: &TcpStream, to: &TcpStream, cut: Option<(usize, Arc<AtomicI64>)>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut passed = 0;
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
            passed += read;
            if let Some((after, left)) = &cut
                && passed >= *after
                && left.fetch_sub(1, Ordering::SeqCst) > 0
            {
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
