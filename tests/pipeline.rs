//! From a submission to the repository, the history, the log and the signer: with the real binary's roles, the
//! embedded engines and the real createrepo_c, and an engine that builds nothing.

mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reimzul::build::Worker;
use reimzul::build::engine::{Engine, null::Null};
use reimzul::history::{Document, Find};
use reimzul::model::{Class, Status};
use reimzul::queue::{self, CREATEREPO, NewJob, PRIORITY, Queue, State};
use reimzul::repo;
use reimzul::role::Site;
use reimzul::shutdown::Shutdown;
use reimzul::submit::Submitted;
use reimzul::upload::Upload;
use serde_json::json;

use harness::{Ask, Process, Root, SOON, arch, eventually, listed, need_createrepo, record, srpm, target};

/// Every build takes this many seconds.
const SECONDS: &str = "REIMZUL_NULL_ENGINE_SECONDS";
/// Longer than any test.
const FOR_EVER: (&str, &str) = (SECONDS, "600");

#[tokio::test]
async fn a_source_rpm_becomes_a_repository_a_history_a_log_and_work_for_the_signer() {
    need_createrepo();
    let root = Root::new();
    let (site, roles) = (root.site(), root.start_all());
    let build = site.submit(&srpm("hello", 1)).await;
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    site.quiet().await;
    roles.stop();

    let place = format!("bstore/repo/{}", build.path);
    assert_eq!(
        root.files(&place),
        ["build.json", "build.log", "hello-1.0-1.src.rpm", "installed_pkgs.log", "root.log", "state.log"]
            .map(|file| format!("{place}/{file}"))
    );
    let record = record(&root.join(&place));
    let stamp = build.job.stamp.as_ref().unwrap();
    assert_eq!(record.event.build_id.as_ref(), Some(&stamp.build_id));
    assert_eq!((record.event.status, record.engine.name.as_str()), (Status::Success, "null"));
    assert_eq!((record.source.file.as_str(), &record.source.sha256), ("hello-1.0-1.src.rpm", &stamp.sha256));
    assert_eq!(record.results.len(), 1);
    assert_eq!(record.results[0].nevra, "hello-1.0-1.src");
    assert_eq!(record.results[0].sha256, stamp.sha256);

    assert_eq!(statuses(&history(&site).await), ["Success", "Done"]);
    let log = root.read("log/reimzul.log");
    let lines: Vec<&str> = log.split_terminator(" \r\n").collect();
    assert_eq!(lines.len(), 2, "{log}");
    let head =
        format!("Build job SRPM hello-1.0-1.src.rpm ({}) for arch {} builder", stamp.timestamp, arch());
    assert!(lines[0].contains(&head) && lines[0].contains("status Building [1.0-1]"), "{log}");
    assert!(lines[1].contains("status Success [1.0-1] (Scratch job: False) submitted by tester"), "{log}");

    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm"]);
    assert_eq!(root.files("bstore/tosign"), [format!("bstore/tosign/{}/hello-1.0-1.src.rpm", target())]);
    assert_eq!(root.files("results"), Vec::<String>::new(), "nothing of the attempt stays");
    assert_eq!(root.files("bstore/upload"), Vec::<String>::new());
}

#[tokio::test]
async fn a_scratch_build_is_in_no_repository_and_is_not_signed() {
    need_createrepo();
    let root = Root::new();
    let (site, roles) = (root.site(), root.start_all());
    let build = site.submit(&srpm("hello", 1)).await;
    let scratch = site.submit_scratch(&srpm("other", 1)).await;
    assert_eq!(site.result(&scratch).await.event.status, Status::Success);
    site.result(&build).await;
    site.quiet().await;
    roles.stop();
    assert!(root.join(format!("bstore/scratch/{}/build.json", scratch.path)).exists());
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm"]);
    assert_eq!(root.files("bstore/tosign"), [format!("bstore/tosign/{}/hello-1.0-1.src.rpm", target())]);
}

