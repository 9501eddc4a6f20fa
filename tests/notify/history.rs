//! The history, told of many events at once.

use reimzul::history::Find;
use reimzul::model::Event;
use reimzul::notify::{NewDelivery, Sink};

use crate::harness::{Root, eventually};
use crate::{fields, told};

#[tokio::test]
async fn an_event_that_it_does_not_take_holds_up_no_other_of_the_same_turn() {
    let root = Root::new();
    let site = root.site();
    let sql = rusqlite::Connection::open(root.join("reimzul.db")).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON history WHEN NEW.srpm LIKE 'p1-%'
                  BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    sql.execute_batch(refuse).unwrap();
    let deliver = |number: u64| {
        let event: Event = serde_json::from_value(fields(&format!("p{number}"), "Success")).unwrap();
        NewDelivery { event, sink: Sink::History, delay: std::time::Duration::ZERO }
    };
    site.outbox.put((0..3).map(deliver).collect()).await.unwrap();
    let roles = root.start(&["notifier"]);
    let recorded = async || {
        let found = site.history.find(Find { limit: 9, ..Find::default() }).await.unwrap();
        let mut names: Vec<String> = found.iter().map(|document| document.event.srpm.to_string()).collect();
        names.sort();
        names
    };
    let refused = eventually("one is refused", async || {
        let waiting = site.outbox.waiting().await.unwrap().pop()?;
        (waiting.waiting == 1 && waiting.reason.is_some()).then_some(waiting)
    })
    .await;
    assert!(refused.reason.unwrap().contains("not this one"));
    assert_eq!(recorded().await, ["p0-1-1.src.rpm", "p2-1-1.src.rpm"]);
    sql.execute_batch("DROP TRIGGER refuse").unwrap();
    told(&site).await;
    assert_eq!(recorded().await.len(), 3);
    roles.stop();
}
