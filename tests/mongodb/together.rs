//! Several notifiers at once, and notifiers that die between two writes of one event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mongodb::bson::doc;
use reimzul::config::{MongodbUrl, TlsFiles};
use reimzul::history::Find;
use reimzul::history::mongodb::History;
use reimzul::model::Event;

use super::harness::mongodb::{Server, watched};
use super::{all, collection, documents, event, fields, old_event};

fn open(url: &str) -> History {
    History::open(&MongodbUrl::new(url), &TlsFiles::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifiers_at_once_leave_one_latest_build_the_newest() {
    let server = Server::shared();
    let url = server.url();
    let watcher = tokio::spawn(never_two_latest(url.clone()));
    let mut notifiers = tokio::task::JoinSet::new();
    for notifier in 0..6_u32 {
        let history = open(&url);
        notifiers.spawn(async move {
            // Each in another order, and every event by two of them.
            for round in 0..20_u32 {
                let build = (round * 7 + notifier / 2 * 5) % 20;
                history.record(&event("p", build, "Building")).await.unwrap();
                let result = if build % 3 == 0 { "Failed" } else { "Success" };
                history.record(&event("p", build, result)).await.unwrap();
            }
        });
    }
    notifiers.join_all().await;
    watcher.abort();
    assert!(watcher.await.unwrap_err().is_cancelled(), "there were two latest builds at a time");

    let history = open(&url);
    assert_eq!(all(&history).await.len(), 40, "twenty builds, a Building and a result of each");
    let current = history.find(Find::default()).await.unwrap();
    assert_eq!(current.len(), 1, "one latest build, and none that builds for ever");
    assert_eq!(current[0].event, event("p", 19, "Success"));
}

/// Ends, with a panic, when it sees two.
async fn never_two_latest(url: String) {
    let collection = collection(&url).await;
    loop {
        let latest = collection.count_documents(doc! {"latest_build": true}).await.unwrap();
        assert!(latest <= 1, "{latest} latest builds");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_old_workers_leave_one_latest_build_too() {
    let server = Server::shared();
    let url = server.url();
    let mut notifiers = tokio::task::JoinSet::new();
    for notifier in 0..4_u32 {
        let history = open(&url);
        notifiers.spawn(async move {
            for round in 0..10 {
                history.record(&old_event("p", notifier * 10 + round, "Success")).await.unwrap();
            }
        });
    }
    notifiers.join_all().await;
    let history = open(&url);
    assert_eq!(all(&history).await.len(), 40);
    assert_eq!(history.find(Find::default()).await.unwrap().len(), 1);
}

/// Everything that one event changes.
async fn story(url: &str, crash_at: Option<usize>) -> Vec<String> {
    let history = open(url);
    for (build, status) in [(1, "Building"), (1, "Failed"), (2, "Building")] {
        history.record(&event("p", build, status)).await.unwrap();
    }
    for (event, crash_at) in [(event("p", 2, "Success"), crash_at), (event("p", 2, "Building"), crash_at)] {
        if let Some(command) = crash_at {
            crash(url, event.clone(), command).await;
        }
        history.record(&event).await.unwrap();
    }
    documents(url).await
}

/// A notifier that ends when it is about to send its so-many-th command. Says whether it came that far.
async fn crash(url: &str, event: Event, command: usize) -> bool {
    let sent = Arc::new(AtomicUsize::new(0));
    let stuck = Arc::new(tokio::sync::Notify::new());
    let (count, gone) = (sent.clone(), stuck.clone());
    let history = watched(url, move |name, _| {
        if ["find", "update", "insert"].contains(&name) && count.fetch_add(1, Ordering::SeqCst) + 1 == command
        {
            gone.notify_one();
            panic!("the notifier dies here, as it should");
        }
    });
    let died = tokio::spawn(async move { history.record(&event).await }).await;
    died.is_err()
}

#[tokio::test]
async fn a_crash_between_any_two_writes_is_mended_when_the_event_is_recorded_again() {
    let server = Server::shared();
    let sound = story(&server.url(), None).await;
    assert_eq!(sound.len(), 4);
    let mut crashes = 0;
    for command in 1..12 {
        let url = server.url();
        open(&url).record(&event("other", 1, "Building")).await.unwrap();
        crashes += usize::from(crash(&url, event("p", 9, "Success"), command).await);
        assert_eq!(story(&server.url(), Some(command)).await, sound, "crashed at command {command}");
    }
    assert!(crashes >= 4, "recording has fewer steps than that: {crashes}");
}

#[tokio::test]
async fn an_event_told_twice_writes_nothing() {
    let server = Server::shared();
    let url = server.url();
    let writes = Arc::new(AtomicUsize::new(0));
    let count = writes.clone();
    let history = watched(&url, move |name, _| {
        count.fetch_add(usize::from(["update", "insert", "findAndModify"].contains(&name)), Ordering::SeqCst);
    });
    let events = [("Building", 1), ("Success", 1), ("Building", 2), ("Failed", 2)];
    for (status, build) in events {
        history.record(&event("p", build, status)).await.unwrap();
    }
    let (before, written) = (documents(&url).await, writes.load(Ordering::SeqCst));
    for (status, build) in events {
        history.record(&event("p", build, status)).await.unwrap();
    }
    assert_eq!(documents(&url).await, before);
    assert_eq!(writes.load(Ordering::SeqCst), written);
    assert!(written >= 4);
    let mut anew = fields("p", 2, "Failed");
    anew["warnings"] = serde_json::json!(["odd"]);
    history.record(&serde_json::from_value(anew).unwrap()).await.unwrap();
    assert_eq!(writes.load(Ordering::SeqCst), written + 1);
}