#[tokio::test]
async fn the_old_way_with_scratch_builds_lists_them_and_still_does_not_sign_them() {
    need_createrepo();
    let root = Root::with("[bstore]\nscratch_in_repo = yes");
    let (site, roles) = (root.site(), root.start_all());
    let scratch = site.submit_scratch(&srpm("other", 1)).await;
    site.result(&scratch).await;
    site.quiet().await;
    roles.stop();
    assert_eq!(listed(&repository(&root)), ["other-1.0-1.src.rpm"]);
    assert_eq!(root.files("bstore/tosign"), Vec::<String>::new());
}

#[tokio::test]
async fn files_in_incoming_never_change() {
    let root = Root::new();
    let site = root.site();
    site.submit(&srpm("hello", 1)).await;
    let before = std::fs::read(root.join("incoming/hello-1.0-1.src.rpm")).unwrap();
    site.submit(&srpm("hello", 1)).await;
    assert_eq!(queued(&site).await, 2, "the same content under the same name is fine");
    let other = root.join("hello-1.0-1.src.rpm");
    std::fs::copy(srpm("other", 1), &other).unwrap();
    let refused = root.run(&["submit", "-t", "mini", "-s", &other.display().to_string()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("incoming/ already with other content"), "{refused:?}");
    // A bare name is the file at hand too, not silently the old one.
    let mut command = root.command(&["submit", "-t", "mini", "-s", "hello-1.0-1.src.rpm"]);
    assert_eq!(harness::Ran::of(command.current_dir(root.path())).code, 2);
    assert_eq!(queued(&site).await, 2);
    assert_eq!(std::fs::read(root.join("incoming/hello-1.0-1.src.rpm")).unwrap(), before);
    assert_eq!(
        root.files("incoming"),
        ["incoming/.lock", "incoming/hello-1.0-1.src.rpm"],
        "nothing half written stays"
    );
}

#[tokio::test]
async fn a_job_delivered_again_after_its_commit_is_not_built_again() {
    need_createrepo();
    let root = Root::new();
    let (site, roles) = (root.site(), root.start_all());
    let build = site.submit(&srpm("hello", 1)).await;
    site.result(&build).await;
    site.quiet().await;
    let before = record(&root.join(format!("bstore/repo/{}", build.path)));
    let documents = history(&site).await;
    site.queue.put(vec![NewJob::new(arch(), &build.job, PRIORITY)]).await.unwrap();
    site.quiet().await;
    let (_, said) = {
        roles.terminate();
        roles.ended()
    };
    assert_eq!(said.matches("building mini").count(), 1, "{said}");
    assert_eq!(record(&root.join(format!("bstore/repo/{}", build.path))), before);
    assert_eq!(history(&site).await, documents);
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm"]);
}

#[tokio::test]
async fn an_old_submitters_job_is_stamped_once_and_built() {
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    std::fs::create_dir_all(root.join("incoming")).unwrap();
    std::fs::copy(srpm("hello", 1), root.join("incoming/hello-1.0-1.src.rpm")).unwrap();
    let old = json!({"srpm": "hello-1.0-1.src.rpm", "arch": arch(), "target": target(), "disttag": ".el9",
        "scratch": false, "submitter": "kb", "git_branch": "c9"});
    // Half a stamp, and fields that events have: whoever wrote that, it must not make a job that is stamped for ever.
    let mut odd = old.clone();
    odd["timestamp"] = json!("20010101000000");
    odd["status"] = json!("Success");
    odd["format"] = json!(7);
    site.queue.put(vec![NewJob::new(arch(), &old, 17), NewJob::new(arch(), &odd, 17)]).await.unwrap();
    let roles = root.start_all();
    let done = eventually("two results", async || {
        let found = history(&site).await;
        (found.iter().filter(|document| document.event.status.is_result()).count() == 2).then_some(found)
    })
    .await;
    site.quiet().await;
    roles.stop();
    assert_eq!(statuses(&done).iter().filter(|status| *status == "Success").count(), 2);
    let ids: BTreeSet<String> =
        done.iter().map(|document| document.event.build_id.as_ref().unwrap().to_string()).collect();
    assert_eq!(ids.len(), 2, "each was stamped once");
    assert!(done.iter().all(|document| document.event.extra["git_branch"] == "c9"));
    assert!(done.iter().all(|document| document.event.timestamp.to_string().as_str() > "2020"));
    assert_eq!(listed(&repository(&root)).len(), 2);
}

#[tokio::test]
async fn a_source_rpm_that_is_not_what_was_submitted_fails_without_rpms() {
    let root = Root::new();
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    std::fs::copy(srpm("other", 1), root.join("incoming/hello-1.0-1.src.rpm")).unwrap();
    let gone = site.submit(&srpm("gone", 1)).await;
    std::fs::remove_file(root.join("incoming/gone-1.0-1.src.rpm")).unwrap();
    let roles = root.start_all();
    for build in [&build, &gone] {
        let event = site.result(build).await.event;
        let failure = event.failure.unwrap();
        assert_eq!((event.status, failure.class), (Status::Failed, Class::Source), "{failure}");
        let place = format!("bstore/repo/{}", build.path);
        assert_eq!(
            root.files(&place),
            ["build.json", "build.log", "root.log"].map(|f| format!("{place}/{f}"))
        );
        assert!(root.read(format!("{place}/build.log")).contains(&failure.lines[0]));
        assert_eq!(record(&root.join(&place)).results, []);
    }
    site.quiet().await;
    roles.stop();
    assert_eq!(root.files("bstore/tosign"), Vec::<String>::new());
    assert_eq!(queued(&site).await, 0, "the package's fault is final");
}

#[tokio::test]
async fn what_a_killed_worker_held_another_builds_once() {
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    let rest = root.start(&["repogen", "notifier", "signer"]);
    let build = site.submit(&srpm("hello", 1)).await;
    let mut victim = root.start_with(&["worker"], &[FOR_EVER]);
    victim.until_it_says("building mini");
    let other = root.start(&["worker"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!record_path(&root, &build).exists(), "a living worker's job was taken");
    victim.kill();
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    site.quiet().await;
    other.stop();
    rest.stop();
    assert!(record(record_path(&root, &build).parent().unwrap()).attempt.ends_with("-2"));
    assert_eq!(statuses(&history(&site).await), ["Success", "Done"]);
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm"]);
    assert_eq!(root.files("results"), Vec::<String>::new(), "the dead worker's attempt is removed too");
}

#[tokio::test]
async fn a_job_that_kills_its_worker_three_times_is_put_aside_and_reported() {
    let root = Root::new();
    let site = root.site();
    let notifier = root.start(&["notifier"]);
    let build = site.submit(&srpm("hello", 1)).await;
    for _ in 0..3 {
        let mut victim = root.start_with(&["worker"], &[FOR_EVER]);
        victim.until_it_says("building mini");
        victim.kill();
    }
    let last = root.start(&["worker"]);
    let event = site.result(&build).await.event;
    assert_eq!((event.status, event.failure.unwrap().class), (Status::Failed, Class::Lost));
    site.quiet().await;
    last.stop();
    notifier.stop();
    let jobs = site.queue.list(None).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].state), (1, State::Buried));
    assert!(jobs[0].reason.as_ref().unwrap().contains("vanished 3 times"), "{jobs:?}");
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_and_takes_no_more() {
    let root = Root::new();
    let site = root.site();
    let first = site.submit(&srpm("hello", 1)).await;
    let mut worker = root.start_with(&["worker"], &[(SECONDS, "1")]);
    worker.until_it_says("building mini");
    worker.terminate();
    worker.until_it_says("taking no more jobs");
    let second = site.submit(&srpm("other", 1)).await;
    let (code, said) = worker.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(record_path(&root, &first).exists(), "it did not finish");
    assert!(!record_path(&root, &second).exists(), "it took another one");
    assert_eq!(waiting(&site, arch()).await, [State::Ready]);
}

