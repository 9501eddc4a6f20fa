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
    let (bstore, client) = (["bstore", "--controller", "ctl"], ["client", "--controller", "ctl"]);
    for role in [&CONTROLLER[..3], &BUILDER, &bstore, &client] {
        let dest = tempfile::tempdir().unwrap();
        init(dest.path(), role).ok();
        let config = dest.path().join("etc/reimzul/reimzul.ini");
        let ran = reimzul(&["--config", config.to_str().unwrap(), "check-config", "--json"]);
        let said = ran.json();
        assert_eq!(said["file"], config.to_str().unwrap());
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
        &["controller", "--settings", "nowhere.ini"],
        &["bstore", "--controller", "ctl", "--ca"],
    ] {
        let ran = init(dest.path(), bad);
        assert_eq!(ran.code, 2, "{bad:?} {ran:?}");
        assert!(!ran.err.is_empty(), "{bad:?}");
    }
    assert_eq!(walk(dest.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_sites_settings_go_into_the_configuration_and_wrong_ones_are_told() {
    let dest = tempfile::tempdir().unwrap();
    let (file, site) = (dest.path().join("etc/reimzul/reimzul.ini"), dest.path().join("site.ini"));
    let with = |settings: &str, more: &[&str]| {
        std::fs::write(&site, settings).unwrap();
        init(dest.path(), &[&BUILDER[..], &["--settings", site.to_str().unwrap()], more].concat())
    };
    with("[worker]\nslots = 4\nmemory = 8G\n", &[]).ok();
    let said = reimzul(&["--config", file.to_str().unwrap(), "check-config", "--json"]).json();
    assert_eq!(said["slots"], 4);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("# How many builds at once.\nslots = 4\n"), "{text}");

    let again = with("[worker]\nslots = 4\nmemory = 8G\n", &["--json"]).ok().json();
    let states = |said: &serde_json::Value| {
        let mut states: Vec<String> = Vec::new();
        for file in said["files"].as_array().unwrap() {
            let state = file["state"].as_str().unwrap();
            if state != "unchanged" {
                states.push(format!("{state} {}", file["path"].as_str().unwrap()));
            }
        }
        states
    };
    assert_eq!(states(&again), Vec::<String>::new());
    let changed = with("[worker]\nslots = 5\n", &["--json"]);
    assert_eq!((changed.code, &changed.json()["written"]), (2, &serde_json::json!(false)));
    assert_eq!(states(&changed.json()), [format!("differs {}", file.display())]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let forced = with("[worker]\nslots = 5\n", &["--json", "--force"]).ok().json();
    assert_eq!(forced["written"], true);
    assert_eq!(forced["units"], serde_json::json!(["reimzul-stunnel", "reimzul-worker@1", "reimzul.target"]));

    for (bad, told) in [
        ("[worker]\nslts = 5\n", "unknown key 'slts' in section [worker], did you mean 'slots'?"),
        ("[worker]\nslots = many\n", "slots in section [worker] is 'many'"),
        ("[worker\n", "site.ini"),
    ] {
        let ran = with(bad, &["--force"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains(told), "{ran:?}");
    }
    assert!(std::fs::read_to_string(&file).unwrap().contains("\nslots = 5\n"), "nothing was written");
}

#[test]
fn a_certificate_is_renewed_when_its_end_is_near_and_kept_else() {
    let dest = tempfile::tempdir().unwrap();
    init(dest.path(), &CONTROLLER).ok();
    let issued = dest.path().join("etc/reimzul/ca/issued/h");
    let renewed = |more: &[&str]| {
        let said =
            certificate(dest.path(), &[&["h", "--json", "--renew-before", "30"], more].concat()).ok().json();
        assert_eq!(said[0]["folder"], issued.to_str().unwrap());
        said[0]["new"].as_bool().unwrap()
    };
    assert!(renewed(&["--days", "20"]), "there was none");
    assert!(renewed(&["--days", "40"]), "its end was near");
    let kept = std::fs::read(issued.join("host.pem")).unwrap();
    assert!(!renewed(&[]));
    assert_eq!(std::fs::read(issued.join("host.pem")).unwrap(), kept);
    std::fs::write(issued.join("ca.pem"), "another's").unwrap();
    assert!(renewed(&[]), "another authority's");
    std::fs::write(issued.join("host.pem"), "rubbish").unwrap();
    assert!(renewed(&[]));
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
