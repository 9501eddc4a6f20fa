//! A root with signing configured, builds in its bstore, and what stands before a client: rpmkeys and dnf.

use std::path::{Path, PathBuf};
use std::process::Command;

use reimzul::model::Status;
use reimzul::queue::{NewJob, PRIORITY_FOLLOW_UP, State, TOSIGN};
use reimzul::role::Site;
use reimzul::sign::Request;
use reimzul::sys::fs;
use serde_json::json;

use crate::harness::keys::Key;
use crate::harness::{Root, eventually, target};

/// With these lines as its section [sign].
pub fn farm(sign: &str) -> Root {
    let root = Root::new();
    let ini = root.read("reimzul.ini");
    root.write("reimzul.ini", &format!("{ini}\n[sign]\n{sign}\n"));
    root
}

/// `key = …` of a key file.
pub fn by_file(key: &Key) -> String {
    format!("key = {}", key.secret.display())
}

/// A build in the bstore.
pub struct Build {
    pub pkgname: String,
    pub timestamp: String,
    /// `<pkgname>/<timestamp>/<version-release>.<arch>`.
    pub place: String,
    pub files: Vec<String>,
}

impl Build {
    /// A successful one, of these RPMs.
    pub fn put(root: &Root, timestamp: &str, rpms: &[PathBuf]) -> Build {
        Build::put_as(root, timestamp, rpms, "Success", false)
    }

    pub fn put_as(root: &Root, timestamp: &str, rpms: &[PathBuf], status: &str, scratch: bool) -> Build {
        let name = rpms[0].file_name().unwrap().to_string_lossy().into_owned();
        let pkgname = name.split('-').next().unwrap().to_owned();
        let place = format!("{pkgname}/{timestamp}/1.0-1.{}", crate::harness::arch());
        let folder = root.join(format!("bstore/repo/{}/{place}", target()));
        std::fs::create_dir_all(&folder).unwrap();
        let results: Vec<_> = rpms
            .iter()
            .map(|rpm| {
                let file = rpm.file_name().unwrap().to_string_lossy().into_owned();
                std::fs::copy(rpm, folder.join(&file)).unwrap();
                let (sha256, size) = fs::sha256(&folder.join(&file)).unwrap();
                json!({"nevra": file.trim_end_matches(".rpm"), "file": file, "size": size, "sha256": sha256})
            })
            .collect();
        let files = results.iter().map(|result| result["file"].as_str().unwrap().to_owned()).collect();
        let record = json!({
            "format": 1, "srpm": format!("{pkgname}-1.0-1.src.rpm"), "arch": crate::harness::arch(),
            "target": target(), "disttag": ".el9", "scratch": scratch, "submitter": "tester", "status": status,
            "builder_fqdn": "b1", "evr": "1.0-1", "pkgname": pkgname, "timestamp": timestamp,
            "attempt": "1", "source": {"file": format!("{pkgname}-1.0-1.src.rpm"), "size": 1, "sha256": ""},
            "results": results, "durations": {}, "started": "", "finished": "",
            "engine": {"name": "null", "version": "1"}, "buildroot": [],
        });
        std::fs::write(folder.join("build.json"), serde_json::to_vec(&record).unwrap()).unwrap();
        Build { pkgname, timestamp: timestamp.to_owned(), place, files }
    }

    /// What the notifier puts after its success.
    pub fn request(&self) -> NewJob {
        let request = Request {
            pkgname: self.pkgname.parse().unwrap(),
            status: Status::Success,
            target: target(),
            arch: crate::harness::arch().parse().unwrap(),
            timestamp: self.timestamp.parse().unwrap(),
        };
        NewJob::new(TOSIGN, &request, PRIORITY_FOLLOW_UP)
    }

    /// Its files in `signed/`, relative to the root.
    pub fn signed(&self) -> Vec<String> {
        let mut files: Vec<String> = self
            .files
            .iter()
            .map(|file| format!("bstore/signed/{}/{}/{file}", target(), self.place))
            .collect();
        files.sort();
        files
    }

    pub fn built(&self, root: &Root, file: &str) -> PathBuf {
        root.join(format!("bstore/repo/{}/{}/{file}", target(), self.place))
    }
}

/// The signed repository.
pub fn repository(root: &Root) -> PathBuf {
    root.join(format!("bstore/signed/{}", target()))
}

/// RPMs below `signed/`, relative to the root.
pub fn published(root: &Root) -> Vec<String> {
    root.files("bstore/signed").into_iter().filter(|file| file.strip_suffix(".rpm").is_some()).collect()
}

/// Waits for the reason of a job that is delayed or buried.
pub async fn reason(site: &Site, state: State) -> (String, String) {
    eventually("a job with a reason", async || {
        let jobs = site.queue.list(None).await.unwrap();
        let job = jobs.into_iter().find(|job| job.state == state && job.reason.is_some())?;
        Some((job.tube, job.reason.unwrap()))
    })
    .await
}

/// What rpmkeys says of a file with just this key, and whether it accepts it.
pub fn rpmkeys(public: &Path, file: &Path) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("rpmkeys");
        command.arg("--dbpath").arg(folder.path()).args(arguments).env("LC_ALL", "C");
        let output = command.output().expect("cannot run rpmkeys: install the package rpm");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    };
    let (imported, said) = run(&["--import", public.to_str().unwrap()]);
    assert!(imported, "{said}");
    run(&["--define", "_pkgverify_level all", "-Kv", file.to_str().unwrap()])
}

/// Installs a package with a dnf that believes nothing without a signature, into a root of its own.
pub fn dnf_install(url: &str, public: &Path, package: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let (repos, root) = (folder.path().join("repos"), folder.path().join("root"));
    std::fs::create_dir_all(&repos).unwrap();
    let key = public.display();
    let repo = format!(
        "[signed]\nname=signed\nbaseurl={url}\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file://{key}\nmetadata_expire=0\n"
    );
    std::fs::write(repos.join("signed.repo"), repo).unwrap();
    let mut command = Command::new("dnf");
    command
        .args(["-y", "--setopt=plugins=0", "--setopt=install_weak_deps=0", "--releasever=1"])
        .arg(format!("--setopt=reposdir={}", repos.display()))
        .arg(format!("--setopt=cachedir={}", folder.path().join("cache").display()))
        .arg(format!("--installroot={}", root.display()))
        .args(["install", package])
        .env("LC_ALL", "C");
    let output = command.output().expect("cannot run dnf: install the package dnf");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// A web server that serves a folder as /bstore/; ended with the value.
pub struct Web {
    child: std::process::Child,
    port: u16,
    _work: tempfile::TempDir,
}

impl Web {
    pub fn of(folder: &Path) -> Web {
        let work = tempfile::tempdir().unwrap();
        let port = crate::harness::free_port();
        let (place, served) = (work.path().display(), folder.display());
        let text = format!(
            "daemon off; master_process off; user root; pid {place}/pid; error_log {place}/log;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {place}/1; proxy_temp_path {place}/2; fastcgi_temp_path {place}/3;\n\
             uwsgi_temp_path {place}/4; scgi_temp_path {place}/5;\n\
             server {{ listen 127.0.0.1:{port}; location /bstore/ {{ alias {served}/; }} }} }}\n"
        );
        let configuration = work.path().join("nginx.conf");
        std::fs::write(&configuration, text).unwrap();
        let child = Command::new("nginx").arg("-c").arg(configuration).spawn();
        let child = child.expect("cannot run nginx: install the package nginx-light");
        let until = std::time::Instant::now() + crate::harness::SOON;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < until, "nginx does not listen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Web { child, port, _work: work }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/bstore/", self.port)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
