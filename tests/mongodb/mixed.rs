//! One database, and two fleets: an old one's programs, played by a Python client that knows nothing of our code,
//! read what we write, and write what we read.

use std::io::Write;
use std::process::{Command, Stdio};

use reimzul::history::{Document, Find, History};
use reimzul::model::{Arch, Event, Status};
use reimzul::queue::{NOTIFY, NewJob};
use serde_json::{Value, json};

use super::harness::Root;
use super::harness::mongodb::{Server, python};
use super::{event, fields, old_event};

/// Runs the old fleet's client, with a JSON object a line as its input; its answers.
fn old_fleet(url: &str, words: &[&str], input: &[Value]) -> Vec<Value> {
    let mut command = Command::new(python("python"));
    command.arg("tests/mongodb/old_fleet.py").arg(url).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<String> = input.iter().map(ToString::to_string).collect();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn old_fields(package: &str, build: u32, status: &str) -> Value {
    serde_json::to_value(old_event(package, build, status)).unwrap()
}

/// A root whose history is in that database.
fn root(url: &str) -> Root {
    Root::with(&format!("[history]\nurl = {url}\n"))
}

/// What the notifier makes of events that lie in its tube.
async fn notify(root: &Root, events: &[Event]) {
    let site = root.site();
    let jobs = events.iter().map(|event| NewJob::new(NOTIFY, event, 1 << 31)).collect();
    site.queue.put(jobs).await.unwrap();
    let notifier = root.start(&["notifier"]);
    super::told(&site).await;
    notifier.stop();
}

async fn all(history: &History) -> Vec<Document> {
    history.find(Find { all: true, ..Find::default() }).await.unwrap()
}

#[tokio::test]
async fn our_documents_are_what_old_scripts_expect_field_by_field() {
    let server = Server::shared();
    let url = server.url();
    let root = root(&url);
    let mut failed = fields("p", 2, "Failed");
    failed["failure"] =
        json!({"class": "check", "phase": "check", "lines": ["FAIL"], "log": "build.log", "retry": false});
    failed["git_ref"] = json!("HEAD");
    let failed: Event = serde_json::from_value(failed).unwrap();
    let events = ["Building", "Success"].map(|status| event("p", 1, status)).into_iter();
    let events: Vec<Event> =
        events.chain([event("p", 2, "Building"), failed, event("q", 1, "Building")]).collect();
    notify(&root, &events).await;

    let dumped = old_fleet(&url, &["dump"], &[]);
    assert_eq!(dumped.len(), 5);
    for document in &dumped {
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
            assert_eq!(document[name][0], "str", "{name} of {document}");
        }
        assert_eq!(document["scratch"], json!(["bool", "False"]));
        assert_eq!(document["_id"][0], "ObjectId", "old notifiers look for the newest by it");
    }
    let states: Vec<(&str, &Value)> = dumped
        .iter()
        .map(|document| (document["status"][1].as_str().unwrap(), &document["latest_build"]))
        .collect();
    let (yes, no) = (json!(["bool", "True"]), json!(["bool", "False"]));
    assert_eq!(
        states,
        [
            ("Done", &Value::Null),
            ("Success", &no),
            ("Done", &Value::Null),
            ("Failed", &yes),
            ("Building", &Value::Null)
        ]
    );
    assert_eq!(dumped[3]["failure"][0], "dict");
    assert_eq!(dumped[3]["git_ref"], json!(["str", "HEAD"]), "unknown fields are kept");

    let query = |words: &[&str]| -> Vec<String> {
        let found = old_fleet(&url, &[&["query"], words].concat(), &[]);
        found.iter().map(|document| document["timestamp"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(query(&["Failed", "mini.x86_64"]), [super::time(2)]);
    assert_eq!(query(&["Failed", "mini.i386"]), Vec::<String>::new());
    assert_eq!(query(&["Success"]), Vec::<String>::new(), "a newer build has replaced it");
    assert_eq!(query(&["Building"]), [super::time(1)]);
    old_fleet(&url, &["override", "p-1-1.src.rpm", "mini.x86_64", "x86_64", "old tool"], &[]);
    let settled = root.run(&["query", "-s", "Override", "--classic"]).ok();
    assert_eq!(
        settled.out,
        format!(
            "p-1-1.src.rpm (arch: x86_64, status: Override, timestamp: {}, target: mini.x86_64, comment: old tool)\n",
            super::time(2)
        )
    );
}

#[tokio::test]
async fn old_documents_are_found_settled_and_succeeded() {
    let server = Server::shared();
    let url = server.url();
    let mut old: Vec<Value> = Vec::new();
    for package in ["a", "b"] {
        old.push(old_fields(package, 1, "Building"));
        // The same twice, and two that both say they are the latest.
        for _ in 0..2 {
            let mut result = old_fields(package, 1, "Failed");
            result["latest_build"] = json!(true);
            result["oddity"] = json!({"of": [1, 2.5, null]});
            old.push(result);
        }
    }
    old.push(json!({"note": "somebody's, and no event"}));
    old_fleet(&url, &["insert"], &old);

    let root = root(&url);
    // Before anybody has made an index.
    assert_eq!(root.run(&["query", "-s", "Failed", "--classic"]).ok().out.lines().count(), 4);
    assert_eq!(root.run(&["query", "--json", "--all"]).ok().json().as_array().unwrap().len(), 6);
    let history = root.site().history;
    let named = history.named("a-1-1").await.unwrap();
    assert_eq!((named.len(), named[0].event.status), (1, Status::Failed));
    assert_eq!(named[0].event.extra["oddity"], json!({"of": [1, 2.5, null]}));
    assert_eq!(history.named("mini.x86_64/a").await.unwrap().len(), 1);
    assert_eq!(history.named(&super::time(1)).await.unwrap().len(), 2);

    // A new worker's results; and one of an old worker, through our notifier.
    notify(&root, &[event("a", 2, "Success"), old_event("b", 2, "Building"), old_event("b", 2, "Success")])
        .await;
    let latest = history.find(Find { status: Some(Status::Success), ..Find::default() }).await.unwrap();
    assert_eq!(latest.len(), 2, "one of each");
    assert_eq!(history.find(Find { status: Some(Status::Failed), ..Find::default() }).await.unwrap(), []);
    assert_eq!(old_fleet(&url, &["query", "Success", "mini.x86_64"], &[]).len(), 2);

    root.run(&["override", "-s", "b-1-1.src.rpm", "-t", "mini.x86_64", "-a", "x86_64", "-c", "by hand"]).ok();
    let settled = old_fleet(&url, &["query", "Override"], &[]);
    assert_eq!(
        (settled.len(), &settled[0]["comment"], &settled[0]["timestamp"]),
        (1, &json!("by hand"), &json!(super::time(2)))
    );
}

#[tokio::test]
async fn old_and_new_notifiers_take_turns() {
    let server = Server::shared();
    let url = server.url();
    let root = root(&url);
    let history = root.site().history;
    // A new worker's build, told to the old notifier; the same event told again comes to ours.
    old_fleet(&url, &["notify"], &[fields("p", 1, "Building"), fields("p", 1, "Failed")]);
    notify(&root, &[event("p", 1, "Building"), event("p", 1, "Failed")]).await;
    assert_eq!(all(&history).await.len(), 2, "nothing is there twice");
    // Its Building by the old one, its result by ours; then the other way round.
    old_fleet(&url, &["notify"], &[fields("p", 2, "Building")]);
    notify(&root, &[event("p", 2, "Success")]).await;
    notify(&root, &[event("p", 3, "Building")]).await;
    old_fleet(&url, &["notify"], &[fields("p", 3, "Failed")]);
    // Old workers' events, twice, as they may come.
    old_fleet(
        &url,
        &["notify"],
        &[old_fields("q", 1, "Building"), old_fields("q", 1, "Success"), old_fields("q", 1, "Success")],
    );
    let statuses = |documents: &[Document]| -> Vec<String> {
        documents.iter().map(|d| format!("{} {}", d.event.pkgname, d.event.status)).collect()
    };
    // What two processes insert within a second has no order.
    let mut found = statuses(&history.find(Find::default()).await.unwrap());
    found.sort();
    assert_eq!(found, ["p Failed", "q Success"]);
    let mut kept = statuses(&all(&history).await);
    kept.sort();
    let wanted = [
        "p Done",
        "p Done",
        "p Done",
        "p Failed",
        "p Failed",
        "p Success",
        "q Done",
        "q Success",
        "q Success",
    ];
    assert_eq!(kept, wanted);
    let (srpm, target) = ("p-1-1.src.rpm".parse().unwrap(), "mini.x86_64".parse().unwrap());
    let settled = history.settle(&srpm, &target, Arch::X86_64, "so be it").await.unwrap();
    assert_eq!(settled.event.timestamp.to_string(), super::time(3));
}
