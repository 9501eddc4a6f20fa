//! Builds that follow others: begun when the repositories contain those, reported when that can never be. With the
//! real binary's roles and createrepo_c, and an engine that builds nothing.

mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reimzul::history::{Document, Find};
use reimzul::model::{Arch, BuildJob, BuildPath, Class, Status};
use reimzul::queue::{BUILDERS, Entry, GiveUp, NewJob, PRIORITY, PRIORITY_NOW, State, WAITING};
use reimzul::role::Site;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use harness::beanstalkd::Beanstalkd;
use harness::{Ask, Ran, Root, SOON, arch, eventually, listed, need_createrepo, record, srpm, target};

const SECONDS: &str = "REIMZUL_NULL_ENGINE_SECONDS";

#[tokio::test]
async fn it_is_begun_only_when_the_repository_contains_what_it_follows() {
    need_createrepo();
    let root = Root::with("slots = 2");
    let site = root.site();
    let a = submit(&root, "lib", &[]);
    let b = submit(&root, "app", &["--after", &a]);
    let rest = root.start(&["repogen", "notifier"]);
    let said = eventually("a look at the job", async || {
        let said = root.run(&["why", "app"]).ok().out;
        said.contains("queued").then_some(said)
    })
    .await;
    assert!(said.starts_with(&format!("{b} waits for 1 build\n")), "{said}");
    assert!(said.contains(&format!("{a}, which waits for a builder")), "{said}");
    assert_eq!(tubes(&site).await, BTreeMap::from([(arch().to_owned(), 1), (WAITING.to_owned(), 1)]));
    let waiting = root.run(&["query", "-s", "waiting"]).ok().out;
    assert!(waiting.contains("after 1 build"), "{waiting}");
    let stats = root.run(&["stats"]).ok().out;
    assert!(stats.contains("1 build waits for others"), "{stats}");

    let mut worker = root.start_with(&["worker"], &[(SECONDS, "0.3")]);
    worker.until_it_says(&format!("building {a}"));
    worker.until_it_says(&format!("building {b}"));
    let listed = listed(&root.join(format!("bstore/repo/{}", target())));
    assert!(listed.contains(&"lib-1.0-1.src.rpm".to_owned()), "{listed:?}");
    assert_eq!(result(&site, &b).await.event.status, Status::Success);
    worker.stop();
    rest.stop();
}

#[tokio::test]
async fn a_chain_is_built_one_after_the_other_on_the_embedded_queue() {
    chain(&Root::with("slots = 3")).await;
}

#[tokio::test]
async fn a_chain_is_built_one_after_the_other_on_beanstalkd() {
    let server = Beanstalkd::start();
    chain(&Root::with(&format!("slots = 3\n[queue]\nurl = {}", server.url()))).await;
}

async fn chain(root: &Root) {
    need_createrepo();
    let (site, roles) = (root.site(), root.start_with(&["all"], &[(SECONDS, "0.2")]));
    let first = submit(root, "a", &[]);
    let second = submit(root, "b", &["--now", "--after", &first]);
    let third = submit(root, "c", &["--after", &first, &second]);
    let last = submit(root, "d", &["--after", &third]);
    assert_eq!(result(&site, &last).await.event.status, Status::Success);
    site.quiet().await;
    roles.stop();
    let records: Vec<_> = [&first, &second, &third, &last]
        .map(|build| record(&root.join(format!("bstore/repo/{build}"))))
        .into_iter()
        .collect();
    for pair in records.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let end: jiff::Timestamp = before.finished.parse().unwrap();
        assert!(end <= after.started.parse().unwrap(), "{before:?}\n{after:?}");
    }
}

#[tokio::test]
async fn the_priority_is_kept() {
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    let first = submit(&root, "a", &[]);
    submit(&root, "b", &["--after", &first]);
    submit(&root, "c", &["--now", "--after", &first]);
    // Without a worker, they stay in the tube of their arch.
    let worker = root.start(&["worker", "notifier"]);
    result(&site, &first).await;
    worker.stop();
    let repogen = root.start(&["repogen"]);
    let moved = eventually("both in their arch's tube", async || {
        let jobs = site.queue.list(Some(arch())).await.unwrap();
        (jobs.len() == 2).then_some(jobs)
    })
    .await;
    repogen.stop();
    assert_eq!(moved.iter().map(|job| job.priority).collect::<Vec<_>>(), [PRIORITY_NOW, PRIORITY]);
    assert!(moved[0].body.windows(5).any(|part| part == b"c-1.0"), "the more urgent one is c");
}

