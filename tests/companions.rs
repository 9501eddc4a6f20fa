//! One job, several builds: companion arches, and the noarch build of kernels. With the real binary's roles and an
//! engine that builds nothing.

mod harness;

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::{Ask, Root, arch, eventually, listed, need_createrepo, record, srpm};
use reimzul::history::{Document, Find};
use reimzul::model::record::{EngineName, ResultFile, Source};
use reimzul::model::{Arch, BuildJob, BuildPath, BuildRecord, Class, Event, Status};
use reimzul::queue::{NewJob, PRIORITY, State};
use reimzul::role::Site;
use reimzul::submit::Submitted;
use reimzul::sys::rpm;
use serde_json::json;

/// A root whose target has a configuration for the companion arch, too.
fn root() -> Root {
    let root = Root::with("tries = 2");
    for arch in [arch(), companion().as_str()] {
        root.write(&format!("targets/mini.{arch}.repo"), "the null engine reads nothing of it");
    }
    root
}

/// The companion of this machine's arch.
fn companion() -> Arch {
    let arch: Arch = arch().parse().unwrap();
    arch.companion().expect("companions are tested on x86_64 or ppc64")
}

fn path(build: &Submitted, arch: Arch) -> BuildPath {
    BuildPath { arch, ..build.path.clone() }
}

fn folder(root: &Root, build: &Submitted, arch: Arch) -> PathBuf {
    root.join("bstore/repo").join(path(build, arch).relative())
}

async fn events(site: &Site, build: &Submitted) -> Vec<Event> {
    let find = Find {
        build_id: Some(build.job.stamp.as_ref().unwrap().build_id.clone()),
        all: true,
        ..Find::default()
    };
    let mut found: Vec<Document> = site.history.find(find).await.unwrap();
    found.reverse();
    found.into_iter().map(|document| document.event).collect()
}

#[tokio::test]
async fn the_companion_is_built_along_with_it_and_its_shared_rpms_stay_with_it() {
    need_createrepo();
    let root = root();
    let (site, roles) = (root.site(), root.start_all());
    let build = site.submit(&srpm("hello", 1)).await;
    site.result(&build).await;
    site.quiet().await;
    roles.stop();

    let (main, other) = (build.path.arch, companion());
    for arch in [main, other] {
        let record = record(&folder(&root, &build, arch));
        assert_eq!((record.event.status, record.event.arch), (Status::Success, arch));
        assert_eq!(record.event.target, build.path.target, "it lands in the same target");
        assert_eq!(record.event.timestamp, build.path.timestamp);
        assert_eq!(record.event.arches, [main, other]);
        assert_eq!(record.event.warnings, Vec::<String>::new(), "both hold the same source RPM");
    }
    let mut told: Vec<(Arch, Status)> =
        events(&site, &build).await.iter().map(|event| (event.arch, event.status)).collect();
    told.sort_by_key(|(arch, status)| (*arch, status.as_str()));
    assert_eq!(
        told,
        [(main, Status::Done), (main, Status::Success), (other, Status::Done), (other, Status::Success)]
    );
    // The source RPM of the main arch's is listed and staged, and not a second time.
    assert_eq!(listed(&root.join(format!("bstore/repo/{}", build.path.target))), ["hello-1.0-1.src.rpm"]);
    assert!(folder(&root, &build, other).join("hello-1.0-1.src.rpm").exists());
    assert_eq!(root.files("bstore/tosign").len(), 1);
    assert_eq!(root.files("results"), Vec::<String>::new());
    assert_eq!(root.files("bstore/upload"), Vec::<String>::new());
}

#[tokio::test]
async fn a_companion_without_a_configuration_is_not_built() {
    let root = Root::new();
    let (site, roles) = (root.site(), root.start_all());
    let build = site.submit(&srpm("hello", 1)).await;
    let event = site.result(&build).await.event;
    site.quiet().await;
    roles.stop();
    assert_eq!(event.arches, []);
    assert!(!folder(&root, &build, companion()).exists());
    assert_eq!(events(&site, &build).await.len(), 2);
}