#[tokio::test]
async fn a_worker_that_is_told_twice_hands_its_job_back() {
    let root = Root::new();
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    // As often as it likes: what is handed back on purpose is no loss.
    for _ in 0..4 {
        let mut worker = root.start_with(&["worker"], &[FOR_EVER]);
        worker.until_it_says("building mini");
        worker.terminate();
        worker.until_it_says("again to kill them");
        worker.stop();
        assert_eq!(waiting(&site, arch()).await, [State::Ready]);
        assert_eq!(root.files("results"), Vec::<String>::new());
    }
    let roles = root.start(&["worker", "notifier"]);
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    roles.stop();
}

#[tokio::test]
async fn a_worker_whose_lease_is_lost_publishes_nothing() {
    let root = Root::new();
    let site = root.site();
    let notifier = root.start(&["notifier"]);
    let build = site.submit(&srpm("hello", 1)).await;
    // Ours notices soon, since it renews its lease often.
    let quick = queue::sqlite::Queue::open(&site.config.layout).unwrap().with_ttr(Duration::from_secs(3));
    let ours = Worker {
        guard: reimzul::build::limits::Guard::of(&site.config).unwrap(),
        config: site.config.clone(),
        queue: Queue::Sqlite(quick),
        stamps: site.stamps.clone(),
        sources: reimzul::build::source::Sources::open(&site.config).unwrap(),
        upload: Upload::Local(site.config.layout.clone()),
        engine: Engine::Null(Null::taking(SOON * 10)),
    };
    let shutdown = Shutdown::default();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { ours.run(&shutdown).await }
    });
    eventually("our worker's attempt", async || (root.files("results").len() > 1).then_some(())).await;
    // It goes on with what it has, and does not take it again itself.
    shutdown.request();
    let other = root.start(&["worker"]);
    // As if our time had run out while this process was asleep.
    let sql = rusqlite::Connection::open(site.config.layout.database()).unwrap();
    sql.busy_timeout(SOON).unwrap();
    eventually("the job with the other worker", async || {
        sql.execute(
            "UPDATE jobs SET due = 0 WHERE reserves = 1 AND state = 'reserved' AND tube = ?1",
            [arch()],
        )
        .unwrap();
        let taken =
            sql.query_row("SELECT 1 FROM jobs WHERE reserves < 2 AND tube = ?1", [arch()], |_| Ok(()));
        taken.is_err().then_some(())
    })
    .await;
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    eventually("an end of our attempt", async || root.files("results").is_empty().then_some(())).await;
    running.await.unwrap();
    other.stop();
    notifier.stop();
    assert!(record(record_path(&root, &build).parent().unwrap()).attempt.ends_with("-2"));
    assert_eq!(statuses(&history(&site).await), ["Success", "Done"]);
    assert_eq!(waiting(&site, arch()).await, []);
}