#[tokio::test]
async fn what_follows_a_failed_build_is_reported_and_so_is_what_follows_that() {
    let root = Root::new();
    let site = root.site();
    let first = submit(&root, "a", &[]);
    let second = submit(&root, "b", &["--after", &first]);
    let third = submit(&root, "c", &["--after", &second]);
    std::fs::remove_file(root.join("incoming/a-1.0-1.src.rpm")).unwrap();
    let roles = root.start_all();
    assert_eq!(result(&site, &first).await.event.failure.unwrap().class, Class::Source);
    fails(&site, &second, &first).await;
    fails(&site, &third, &second).await;
    site.quiet().await;
    roles.stop();
    assert_eq!(tubes(&site).await, BTreeMap::new());
    assert_eq!(root.files(&format!("bstore/repo/{second}")), Vec::<String>::new());
    let log = root.read("log/reimzul.log");
    assert_eq!(log.matches("SRPM c-1.0-1.src.rpm").count(), 1, "{log}");
}

#[tokio::test]
async fn what_follows_a_build_that_was_put_aside_is_reported_though_it_left_nothing() {
    let root = Root::with("tries = 1");
    let site = root.site();
    // Nothing can be uploaded.
    root.write("bstore/upload", "a file where a folder should be");
    let first = submit(&root, "a", &[]);
    let second = submit(&root, "b", &["--after", &first]);
    let roles = root.start_all();
    fails(&site, &second, &first).await;
    site.quiet().await;
    roles.stop();
    assert!(!root.join(format!("bstore/repo/{first}")).exists());
    let jobs = queued(&site).await;
    assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), [State::Buried], "{jobs:?}");
}

#[tokio::test]
async fn what_follows_a_dropped_build_is_reported() {
    let root = Root::new();
    let site = root.site();
    let first = submit(&root, "a", &[]);
    let second = submit(&root, "b", &["--after", &first]);
    root.run(&["drop", &first]).ok();
    let roles = root.start(&["notifier", "repogen"]);
    fails(&site, &second, &first).await;
    site.quiet().await;
    roles.stop();
    // Itself it can be dropped, too.
    let third = submit(&root, "c", &[]);
    let fourth = submit(&root, "d", &["--after", &third]);
    root.run(&["drop", &fourth]).ok();
    assert_eq!(tubes(&site).await.get(WAITING), None);
}

