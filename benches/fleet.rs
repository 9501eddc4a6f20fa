//! What a fleet's queue costs: jobs through beanstalkd, from submission to the history, with an engine that builds
//! nothing, against what the queue alone allows; submissions; and idle workers. Run by `cargo bench --bench fleet`.

mod common;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "common/roles.rs"]
mod roles;

use std::time::{Duration, Instant};

use common::{Table, median, millis, share, usage};
use harness::beanstalkd::Beanstalkd;
use harness::{Ask, Process, Root, arch, srpm};
use reimzul::role::Site;
use roles::{Quiet, consume};
use tokio::task::JoinSet;

fn main() {
    let Some(table) = Table::begin("The fleet: beanstalkd with its binlog, the null engine") else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for slots in [1, 4, 16] {
            jobs(&table, slots).await;
        }
        submissions(&table).await;
        idle(&table).await;
    });
}

/// Side by side, by turns: what the queue allows that many consumers, and what becomes of it around a build.
async fn jobs(table: &Table, slots: usize) {
    const JOBS: usize = 800;
    let (mut raw, mut through) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        raw.push(JOBS as f64 / reserve_and_delete(slots, JOBS).await.as_secs_f64());
        through.push(JOBS as f64 / submit_to_history(slots, JOBS).await.as_secs_f64());
    }
    let (raw, through) = (median(raw), median(through));
    table.row(&format!("{slots} slots: jobs"), &format!("{through:.0} /s"), "submission to history");
    let what =
        format!("reserved and deleted by as many consumers: the limit; the jobs are {:.2}", through / raw);
    table.row("... the queue alone", &format!("{raw:.0} /s"), &what);
}

async fn reserve_and_delete(consumers: usize, jobs: usize) -> Duration {
    let server = Beanstalkd::start();
    let root = on(&server, consumers);
    let site = root.site();
    submit(&site, jobs).await;
    let begun = Instant::now();
    let consuming: JoinSet<usize> = (0..consumers).map(|_| consume(site.queue.clone(), arch())).collect();
    assert_eq!(consuming.join_all().await.into_iter().sum::<usize>(), jobs);
    begun.elapsed()
}

/// A process per role, as on a fleet.
async fn submit_to_history(slots: usize, jobs: usize) -> Duration {
    let server = Beanstalkd::start();
    let root = on(&server, slots);
    let roles = ["worker", "notifier"].map(|role| begun(&root, role));
    let site = root.site();
    let begun = Instant::now();
    submit(&site, jobs).await;
    site.quiet_in(&[arch(), "notify"]).await;
    let took = begun.elapsed();
    roles.into_iter().for_each(Process::stop);
    took
}

/// By four submitters.
async fn submit(site: &Site, jobs: usize) {
    let mut submitters = JoinSet::new();
    for _ in 0..4 {
        let site = site.clone();
        submitters.spawn(async move {
            for _ in 0..jobs / 4 {
                site.submit(&srpm("hello", 1)).await;
            }
        });
    }
    submitters.join_all().await;
}

/// How long a submitter waits, by turns on the embedded queue and on beanstalkd.
async fn submissions(table: &Table) {
    let server = Beanstalkd::start();
    let roots = [("embedded", Root::new()), ("beanstalkd", on(&server, 1))];
    let sites = roots.each_ref().map(|(_, root)| root.site());
    let (mut calls, mut commands) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for _ in 0..1000 {
        for (site, times) in sites.iter().zip(&mut calls) {
            let begun = Instant::now();
            site.submit(&srpm("hello", 1)).await;
            times.push(begun.elapsed());
        }
    }
    for _ in 0..200 {
        for ((_, root), times) in roots.iter().zip(&mut commands) {
            let begun = Instant::now();
            let package = srpm("hello", 1);
            root.run(&[
                "submit",
                "-s",
                &package.display().to_string(),
                "-a",
                arch(),
                "-t",
                "mini",
                "-d",
                ".el9",
            ])
            .ok();
            times.push(begun.elapsed());
        }
    }
    for ((engine, _), times) in roots.iter().zip(calls) {
        latency(table, &format!("a submission, {engine}"), times, "checked, stamped, durable in the queue");
    }
    for ((engine, _), times) in roots.iter().zip(commands) {
        latency(table, &format!("`reimzul submit`, {engine}"), times, "the whole command");
    }
}

fn latency(table: &Table, name: &str, mut times: Vec<Duration>, what: &str) {
    times.sort();
    let [middle, slow] = [50, 99].map(|percent| millis(share(&times, percent)));
    table.row(name, &format!("{middle:.1} (p99 {slow:.1}) ms"), what);
}

/// All of them in the same minute.
async fn idle(table: &Table) {
    const WATCHED: Duration = Duration::from_secs(60);
    let server = Beanstalkd::start();
    let mut watched = Vec::new();
    for roles in ["worker", "all"] {
        for (engine, root) in [("embedded", Root::new()), ("beanstalkd", on(&server, 1))] {
            watched.push((format!("idle `run {roles}`, {engine}"), begun(&root, roles), root));
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before: Vec<Duration> = watched.iter().map(|(_, process, _)| usage(process.id()).1).collect();
    tokio::time::sleep(WATCHED).await;
    for ((name, process, _), before) in watched.iter().zip(before) {
        let (resident, after) = usage(process.id());
        let cpu = 100.0 * after.saturating_sub(before).as_secs_f64() / WATCHED.as_secs_f64();
        let figure = format!("{:.1} MiB, {cpu:.2} % CPU", resident as f64 / 1024.0);
        table.row(name, &figure, "resident; of one core, over a minute");
    }
}

/// A root whose queue is that server.
fn on(server: &Beanstalkd, slots: usize) -> Root {
    Root::with(&format!("slots = {slots}\n[queue]\nurl = {}", server.url()))
}

fn begun(root: &Root, role: &str) -> Process {
    let mut process = root.start(&[role]);
    process.until_it_says("running");
    process
}
