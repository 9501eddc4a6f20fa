//! Groups on this machine's own cgroup file systems, where there are any that we may use.

use super::*;
use crate::sys::cgroup::{Cgroups, place};
use crate::sys::process::{self, Program};

/// The machine's groups; none, said in a line, where tests may make none.
fn cgroups() -> Option<Cgroups> {
    let found = Cgroups::find();
    for controller in Controller::ALL {
        if let Err(why) = found.place(controller) {
            println!("skipped: {why}");
            return None;
        }
    }
    found.prepare().unwrap();
    Some(found)
}

fn limits() -> Limits {
    Limits { memory: Some(Size(64 << 20)), processes: Some(20), cpus: Some(0.5), disk: None }
}

fn folders(group: &Cgroup) -> Vec<PathBuf> {
    group.folders.iter().map(|folder| folder.path.clone()).collect()
}

#[tokio::test]
async fn a_program_is_in_its_group_from_its_start_and_is_gone_with_it() {
    let Some(cgroups) = cgroups() else { return };
    let group = cgroups.make(&limits()).unwrap();
    let paths = folders(&group);
    let name = paths[0].file_name().unwrap().to_str().unwrap().to_owned();
    let seen = process::output(&Program::new("cat").arg("/proc/self/cgroup").limited_by(Some(&group)))
        .await
        .unwrap();
    assert_eq!(seen.stdout.matches(&name).count(), group.folders.len(), "{}", seen.stdout);
    assert!(group.usage().peak_memory.unwrap() > 0);
    assert!(group.usage().cpu_seconds.unwrap() > 0.0);

    // A process that leaves its parent, its session and its process group.
    let orphan = Program::new("setsid").args(["--fork", "sleep", "86444"]).limited_by(Some(&group));
    let log = tempfile::NamedTempFile::new().unwrap();
    let never = tokio_util::sync::CancellationToken::new();
    assert!(process::run(&orphan, log.path(), None, &never).await.unwrap().success());
    let inside = || fs::read_to_string(paths[0].join("cgroup.procs")).unwrap_or_default();
    assert_ne!(inside(), "");
    group.remove().await;
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
}

#[tokio::test]
async fn the_kernel_enforces_what_was_set() {
    let Some(cgroups) = cgroups() else { return };
    let group = cgroups.make(&limits()).unwrap();
    let eats = Program::new("dd")
        .args(["if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"])
        .limited_by(Some(&group));
    let end = process::output(&eats).await.unwrap().end;
    assert_eq!(end, process::End::Signaled(9));
    let usage = group.usage();
    assert_eq!(usage.killed, 1, "{usage:?}");
    assert!(usage.peak_memory.unwrap() > 60 << 20, "{usage:?}");
    let quota = group.folders.iter().find(|folder| folder.has(Controller::Cpu)).unwrap();
    let quota = match quota.version {
        Version::V1 => fs::read_to_string(quota.path.join("cpu.cfs_quota_us")).unwrap(),
        Version::V2 => fs::read_to_string(quota.path.join("cpu.max")).unwrap(),
    };
    assert!(quota.starts_with("50000"), "{quota}");
    group.remove().await;
}

#[tokio::test]
async fn only_what_nobody_holds_is_swept() {
    let Some(cgroups) = cgroups() else { return };
    let ours = cgroups.make(&Limits::default()).unwrap();
    let dead = ours.folders[0].path.with_file_name(format!("{NAME}left-by-the-dead"));
    fs::create_dir(&dead).unwrap();
    let inside = sleep_in(&alone(&dead.join("deeper"), ours.folders[0].version)).await;
    cgroups.sweep().await;
    assert!(!dead.exists() && folders(&ours).iter().all(|path| path.exists()));
    assert_eq!(inside.await.unwrap(), process::End::Signaled(9), "what ran in it was killed");
}

/// A group of one folder.
fn alone(path: &Path, version: Version) -> Cgroup {
    Cgroup { folders: vec![Folder::make(path, version, Controller::Cpuacct).unwrap()] }
}

/// A process in a group; returns once it is there.
async fn sleep_in(group: &Cgroup) -> tokio::task::JoinHandle<process::End> {
    let sleep = Program::new("sleep").arg("86455").limited_by(Some(group));
    let running = tokio::spawn(async move {
        let never = tokio_util::sync::CancellationToken::new();
        process::run(&sleep, Path::new("/dev/null"), None, &never).await.unwrap()
    });
    let procs = group.folders[0].path.join("cgroup.procs");
    while fs::read_to_string(&procs).unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running
}

/// Version 2 itself: moving out of a group so that others can be made below it, and `cgroup.kill`. A controller that
/// the machine has there will do, whichever it is.
#[tokio::test]
async fn in_version_2_processes_make_room_for_groups() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(top) = mount.and_then(|line| line.split(' ').nth(1)).map(PathBuf::from) else {
        println!("skipped: no cgroup2 file system is mounted");
        return;
    };
    let offered = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    let Some(controller) = offered.split_whitespace().last() else {
        println!("skipped: version 2 has no controller here");
        return;
    };
    let own = top.join(format!("reimzul-test-{}", std::process::id()));
    if top.join("cgroup.type").exists() || fs::create_dir(&own).and_then(|()| fs::remove_dir(&own)).is_err() {
        println!("skipped: this test needs the top of the hierarchy");
        return;
    }
    fs::write(top.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    let worker = alone(&own, Version::V2);
    let runs = sleep_in(&worker).await;
    let control = own.join("cgroup.subtree_control");
    fs::write(&control, format!("+{controller}")).expect_err("a group with processes has no groups below it");
    place::enable(&own, &[controller]).unwrap();
    assert_eq!(fs::read_to_string(&control).unwrap().trim(), controller);
    assert_eq!(fs::read_to_string(own.join("cgroup.procs")).unwrap(), "");
    // Again, as a second worker would.
    place::enable(&own, &[controller]).unwrap();

    let beside = Place { version: Version::V2, folder: own.clone() };
    let group = Cgroup::make(&[(Controller::Cpuacct, &beside)], &Limits::default()).unwrap();
    let inside = sleep_in(&group).await;
    assert!(group.usage().cpu_seconds.is_some());
    group.remove().await;
    assert_eq!(inside.await.unwrap(), process::End::Signaled(9), "what ran in it was killed");
    assert!(!runs.is_finished(), "the worker's own processes live on");
    worker.remove().await;
    assert_eq!(runs.await.unwrap(), process::End::Signaled(9));
    assert!(!own.exists());
}

#[test]
fn numbers_are_found_by_their_whole_name() {
    let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
    assert_eq!(field(events, "oom_kill"), Some(2));
    assert_eq!(field(events, "oom"), Some(3));
    assert_eq!(field(events, "nothing"), None);
}