#[tokio::test]
async fn a_fault_of_the_farm_is_tried_again_then_put_aside_and_a_kick_builds_it() {
    let root = Root::with("tries = 3");
    let site = root.site();
    // Nothing can be uploaded.
    root.write("bstore/upload", "a file where a folder should be");
    let mut roles = root.start(&["worker", "notifier"]);
    let build = site.submit(&srpm("hello", 1)).await;
    let event = site.result(&build).await.event;
    assert_eq!((event.status, event.failure.unwrap().class), (Status::Failed, Class::Upload));
    site.quiet().await;
    // Signs of life come beside.
    let jobs = site.queue.list(Some(arch())).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].state), (1, State::Buried));
    roles.until_it_says("is buried");
    std::fs::remove_file(root.join("bstore/upload")).unwrap();
    assert_eq!(site.queue.kick(arch(), 10).await.unwrap(), 1);
    eventually("a success", async || (history(&site).await[0].event.status == Status::Success).then_some(()))
        .await;
    let (_, said) = {
        roles.terminate();
        roles.ended()
    };
    assert!(record_path(&root, &build).exists(), "{said}");
    assert_eq!(root.files("results"), Vec::<String>::new(), "failed attempts are removed");
}

#[tokio::test]
async fn two_workers_share_the_jobs() {
    const JOBS: usize = 20;
    let root = Root::new();
    let site = root.site();
    let start = || root.start_with(&["worker"], &[(SECONDS, "0.05")]);
    let workers = [start(), start()];
    eventually("two waiting workers", async || {
        (site.queue.watchers(arch()).await.unwrap().len() == 2).then_some(())
    })
    .await;
    let mut builds = Vec::new();
    for _ in 0..JOBS {
        builds.push(site.submit(&srpm("hello", 1)).await);
    }
    let places: BTreeSet<String> = builds.iter().map(|build| build.path.to_string()).collect();
    assert_eq!(places.len(), JOBS, "two builds in one second share no folder");
    eventually("all builds", async || {
        builds.iter().all(|build| record_path(&root, build).exists()).then_some(())
    })
    .await;
    let built: Vec<BTreeSet<String>> = workers
        .into_iter()
        .map(|worker| {
            worker.terminate();
            let (code, said) = worker.ended();
            assert_eq!(code, Some(0), "{said}");
            said.lines()
                .filter_map(|line| Some(line.split_once(": success")?.0.rsplit(' ').next()?.to_owned()))
                .collect()
        })
        .collect();
    assert!(built.iter().all(|list| !list.is_empty()), "one did it all: {built:?}");
    assert!(built[0].is_disjoint(&built[1]), "both built the same: {built:?}");
    assert_eq!(built[0].union(&built[1]).cloned().collect::<BTreeSet<_>>(), places);
}

