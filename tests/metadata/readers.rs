//! Readers over HTTP, from a real server, while the repository is switched again and again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reimzul::config::RepoEngine;
use reimzul::metadata::Sign;

use crate::harness::{SOON, values};
use crate::oracle::Place;
use crate::rpms;

const SWITCHES: usize = 200;

/// nginx, serving a folder on a free port.
struct Nginx {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(root: &Path) -> Nginx {
        let folder = tempfile::tempdir().unwrap();
        let port = crate::harness::free_port();
        let place = folder.path().display();
        let configuration = format!(
            "user root; daemon off; worker_processes 2; pid {place}/pid; error_log {place}/error.log;\n\
             events {{ }}\nhttp {{ access_log off; client_body_temp_path {place}/a; proxy_temp_path {place}/b;\n\
             fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;\n\
             server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
            root.display()
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("nginx");
        let child = command.arg("-c").arg(&file).arg("-p").arg(folder.path()).stderr(Stdio::null()).spawn();
        let child = child.expect("cannot run nginx: install the package nginx-light");
        let until = Instant::now() + SOON;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Nginx { child, port, _folder: folder }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it on SIGTERM, not on SIGKILL.
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn get(port: u16, path: &str) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or("no answer")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.lines().next().unwrap_or_default();
    if status.contains(" 200 ") { Ok(answer.split_off(end + 4)) } else { Err(format!("{path}: {status}")) }
}

/// As dnf does it: repomd.xml, and then what it names, checked.
fn refresh(port: u16, is_signed: bool) -> Result<String, String> {
    let signature = if is_signed { get(port, "repodata/repomd.xml.asc")? } else { Vec::new() };
    let repomd = String::from_utf8(get(port, "repodata/repomd.xml")?).map_err(|error| error.to_string())?;
    if is_signed && !signature.starts_with(b"signed") {
        return Err("the signature is none".into());
    }
    for href in values(&repomd, "href=\"") {
        let digest: String = reimzul::sys::fs::sha256_of(&get(port, &href)?);
        if !repomd.contains(&digest) {
            return Err(format!("{href} is not what repomd.xml says"));
        }
    }
    Ok(repomd)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_pauses_sees_no_error_while_states_are_switched() {
    for is_signed in [false, true] {
        let place = Place::new(RepoEngine::Incremental);
        rpms::build(place.tree(), "first", 1, 3);
        let sign: Sign<'_> = &|_| Box::pin(async { Ok(b"signed".to_vec()) });
        let sign = is_signed.then_some(sign);
        let update =
            async || place.repository.lock().await.unwrap().update(place.wanted(), sign).await.unwrap();
        update().await;
        let nginx = Nginx::start(place.tree());
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let reader = std::thread::spawn({
            let (port, stop, seen) = (nginx.port, Arc::clone(&stop), Arc::clone(&seen));
            move || {
                let (mut last, mut errors) = (String::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match refresh(port, is_signed) {
                        Ok(repomd) if repomd != last => {
                            seen.fetch_add(1, Ordering::Relaxed);
                            last = repomd;
                        }
                        Ok(_) => {}
                        Err(error) => errors.push(error),
                    }
                }
                errors
            }
        });
        for number in 0..SWITCHES {
            rpms::build(place.tree(), &format!("p{number}"), 1, 3);
            assert!(update().await.is_new);
        }
        stop.store(true, Ordering::Relaxed);
        let errors = reader.join().unwrap();
        assert!(errors.is_empty(), "signed: {is_signed}: {errors:#?}");
        let seen = seen.load(Ordering::Relaxed);
        assert!(seen > 10, "the reader saw only {seen} states");
    }
}

#[tokio::test]
async fn dnf_reads_what_the_engine_writes_in_both_formats() {
    let mut place = Place::new(RepoEngine::Incremental);
    for number in 0..70 {
        rpms::build(place.tree(), &format!("p{number}"), 1, 3);
    }
    for compression in [reimzul::config::Compression::Gzip, reimzul::config::Compression::Zstd] {
        place.repository.options.compression = compression;
        place.update().await;
        let scratch = tempfile::tempdir().unwrap();
        let mut dnf = Command::new("dnf");
        dnf.args(["--quiet", "--disablerepo=*", "--releasever=1", "--setopt=reposdir=/nonexistent"]);
        dnf.arg(format!("--setopt=cachedir={}", scratch.path().join("cache").display()));
        dnf.arg(format!("--installroot={}", scratch.path().join("root").display()));
        dnf.arg(format!("--repofrompath=ours,file://{}", place.tree().display()));
        dnf.args([
            "--enablerepo=ours",
            "repoquery",
            "--queryformat=%{name}",
            "--file",
            "/usr/bin/p69-0",
            "p69",
        ]);
        let output = dnf.output().expect("cannot run dnf: install the package dnf");
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.trim(), "p69", "{compression:?}: {error}");
    }
}
