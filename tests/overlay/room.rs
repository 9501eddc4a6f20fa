//! A builder whose disk is full: the root folder on a small file system, in a mount namespace of the test's own.

use std::process::Command;

use nix::mount::{MsFlags, mount};
use reimzul::model::Class;

use crate::harness::{self, Site, mini_distro, script};

const ROLE: &str = "REIMZUL_TEST_ROOM";

#[tokio::test]
async fn a_full_disk_is_the_builders_fault() {
    if std::env::var_os(ROLE).is_some() {
        return build_without_room().await;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can mount a small file system to fill");
        return;
    }
    mini_distro();
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "room::a_full_disk_is_the_builders_fault"])
        .env(ROLE, "yes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("told so"), "{said}");
}

/// What the test does in a mount namespace of its own.
async fn build_without_room() {
    let root = harness::target_dir().join("overlay-room");
    std::fs::create_dir_all(&root).unwrap();
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("size=260m")).unwrap();
    let site = Site::at(root, mini_distro());
    site.ready().await;
    let fills = site.srpm("fills", &script("", "%build\ncat /dev/zero > filled\n"), &[]);
    let pretends = "%build\necho 'write: No space left on device'\nexit 1\n";
    let pretends = site.srpm("pretends", &script("", pretends), &[]);
    let built = site.build(&fills).await;
    assert_eq!(built.failure().class, Class::Disk, "{}", built.failure());
    assert!(
        built.failure().retry && built.failure().lines[0].contains("No space left"),
        "{}",
        built.failure()
    );
    // The folder is removed in the background.
    while std::fs::read_dir(site.cache().join("trash")).unwrap().count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(site.build(&pretends).await.failure().class, Class::Build);
    println!("told so");
}
