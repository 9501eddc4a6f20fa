//! Packages that fail: the class, the phase and the lines that tell why.

use std::time::Duration;

use reimzul::model::Class;

use crate::harness::{Site, script};

#[tokio::test]
async fn a_source_rpm_that_is_none_is_told() {
    let site = Site::shared();
    let file = site.root.join("garbage.src.rpm");
    std::fs::write(&file, "garbage").unwrap();
    let built = site.build(&file).await;
    assert_eq!(built.failure().class, Class::Source);

    let good = site.srpm("truncated", &script("Source0: big", ""), &[("big", &"0123456789".repeat(5000))]);
    let bytes = std::fs::read(&good).unwrap();
    std::fs::write(&good, &bytes[..bytes.len() - 40]).unwrap();
    let built = site.build(&good).await;
    assert_eq!(built.failure().class, Class::Source, "{}", built.failure());
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended() {
    let site = Site { timeout: Some(Duration::from_millis(1500)), ..Site::shared() };
    site.ready().await;
    let sections = "%build\necho begun\n(setsid sleep 86311 &)\nsleep 86311\n";
    let built = site.build(&site.srpm("late", &script("", sections), &[])).await;
    assert_eq!(built.failure().class, Class::Timeout);
    assert_eq!(built.failure().lines[0], "not done within 1.5 seconds, and ended");
    assert!(built.seconds < 60.0, "{}", built.seconds);
    // At once, since the sandbox was waited for.
    assert_eq!(crate::harness::running("sleep\u{0}86311"), 0);
}

#[tokio::test]
async fn a_cancelled_build_ends_soon() {
    let site = Site::shared();
    site.ready().await;
    let srpm = site.srpm("cancelled", &script("", "%build\necho begun\nsleep 86322\n"), &[]);
    let cancel = async {
        while crate::harness::running("sleep\u{0}86322") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        site.cancel.cancel();
        std::time::Instant::now()
    };
    let (built, cancelled) = tokio::join!(site.build(&srpm), cancel);
    assert!(cancelled.elapsed() < Duration::from_secs(60), "{:?}", cancelled.elapsed());
    assert_eq!(built.failure().class, Class::Killed);
    assert!(built.failure().retry);
    assert_eq!(crate::harness::running("sleep\u{0}86322"), 0);
}

#[tokio::test]
async fn an_rpmbuild_that_somebody_outside_kills_is_built_again() {
    let site = Site::shared();
    let srpm = site.srpm("killed-outside", &script("", "%build\necho begun\nsleep 86355\n"), &[]);
    let kill = async {
        while crate::harness::running("sleep\u{0}86355") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let rpmbuild = crate::harness::pid_of("rpmbuild", "SPECS/killed-outside.spec").unwrap();
        nix::sys::signal::kill(rpmbuild, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    let (built, ()) = tokio::join!(site.build(&srpm), kill);
    let failure = built.failure();
    assert_eq!((failure.class, failure.phase.as_str(), failure.retry), (Class::Killed, "build", true));
    assert_eq!(failure.lines[0], "rpmbuild was ended by signal 9");
}

#[tokio::test]
async fn a_dead_repository_is_the_farms_fault() {
    let site = Site::own("dead-repository");
    site.target_file(|text| text + "\n[dead]\nbaseurl=http://127.0.0.1:1/repo/\n");
    let built = site.build(&site.srpm("poor", &script("", ""), &[])).await;
    let failure = built.failure();
    assert_eq!(
        (failure.class, failure.phase.as_str(), failure.retry),
        (Class::Buildroot, "base", true),
        "{failure}"
    );
    assert!(failure.lines.iter().any(|line| line.contains("127.0.0.1")), "{:?}", failure.lines);
}

#[tokio::test]
async fn a_target_that_is_not_configured_is_told() {
    let site = Site::own("no-target");
    std::fs::remove_file(site.root.join("targets/mini.x86_64.repo")).unwrap();
    let built = site.build(&site.srpm("homeless", &script("", ""), &[])).await;
    assert_eq!(built.failure().class, Class::Config);
    assert!(built.failure().lines[0].ends_with("targets here: none"), "{:?}", built.failure().lines);
}