#[tokio::test]
async fn a_companion_that_fails_does_not_fail_the_first_and_is_all_that_is_built_again() {
    let root = root();
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    // There is no room for the companion's attempt.
    let blocked = format!("results/{}", path(&build, companion()));
    root.write(&blocked, "a file where a folder should be");
    let roles = root.start_all();
    eventually("a buried job", async || {
        let jobs = site.queue.list(Some(arch())).await.unwrap();
        (jobs.len() == 1 && jobs[0].state == State::Buried).then_some(())
    })
    .await;
    site.quiet().await;
    let results = async || -> Vec<(Arch, Status, Option<Class>)> {
        let ended = events(&site, &build).await.into_iter().filter(|event| event.status.is_result());
        let mut results: Vec<_> = ended
            .map(|event| (event.arch, event.status, event.failure.map(|failure| failure.class)))
            .collect();
        results.sort_by_key(|(arch, ..)| *arch);
        results
    };
    let main = build.path.arch;
    assert_eq!(
        results().await,
        [(main, Status::Success, None), (companion(), Status::Failed, Some(Class::Disk))]
    );
    let first = record(&folder(&root, &build, main));
    assert!(!folder(&root, &build, companion()).exists());

    std::fs::remove_file(root.join(&blocked)).unwrap();
    assert_eq!(site.queue.kick(arch(), 10).await.unwrap(), 1);
    eventually("the companion", async || {
        folder(&root, &build, companion()).join("build.json").exists().then_some(())
    })
    .await;
    site.quiet().await;
    roles.stop();
    assert_eq!(record(&folder(&root, &build, main)), first, "what was there was not built again");
    assert_eq!(site.queue.list(Some(arch())).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_kernel_gets_its_noarch_build_after_the_others() {
    let root = root();
    root.write("targets/mini.noarch.repo", "");
    let (site, roles) = (root.site(), root.start_all());
    let kernel = site.submit(&srpm("kernel", 1)).await;
    let other = site.submit(&srpm("kernel-tools", 1)).await;
    site.result(&kernel).await;
    site.result(&other).await;
    site.quiet().await;
    roles.stop();
    let all = [kernel.path.arch, companion(), Arch::Noarch];
    let records: Vec<BuildRecord> = all.iter().map(|arch| record(&folder(&root, &kernel, *arch))).collect();
    assert!(records.iter().all(|record| record.event.arches == all), "{records:?}");
    let begun: jiff::Timestamp = records[2].started.parse().unwrap();
    for record in &records[..2] {
        assert!(record.finished.parse::<jiff::Timestamp>().unwrap() <= begun, "it did not wait");
    }
    assert!(!folder(&root, &other, Arch::Noarch).exists(), "only kernels have one");
}

#[tokio::test]
async fn a_builder_that_has_failed_leaves_the_job_to_another_if_there_is_one() {
    let root = Root::with("retry_delay = 1");
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    assert!(site.queue.withdraw(build.job_id).await.unwrap());
    let tried = async || {
        let old = build.job.stamp.clone().unwrap();
        let stamp = site.stamps.next(&build.job.target, old.pkgname, old.evr, old.sha256).await.unwrap();
        let job = BuildJob { tried: vec![site.config.node.clone()], ..build.job.clone().stamped(stamp) };
        site.queue.put(vec![NewJob::new(arch(), &job, PRIORITY)]).await.unwrap();
        Submitted { job, ..build.clone() }
    };
    let roles = root.start_all();
    let alone = tried().await;
    assert_eq!(site.result(&alone).await.event.builder_fqdn, site.config.node, "there is no other");

    let other = root.start_on("builder-two", &["worker"]);
    eventually("the other builder", async || {
        site.queue.is_watched_elsewhere(arch(), &site.config.node).await.unwrap().then_some(())
    })
    .await;
    let shared = tried().await;
    assert_eq!(site.result(&shared).await.event.builder_fqdn, "builder-two");
    other.stop();
    roles.stop();
}

/// An RPM with one file and one dependency, built here and now.
fn built(text: &str, needs: &str) -> (tempfile::TempDir, ResultFile) {
    let work = tempfile::tempdir().unwrap();
    let spec = format!(
        "Name: doc\nVersion: 1\nRelease: 1\nSummary: A test\nLicense: MIT\nBuildArch: noarch\nRequires: {needs}\n\
         %description\nA package that is there to be compared.\n\
         %install\nmkdir -p %{{buildroot}}/usr/share\necho '{text}' > %{{buildroot}}/usr/share/doc-file\n\
         %files\n/usr/share/doc-file\n"
    );
    let path = harness::built(&spec, "doc", work.path());
    let whole = rpm::whole(&path).unwrap();
    let result = ResultFile {
        file: "doc-1-1.noarch.rpm".into(),
        nevra: whole.header.nevra(),
        size: whole.size,
        sha256: whole.sha256,
        content: Some(whole.content),
    };
    (work, result)
}

#[test]
fn builds_of_one_source_are_compared_by_files_and_dependencies() {
    let with = |arch: &str, results: &[&ResultFile]| {
        let event = json!({"srpm": "doc-1-1.src.rpm", "arch": arch, "target": "c7.x86_64", "disttag": "",
            "scratch": false, "submitter": "kb", "status": "Success", "builder_fqdn": "b1", "evr": "1-1",
            "pkgname": "doc", "timestamp": "20261123204406"});
        BuildRecord {
            format: 1,
            event: serde_json::from_value(event).unwrap(),
            attempt: "1-1".into(),
            source: Source { file: String::new(), size: 0, sha256: String::new() },
            results: results.iter().map(|&result| result.clone()).collect(),
            durations: BTreeMap::new(),
            resources: reimzul::model::Resources::default(),
            started: String::new(),
            finished: String::new(),
            engine: EngineName { name: String::new(), version: String::new() },
            buildroot: Vec::new(),
            repositories: Vec::new(),
        }
    };
    let (_a, first) = built("text", "bash");
    // The time in the RPM is another one.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_b, second) = built("text", "bash");
    assert_ne!(first.sha256, second.sha256, "they are different files");
    let main = with("x86_64", &[&first]);
    let differences = |result: &ResultFile| with("i386", &[result]).differences(&main);
    assert_eq!(differences(&second), Vec::<String>::new());
    let (_c, other_file) = built("another text", "bash");
    assert_eq!(
        differences(&other_file),
        ["doc-1-1.noarch.rpm made for i386 has other files than the one made for x86_64"]
    );
    let (_d, other_needs) = built("text", "zsh");
    assert_eq!(
        differences(&other_needs),
        ["doc-1-1.noarch.rpm made for i386 has other dependencies than the one made for x86_64"]
    );
    assert_eq!(
        with("i386", &[&first]).differences(&with("x86_64", &[])),
        ["doc-1-1.noarch.rpm made for i386 is not made for x86_64 and published by neither"]
    );
}
