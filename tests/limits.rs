//! What builders refuse and what they tell of themselves: free space, limits that nothing enforces, signs of life.
//!
//! What changes mounts runs in a mount namespace of its own, where the test starts itself again.

mod harness;

use std::process::Command;

use harness::{Ask, Root, eventually, srpm};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use reimzul::model::Status;
use serde_json::Value;

const ROLE: &str = "TEST_IN_NAMESPACE";

/// Whether this is the namespace; if not, the named test is run again in one.
fn in_a_namespace(test: &str) -> bool {
    if std::env::var_os(ROLE).is_some() {
        return true;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can mount what this test needs: run the tests as root"
    );
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(ROLE, "yes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

async fn builder(root: &Root, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let stats = root.run(&["stats", "--json"]).json();
        stats["builders"].as_array().unwrap().iter().find(|builder| wanted(builder)).cloned()
    })
    .await
}

#[tokio::test]
async fn a_builder_without_room_takes_no_jobs_until_it_has_some() {
    if !in_a_namespace("a_builder_without_room_takes_no_jobs_until_it_has_some") {
        return;
    }
    let root = Root::with("min_free = 32M");
    std::fs::create_dir(root.join("cache")).unwrap();
    mount(Some("tmpfs"), &root.join("cache"), Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
    let filler = root.join("cache/filler");
    std::fs::write(&filler, vec![1; 50 << 20]).unwrap();
    let site = root.site();
    let mut worker = root.start(&["worker", "notifier"]);
    worker.until_it_says("taking no jobs: only 14 MiB free, min_free is 32 MiB");
    let build = site.submit(&srpm("hello", 1)).await;
    let told = builder(&root, "a builder that takes no jobs", |builder| builder["takes_jobs"] == false).await;
    assert_eq!(told["why_not"], "only 14 MiB free, min_free is 32 MiB");
    let stats = root.run(&["stats"]).ok().out;
    assert!(stats.contains(" takes no jobs: only 14 MiB free, min_free is 32 MiB\n"), "{stats}");
    let jobs = site.queue.list(Some(harness::arch())).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].state), (1, reimzul::queue::State::Ready));

    std::fs::remove_file(&filler).unwrap();
    worker.until_it_says("taking jobs again: 64 MiB free");
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    builder(&root, "a builder that takes jobs", |builder| builder["takes_jobs"] == true).await;

    // Its disk fills up while it waits for a job.
    std::fs::write(&filler, vec![1; 45 << 20]).unwrap();
    builder(&root, "no jobs again", |builder| builder["takes_jobs"] == false).await;
    site.submit(&srpm("hello", 2)).await;
    let jobs = site.queue.list(Some(harness::arch())).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].state), (1, reimzul::queue::State::Ready));
    worker.stop();
    umount2(&root.join("cache"), MntFlags::MNT_DETACH).unwrap();
}

#[tokio::test]
async fn free_space_is_not_asked_for_where_it_is_configured_so() {
    let root = Root::with("min_free = 4000T");
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    let mut worker = root.start(&["worker", "notifier"]);
    worker.until_it_says("min_free is 4000 TiB");
    worker.stop();
    root.write("reimzul.ini", "[worker]\nengine = null\nmin_free = 0\n");
    let worker = root.start(&["worker", "notifier"]);
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    worker.stop();
}

