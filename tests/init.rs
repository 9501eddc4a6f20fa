//! `reimzul init`, as a person calls it, below folders of the test's own.

use std::path::Path;
use std::process::{Command, Output};

const BUILDER: [&str; 5] = ["builder", "--controller", "ctl.example.org", "--bstore", "store.example.org"];

fn init(dest: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reimzul"));
    command.arg("init").args(arguments).arg("--dest").arg(dest).output().unwrap()
}

#[test]
fn a_builder_is_told_its_hosts_and_a_second_run_changes_nothing() {
    let dest = tempfile::tempdir().unwrap();
    let file = dest.path().join("etc/reimzul/reimzul.ini");
    assert_eq!(init(dest.path(), &BUILDER).status.code(), Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("url = beanstalks://ctl.example.org:11301\n"), "{text}");
    assert!(text.contains("upload = rsyncs://store.example.org:11875/reimzul-bstore\n"), "{text}");
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(init(dest.path(), &BUILDER).status.code(), Some(0));
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written);
}

#[test]
fn what_differs_is_kept_unless_forced_and_then_nothing_else_is_written() {
    let dest = tempfile::tempdir().unwrap();
    let file = dest.path().join("etc/reimzul/reimzul.ini");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "mine").unwrap();
    let refused = init(dest.path(), &["controller"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("etc/reimzul/reimzul.ini"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(!dest.path().join("etc/stunnel").exists());
    assert_eq!(init(dest.path(), &["controller", "--force"]).status.code(), Some(0));
    assert_ne!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_dry_run_writes_nothing_and_a_hostile_name_is_refused() {
    let dest = tempfile::tempdir().unwrap();
    let dry = init(dest.path(), &["bstore", "--controller", "ctl", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&dry.stdout).contains("etc/reimzul/rsyncd.conf"));
    let hostile = init(dest.path(), &["bstore", "--controller", "a\n[tls]"]);
    assert_eq!(hostile.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(dest.path()).unwrap().count(), 0);
}
