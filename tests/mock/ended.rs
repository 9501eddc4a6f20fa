//! Builds that are ended, and workers that are: nothing runs on, and nothing is left.

use reimzul::model::Class;

use crate::common::{self, Ask, Root, eventually};
use crate::harness::Site;

/// A build that ends by no signal of its own, with a process in its chroot that none reaches.
const STUBBORN: &str = "trap '' TERM; rpmbuild; sleep_in_chroot 86111; while :; do sleep 0.1; done";

/// One that has ended and was not waited for has no command line any more.
fn runs(pid: &str) -> bool {
    std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
}

/// The process in the only chroot there is, once it runs.
async fn sleeper(lib: &std::path::Path) -> String {
    eventually("a process in the chroot", async || {
        let chroot = std::fs::read_dir(lib).ok()?.flatten().next()?;
        std::fs::read_to_string(chroot.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'))
    })
    .await
}

#[tokio::test]
async fn a_cancelled_build_is_ended_with_all_it_started() {
    for behaviour in
        [STUBBORN, "trap 'exit 143' TERM; rpmbuild; sleep_in_chroot 86111; while :; do sleep 0.1; done"]
    {
        let site = Site::new(behaviour);
        let cancel = async {
            let pid = sleeper(&site.join("fake/lib")).await;
            eventually("what the chroot is given to run", async || runs(&pid).then_some(())).await;
            site.cancel.cancel();
            pid
        };
        let (built, pid) = tokio::join!(site.build(), cancel);
        assert_eq!((built.failure().class, built.failure().retry), (Class::Killed, true));
        assert_eq!(
            built.failure().lines[0],
            format!(
                "ended from outside: mock was at 'rpmbuild {}'",
                common::srpm("bash", 1).file_name().unwrap().display()
            )
        );
        // It was killed, which takes a moment.
        eventually("the end of what mock left in the chroot", async || (!runs(&pid)).then_some(())).await;
        assert_eq!((site.chroots().len(), site.notes()), (0, 0));
        let verbs = ["--orphanskill", "--clean"];
        let made =
            |verb: &str| site.calls().iter().position(|call| call.iter().any(|word| word == verb)).unwrap();
        assert!(made(verbs[0]) < made(verbs[1]), "{:?}", site.calls());
    }
}

#[tokio::test]
async fn a_chroot_that_cannot_be_removed_is_left_to_the_next_worker() {
    let site = Site::new("rpmbuild; exit 143");
    // mock loses its configuration meanwhile, so it cannot clean.
    site.behave("rpmbuild; mv \"$config\" \"$config.away\"; exit 143");
    site.build().await.failure();
    assert_eq!(site.chroots().len(), 1);
    assert!(site.notes() > 0);
    let configs = site.join("root/cache/mock/configs/c9.x86_64/1/c9.x86_64.cfg");
    std::fs::rename(configs.with_extension("cfg.away"), &configs).unwrap();
    site.engine().sweep().await;
    assert_eq!((site.chroots().len(), site.notes()), (0, 0));
}

#[tokio::test]
async fn a_sweep_lets_running_builds_alone() {
    let site = Site::new("rpmbuild; while [ ! -e \"$here/go\" ]; do sleep 0.05; done; succeed");
    let other = async {
        eventually("a build under way", async || (!site.chroots().is_empty()).then_some(())).await;
        site.engine().sweep().await;
        assert_eq!((site.chroots().len(), site.calls().len()), (1, 1));
        site.write("fake/go", "");
    };
    let (built, ()) = tokio::join!(site.build(), other);
    built.succeeded();
}

#[tokio::test]
async fn what_a_killed_worker_left_is_ended_by_the_next_and_its_job_is_built() {
    let fake = Site::new(STUBBORN);
    let root = Root::new();
    root.write("reimzul.ini", "[worker]\nengine = mock\nretry_delay = 0\n");
    root.write(&format!("mock_configs/mock/{}.cfg", common::target()), crate::harness::CONFIG);
    let path = format!("{}:{}", fake.join("fake").display(), std::env::var("PATH").unwrap());
    let start = || root.start_with(&["all"], &[("PATH", &path)]);

    let worker = start();
    let submitted = root.site().submit(&common::srpm("bash", 1)).await;
    let pid = sleeper(&fake.join("fake/lib")).await;
    worker.kill();
    // mock dies with its worker; what it runs in the chroot does not.
    assert!(runs(&pid));
    fake.behave("rpmbuild; succeed");
    let worker = start();
    eventually("the orphan's end", async || (!runs(&pid)).then_some(())).await;
    let folder = root.site().config.layout.build(&submitted.path, false);
    eventually("the result", async || folder.join("build.json").exists().then_some(())).await;
    let record = common::record(&folder);
    assert_eq!((record.engine.name.as_str(), record.engine.version.as_str()), ("mock", "6.7"));
    assert!(folder.join("mock.cfg").exists() && folder.join("stdout").exists());
    eventually("a tidy machine", async || fake.chroots().is_empty().then_some(())).await;
    worker.stop();
}