#[test]
fn limits_that_nothing_enforces_keep_a_worker_from_starting() {
    if !in_a_namespace("limits_that_nothing_enforces_keep_a_worker_from_starting") {
        return;
    }
    while umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).is_ok() {}
    let root = Root::with("memory = 8G\ndisk = 20G");
    let said = "reimzul: [worker] memory = 8 GiB cannot be enforced here: no cgroup file system with the controller \
                memory is mounted. Without that key builds have no such limit\n";
    let srpm = srpm("hello", 1).display().to_string();
    for arguments in [&["run", "worker"][..], &["run", "all"], &["build", "-t", "mini", &srpm]] {
        let ran = root.run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (3, said), "{arguments:?}");
    }
    let checked = root.run(&["check-config"]);
    assert_eq!(checked.code, 3);
    assert!(
        checked.out.contains("WRONG          [worker] memory = 8 GiB cannot be enforced here"),
        "{checked:?}"
    );
    assert!(
        checked.out.contains("ok             disk per build: 20 GiB, by measuring its folder"),
        "{checked:?}"
    );
    let mut others = root.start(&["notifier"]);
    others.until_it_says("running notifier");
    others.stop();
    // What needs no group is had without any.
    root.write("reimzul.ini", "[worker]\nengine = null\ndisk = 20G\n");
    let mut worker = root.start(&["worker"]);
    worker.until_it_says("running worker");
    worker.stop();
}

#[tokio::test]
async fn a_builder_tells_what_it_builds_and_is_missed_when_it_falls_silent() {
    let root = Root::with("slots = 2\ndisk = 20G");
    let site = root.site();
    let notifier = root.start(&["notifier"]);
    let worker = root.start_with(&["worker"], &[("REIMZUL_NULL_ENGINE_SECONDS", "600")]);
    let build = site.submit(&srpm("hello", 1)).await;
    let busy =
        builder(&root, "a busy builder", |builder| builder["running"] != Value::Array(Vec::new())).await;
    let path = busy["running"][0].as_str().unwrap().to_owned();
    assert!(path.contains("/hello/") && path.ends_with(harness::arch()), "{path}");
    assert_eq!((&busy["slots"], &busy["takes_jobs"]), (&2.into(), &true.into()));
    assert_eq!(busy["limits"]["disk"], 20_u64 << 30);
    let stats = root.run(&["stats"]).ok().out;
    assert!(stats.contains(&format!(" builds {path}\n")), "{stats}");
    worker.kill();

    // As if that had been a while ago.
    let mut sign: reimzul::model::Builder = serde_json::from_value(busy).unwrap();
    sign.worker = "of-old".into();
    sign.time -= 600;
    site.history.heard_of(&sign).await.unwrap();
    let stats = root.run(&["stats"]).ok().out;
    let silent = format!(" was not heard of for 10 min; then it built {path}\n");
    assert!(stats.contains(&silent), "{stats}");

    // Its successor on the same node makes up for it.
    let worker = root.start(&["worker"]);
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    eventually("the silent one to be forgotten", async || {
        let builders = site.history.builders().await.unwrap();
        builders.iter().all(|builder| builder.worker != "of-old").then_some(())
    })
    .await;
    worker.stop();
    builder(&root, "a builder that was stopped", |builder| builder["stopped"] == true).await;
    notifier.stop();
}

#[tokio::test]
async fn nobody_who_does_not_listen_is_told() {
    let root = Root::new();
    let site = root.site();
    let mut worker = root.start_with(&["worker"], &[("REIMZUL_LOG", "debug")]);
    site.submit(&srpm("hello", 1)).await;
    worker.until_it_says(": success");
    worker.stop();
    assert_eq!(site.queue.list(Some(reimzul::queue::BUILDERS)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn two_machines_of_one_name_are_noticed() {
    let server = harness::beanstalkd::Beanstalkd::start();
    let root = || Root::with(&format!("[queue]\nurl = {}\n", server.url()));
    let (controller, one, other) = (root(), root(), root());
    let mut notifier = controller.start(&["notifier"]);
    let stats = || controller.run(&["stats"]).ok().out;
    let (_first, _second) = (one.start_on("twin", &["worker"]), one.start_on("single", &["worker"]));
    eventually("both are heard", async || {
        let said = stats();
        (said.contains("twin") && said.contains("single")).then_some(())
    })
    .await;
    assert!(!stats().contains("more than one machine"), "{}", stats());
    let _third = other.start_on("twin", &["worker"]);
    notifier.until_it_says("more than one machine is called twin");
    eventually("stats tells", async || {
        stats().contains("more than one machine is called twin").then_some(())
    })
    .await;
}
