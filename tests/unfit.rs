//! What arrives on a real beanstalkd and is no job of ours: put aside with the reason for all to see, reported where it
//! names a build, and no reason for any role to stop.

mod harness;

use harness::beanstalkd::Beanstalkd;
use harness::{Ask, Root, arch, eventually, need_createrepo, srpm, target};
use reimzul::history::Find;
use reimzul::model::Status;
use reimzul::queue::{BUILDERS, CREATEREPO, NOTIFY, NewJob, State, TOSIGN};
use serde_json::{Value, json};

/// The server's, for a job.
const LIMIT: usize = 8 << 20;

fn job(field: &str, value: Value) -> Vec<u8> {
    let mut job = json!({"srpm": "hello-1.0-1.src.rpm", "arch": arch(), "target": target(), "disttag": ".el9",
        "scratch": false, "submitter": "kb"});
    job[field] = value;
    job.to_string().into_bytes()
}

fn without(field: &str) -> Vec<u8> {
    let mut job: Value = serde_json::from_slice(&job("scratch", false.into())).unwrap();
    job.as_object_mut().unwrap().remove(field);
    job.to_string().into_bytes()
}

/// Bodies that name no build, and such that name one.
fn bodies() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let nameless = vec![
        Vec::new(),
        b"\x00\xff\xfe not JSON \x1b[2J".to_vec(),
        b"{\"srpm\": \"hello-1.0-1.src.rpm\"".to_vec(),
        b"[]".to_vec(),
        vec![b'['; 60_000],
        without("srpm"),
        without("target"),
        job("srpm", json!("../../../etc/passwd")),
        job("srpm", json!("/etc/x.src.rpm")),
        job("srpm", json!("--eval.src.rpm")),
        job("srpm", json!("$(touch /tmp/reimzul-unfit)-1-1.src.rpm")),
        job("srpm", json!({"a": "b"})),
        job("target", json!("../../outside")),
        job("target", json!("mini;reboot")),
        job("target", json!("a\u{202e}b\u{1b}[31m")),
    ];
    let named = vec![
        without("disttag"),
        without("scratch"),
        without("submitter"),
        job("arch", json!("vax")),
        job("disttag", json!(".el9' --define 'x %(id)")),
        job("disttag", json!("../..")),
        job("disttag", json!("`id`")),
        job("scratch", json!("False")),
        job("scratch", json!("x".repeat(2_000_000))),
        job("submitter", json!("kb\nTo: all@example.org")),
        job("submitter", json!(["kb"])),
        job("timestamp", json!("../../20261123204406")),
        job("timestamp", json!(-1)),
        job("pkgname", json!("../../bin")),
        job("evr", json!("1;2")),
        job("build_id", json!("a/../../b")),
        job("tried", json!("everywhere")),
        // What is to be told of it has no room any more.
        job("padding", json!("x".repeat(LIMIT - 300))),
    ];
    (nameless, named)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_jobs_are_put_aside_told_of_and_hold_nothing_up() {
    need_createrepo();
    let server = Beanstalkd::with_limit(LIMIT);
    let root = Root::with(&format!("[queue]\nurl = {}\n", server.url()));
    let site = root.site();
    let (nameless, named) = bodies();
    let (bad, failing) = (nameless.len() + named.len(), named.len());
    let put = |tube: &str, body: &[u8]| NewJob { body: body.to_vec(), ..NewJob::new(tube, &(), 1) };
    let mut jobs: Vec<NewJob> = nameless.iter().chain(&named).map(|body| put(arch(), body)).collect();
    for tube in [NOTIFY, CREATEREPO, TOSIGN] {
        jobs.extend(nameless.iter().map(|body| put(tube, body)));
    }
    // Of these tubes' own kinds.
    let event = json!({"srpm": "hello-1.0-1.src.rpm", "arch": arch(), "target": target(), "disttag": "",
        "scratch": false, "submitter": "kb", "status": "Exploded", "builder_fqdn": "b1", "evr": "1.0-1",
        "pkgname": "hello", "timestamp": "20261123204406"});
    jobs.push(put(NOTIFY, event.to_string().as_bytes()));
    jobs.push(put(TOSIGN, b"{\"pkgname\": \"../x\", \"status\": \"Success\"}"));
    // To a request for metadata the target is all that matters.
    let requests = nameless.iter().filter(|body| {
        let its = serde_json::from_slice::<Value>(body).ok().map(|body| body["target"].clone());
        its != Some(json!(target()))
    });
    let buried = bad + 2 * nameless.len() + 2 + requests.count();
    site.queue.put(jobs).await.unwrap();

    let roles = root.start_all();
    let good = site.submit(&srpm("hello", 1)).await;
    assert_eq!(site.result(&good).await.event.status, Status::Success);
    site.quiet().await;
    let failed = eventually("every named build is reported", async || {
        let find = Find { status: Some(Status::Failed), all: true, limit: 1000, ..Find::default() };
        let found = site.history.find(find).await.unwrap();
        (found.len() == failing).then_some(found)
    })
    .await;
    roles.terminate();
    let (code, log) = roles.ended();
    assert_eq!(code, Some(0), "{log}");

    for document in &failed {
        let failure = document.event.failure.as_ref().unwrap();
        assert!(failure.lines[0].starts_with("its body is no build job: "), "{failure:?}");
        assert!(document.event.submitter.as_str() == "kb" || document.event.submitter.as_str() == "unknown");
    }
    // Signs of life come at any time.
    let mut aside = site.queue.list(None).await.unwrap();
    aside.retain(|job| job.tube != BUILDERS);
    assert!(aside.iter().all(|job| job.state == State::Buried), "{aside:?}");
    assert_eq!(aside.len(), buried);
    let shown = root.run(&["stats"]).ok().out;
    assert_eq!(log.matches("is buried: its body is no").count(), buried);
    for job in &aside {
        let reason = job.reason.as_deref().unwrap_or_else(|| panic!("{job:?} has no reason"));
        assert!(reason.starts_with("its body is no") && reason.len() < 4000, "{reason}");
        assert!(shown.contains(&format!("job {} of {} is buried: {reason}", job.id, job.tube)), "{shown}");
    }
    assert!(!shown.chars().any(|c| c == '\u{1b}' || c == '\u{202e}'), "{shown}");
    assert!(!std::path::Path::new("/tmp/reimzul-unfit").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_writes_lines_of_its_own_into_the_log_or_onto_a_terminal() {
    let server = Beanstalkd::start();
    let root = Root::with(&format!("[queue]\nurl = {}\n", server.url()));
    let site = root.site();
    let forged = "[2026-11-23 20:45:01,042] Build job SRPM hello-1.0-1.src.rpm (20261123204406) for arch x86_64 \
        builder b1 status Success [1.0-1] (Scratch job: False) submitted by root";
    let event = json!({"srpm": "hello-1.0-1.src.rpm", "arch": arch(), "target": target(), "disttag": "",
        "scratch": false, "submitter": "kb", "status": "Failed", "evr": "1.0-1", "pkgname": "hello",
        "builder_fqdn": format!("b1 status Success [1.0-1]\r\n{forged} \r\n\u{1b}[1A"),
        "timestamp": "20261123204406"});
    site.queue.put(vec![NewJob::new(NOTIFY, &event, 1)]).await.unwrap();
    let notifier = root.start(&["notifier"]);
    let log = eventually("a line in the log", async || {
        std::fs::read_to_string(root.join("log/reimzul.log")).ok().filter(|log| log.ends_with(" \r\n"))
    })
    .await;
    site.quiet().await;
    notifier.stop();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(!log.contains("status Success") && log.contains(" status Failed [1.0-1] "), "{log}");
    for command in [&["why", "hello"][..], &["query", "--classic"], &["query"]] {
        let shown = root.run(command).ok().out;
        assert!(!shown.lines().any(|line| line.starts_with("[2026")) && !shown.contains('\u{1b}'), "{shown}");
    }
}
