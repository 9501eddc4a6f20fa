//! Who is told of results, through real servers: mail, the log file, and what happens while one of them is down.

#[path = "../harness/mod.rs"]
mod harness;

mod history;
mod irc;
mod journal;
mod logfile;
mod mail;
mod results;
mod secured;

use reimzul::model::Event;
use reimzul::queue::{NOTIFY, NewJob, PRIORITY_FOLLOW_UP};
use reimzul::role::Site;
use serde_json::{Value, json};

/// The event of a build, as it is on the wire.
fn fields(package: &str, status: &str) -> Value {
    json!({"srpm": format!("{package}-1-1.src.rpm"), "arch": "x86_64", "target": "mini.x86_64", "disttag": ".el9",
        "scratch": false, "submitter": "kb", "status": status, "builder_fqdn": "b1.example.org", "evr": "1-1",
        "pkgname": package, "timestamp": "20261123204406", "build_id": format!("id-of-{package}")})
}

/// Puts an event where workers put it.
async fn tell(site: &Site, event: &Value) {
    let event: Event = serde_json::from_value(event.clone()).unwrap();
    site.queue.put(vec![NewJob::new(NOTIFY, &event, PRIORITY_FOLLOW_UP)]).await.unwrap();
}

/// Waits until every sink was told.
async fn told(site: &Site) {
    harness::eventually("every sink is told", async || {
        let jobs = site.queue.list(Some(NOTIFY)).await.unwrap();
        (jobs.is_empty() && site.outbox.waiting().await.unwrap().is_empty()).then_some(())
    })
    .await;
}
