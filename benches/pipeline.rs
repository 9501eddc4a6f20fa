//! What the pipeline costs around an engine that builds nothing. Run by `cargo bench --bench pipeline`.

mod common;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "common/roles.rs"]
mod roles;

use std::time::{Duration, Instant};

use common::Table;
use harness::{Ask, Process, Root, arch, srpm};
use reimzul::history::Find;
use reimzul::queue::{NewJob, PRIORITY};
use reimzul::repo;
use reimzul::role::{Role, Site};
use roles::{Quiet, Roles, consume};

fn main() {
    let Some(table) = Table::begin("The pipeline with the null engine, on the embedded queue and history")
    else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        disk(&table);
        overhead_in_one_process(&table).await;
        overhead_over_processes(&table).await;
        metadata(&table).await;
        submissions(&table).await;
        jobs_through_the_queue(&table).await;
        builds(&table).await;
    });
}

/// What every durable step is paid in.
fn disk(table: &Table) {
    use std::io::Write;
    let root = Root::new();
    let mut file = std::fs::File::create(root.join("file")).expect("a file");
    let times = (0..100)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).expect("a write");
            begun.elapsed()
        })
        .collect();
    table.spread("fdatasync of 4 KiB", times, "on this disk: what every commit waits for");
}

async fn overhead_in_one_process(table: &Table) {
    let root = Root::new();
    let site = root.site();
    let running = Roles::start(&site, &[Role::Worker, Role::Notifier, Role::Signer]);
    let times = one_by_one(&site, 100).await;
    running.stop().await;
    let what = "submit to result in the history, roles in this process (target: < 15 ms)";
    table.spread("overhead of a build", times, what);
}

async fn overhead_over_processes(table: &Table) {
    let root = Root::new();
    let site = root.site();
    let roles: Vec<Process> =
        ["worker", "notifier", "signer"].into_iter().map(|role| root.start(&[role])).collect();
    let times = one_by_one(&site, 50).await;
    roles.into_iter().for_each(Process::stop);
    table.spread("... a process per role", times, "the same; each hop waits for the next look at the queue");
}

/// Builds that each wait for the one before to be in the history.
async fn one_by_one(site: &Site, builds: usize) -> Vec<Duration> {
    let package = srpm("hello", 1);
    // The first makes folders and warms caches.
    site.result(&site.submit(&package).await).await;
    let mut times = Vec::new();
    for _ in 0..builds {
        let begun = Instant::now();
        let build = site.submit(&package).await;
        let id = build.job.stamp.as_ref().expect("a stamp").build_id.clone();
        loop {
            let find = Find { build_id: Some(id.clone()), ..Find::default() };
            let found = site.history.find(find).await.expect("a history");
            if found.iter().any(|document| document.event.status.is_result()) {
                break;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        times.push(begun.elapsed());
        // What is left of this build, such as its signing, is not the next one's to wait for.
        site.quiet_in(&[arch(), "notify", "tosign"]).await;
    }
    times
}

async fn metadata(table: &Table) {
    const BUILDS: usize = 100;
    let root = Root::new();
    let site = root.site();
    let running = Roles::start(&site, &[Role::Worker]);
    for _ in 0..BUILDS {
        site.submit(&srpm("hello", 1)).await;
    }
    site.quiet_in(&[arch()]).await;
    running.stop().await;
    let running = Roles::start(&site, &[Role::Repogen]);
    site.quiet_in(&["createrepo"]).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        site.queue.put(vec![repo::request(&harness::target())]).await.expect("a queue");
        site.quiet_in(&["createrepo"]).await;
        times.push(begun.elapsed());
    }
    running.stop().await;
    table.spread("metadata of 100 builds", times, "request to switch, by the built-in engine");
}

async fn submissions(table: &Table) {
    const JOBS: usize = 300;
    let root = Root::new();
    let site = root.site();
    let package = srpm("hello", 1);
    let begun = Instant::now();
    for _ in 0..JOBS {
        site.submit(&package).await;
    }
    table.rate("submissions", JOBS, begun.elapsed(), "checked, stamped and queued, one after the other");
}

async fn jobs_through_the_queue(table: &Table) {
    const JOBS: usize = 1000;
    let root = Root::new();
    let queue = root.site().queue;
    let begun = Instant::now();
    for number in 0..JOBS {
        queue.put(vec![NewJob::new("t", &number, PRIORITY)]).await.expect("a queue");
    }
    table.rate("puts", JOBS, begun.elapsed(), "one after the other");
    let begun = Instant::now();
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        consumers.spawn(consume(queue.clone(), "t"));
    }
    let handled: usize = consumers.join_all().await.into_iter().sum();
    assert_eq!(handled, JOBS);
    table.rate("jobs, 4 consumers", JOBS, begun.elapsed(), "reserved and deleted");
}

async fn builds(table: &Table) {
    const JOBS: usize = 200;
    let root = Root::with("slots = 4");
    let site = root.site();
    for _ in 0..JOBS {
        site.submit(&srpm("hello", 1)).await;
    }
    let begun = Instant::now();
    let running = Roles::start(&site, &[Role::Worker, Role::Notifier, Role::Signer]);
    site.quiet_in(&[arch(), "notify", "tosign"]).await;
    table.rate("builds, 4 slots", JOBS, begun.elapsed(), "queued before; built, uploaded, recorded, staged");
    running.stop().await;
}