#[tokio::test]
async fn one_worker_builds_in_several_slots() {
    let root = Root::with("slots = 4");
    let site = root.site();
    for _ in 0..4 {
        site.submit(&srpm("hello", 1)).await;
    }
    let mut worker = root.start_with(&["worker"], &[FOR_EVER]);
    eventually("four builds at a time", async || {
        let held = waiting(&site, arch()).await;
        (held == [State::Reserved; 4]).then_some(())
    })
    .await;
    worker.until_it_says("building mini");
    worker.terminate();
    worker.until_it_says("again to kill them");
    worker.stop();
    assert_eq!(waiting(&site, arch()).await, [State::Ready; 4]);
}

#[tokio::test]
async fn requests_for_metadata_that_wait_together_are_served_by_one_run() {
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    let worker = root.start(&["worker"]);
    let build = site.submit(&srpm("hello", 1)).await;
    eventually("the build", async || record_path(&root, &build).exists().then_some(())).await;
    worker.stop();
    site.queue.put((0..50).map(|_| repo::request(&target())).collect()).await.unwrap();
    let repogen = root.start(&["repogen"]);
    eventually("no requests", async || waiting(&site, CREATEREPO).await.is_empty().then_some(())).await;
    repogen.terminate();
    let (_, said) = repogen.ended();
    let runs = said.matches("metadata made in").count();
    assert!((1..=3).contains(&runs), "{runs} runs for 51 requests:\n{said}");
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm"]);
}

