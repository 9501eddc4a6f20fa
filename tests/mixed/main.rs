//! One fleet, old machines and new ones: on a real beanstalkd, with an old site's programs played by a Python client
//! that knows nothing of our code.

#[path = "../harness/mod.rs"]
mod harness;

use std::process::Command;

use harness::beanstalkd::{Beanstalkd, Proxy};
use harness::mongodb::{Server, python};
use harness::{Ask, Ran, Root, arch, binary_rpm, eventually, listed, need_createrepo, record, srpm, target};
use reimzul::history::{Document, Find};
use reimzul::model::Status;
use reimzul::queue::State;
use reimzul::role::Site;
use serde_json::{Value, json};

/// A beanstalkd, and a root of ours that uses it.
struct Fleet {
    queue: Beanstalkd,
    root: Root,
}

impl Fleet {
    fn new() -> Fleet {
        Fleet::with("")
    }

    fn with(more: &str) -> Fleet {
        need_createrepo();
        let queue = Beanstalkd::start();
        let root = Root::with(&format!("[queue]\nurl = {}\n{more}", queue.url()));
        Fleet { queue, root }
    }

    /// Has the old site do something; its answers.
    fn old(&self, words: &[&str]) -> Vec<Value> {
        let mut command = Command::new(python("python"));
        command.arg("tests/mixed/old_site.py").arg(self.queue.port().to_string()).args(words);
        let said = Ran::of(&mut command).ok().out;
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// An old submitter's job; its source RPM lies in incoming/ already, as it must with them.
    fn old_submit(&self, package: &str, more: &[&str]) {
        self.old_submit_for(arch(), package, more);
    }

    fn old_submit_for(&self, arch: &str, package: &str, more: &[&str]) {
        let file = format!("{package}-1.0-1.src.rpm");
        std::fs::create_dir_all(self.root.join("incoming")).unwrap();
        std::fs::copy(srpm(package, 1), self.root.join("incoming").join(&file)).unwrap();
        self.old(&[&["submit", &file, arch, "mini", ".el9", "kb"], more].concat());
    }

    /// An old worker's build of the next job, which leaves these files.
    fn old_build(&self, status: &str, files: &[std::path::PathBuf]) -> String {
        let repo = self.root.join("bstore/repo").display().to_string();
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let told = self.old(&[&["work", arch(), &repo, status], &files[..]].concat());
        told[0]["timestamp"].as_str().unwrap().to_owned()
    }

    /// Has metadata made, as an old operator does.
    async fn metadata(&self) {
        self.old(&["repogen", target().as_str()]);
        let made = self.root.join(format!("bstore/repo/{}/repodata/repomd.xml", target()));
        eventually("metadata", async || made.exists().then_some(())).await;
    }

    fn listed(&self) -> Vec<String> {
        listed(&self.root.join(format!("bstore/repo/{}", target())))
    }

    fn staged(&self) -> Vec<String> {
        let staged = self.root.files("bstore/tosign");
        staged.iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    }
}

async fn all(site: &Site) -> Vec<Document> {
    site.history.find(Find { all: true, ..Find::default() }).await.unwrap()
}

async fn results(site: &Site, wanted: usize) -> Vec<Document> {
    eventually("so many results", async || {
        let found: Vec<Document> =
            all(site).await.into_iter().filter(|document| document.event.status.is_result()).collect();
        (found.len() == wanted).then_some(found)
    })
    .await
}

/// The fields of an event that every old program reads, with the types that it expects.
fn is_an_old_event(body: &Value) {
    for name in [
        "srpm",
        "arch",
        "target",
        "disttag",
        "submitter",
        "status",
        "builder_fqdn",
        "evr",
        "pkgname",
        "timestamp",
    ] {
        assert!(body[name].is_string(), "{name} of {body}");
    }
    assert!(body["scratch"].is_boolean(), "{body}");
    let timestamp = body["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 14 && timestamp.bytes().all(|byte| byte.is_ascii_digit()), "{timestamp}");
}

#[tokio::test]
async fn an_old_submitters_job_is_built_and_told_of_as_an_old_worker_would() {
    let fleet = Fleet::new();
    let site = fleet.root.site();
    // Among its fields are such as our records have, too.
    let more = ["git_branch=c9", "git_ref=HEAD", "comment=please", "source=cvs", "engine=steam"];
    fleet.old_submit("hello", &more);
    let mut worker = fleet.root.start(&["worker"]);
    worker.until_it_says("success");
    worker.stop();
    assert!(site.queue.list(Some(arch())).await.unwrap().is_empty(), "stamped once, built once");

    let told = fleet.old(&["read", "notify"]);
    let statuses: Vec<&Value> = told.iter().map(|job| &job["body"]["status"]).collect();
    assert_eq!(statuses, ["Building", "Success"]);
    let asked = fleet.old(&["read", "createrepo"]);
    assert_eq!(asked.len(), 1);
    for job in told.iter().chain(&asked) {
        is_an_old_event(&job["body"]);
        assert_eq!((job["pri"].as_u64(), job["ttr"].as_u64()), (Some(1 << 31), Some(120)));
        assert_eq!(job["body"]["srpm"], "hello-1.0-1.src.rpm");
        assert_eq!(job["body"]["target"], target().as_str());
        assert_eq!(job["body"]["submitter"], "kb");
        assert_eq!((&job["body"]["evr"], &job["body"]["pkgname"]), (&json!("1.0-1"), &json!("hello")));
        for field in more {
            let (name, value) = field.split_once('=').unwrap();
            assert_eq!(job["body"][name], value);
        }
    }
    // Where an old signer looks for it.
    let timestamp = told[1]["body"]["timestamp"].as_str().unwrap();
    let folder = format!("bstore/repo/{}/hello/{timestamp}/1.0-1.{}", target(), arch());
    let folder = fleet.root.join(folder);
    assert!(folder.join("build.log").exists());
    let record = record(&folder);
    assert_eq!((record.source.file.as_str(), record.engine.name.as_str()), ("hello-1.0-1.src.rpm", "null"));
    assert_eq!(
        (&record.event.extra["source"], &record.event.extra["comment"]),
        (&json!("cvs"), &json!("please"))
    );
}

#[tokio::test]
async fn an_old_submitters_job_is_built_once_though_its_worker_vanishes_when_it_has_stamped_it() {
    let fleet = Fleet::new();
    let site = fleet.root.site();
    fleet.old_submit("hello", &[]);
    // The stamped job gets through, and nothing after it.
    let proxy = Proxy::until("build_id", fleet.queue.port());
    let config = |port: u16| {
        let text = format!(
            "[worker]\nengine = null\nretry_delay = 0\n[queue]\nurl = beanstalk://127.0.0.1:{port}\n"
        );
        fleet.root.write("reimzul.ini", &text);
    };
    config(proxy.port());
    let mut vanishing = fleet.root.start(&["worker"]);
    vanishing.until_it_says("is lost");
    vanishing.kill();
    eventually("the original, handed back, and the stamped one", async || {
        let there = site.queue.list(Some(arch())).await.unwrap();
        (there.iter().filter(|job| job.state == State::Ready).count() == 2).then_some(())
    })
    .await;

    config(fleet.queue.port());
    let roles = fleet.root.start(&["worker", "notifier"]);
    results(&site, 1).await;
    for tube in [arch(), "notify"] {
        site.quiet_in(tube).await;
    }
    roles.stop();
    assert_eq!(results(&site, 1).await[0].event.status, Status::Success);
    let built = fleet.root.files("bstore/repo").into_iter().filter(|file| file.ends_with("/build.json"));
    assert_eq!(built.count(), 1);
}

/// The documents that say they are the latest build.
async fn latest(site: &Site) -> Vec<(String, Status)> {
    let found = all(site).await.into_iter().filter(|document| document.latest_build == Some(true));
    found.map(|document| (document.event.arch.to_string(), document.event.status)).collect()
}

#[tokio::test]
async fn an_arch_is_spelled_as_an_old_submitter_asked_for_it() {
    if arch() != "x86_64" {
        println!("no other machine than x86_64 builds i386");
        return;
    }
    let server = Server::shared();
    let database = server.url();
    let fleet = Fleet::with(&format!("[history]\nurl = {database}\n"));
    let site = fleet.root.site();
    let repo = fleet.root.join("bstore/repo").display().to_string();
    let old_build = |package: &str| {
        fleet.old_submit_for("i686", package, &[]);
        fleet.old(&["work", "i386", &repo, "Failed"]);
        fleet.old(&["notify", &database, "2"]);
    };
    old_build("hello");
    assert_eq!(latest(&site).await, [("i686".to_owned(), Status::Failed)]);
    // Our worker and our notifier come next, then our worker and the old notifier.
    fleet.old_submit_for("i686", "hello", &[]);
    let roles = fleet.root.start(&["worker", "notifier"]);
    results(&site, 2).await;
    site.quiet_in("notify").await;
    roles.stop();
    let success = [("i686".to_owned(), Status::Success)];
    assert_eq!(latest(&site).await, success);
    fleet.old_submit_for("i686", "hello", &[]);
    let mut worker = fleet.root.start(&["worker"]);
    worker.until_it_says("success");
    worker.stop();
    fleet.old(&["notify", &database, "2"]);
    assert_eq!(latest(&site).await, success);

    let asked = fleet.old(&["read", "createrepo"]);
    assert_eq!(asked.len(), 2);
    for job in asked {
        assert_eq!((&job["body"]["arch"], &job["body"]["target"]), (&json!("i686"), &json!("mini.i686")));
        let timestamp = job["body"]["timestamp"].as_str().unwrap();
        let folder = format!("bstore/repo/mini.i686/hello/{timestamp}/1.0-1.i686");
        assert!(fleet.root.join(folder).join("build.json").exists(), "an old notifier links to it");
    }
    // Whichever way it is spelled by who overrides it.
    for (package, arch) in [("sed", "i686"), ("tree", "i386")] {
        old_build(package);
        let file = format!("{package}-1.0-1.src.rpm");
        fleet.root.run(&["override", "-s", &file, "-t", "mini.i686", "-a", arch, "-c", "so be it"]).ok();
    }
}

#[tokio::test]
async fn what_we_submit_and_ask_for_is_what_old_programs_read() {
    let fleet = Fleet::new();
    let site = fleet.root.site();
    let package = srpm("hello", 1).display().to_string();
    let submit = ["submit", "-s", &package, "-a", arch(), "-t", "mini", "-d", ".el9"];
    fleet.root.run(&submit).ok();
    fleet.root.run(&[&submit[..], &["--now", "--scratch"]].concat()).ok();
    std::fs::create_dir_all(fleet.root.join(format!("bstore/repo/{}", target()))).unwrap();
    fleet.root.run(&["repogen", target().as_str()]).ok();
    let jobs = fleet.old(&["read", arch()]);
    let seen: Vec<(u64, u64, &Value)> = jobs
        .iter()
        .map(|job| (job["pri"].as_u64().unwrap(), job["ttr"].as_u64().unwrap(), &job["body"]["scratch"]))
        .collect();
    assert_eq!(seen, [(1024, 120, &json!(true)), (8192, 120, &json!(false))]);
    for job in &jobs {
        for name in ["srpm", "arch", "target", "disttag", "submitter"] {
            assert!(job["body"][name].is_string(), "{name} of {job}");
        }
        assert_eq!(job["body"]["target"], target().as_str());
    }
    let asked = fleet.old(&["read", "createrepo"]);
    assert_eq!((asked.len(), &asked[0]["body"]["target"]), (1, &json!(target().as_str())));

    // And what our notifier wants signed.
    let built = site.submit(&srpm("hello", 1)).await;
    let roles = fleet.root.start(&["worker", "notifier"]);
    site.result(&built).await;
    eventually("a request for signing", async || {
        let waiting = site.queue.list(Some("tosign")).await.unwrap();
        (!waiting.is_empty()).then_some(())
    })
    .await;
    roles.stop();
    let tosign = fleet.old(&["read", "tosign"]);
    assert_eq!(tosign.len(), 1);
    for name in ["pkgname", "status", "target", "arch", "timestamp"] {
        assert!(tosign[0]["body"][name].is_string(), "{name} of {}", tosign[0]);
    }
}

#[tokio::test]
async fn what_an_old_worker_builds_is_recorded_listed_and_staged() {
    let fleet = Fleet::new();
    let site = fleet.root.site();
    let roles = fleet.root.start(&["notifier", "repogen", "signer"]);
    fleet.metadata().await;
    // One of an old submitter, two of ours; one fails, one is only tried.
    fleet.old_submit("old", &["oddity=kept"]);
    let good = fleet.old_build("Success", &[srpm("old", 1), binary_rpm("old")]);
    site.submit(&srpm("bad", 1)).await;
    let bad = fleet.old_build("Failed", &[srpm("bad", 1)]);
    site.submit_scratch(&srpm("tried", 1)).await;
    fleet.old_build("Success", &[srpm("tried", 1), binary_rpm("tried")]);

    let found = results(&site, 3).await;
    site.quiet().await;
    roles.stop();
    let of = |package: &str| found.iter().find(|found| found.event.pkgname.as_str() == package).unwrap();
    assert_eq!((of("old").event.status, of("old").event.timestamp.to_string()), (Status::Success, good));
    assert_eq!(of("old").event.extra["oddity"], "kept");
    assert_eq!((of("bad").event.status, of("bad").event.timestamp.to_string()), (Status::Failed, bad));
    assert!(of("tried").event.scratch && of("tried").event.build_id.is_some());
    let building = all(&site).await.into_iter().filter(|found| found.event.status == Status::Building);
    assert_eq!(building.count(), 0, "they are Done");
    assert_eq!(fleet.listed(), ["old-1.0-1.noarch.rpm", "old-1.0-1.src.rpm"]);
    assert_eq!(fleet.staged(), ["old-1.0-1.noarch.rpm", "old-1.0-1.src.rpm"]);
}

#[tokio::test]
async fn a_repository_that_old_machines_made_keeps_its_packages() {
    let fleet = Fleet::new();
    fleet.old_submit("old", &[]);
    fleet.old_build("Success", &[srpm("old", 1), binary_rpm("old")]);
    fleet.old_submit("bad", &[]);
    fleet.old_build("Failed", &[srpm("bad", 1)]);
    // The old repogen has had its turn before ours comes.
    fleet.old(&["read", "createrepo"]);
    let repogen = fleet.root.start(&["repogen"]);
    fleet.metadata().await;
    assert_eq!(fleet.listed(), ["old-1.0-1.noarch.rpm", "old-1.0-1.src.rpm"]);
    // From then on an old worker's word is waited for.
    fleet.old_submit("late", &[]);
    fleet.old_build("Success", &[binary_rpm("late")]);
    eventually("the new one is listed", async || {
        fleet.listed().contains(&"late-1.0-1.noarch.rpm".to_owned()).then_some(())
    })
    .await;
    repogen.stop();
}

#[tokio::test]
async fn an_old_notifier_is_told_by_our_worker_and_asks_our_signer() {
    let server = Server::shared();
    let database = server.url();
    let fleet = Fleet::with(&format!("[history]\nurl = {database}\n"));
    let site = fleet.root.site();
    site.submit(&srpm("hello", 1)).await;
    let mut worker = fleet.root.start(&["worker"]);
    worker.until_it_says("success");
    worker.stop();
    let log = fleet.old(&["notify", &database, "2"]);
    let line = log[1]["log"].as_str().unwrap();
    assert!(line.contains("SRPM hello-1.0-1.src.rpm") && line.contains("status Success [1.0-1]"), "{line}");
    assert!(line.ends_with("(Scratch job: False) submitted by tester \r\n"), "{line}");
    // Our query finds what the old one wrote; and the next build's result goes by our notifier.
    let found = fleet.root.run(&["query", "-s", "Success", "--classic"]).ok().out;
    assert!(found.starts_with("hello-1.0-1.src.rpm (arch: "), "{found}");
    let signer = fleet.root.start(&["signer"]);
    site.quiet_in("tosign").await;
    signer.stop();
    assert_eq!(fleet.staged(), ["hello-1.0-1.src.rpm"]);
    let again = site.submit(&srpm("hello", 1)).await;
    let roles = fleet.root.start(&["worker", "notifier"]);
    site.result(&again).await;
    roles.stop();
    let latest = site.history.find(Find { status: Some(Status::Success), ..Find::default() }).await.unwrap();
    assert_eq!(latest.len(), 1, "the former one is the latest no more");
}

/// Waiting for one tube.
trait QuietIn {
    async fn quiet_in(&self, tube: &str);
}

impl QuietIn for Site {
    async fn quiet_in(&self, tube: &str) {
        eventually("an empty tube", async || {
            self.queue.list(Some(tube)).await.unwrap().is_empty().then_some(())
        })
        .await;
    }
}
