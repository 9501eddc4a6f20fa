//! Whether a large history is slower than an empty one: events through the notifier, and every query. Run by
//! `cargo bench --bench history`; `REIMZUL_BENCH_DOCUMENTS` in the environment is how large it is, if not 1,000,000.

mod common;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "common/large.rs"]
mod large;
#[path = "common/roles.rs"]
mod roles;

use std::time::Instant;

use common::{Table, median, millis};
use harness::Root;
use harness::beanstalkd::Beanstalkd;
use harness::mongodb::Server;
use harness::plans::{noted, plans};
use large::Large;
use reimzul::history::{Find, History};
use reimzul::model::{Arch, Status};
use reimzul::queue::{NOTIFY, NewJob, PRIORITY_FOLLOW_UP};
use reimzul::role::{Role, Site};
use roles::{Quiet, Roles};

fn main() {
    let large = Large::from_environment();
    let Some(table) = Table::begin(&format!("The history with {} documents", large.documents)) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        on_sqlite(&table, &large).await;
        on_mongodb(&table, &large).await;
    });
}

async fn on_sqlite(table: &Table, large: &Large) {
    let (empty, full) = (Side::new(""), Side::new(""));
    large.fill_sqlite(&full.root.join("reimzul.db"));
    events(table, "SQLite", 25, &empty, &full).await;
    queries(table, "SQLite", &full.site.history, large).await;
}

async fn on_mongodb(table: &Table, large: &Large) {
    let server = Server::prepare(&[]);
    let full = large.serve_mongodb(&server).await;
    let side = |url: &str| Side::new(&format!("[history]\nurl = {url}"));
    // Each takes the tests' server a minute.
    events(table, "MongoDB", 5, &side(&server.url()), &side(&full)).await;
    let (history, sent) = noted(&full);
    queries(table, "MongoDB", &History::Mongodb(history), large).await;
    let sent = std::mem::take(&mut *sent.lock().expect("what was sent"));
    let plans = plans(&large::database(&full).await, &sent).await;
    let what = "explained by the server: each is a scan of an index";
    table.row("MongoDB: kinds of queries sent", &plans.len().to_string(), what);
}

/// A root with its own queue, on beanstalkd, and history.
struct Side {
    site: Site,
    root: Root,
    _queue: Beanstalkd,
}

impl Side {
    fn new(history: &str) -> Side {
        let queue = Beanstalkd::start();
        let root = Root::with(&format!("[queue]\nurl = {}\n{history}", queue.url()));
        Side { site: root.site(), root, _queue: queue }
    }

    /// How many events a second the notifier tells all sinks of; builds that replace those of the round before.
    async fn events(&self, round: u64) -> f64 {
        const BUILDS: u64 = 500;
        let builds = (round * BUILDS..(round + 1) * BUILDS).flat_map(|build| {
            [Status::Building, Status::Success].map(|status| large::new_build(build, status))
        });
        let jobs = builds.map(|event| NewJob::new(NOTIFY, &event, PRIORITY_FOLLOW_UP));
        self.site.queue.put(jobs.collect()).await.expect("a queue");
        let begun = Instant::now();
        let running = Roles::start(&self.site, &[Role::Notifier]);
        self.site.quiet_in(&[NOTIFY]).await;
        let took = begun.elapsed();
        running.stop().await;
        (2 * BUILDS) as f64 / took.as_secs_f64()
    }
}

/// By turns before the empty history and before the full one, each first in every second round: what one turn finds the
/// machine do is not what the next one does.
async fn events(table: &Table, engine: &str, rounds: u64, empty: &Side, full: &Side) {
    let (mut none, mut all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let rates = if round.is_multiple_of(2) {
            let none = empty.events(round).await;
            [none, full.events(round).await]
        } else {
            let all = full.events(round).await;
            [empty.events(round).await, all]
        };
        // The first makes indexes and fills caches.
        if round > 0 {
            none.push(rates[0]);
            all.push(rates[1]);
            ratios.push(rates[1] / rates[0]);
        }
    }
    let (none, all, ratio) = (median(none), median(all), median(ratios));
    let what = "queue to all sinks, through the notifier";
    table.row(&format!("{engine}: events, history empty"), &format!("{none:.0} /s"), what);
    let what = format!("the same: {ratio:.2} of it, by rounds (target: no slower)");
    table.row("... history full", &format!("{all:.0} /s"), &what);
}

/// What may be asked of a history, each as a user would wait for it.
async fn queries(table: &Table, engine: &str, history: &History, large: &Large) {
    let newest = large.newest();
    let (path, build_id) = (newest.path().to_string(), newest.build_id.clone());
    let timestamp = newest.timestamp.to_string();
    let settle =
        async || history.settle(&newest.srpm, &newest.target, Arch::X86_64, "so be it").await.map(|_| 1);
    timed(table, engine, "override", settle).await;
    timed(table, engine, "stats (builders)", async || history.builders().await.map(|found| found.len()))
        .await;
    let find = Find { limit: 50, ..Find::default() };
    let target = Some(newest.target.clone());
    let failed = Find { status: Some(Status::Failed), target: target.clone(), ..find.clone() };
    // Those last of which a server that does not stop at the limit finds the most.
    let asked = [
        ("a build's documents", Find { build_id, all: true, ..Find::default() }),
        ("query -s Building", Find { status: Some(Status::Building), ..find.clone() }),
        ("query -s Override", Find { status: Some(Status::Override), ..find.clone() }),
        ("query -s Failed -t TARGET", failed),
        ("query -s Failed", Find { status: Some(Status::Failed), ..find.clone() }),
        ("query -t TARGET", Find { target: target.clone(), ..find.clone() }),
        ("query -s Success", Find { status: Some(Status::Success), ..find.clone() }),
        ("query", find.clone()),
        ("query -t TARGET --all", Find { target, all: true, ..find.clone() }),
        ("query -s Success --all", Find { status: Some(Status::Success), all: true, ..find.clone() }),
        ("query -s Done", Find { status: Some(Status::Done), all: true, ..find.clone() }),
        ("query --all", Find { all: true, ..find }),
    ];
    let named = [
        ("why STAMP", timestamp.as_str()),
        ("why PATH", &path),
        ("why PART-OF-A-NAME", newest.srpm.as_str()),
        ("why NO-SUCH-NAME", "nosuchname"),
    ];
    for (name, part) in named {
        timed(table, engine, name, async || history.named(part).await.map(|found| found.len())).await;
        until_idle(history).await;
    }
    for (name, find) in asked {
        timed(table, engine, name, async || history.find(find.clone()).await.map(|found| found.len())).await;
        until_idle(history).await;
    }
}

/// A server may be busy for long with what nobody waits for any more: what is asked next does not pay for that.
async fn until_idle(history: &History) {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        if history.builders().await.is_ok() && asked.elapsed().as_millis() < 100 {
            return;
        }
        assert!(begun.elapsed().as_secs() < 600, "the server does not come to rest");
    }
}

/// The median of three; or what went wrong.
async fn timed<E: std::fmt::Display>(
    table: &Table,
    engine: &str,
    name: &str,
    ask: impl AsyncFn() -> Result<usize, E>,
) {
    let name = format!("{engine}: {name}");
    let mut times = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        match ask().await {
            Ok(found) => times.push((millis(begun.elapsed()), found)),
            Err(error) => return table.row(&name, "-", &error.to_string()),
        }
    }
    let found = times[0].1;
    let time = median(times.into_iter().map(|(time, _)| time).collect());
    table.row(&name, &format!("{time:.1} ms"), &format!("{found} found"));
}
