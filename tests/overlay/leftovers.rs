//! What is left when the process that builds is killed: nothing that runs, no mount, and folders until the next
//! sweep.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Site, running, script};

const ROLE: &str = "REIMZUL_TEST_SLEEPER";
const SLEEP: &str = "sleep\u{0}86333";

#[tokio::test]
async fn a_killed_builder_leaves_nothing_that_runs() {
    if std::env::var_os(ROLE).is_some() {
        return sleep_in_a_build().await;
    }
    let site = Site::own("leftovers");
    let mut builder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leftovers::a_killed_builder_leaves_nothing_that_runs"])
        .env(ROLE, "yes")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(within(Duration::from_secs(60), || running(SLEEP) == 2).await, "the build did not begin");
    builder.kill().unwrap();
    builder.wait().unwrap();
    assert!(within(Duration::from_secs(60), || running(SLEEP) == 0).await, "the build outlived its builder");

    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(site.root.to_str().unwrap()), "{mounts}");
    let builds = site.cache().join("builds");
    let count = || {
        std::fs::read_dir(&builds).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    };
    assert_eq!(count(), 1, "the dead build's folder is there to be swept");
    let half_made = site.cache().join("new-half-made");
    std::fs::create_dir(&half_made).unwrap();
    site.engine.sweep().await.unwrap();
    assert_eq!(count(), 0);
    assert!(!half_made.exists());
    assert_eq!(std::fs::read_dir(site.cache().join("trash")).unwrap().count(), 0);
    site.build(&site.srpm("afterwards", &script("", ""), &[])).await.succeeded();
}

/// What the process does that the test above starts of itself, and kills.
async fn sleep_in_a_build() {
    let site = Site::own("leftovers");
    let sections = "%build\n(setsid sleep 86333 &)\nsleep 86333\n";
    site.build(&site.srpm("sleeper", &script("", sections), &[])).await;
}

#[tokio::test]
async fn a_running_build_is_not_swept() {
    let site = Site::shared();
    site.ready().await;
    let srpm = site.srpm("running", &script("BuildRequires: m4", "%build\nsleep 1\n"), &[]);
    let sweep = async {
        for _ in 0..10 {
            site.engine.sweep().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (built, ()) = tokio::join!(site.build(&srpm), sweep);
    built.succeeded();
}

async fn within(limit: Duration, happened: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if happened() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    happened()
}
