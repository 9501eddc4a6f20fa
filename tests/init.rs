//! `reimzul init` and `reimzul certificate`, as a person calls them, below folders of the test's own.

mod harness;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::{Ran, reimzul};

const BUILDER: [&str; 5] = ["builder", "--controller", "ctl.example.org", "--bstore", "store.example.org"];
const CONTROLLER: [&str; 4] = ["controller", "--controller", "ctl.example.org", "--ca"];

fn init(dest: &Path, arguments: &[&str]) -> Ran {
    reimzul(&[&["init"], arguments, &["--dest", dest.to_str().unwrap()]].concat())
}

fn certificate(dest: &Path, arguments: &[&str]) -> Ran {
    let ca = dest.join("etc/reimzul/ca");
    reimzul(&[&["certificate"], arguments, &["--ca", ca.to_str().unwrap()]].concat())
}

fn openssl(arguments: &[&str], files: &[&Path]) -> Ran {
    Ran::of(Command::new("openssl").args(arguments).args(files))
}

#[test]
fn a_builder_is_told_its_hosts_and_a_second_run_changes_nothing() {
    let dest = tempfile::tempdir().unwrap();
    let file = dest.path().join("etc/reimzul/reimzul.ini");
    init(dest.path(), &BUILDER).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("url = beanstalks://ctl.example.org:11301\n"), "{text}");
    assert!(text.contains("upload = rsyncs://store.example.org:11875/reimzul-bstore\n"), "{text}");
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    let again = init(dest.path(), &BUILDER).ok();
    assert!(again.out.lines().all(|line| line.starts_with("unchanged")), "{again:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written);
}

#[test]
fn each_roles_configuration_is_understood_whole() {
    for role in [&CONTROLLER[..3], &BUILDER[..], &["bstore", "--controller", "ctl"][..]] {
        let dest = tempfile::tempdir().unwrap();
        init(dest.path(), role).ok();
        let config = dest.path().join("etc/reimzul/reimzul.ini");
        let ran = reimzul(&["--config", config.to_str().unwrap(), "check-config", "--json"]);
        let said = ran.json();
        assert_eq!(said["file"], config.to_str().unwrap());
        assert_eq!(said["unused"], serde_json::json!([]), "{role:?}");
        for entry in walk(dest.path()) {
            let text = std::fs::read_to_string(&entry).unwrap();
            assert!(!text.contains("@CONTROLLER@") && !text.contains("@BSTORE@"), "{}", entry.display());
        }
    }
}

#[test]
fn what_differs_is_kept_unless_forced_and_then_nothing_else_is_written() {
    let dest = tempfile::tempdir().unwrap();
    let file = dest.path().join("etc/reimzul/reimzul.ini");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "mine").unwrap();
    let refused = init(dest.path(), &CONTROLLER);
    assert_eq!(refused.code, 2);
    assert!(refused.out.contains(&format!("differs    {}", file.display())), "{refused:?}");
    assert!(refused.out.contains("--force overwrites what differs"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(walk(dest.path()), std::slice::from_ref(&file));
    init(dest.path(), &[&CONTROLLER[..], &["--force"]].concat()).ok();
    assert_ne!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_dry_run_writes_nothing_and_what_cannot_be_meant_is_refused() {
    let dest = tempfile::tempdir().unwrap();
    let dry = init(dest.path(), &[&CONTROLLER[..], &["--dry-run"]].concat()).ok();
    for file in ["etc/reimzul/nginx.conf", "etc/reimzul/ca/ca.pem", "etc/systemd/system/reimzul.target"] {
        assert!(dry.out.contains(file), "{dry:?}");
    }
    for bad in [
        &["bstore", "--controller", "a\n[tls]"][..],
        &["bstore", "--controller=-x"],
        &["bstore", "--controller", ""],
        &["bstore"],
        &["builder", "--controller", "ctl"],
        &["client"],
        &["bstore", "--controller", "ctl", "--ca"],
    ] {
        let ran = init(dest.path(), bad);
        assert_eq!(ran.code, 2, "{bad:?} {ran:?}");
        assert!(!ran.err.is_empty(), "{bad:?}");
    }
    assert_eq!(walk(dest.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_authority_is_made_once_and_certifies_hosts_by_name() {
    let dest = tempfile::tempdir().unwrap();
    let (ca, tls) = (dest.path().join("etc/reimzul/ca"), dest.path().join("etc/reimzul/tls"));
    init(dest.path(), &CONTROLLER).ok();
    for secret in [ca.join("ca.key"), tls.join("host.pem")] {
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (authority, own) = (std::fs::read(ca.join("ca.pem")).unwrap(), tls.join("host.pem"));
    let first = std::fs::read(&own).unwrap();
    init(dest.path(), &[&CONTROLLER[..], &["--force"]].concat()).ok();
    assert_eq!(std::fs::read(ca.join("ca.pem")).unwrap(), authority, "never overwritten");
    assert_eq!(std::fs::read(&own).unwrap(), first);

    let ran = certificate(dest.path(), &["store.example.org", "10.1.2.3"]).ok();
    let folders: Vec<&str> = ran.out.lines().collect();
    let store = Path::new(folders[0]);
    assert_eq!(store, ca.join("issued/store.example.org"));
    let by = ca.join("ca.pem");
    for (file, name) in [(own.as_path(), "ctl.example.org"), (&store.join("host.pem"), "store.example.org")] {
        for purpose in ["sslserver", "sslclient"] {
            let chain = ["verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", name, "-CAfile"];
            openssl(&chain, &[&by, file]).ok();
        }
        assert_ne!(openssl(&["verify", "-verify_hostname", "other", "-CAfile"], &[&by, file]).code, 0);
    }
    let numbered = Path::new(folders[1]).join("host.pem");
    openssl(&["verify", "-verify_ip", "10.1.2.3", "-CAfile"], &[&by, &numbered]).ok();

    let again = certificate(dest.path(), &["store.example.org"]);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("--renew makes a new certificate"), "{again:?}");
    let before = std::fs::read(store.join("host.pem")).unwrap();
    certificate(dest.path(), &["store.example.org", "--renew", "--days", "9"]).ok();
    assert_ne!(std::fs::read(store.join("host.pem")).unwrap(), before);
}

#[test]
fn an_authority_that_is_missing_or_broken_is_told() {
    let dest = tempfile::tempdir().unwrap();
    let none = certificate(dest.path(), &["h"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("there is no authority in"), "{none:?}");
    init(dest.path(), &CONTROLLER).ok();
    let other = tempfile::tempdir().unwrap();
    init(other.path(), &CONTROLLER).ok();
    let key = dest.path().join("etc/reimzul/ca/ca.key");
    for text in [std::fs::read(other.path().join("etc/reimzul/ca/ca.key")).unwrap(), b"rubbish".to_vec()] {
        std::fs::write(&key, text).unwrap();
        let ran = certificate(dest.path(), &["h"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("is not its key"), "{ran:?}");
    }
    assert_eq!(certificate(dest.path(), &["../h"]).code, 2);
    assert!(!dest.path().join("etc/reimzul/ca/issued").exists());
}

/// Every file below a folder, in order.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