/// Who holds it may be about to tell of it.
#[tokio::test]
async fn what_follows_a_failed_build_is_not_told_of_while_somebody_looks_at_it() {
    let root = Root::new();
    let site = root.site();
    let first = submit(&root, "a", &[]);
    let second = submit(&root, "b", &["--after", &first]);
    let tubes = [WAITING.to_owned()];
    let taken = site.queue.reserve(&tubes, 1, SOON, &CancellationToken::new()).await.unwrap().pop();
    let (_, lease) = taken.expect("the job that waits");
    root.run(&["drop", &first]).ok();
    let notifier = root.start(&["notifier"]);
    eventually("a sink that tries again", async || {
        let undelivered = site.outbox.waiting().await.unwrap();
        undelivered
            .iter()
            .find(|sink| sink.reason.as_ref().is_some_and(|why| why.contains("being looked at")))?;
        Some(())
    })
    .await;
    assert_eq!(
        queued(&site).await.iter().filter(|job| job.tube != WAITING).count(),
        0,
        "nothing is told yet"
    );
    site.queue
        .give_up(&lease, GiveUp::Release { delay: Duration::ZERO, reason: String::new() })
        .await
        .unwrap();
    fails(&site, &second, &first).await;
    site.quiet().await;
    notifier.stop();
    assert_eq!(root.read("log/reimzul.log").matches("SRPM b-1.0-1.src.rpm").count(), 1);
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_and_nothing_is_queued() {
    let root = Root::new();
    let site = root.site();
    let good = submit(&root, "a", &[]);
    let scratch = submit(&root, "b", &["--scratch"]);
    let bad = submit(&root, "c", &[]);
    std::fs::remove_file(root.join("incoming/c-1.0-1.src.rpm")).unwrap();
    let roles = root.start_all();
    result(&site, &bad).await;
    result(&site, &good).await;
    site.quiet().await;
    roles.stop();
    let refused = |after: &str| {
        let ran = try_submit(&root, "d", &["--after", &good, after]);
        assert_eq!(ran.code, 2, "{ran:?}");
        ran.err
    };
    assert!(refused("nonsense").contains("no build's path or name contains 'nonsense'"));
    let said = refused(&scratch);
    assert!(said.contains("cannot be followed: it is a scratch build"), "{said}");
    let said = refused(&bad);
    assert!(said.contains("cannot be followed: it failed"), "{said}");
    let settle =
        ["override", "-s", "c-1.0-1.src.rpm", "-t", target().as_str(), "-a", arch(), "-c", "by hand"]
            .map(str::to_owned);
    root.run(&settle.each_ref().map(String::as_str)).ok();
    assert!(refused(&bad).contains("it failed"));
    assert_eq!(tubes(&site).await, BTreeMap::new());
    assert!(!root.join("incoming/d-1.0-1.src.rpm").exists());
}

#[tokio::test]
async fn a_build_whose_rpms_are_gone_is_not_waited_for() {
    need_createrepo();
    let root = Root::new();
    let (site, roles) = (root.site(), root.start_all());
    let first = submit(&root, "a", &[]);
    result(&site, &first).await;
    site.quiet().await;
    std::fs::remove_file(root.join(format!("bstore/repo/{first}/a-1.0-1.src.rpm"))).unwrap();
    let second = submit(&root, "b", &["--after", &first]);
    let failure = result(&site, &second).await.event.failure.unwrap();
    assert_eq!(failure.class, Class::After);
    assert!(failure.lines[0].ends_with("which is no longer in its repository"), "{failure}");
    roles.stop();
}

/// However often the mover is killed in the middle, each job is moved once.
#[tokio::test]
async fn a_killed_mover_moves_nothing_twice_and_loses_nothing() {
    const JOBS: usize = 40;
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    let first = submit(&root, "a", &[]);
    let worker = root.start(&["worker", "notifier"]);
    result(&site, &first).await;
    site.queue.list(None).await.unwrap();
    worker.stop();
    let path: BuildPath = first.parse().unwrap();
    let id = record(&root.join(format!("bstore/repo/{first}"))).event.build_id.unwrap();
    for _ in 0..JOBS {
        let request = harness::request(&srpm("b", 1));
        let accepted = reimzul::submit::accept(&site.config.layout, &request).unwrap();
        let after = reimzul::model::job::Predecessor { build: path.clone(), build_id: id.clone() };
        reimzul::submit::enqueue(&site.queue, &site.stamps, &accepted.following(vec![after])).await.unwrap();
    }
    let mut kills = 0;
    for wait in (0..).map(|turn| Duration::from_millis(turn * 3 % 40)) {
        let mut mover = root.start(&["repogen"]);
        mover.until_it_says("running");
        eventually("a job that was moved", async || {
            let left = site.queue.list(Some(WAITING)).await.unwrap();
            (left.is_empty() || left.len() + moved(&site).await.len() != JOBS || kills > 0).then_some(())
        })
        .await;
        tokio::time::sleep(wait).await;
        mover.kill();
        kills += 1;
        if site.queue.list(Some(WAITING)).await.unwrap().is_empty() || kills == 30 {
            break;
        }
    }
    let last = root.start(&["repogen"]);
    eventually("an empty tube", async || {
        site.queue.list(Some(WAITING)).await.unwrap().is_empty().then_some(())
    })
    .await;
    last.stop();
    let moved = moved(&site).await;
    assert_eq!(moved.len(), JOBS, "after {kills} kills");
    assert!(moved.values().all(|times| *times == 1), "after {kills} kills: {moved:?}");
}

/// The jobs in the tube of the arch, by build.
async fn moved(site: &Site) -> BTreeMap<String, usize> {
    let mut moved = BTreeMap::new();
    for entry in site.queue.list(Some(arch())).await.unwrap() {
        let job: BuildJob = serde_json::from_slice(&entry.body).unwrap();
        *moved.entry(job.path().unwrap().to_string()).or_default() += 1;
    }
    moved
}

#[tokio::test]
async fn metadata_that_cannot_be_made_is_waited_for() {
    let root = Root::new();
    let site = root.site();
    let first = submit(&root, "a", &[]);
    let worker = root.start(&["worker", "notifier"]);
    result(&site, &first).await;
    worker.stop();
    let second = submit(&root, "b", &["--after", &first]);
    // A folder with no createrepo_c in it.
    let bin = root.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let cache = root.join(format!("bstore/cache/{}", target()));
    std::fs::create_dir_all(cache.parent().unwrap()).unwrap();
    std::fs::write(&cache, "a file where a folder should be").unwrap();
    let repogen = root.start(&["repogen"]);
    let reason = eventually("a reason", async || {
        let jobs = site.queue.list(Some(WAITING)).await.unwrap();
        jobs.into_iter().find_map(|job| job.reason.filter(|reason| !reason.contains("waits for")))
    })
    .await;
    assert!(reason.contains("bstore/cache"), "{reason}");
    std::fs::remove_file(&cache).unwrap();
    let worker = root.start(&["worker", "notifier"]);
    assert_eq!(result(&site, &second).await.event.status, Status::Success);
    worker.stop();
    repogen.stop();
}

/// What is built along with a build may be built against, too.
#[tokio::test]
async fn what_is_built_along_with_it_is_waited_for() {
    let Some(other) = Arch::of_this_machine().and_then(Arch::companion) else { return };
    need_createrepo();
    let root = Root::with("slots = 2");
    root.write(&format!("targets/{}.repo", target()), "");
    root.write(&format!("targets/mini.{other}.repo"), "");
    let (site, roles) = (root.site(), root.start_with(&["all"], &[(SECONDS, "0.2")]));
    let first = submit(&root, "a", &[]);
    let second = submit(&root, "b", &["--after", &first]);
    result(&site, &second).await;
    site.quiet().await;
    roles.stop();
    let began: jiff::Timestamp = record(&root.join(format!("bstore/repo/{second}"))).started.parse().unwrap();
    let companion = BuildPath { arch: other, ..first.parse().unwrap() };
    let ended = record(&root.join(format!("bstore/repo/{companion}"))).finished;
    assert!(ended.parse::<jiff::Timestamp>().unwrap() <= began);
}

#[tokio::test]
async fn jobs_that_are_none_are_put_aside_and_hold_nothing_up() {
    need_createrepo();
    let root = Root::new();
    let site = root.site();
    std::fs::create_dir_all(root.join("incoming")).unwrap();
    std::fs::copy(srpm("old", 1), root.join("incoming/old-1.0-1.src.rpm")).unwrap();
    let job = json!({"srpm": "old-1.0-1.src.rpm", "arch": arch(), "target": target(), "disttag": "",
        "scratch": false, "submitter": "kb"});
    let mut climbs = job.clone();
    climbs["after"] = json!([{"build": "../../etc/20261123204406/1-1.x86_64", "build_id": "b"}]);
    let mut text = job.clone();
    text["after"] = json!("everything");
    let put = |body: &serde_json::Value| NewJob::new(WAITING, body, PRIORITY);
    // One that follows nothing has nothing to wait for.
    site.queue.put(vec![put(&json!(7)), put(&climbs), put(&text), put(&job)]).await.unwrap();
    let roles = root.start_all();
    eventually("a success", async || {
        let found = site.history.find(Find { all: true, ..Find::default() }).await.unwrap();
        found.iter().any(|document| document.event.status == Status::Success).then_some(())
    })
    .await;
    site.quiet().await;
    roles.stop();
    let left = queued(&site).await;
    assert_eq!(left.iter().map(|job| job.state).collect::<Vec<_>>(), [State::Buried; 3], "{left:?}");
}

/// Submits a package; its path.
fn submit(root: &Root, name: &str, options: &[&str]) -> String {
    try_submit(root, name, options).ok().out.trim().to_owned()
}

fn try_submit(root: &Root, name: &str, options: &[&str]) -> Ran {
    let srpm = srpm(name, 1);
    let given: &Path = &srpm;
    root.run(&[&["submit", "-q", "-t", "mini", "-s", given.to_str().unwrap()], options].concat())
}

async fn result(site: &Site, build: &str) -> Document {
    let path: BuildPath = build.parse().unwrap();
    eventually(&format!("the result of {build}"), async || {
        let found = site.history.find(Find { all: true, ..Find::default() }).await.unwrap();
        found.into_iter().find(|one| one.event.status.is_result() && one.event.path() == path)
    })
    .await
}

/// Waits until a build is reported since another has failed.
async fn fails(site: &Site, build: &str, predecessor: &str) {
    let event = result(site, build).await.event;
    let failure = event.failure.unwrap();
    assert_eq!((event.status, failure.class), (Status::Failed, Class::After));
    assert_eq!(failure.lines, [format!("it was to follow {predecessor}, which failed")]);
}

/// What is queued, signs of life aside: they come at any time.
async fn queued(site: &Site) -> Vec<Entry> {
    let jobs = site.queue.list(None).await.unwrap();
    jobs.into_iter().filter(|job| job.tube != BUILDERS).collect()
}

/// How many jobs of that there are, by tube.
async fn tubes(site: &Site) -> BTreeMap<String, usize> {
    let mut tubes = BTreeMap::new();
    for job in queued(site).await {
        *tubes.entry(job.tube).or_default() += 1;
    }
    tubes
}
