//! Builds by mock within limits: everything that mock starts is in the build's group, and its chroot is measured.

use reimzul::build::engine::{Engine, Request};
use reimzul::build::limits::Guard;
use reimzul::config::Config;
use reimzul::model::{Arch, Class};

use crate::harness::{Built, Site};

/// Builds with these lines in section `[worker]`. None, said in a line, where this machine cannot enforce them.
async fn build_within(site: &Site, limits: &str) -> Option<Built> {
    site.write("limits.ini", &format!("[worker]\n{limits}\n"));
    let config = Config::load(Some(&site.join("limits.ini")), Some(&site.join("root"))).unwrap();
    let guard = Guard::of(&config).map_err(|why| println!("skipped: {why}")).ok()?;
    let resultdir = site.join("result");
    std::fs::create_dir_all(&resultdir).unwrap();
    let request = Request {
        srpm: &crate::common::srpm("bash", 1),
        resultdir: &resultdir,
        target: &"c9.x86_64".parse().unwrap(),
        arch: Arch::X86_64,
        disttag: &"".parse().unwrap(),
        timeout: None,
        quota: None,
        fresh: false,
    };
    let (outcome, _) = guard.build(&Engine::Mock(site.engine()), request, &site.cancel).await;
    Some(Built { outcome, resultdir })
}

#[tokio::test]
async fn mock_and_all_it_starts_are_in_the_builds_group() {
    let site = Site::new("rpmbuild; cat /proc/self/cgroup >> \"$resultdir/build.log\"; succeed");
    let Some(built) = build_within(&site, "processes = 100").await else { return };
    built.succeeded();
    assert!(built.log("build.log").contains("/reimzul-build-"), "{}", built.log("build.log"));
    // Where systemd-nspawn would be used, systemd would move it out of there.
    assert!(site.builds()[0].contains(&"--isolation=simple".to_owned()), "{:?}", site.builds());

    // Without limits mock is left as it is configured.
    let site = Site::new("rpmbuild; cat /proc/self/cgroup >> \"$resultdir/build.log\"; succeed");
    let built = build_within(&site, "").await.unwrap();
    built.succeeded();
    assert!(!built.log("build.log").contains("/reimzul-build-"), "{}", built.log("build.log"));
    assert!(!site.builds()[0].contains(&"--isolation=simple".to_owned()), "{:?}", site.builds());
}

#[tokio::test]
async fn a_build_by_mock_that_needs_too_much_memory() {
    let eats = "rpmbuild; head -c 2000M /dev/zero | tail -n 1 > /dev/null\n\
                echo '/var/tmp/rpm-tmp: line 3: 7 Killed' >> \"$resultdir/build.log\"; fail 1";
    let site = Site::new(eats);
    let Some(built) = build_within(&site, "memory = 100M").await else { return };
    let failure = built.failure();
    assert_eq!((failure.class, failure.retry), (Class::Limit, false), "{failure}");
    assert!(failure.lines[0].starts_with("it needed more than 100 MiB of memory"), "{failure}");
    assert_eq!(failure.lines[1], "/var/tmp/rpm-tmp: line 3: 7 Killed");
}

#[tokio::test]
async fn a_chroot_of_mocks_that_grows_too_large() {
    let fills = "rpmbuild; while :; do head -c 1M /dev/zero >> \"$chroot/root/filled\"; done";
    let site = Site::new(fills);
    let built = build_within(&site, "disk = 50M").await.unwrap();
    let failure = built.failure();
    assert_eq!((failure.class, failure.retry), (Class::Limit, false), "{failure}");
    assert!(failure.lines[0].starts_with("the build folder grew over 50 MiB ([worker] disk): "), "{failure}");
    site.is_tidy().await;
}