#[tokio::test]
async fn an_rpm_that_arrives_during_a_run_is_in_the_next_metadata() {
    need_createrepo();
    let root = Root::with("[repo]\nengine = createrepo_c");
    let site = root.site();
    // createrepo_c, and then a moment in which something arrives that it has not seen.
    let (ran, go) = (root.join("ran"), root.join("go"));
    let path = root.with_createrepo(&format!(
        "\"$real\" \"$@\" || exit\ntouch {}\nuntil test -e {}; do sleep 0.02; done",
        ran.display(),
        go.display()
    ));
    let repogen = root.start_with(&["repogen"], &[("PATH", &path)]);

    let worker = root.start(&["worker", "notifier"]);
    let early = site.submit(&srpm("hello", 1)).await;
    site.result(&early).await;
    eventually("createrepo_c", async || ran.exists().then_some(())).await;
    let late = site.submit(&srpm("other", 1)).await;
    site.result(&late).await;
    std::fs::write(&go, "").unwrap();
    eventually("no requests", async || waiting(&site, CREATEREPO).await.is_empty().then_some(())).await;
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm", "other-1.0-1.src.rpm"]);
    repogen.stop();
    worker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_metadata_while_it_is_switched() {
    const SWITCHES: usize = 20;
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    let roles = root.start_all();
    site.result(&site.submit(&srpm("hello", 1)).await).await;
    site.quiet().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (reads, states) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let reader = std::thread::spawn({
        let (repository, stop, reads, states) =
            (repository(&root), Arc::clone(&stop), Arc::clone(&reads), Arc::clone(&states));
        move || {
            let mut last = String::new();
            while !stop.load(Ordering::SeqCst) {
                let repomd = std::fs::read_to_string(repository.join("repodata/repomd.xml"))
                    .expect("repomd.xml is always there");
                assert!(repomd.trim_end().ends_with("</repomd>"), "half of repomd.xml was read");
                for file in harness::values(&repomd, "href=\"") {
                    assert!(repository.join(&file).exists(), "repomd.xml names {file}, which is not there");
                }
                reads.fetch_add(1, Ordering::SeqCst);
                if repomd != last {
                    states.fetch_add(1, Ordering::SeqCst);
                    last = repomd;
                }
            }
        }
    });
    for _ in 0..SWITCHES {
        site.result(&site.submit(&srpm("hello", 1)).await).await;
        eventually("no requests", async || waiting(&site, CREATEREPO).await.is_empty().then_some(())).await;
    }
    stop.store(true, Ordering::SeqCst);
    reader.join().expect("the reader is content");
    assert!(reads.load(Ordering::SeqCst) > SWITCHES && states.load(Ordering::SeqCst) > SWITCHES / 2);
    roles.stop();
    assert_eq!(listed(&repository(&root)).len(), SWITCHES + 1);
}

#[tokio::test]
async fn a_submission_by_another_process_is_picked_up_soon() {
    let root = Root::new();
    let mut roles = root.start_all();
    roles.until_it_says("running");
    eventually("a waiting worker", async || {
        let stats = root.run(&["stats", "--json"]).json();
        let tubes = stats["tubes"].as_array().unwrap();
        tubes.iter().any(|tube| tube["tube"] == arch() && tube["watching"] == 1).then_some(())
    })
    .await;
    root.run(&["submit", "-t", "mini", "-s", &srpm("hello", 1).display().to_string()]).ok();
    roles.until_it_says("building mini");
    roles.stop();
}

#[tokio::test]
async fn a_log_file_that_cannot_be_written_delays_the_log_and_nothing_else() {
    let root = Root::with("[logs]\nlogfile = REPLACED");
    let logfile = root.join("logs/deep/reimzul.log");
    root.write("reimzul.ini", &root.read("reimzul.ini").replace("REPLACED", &logfile.display().to_string()));
    root.write("logs", "a file where a folder should be");
    let site = root.site();
    let mut roles = root.start(&["worker", "notifier", "signer"]);
    let build = site.submit(&srpm("hello", 1)).await;
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    roles.until_it_says("log could not be told");
    let stuck = eventually("what is undelivered", async || {
        let undelivered = root.run(&["stats", "--json"]).json()["undelivered"].clone();
        let list = undelivered.as_array().unwrap().clone();
        (list.len() == 1 && list[0]["waiting"] == 2 && list[0]["reason"].is_string()).then_some(list)
    })
    .await;
    assert_eq!(stuck[0]["sink"], "log");
    assert!(stuck[0]["reason"].as_str().unwrap().contains("logs/deep"), "{stuck:?}");
    std::fs::remove_file(root.join("logs")).unwrap();
    eventually("the log", async || logfile.exists().then_some(())).await;
    eventually("an empty outbox", async || site.outbox.waiting().await.unwrap().is_empty().then_some(()))
        .await;
    roles.stop();
    let log = std::fs::read_to_string(&logfile).unwrap();
    for status in ["Building", "Success"] {
        assert_eq!(log.matches(&format!("status {status}")).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn two_notifiers_tell_everything_once() {
    const JOBS: usize = 10;
    let root = Root::new();
    let site = root.site();
    let roles: Vec<Process> =
        [&["notifier"][..], &["notifier"], &["worker"]].into_iter().map(|roles| root.start(roles)).collect();
    for _ in 0..JOBS {
        site.submit(&srpm("hello", 1)).await;
    }
    eventually("all results", async || {
        let found = site.history.find(Find { all: true, ..Find::default() }).await.unwrap();
        let results = found.iter().filter(|document| document.event.status.is_result()).count();
        (results == JOBS && site.outbox.waiting().await.unwrap().is_empty()).then_some(())
    })
    .await;
    roles.into_iter().for_each(Process::stop);
    let log = root.read("log/reimzul.log");
    let lines: BTreeSet<&str> =
        log.split_terminator('\n').map(|line| line.split_once("] ").unwrap().1).collect();
    assert_eq!((log.lines().count(), lines.len()), (2 * JOBS, 2 * JOBS), "{log}");
    assert_eq!(waiting(&site, queue::TOSIGN).await.len(), JOBS);
}

#[tokio::test]
async fn a_root_can_be_moved_while_nothing_runs_in_it() {
    need_createrepo();
    let old = Root::new();
    let (site, roles) = (old.site(), old.start_all());
    site.result(&site.submit(&srpm("hello", 1)).await).await;
    site.quiet().await;
    roles.stop();
    drop(site);
    let new = Root::new();
    std::fs::remove_file(new.join("reimzul.ini")).unwrap();
    for entry in std::fs::read_dir(old.path()).unwrap().flatten() {
        std::fs::rename(entry.path(), new.join(entry.file_name())).unwrap();
    }
    let (site, roles) = (new.site(), new.start_all());
    site.result(&site.submit(&srpm("other", 1)).await).await;
    site.quiet().await;
    roles.stop();
    assert_eq!(listed(&repository(&new)), ["hello-1.0-1.src.rpm", "other-1.0-1.src.rpm"]);
    let repomd = new.read(format!("bstore/repo/{}/repodata/repomd.xml", target()));
    assert!(!repomd.contains("reimzul-test-"), "{repomd}");
}

#[tokio::test]
async fn jobs_that_are_none_are_put_aside_and_hold_nothing_up() {
    let root = Root::new();
    let site = root.site();
    let broken = |tube: &str| NewJob::new(tube, &json!({"srpm": "../../etc/passwd"}), 1);
    let tubes = [arch(), queue::NOTIFY, queue::CREATEREPO, queue::TOSIGN];
    site.queue.put(tubes.iter().map(|tube| broken(tube)).collect()).await.unwrap();
    let roles = root.start_all();
    let build = site.submit(&srpm("hello", 1)).await;
    assert_eq!(site.result(&build).await.event.status, Status::Success);
    site.quiet().await;
    roles.stop();
    for tube in tubes {
        let jobs = site.queue.list(Some(tube)).await.unwrap();
        assert_eq!((jobs.len(), jobs[0].state), (1, State::Buried), "{tube}");
        assert!(jobs[0].reason.as_ref().unwrap().starts_with("its body is no"), "{jobs:?}");
    }
}

fn repository(root: &Root) -> PathBuf {
    root.join(format!("bstore/repo/{}", target()))
}

fn record_path(root: &Root, build: &Submitted) -> PathBuf {
    root.join(Path::new("bstore/repo").join(build.path.relative()).join("build.json"))
}

async fn history(site: &Site) -> Vec<Document> {
    site.history.find(Find { all: true, ..Find::default() }).await.unwrap()
}

fn statuses(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| document.event.status.to_string()).collect()
}

async fn waiting(site: &Site, tube: &str) -> Vec<State> {
    site.queue.list(Some(tube)).await.unwrap().into_iter().map(|job| job.state).collect()
}

async fn queued(site: &Site) -> usize {
    site.queue.list(None).await.unwrap().len()
}
