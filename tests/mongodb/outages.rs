//! A server that is not there, dies, or says nothing: no event is lost, and nobody waits for ever.

use nix::sys::signal::Signal;
use reimzul::history::{Find, History, HistoryError};
use reimzul::model::Event;
use reimzul::queue::{BUILDERS, NOTIFY, NewJob};
use reimzul::role::Site;

use super::event;
use super::harness::mongodb::Server;
use super::harness::{Root, eventually};

fn root(server: &Server) -> (Root, String) {
    let url = server.url();
    (Root::with(&format!("[history]\nurl = {url}\n")), url)
}

async fn put(site: &Site, events: impl IntoIterator<Item = Event>) {
    let jobs = events.into_iter().map(|event| NewJob::new(NOTIFY, &event, 1 << 31)).collect();
    site.queue.put(jobs).await.unwrap();
}

/// What is stored of many builds, once everybody has been told.
async fn stored(site: &Site) -> (usize, usize) {
    super::told(site).await;
    let all = site.history.find(Find { all: true, ..Find::default() }).await.unwrap();
    (all.len(), site.history.find(Find::default()).await.unwrap().len())
}

#[tokio::test]
async fn events_wait_for_a_server_that_comes_later() {
    let server = Server::prepare(&[]);
    let (root, _) = root(&server);
    let site = root.site();
    let mut notifier = root.start(&["notifier"]);
    put(&site, [event("p", 1, "Building"), event("p", 1, "Success")]).await;
    notifier.until_it_says("history could not be told of mini.x86_64/p/");
    let log = root.join("log/reimzul.log");
    eventually("the other sinks go on", async || {
        std::fs::read_to_string(&log).ok()?.contains("p-1-1.src.rpm").then_some(())
    })
    .await;
    let reason = eventually("the reason is kept", async || {
        let waiting = site.outbox.waiting().await.unwrap().swap_remove(0);
        let (sink, reason) = (waiting.sink, waiting.reason);
        assert_eq!(sink, "history");
        reason
    });
    let reason = reason.await;
    assert!(reason.contains("cannot be reached"), "{reason}");
    server.begin();
    assert_eq!(stored(&site).await, (2, 1));
    notifier.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_and_repeats_nothing() {
    let server = Server::start(&[]);
    let (root, url) = root(&server);
    let site = root.site();
    let notifier = root.start(&["notifier"]);
    let builds = 60;
    put(&site, (0..builds).flat_map(|build| ["Building", "Success"].map(|status| event("p", build, status))))
        .await;
    let collection = super::collection(&url).await;
    for many in [20, 60] {
        eventually("some are recorded", async || {
            let known = collection.estimated_document_count().await.unwrap_or(0);
            (known >= many).then_some(())
        })
        .await;
        server.kill();
        server.begin();
    }
    assert_eq!(stored(&site).await, (2 * builds as usize, 1));
    let latest = site.history.find(Find::default()).await.unwrap();
    assert_eq!(latest[0].event, event("p", builds - 1, "Success"), "also where retries changed the order");
    notifier.stop();
}

/// Each asks the history, which says nothing for seconds.
#[tokio::test]
async fn signs_of_life_hold_up_no_event_while_the_server_is_away() {
    let server = Server::prepare(&[]);
    let (root, _) = root(&server);
    let site = root.site();
    let signs = (0..100).map(|time| NewJob::new(BUILDERS, &super::indexes::sign("a", time), 0)).collect();
    site.queue.put(signs).await.unwrap();
    let notifier = root.start(&["notifier"]);
    for build in 0..3 {
        put(&site, [event("p", build, "Success")]).await;
        eventually("a line in the log", async || {
            let log = std::fs::read_to_string(root.join("log/reimzul.log")).unwrap_or_default();
            (log.lines().count() > build as usize).then_some(())
        })
        .await;
    }
    eventually("no more signs", async || {
        site.queue.list(Some(BUILDERS)).await.unwrap().is_empty().then_some(())
    })
    .await;
    notifier.stop();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let server = Server::start(&[]);
    let history = History::Mongodb(server.history());
    history.record(&event("p", 1, "Building")).await.unwrap();
    server.signal(Signal::SIGSTOP);
    let refused = history.record(&event("p", 1, "Success")).await.unwrap_err();
    assert!(matches!(refused, HistoryError::Mongodb(_)));
    assert!(refused.to_string().contains("127.0.0.1:"), "{refused}");
    server.signal(Signal::SIGCONT);
    history.record(&event("p", 1, "Success")).await.unwrap();
    assert_eq!(history.find(Find { all: true, ..Find::default() }).await.unwrap().len(), 2);
}
