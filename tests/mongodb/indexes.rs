//! Every query and change that the engine sends is a scan of an index: the server is asked to explain each.

use mongodb::bson::doc;
use reimzul::history::Find;
use reimzul::history::mongodb::History;
use reimzul::model::{Arch, Builder, Limits, Size, Status};

use super::harness::mongodb::Server;
use super::harness::plans::{noted, plans};
use super::{collection, event, old_event, time};

#[tokio::test]
async fn every_query_is_an_index_scan() {
    let server = Server::shared();
    let url = server.url();
    let (history, sent) = noted(&url);
    history.record(&event("first", 1, "Building")).await.unwrap();
    fill(&url, 10_000).await;
    use_all_of_it(&history).await;

    let database = collection(&url).await.client().default_database().unwrap();
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    let plans = plans(&database, &sent).await;
    // What there is, so that a shape that is no longer sent, or a new one, is seen.
    let told: Vec<String> = plans.into_iter().map(|(shape, stages)| format!("{shape}: {stages}")).collect();
    insta::assert_snapshot!("plans", told.join("\n"));
}

/// Documents of old and new notifiers.
async fn fill(url: &str, many: u32) {
    let documents = (0..many).map(|number| {
        let package = format!("p{}", number % 500);
        let status = ["Success", "Failed", "Done", "Building"][number as usize % 4];
        let mut document = doc! {"srpm": format!("{package}-1-1.src.rpm"), "arch": "x86_64", "target": "mini.x86_64",
            "disttag": "", "scratch": false, "submitter": "kb", "status": status, "builder_fqdn": "b", "evr": "1-1",
            "pkgname": &package, "timestamp": time(number)};
        if number % 4 < 2 {
            document.insert("latest_build", number + 500 >= many);
        }
        if number % 3 == 0 {
            document.insert("build_id", format!("{package}-{number}"));
            document.insert("event_key", format!("{package}-{number} x86_64 {status}"));
            document.insert("path", format!("mini.x86_64/{package}/{}/1-1.x86_64", time(number)));
        }
        document
    });
    collection(url).await.insert_many(documents).await.unwrap();
}

/// Everything that can be asked of a history, and every way that recording takes.
async fn use_all_of_it(history: &History) {
    for status in ["Success", "Building", "Success"] {
        history.record(&event("p1", 1, status)).await.unwrap();
        history.record(&old_event("p2", 1, status)).await.unwrap();
    }
    for build in 2..4 {
        for status in ["Building", "Failed"] {
            history.record(&event("p1", build, status)).await.unwrap();
        }
    }
    let statuses = Status::ALL.map(Some).into_iter().chain([None]);
    for (status, target) in statuses.flat_map(|status| [(status, false), (status, true)]) {
        let target = target.then(|| "mini.x86_64".parse().unwrap());
        for (all, limit) in [(false, 5), (true, 5), (false, 0)] {
            history.find(Find { status, target: target.clone(), all, limit, build_id: None }).await.unwrap();
        }
    }
    let build_id = Some("p11".parse().unwrap());
    assert_eq!(history.find(Find { build_id, all: true, ..Find::default() }).await.unwrap().len(), 2);
    for part in ["p11", &time(1), "mini.x86_64/p1", "p499-1-1", "1-1.x86_64"] {
        assert!(!history.named(part).await.unwrap().is_empty(), "{part}");
    }
    let (srpm, target) = ("p1-1-1.src.rpm".parse().unwrap(), "mini.x86_64".parse().unwrap());
    assert!(history.settle(&srpm, &target, Arch::X86_64, "so be it").await.unwrap().is_some());
    for (worker, time) in [("1", 1000), ("1", 2000), ("2", 9000)] {
        history.heard_of(&sign(worker, time)).await.unwrap();
    }
    assert_eq!(history.builders().await.unwrap().len(), 1);
}

pub fn sign(worker: &str, time: i64) -> Builder {
    Builder {
        builder: "b1".into(),
        worker: worker.into(),
        machine: String::new(),
        arch: Arch::X86_64,
        tubes: Vec::new(),
        slots: 1,
        running: Vec::new(),
        load: 0.0,
        free: Size(0),
        min_free: Size(0),
        limits: Limits::default(),
        takes_jobs: true,
        why_not: None,
        stopped: false,
        left_out: Vec::new(),
        time,
    }
}
