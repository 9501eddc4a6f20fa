//! Builds as an ordinary user with subordinate ids. Where the tests run as root, that user is made up for the
//! test, in a mount namespace with another /etc/passwd: the test program runs itself twice for that.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};

use crate::harness::{self, Site, mini_distro, script};

const ROLE: &str = "REIMZUL_TEST_ROOTLESS";
const THIS: &str = "rootless::an_ordinary_user_builds_too";
const UID: u32 = 4242;

#[tokio::test]
async fn an_ordinary_user_builds_too() {
    match std::env::var(ROLE).as_deref() {
        Ok("become_a_user") => become_a_user(),
        Ok("build_as_a_user") => return build_as_a_user().await,
        _ => {}
    }
    harness::need("newuidmap", "uidmap");
    harness::need("setpriv", "util-linux");
    mini_distro();
    let part = if nix::unistd::geteuid().is_root() { "become_a_user" } else { "build_as_a_user" };
    let output = Command::new("unshare")
        .arg(if part == "become_a_user" { "--mount" } else { "--" })
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", THIS])
        .env(ROLE, part)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("built as a user"), "{said}");
}

/// First part: makes the user up, and becomes it.
fn become_a_user() -> ! {
    let target = harness::target_dir().parent().unwrap().to_owned();
    let site = target.join("tmp/overlay-rootless");
    clear(&site);
    std::fs::create_dir_all(&site).unwrap();
    chown(&site, Some(UID), Some(UID)).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    show(temporary.path(), "/etc/passwd", &format!("builder:x:{UID}:{UID}::/:/bin/sh\n"));
    show(temporary.path(), "/etc/group", &format!("builder:x:{UID}:\n"));
    show(temporary.path(), "/etc/subuid", "builder:200000:65536\n");
    show(temporary.path(), "/etc/subgid", "builder:200000:65536\n");
    // The repository may lie in a folder that is closed to others, such as root's home.
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    for (from, to) in [(target.as_path(), "/mnt/target"), (mini_distro(), "/mnt/distro")] {
        std::fs::create_dir(to).unwrap();
        bind(from, Path::new(to));
    }
    let shown = |path: &Path| Path::new("/mnt/target").join(path.strip_prefix(&target).unwrap());
    let error = Command::new("setpriv")
        .args(["--reuid", &UID.to_string(), "--regid", &UID.to_string(), "--clear-groups"])
        .arg(shown(&std::env::current_exe().unwrap()))
        .args(["--exact", "--nocapture", THIS])
        .env(ROLE, "build_as_a_user")
        .env("HOME", shown(&site))
        .env("REIMZUL_TEST_SITE", shown(&site))
        .env("REIMZUL_TEST_EXE", shown(Path::new(env!("CARGO_BIN_EXE_reimzul"))))
        .env("REIMZUL_MINI_DISTRO", "/mnt/distro")
        .current_dir("/")
        .exec();
    panic!("cannot run setpriv: {error}");
}

/// A file of /etc with lines added, in this mount namespace only.
fn show(temporary: &Path, path: &str, lines: &str) {
    let name = Path::new(path).file_name().unwrap();
    let ours = temporary.join(name);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    std::fs::write(&ours, text + lines).unwrap();
    if !Path::new(path).exists() {
        std::fs::write(path, "").unwrap();
    }
    bind(&ours, Path::new(path));
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn clear(site: &Path) {
    match std::fs::remove_dir_all(site) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

/// Second part: builds.
async fn build_as_a_user() {
    let root = std::env::var_os("REIMZUL_TEST_SITE")
        .map_or_else(|| harness::target_dir().join("overlay-rootless"), PathBuf::from);
    let site = Site::at(root, mini_distro());
    let findings = site.engine.check().await;
    assert!(findings.iter().all(|finding| finding.ok), "{findings:#?}");
    assert!(findings[0].text.contains("ordinary user"), "{findings:#?}");

    let sections = "%build\ntest \"$(id -u)\" = 1000\ntest -e /usr/include/zlib.h\n! touch /usr/x\n\
                    mkdir private\nchmod 0 private\n! ls /proc/1/root\ntest ! -e /mnt/target\n";
    let built = site.build(&site.srpm("rootless", &script("BuildRequires: zlib-devel", sections), &[])).await;
    built.succeeded();
    assert_eq!(built.rpms(), ["rootless-1-1.mini1.noarch.rpm", "rootless-1-1.mini1.src.rpm"]);
    site.engine.sweep().await.unwrap();
    for folder in ["builds", "trash"] {
        let left: Vec<_> = std::fs::read_dir(site.cache().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        assert_eq!(left, [""; 0].map(PathBuf::from), "files of subordinate ids were left in {folder}");
    }
    by_the_binary(&site);
    println!("built as a user");
}

/// As a person would. The binary starts itself again as the sandboxes' init, which the tests' engine is told where to
/// find instead.
fn by_the_binary(site: &Site) {
    let sections = "%build\ntest \"$(id -u)\" = 1000\n";
    let spec = site.spec("by-hand", &script("", sections), &[]);
    let exe = std::env::var_os("REIMZUL_TEST_EXE");
    let output = Command::new(exe.unwrap_or_else(|| env!("CARGO_BIN_EXE_reimzul").into()))
        .arg("--root")
        .arg(&site.root)
        .args(["build", "--target", "mini"])
        .arg(&spec)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("by-hand-1-1.mini1.noarch.rpm"), "{said}");
}
