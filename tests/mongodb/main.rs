//! The history on MongoDB, beyond what every engine must do: its indexes, notifiers side by side, crashes in the
//! middle, a server that goes away, and a database that an old fleet writes to as well.

#[path = "../harness/mod.rs"]
mod harness;

mod indexes;
mod mixed;
mod outages;
mod refusals;
mod together;

use mongodb::bson::{Document as Bdoc, doc};
use reimzul::history::mongodb::History;
use reimzul::history::{Document, Find};
use reimzul::model::Event;
use reimzul::queue::NOTIFY;
use reimzul::role::Site;
use serde_json::json;

/// An event of the `build`-th build of a package, as it is on the wire.
fn fields(package: &str, build: u32, status: &str) -> serde_json::Value {
    json!({"srpm": format!("{package}-1-1.src.rpm"), "arch": "x86_64", "target": "mini.x86_64", "disttag": ".el9",
        "scratch": false, "submitter": "kb", "status": status, "builder_fqdn": "b1", "evr": "1-1", "pkgname": package,
        "timestamp": time(build), "build_id": format!("{package}{build}")})
}

fn time(build: u32) -> String {
    format!("202611232{:05}", 10000 + build % 60 + build / 60 * 100)
}

fn event(package: &str, build: u32, status: &str) -> Event {
    serde_json::from_value(fields(package, build, status)).unwrap()
}

/// The same of an old worker: without an id.
fn old_event(package: &str, build: u32, status: &str) -> Event {
    Event { build_id: None, ..event(package, build, status) }
}

async fn all(history: &History) -> Vec<Document> {
    history.find(Find { all: true, ..Find::default() }).await.unwrap()
}

/// Waits until no event is on its way to the history.
async fn told(site: &Site) {
    harness::eventually("every event is told", async || {
        let jobs = site.queue.list(Some(NOTIFY)).await.unwrap();
        (jobs.is_empty() && site.outbox.waiting().await.unwrap().is_empty()).then_some(())
    })
    .await;
}

/// The collection itself, by a client of the test's own.
async fn collection(url: &str) -> mongodb::Collection<Bdoc> {
    let client = mongodb::Client::with_uri_str(url).await.unwrap();
    client.default_database().unwrap().collection("notify_history")
}

/// Every document without its `_id`, sorted.
async fn documents(url: &str) -> Vec<String> {
    let mut cursor = collection(url).await.find(doc! {}).await.unwrap();
    let mut found = Vec::new();
    while cursor.advance().await.unwrap() {
        let mut document = cursor.deserialize_current().unwrap();
        document.remove("_id");
        let mut fields: Vec<String> =
            document.iter().map(|(name, value)| format!("{name}={value}")).collect();
        fields.sort();
        found.push(fields.join(" "));
    }
    found.sort();
    found
}
