//! The queue on a real beanstalkd, beyond what every engine must do: each command of the protocol, connections that are
//! cut, a server that dies under load.

mod harness;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::beanstalkd::{Beanstalkd, Proxy, queue};
use harness::{Ask, Root, SOON, arch, eventually, record, srpm};
use reimzul::consumer::{self, Delivery, Handler, Verdict};
use reimzul::model::Status;
use reimzul::queue::beanstalkd::protocol::{Answer, Command, Refusal, Reply, read_answer};
use reimzul::queue::{GiveUp, NewJob, PRIORITY, Queue, QueueError, State};
use reimzul::shutdown::Shutdown;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A connection of which nothing is known but the protocol.
struct Line(BufReader<TcpStream>);

impl Line {
    async fn to(server: &Beanstalkd) -> Line {
        Line(BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).await.unwrap()))
    }

    async fn say(&mut self, command: Command) -> Answer {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.0.get_mut().write_all(&bytes).await.unwrap();
        read_answer(&mut self.0).await.unwrap()
    }
}

#[tokio::test]
async fn every_command_does_what_its_description_says() {
    let server = Beanstalkd::start();
    let mut line = Line::to(&server).await;
    let put = |body: Vec<u8>, delay| Command::Put { priority: 7, delay, ttr: 60, body };
    let body = b"a\r\nb\0".to_vec();
    assert_eq!(line.say(Command::Use("t".into())).await, Ok(Reply::Using("t".into())));
    let Ok(Reply::Inserted(id)) = line.say(put(body.clone(), 0)).await else { panic!("not put") };
    let found = Ok(Reply::Found { id, body: body.clone() });
    let reserved = Ok(Reply::Reserved { id, body });
    assert_eq!(line.say(Command::Peek(id)).await, found);
    assert_eq!(line.say(Command::PeekReady).await, found);
    for asked in [Command::Stats, Command::ListTubes, Command::StatsTube("t".into()), Command::StatsJob(id)] {
        assert!(matches!(line.say(asked).await, Ok(Reply::Data(_))));
    }
    assert_eq!(line.say(Command::Watch("t".into())).await, Ok(Reply::Watching(2)));
    assert_eq!(line.say(Command::Ignore("default".into())).await, Ok(Reply::Watching(1)));
    assert_eq!(line.say(Command::Ignore("t".into())).await, Ok(Reply::NotIgnored));
    assert_eq!(line.say(Command::Reserve(0)).await, reserved);
    assert_eq!(line.say(Command::Touch(id)).await, Ok(Reply::Touched));
    assert_eq!(line.say(Command::Release { id, priority: 7, delay: 0 }).await, Ok(Reply::Released));
    assert_eq!(line.say(Command::ReserveJob(id)).await, reserved);
    assert_eq!(line.say(Command::Bury { id, priority: 7 }).await, Ok(Reply::Buried(None)));
    assert_eq!(line.say(Command::PeekBuried).await, found);
    assert_eq!(line.say(Command::Kick(9)).await, Ok(Reply::Kicked(Some(1))));
    assert_eq!(line.say(Command::ReserveJob(id)).await, reserved);
    assert_eq!(line.say(Command::Release { id, priority: 7, delay: 600 }).await, Ok(Reply::Released));
    assert_eq!(line.say(Command::PeekDelayed).await, found);
    assert_eq!(line.say(Command::KickJob(id)).await, Ok(Reply::Kicked(None)));
    assert_eq!(line.say(Command::Delete(id)).await, Ok(Reply::Deleted));
    assert_eq!(line.say(Command::Reserve(0)).await, Ok(Reply::TimedOut));
    for gone in [Command::Delete(id), Command::Touch(id), Command::Peek(id), Command::PeekReady] {
        assert_eq!(line.say(gone).await, Ok(Reply::NotFound));
    }
    assert_eq!(line.say(put(vec![0; 65_536], 0)).await, Err(Refusal::JobTooBig));
    assert_eq!(line.say(Command::Watch("-t".into())).await, Err(Refusal::BadFormat));
}

fn open(port: u16, node: &str) -> Queue {
    Queue::Beanstalkd(queue(port, node))
}

fn job(body: &str) -> NewJob {
    NewJob::new("t", &body, 1)
}

async fn take(queue: &Queue, wait: Duration) -> Option<(reimzul::queue::Job, reimzul::queue::Lease)> {
    let never = CancellationToken::new();
    queue.reserve(&["t".to_owned()], 1, wait, &never).await.unwrap().pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_its_lease_and_nothing_else() {
    let server = Beanstalkd::start();
    let proxy = Proxy::to(server.port());
    let (near, far) = (open(server.port(), "near"), open(proxy.port(), "far"));
    far.put(vec![job("x")]).await.unwrap();
    let (taken, lease) = take(&far, SOON).await.unwrap();
    assert!(take(&near, Duration::ZERO).await.is_none());
    proxy.cut();
    // At once, long before its time is over.
    tokio::time::timeout(SOON, lease.ended().cancelled()).await.expect("the lease is not known to be lost");
    assert!(matches!(far.touch(&lease).await, Err(QueueError::LeaseLost(_))));
    let (again, held) = take(&near, SOON).await.expect("the server hands it back");
    assert_eq!((again.id, again.losses()), (taken.id, 1));
    assert!(matches!(far.give_up(&lease, GiveUp::Delete).await, Err(QueueError::LeaseLost(_))));
    near.give_up(&held, GiveUp::Delete).await.unwrap();
    // It connects again by itself, for whatever comes next.
    far.put(vec![job("y")]).await.unwrap();
    let (_, lease) = take(&far, SOON).await.unwrap();
    far.give_up(&lease, GiveUp::Delete).await.unwrap();
    assert!(near.list(None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserve_waits_for_a_server_that_is_away_and_takes_up_its_tubes_again() {
    let server = Beanstalkd::start();
    let proxy = Proxy::to(server.port());
    let (near, far) = (open(server.port(), "near"), open(proxy.port(), "far"));
    let waiting = tokio::spawn(async move { take(&far, SOON).await });
    eventually("it waits", async || (!near.watchers("t").await.unwrap().is_empty()).then_some(())).await;
    proxy.sever();
    eventually("it is cut off", async || near.watchers("t").await.unwrap().is_empty().then_some(())).await;
    near.put(vec![job("news")]).await.unwrap();
    proxy.mend();
    let (job, _lease) = waiting.await.unwrap().expect("it does not come back");
    assert_eq!(job.body, b"\"news\"");
}

/// Every job that a put was acknowledged for is handled, whatever dies when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_under_load_loses_no_acknowledged_job() {
    const JOBS: usize = 400;
    let server = Arc::new(Beanstalkd::start());
    let (handled, enough) = (Arc::new(Mutex::new(BTreeSet::new())), CancellationToken::new());
    let mut consumers = JoinSet::new();
    for _ in 0..4 {
        let (queue, handled, enough) = (open(server.port(), "c"), Arc::clone(&handled), enough.clone());
        consumers.spawn(async move {
            while !enough.is_cancelled() {
                let Ok(batch) = queue.reserve(&["t".to_owned()], 5, SOON, &enough).await else { continue };
                for (job, lease) in batch {
                    // Noted before it is deleted, as whatever has an effect is.
                    handled.lock().unwrap().insert(job.body);
                    let _ = queue.give_up(&lease, GiveUp::Delete).await;
                }
            }
        });
    }
    let mut producers = JoinSet::new();
    for producer in 0..4 {
        let queue = open(server.port(), "p");
        producers.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..JOBS / 4 {
                let job = job(&format!("{producer}.{number}"));
                let body = job.body.clone();
                // One that fails may be there all the same: what is promised is what was acknowledged.
                while queue.put(vec![job.clone()]).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                acknowledged.push(body);
            }
            acknowledged
        });
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill();
        server.begin();
    }
    let acknowledged: Vec<Vec<u8>> = producers.join_all().await.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), JOBS);
    let looking = open(server.port(), "l");
    eventually("all are handled", async || {
        looking.stats().await.unwrap().iter().all(|tube| tube.ready + tube.reserved == 0).then_some(())
    })
    .await;
    enough.cancel();
    consumers.join_all().await;
    let handled = handled.lock().unwrap();
    let lost: Vec<String> = acknowledged
        .iter()
        .filter(|body| !handled.contains(*body))
        .map(|body| String::from_utf8_lossy(body).into_owned())
        .collect();
    assert_eq!(lost, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_outlive_a_server_that_is_not_there_yet_and_one_that_dies() {
    let server = Beanstalkd::start();
    let root = Root::with(&format!("[queue]\nurl = {}\n", server.url()));
    server.kill();
    let mut roles = root.start(&["worker", "notifier"]);
    roles.until_it_says("is lost");
    server.begin();
    let site = root.site();
    let first = site.submit(&srpm("hello", 1)).await;
    assert_eq!(site.result(&first).await.event.status, Status::Success);
    roles.until_it_says("is back");
    roles.forget();
    server.kill();
    roles.until_it_says("trying until it is back");
    server.begin();
    let second = site.submit(&srpm("hello", 1)).await;
    assert_eq!(site.result(&second).await.event.status, Status::Success);
    roles.stop();
    assert_eq!(site.queue.list(Some(harness::arch())).await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_servers_own_limit_counts_and_is_told() {
    let server = Beanstalkd::with_limit(1000);
    let queue = open(server.port(), "n");
    let refused = queue.put(vec![NewJob { body: vec![b'x'; 1001], ..job("") }]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a job of 1001 bytes is too large for tube t: the limit is 1000; \
         start beanstalkd with a larger -z, or leave out what the job need not carry"
    );
    queue.put(vec![NewJob { body: vec![b'x'; 1000], ..job("") }]).await.unwrap();
    let small = Beanstalkd::with_limit(300);
    let root = Root::with(&format!("[queue]\nurl = {}\n", small.url()));
    let package = srpm("hello", 1).display().to_string();
    let ran = root.run(&["submit", "-s", &package, "-a", harness::arch(), "-t", "mini", "-d", ".el9"]);
    assert!(ran.code != 0 && ran.err.contains("is too large for tube"), "{ran:?}");
}

/// A list that lacks a job would have `prune` take what that job needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_held_is_listed_whatever_is_put_meanwhile() {
    let server = Beanstalkd::start();
    let queue = open(server.port(), "n");
    queue.put(vec![job("held")]).await.unwrap();
    let (held, _lease) = take(&queue, SOON).await.unwrap();
    let putting = tokio::spawn({
        let queue = open(server.port(), "p");
        async move {
            loop {
                let ids = queue.put(vec![job("new"), job("new"), job("new")]).await.unwrap();
                for id in ids {
                    queue.withdraw(id).await.unwrap();
                }
            }
        }
    });
    for time in 0..300 {
        // One that has listed nothing before.
        let listed = open(server.port(), "l").list(Some("t")).await.unwrap();
        assert!(listed.iter().any(|entry| entry.id == held.id), "the {time}th time: {listed:?}");
    }
    putting.abort();
}

#[tokio::test]
async fn why_a_job_was_buried_is_forgotten_once_it_was_kicked() {
    let server = Beanstalkd::start();
    let queue = open(server.port(), "n");
    queue.put(vec![job("x")]).await.unwrap();
    let (taken, lease) = take(&queue, SOON).await.unwrap();
    queue.give_up(&lease, GiveUp::Bury { reason: "broken".into() }).await.unwrap();
    let mut line = Line::to(&server).await;
    let note = format!("why/{}", taken.id);
    line.say(Command::Use(note)).await.unwrap();
    assert!(matches!(line.say(Command::PeekReady).await, Ok(Reply::Found { .. })));
    assert_eq!(queue.kick("t", 10).await.unwrap(), 1);
    let (_, lease) = take(&queue, SOON).await.unwrap();
    assert_eq!(line.say(Command::PeekReady).await, Ok(Reply::NotFound));
    queue.give_up(&lease, GiveUp::Delete).await.unwrap();
}

/// Seconds; much less than a build takes.
const SHORT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_short_time_to_run_is_its_workers_for_as_long_as_its_build_takes() {
    let server = Beanstalkd::start();
    let root = Root::with(&format!("[queue]\nurl = {}\n", server.url()));
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    assert!(site.queue.withdraw(build.job_id).await.unwrap());
    let short = Queue::Beanstalkd(queue(server.port(), "n").with_ttr(SHORT));
    short.put(vec![NewJob::new(arch(), &build.job, PRIORITY)]).await.unwrap();
    let takes = [("REIMZUL_NULL_ENGINE_SECONDS", "12")];
    let workers = [root.start_with(&["worker"], &takes), root.start_with(&["worker", "notifier"], &takes)];
    let result = site.result(&build).await;
    assert_eq!(result.event.status, Status::Success);
    eventually("the job is deleted", async || {
        site.queue.list(Some(arch())).await.unwrap().is_empty().then_some(())
    })
    .await;
    let mut said = String::new();
    for worker in workers {
        worker.terminate();
        said += &worker.ended().1;
    }
    assert_eq!(said.matches("building mini.").count(), 1, "{said}");
    assert!(!said.contains("lease"), "{said}");
    // The first time that it was reserved.
    let attempt = record(&root.join(format!("bstore/repo/{}", build.path))).attempt;
    assert!(attempt.contains("-1."), "{attempt}");
}

/// Blocks the thread that it runs on, while another process waits for the job; then has its consumer end.
struct Blocking {
    port: u16,
    shutdown: Shutdown,
}

impl Handler for Blocking {
    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let port = self.port;
        // With a runtime of its own.
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { take(&open(port, "other"), 3 * SHORT).await.is_some() })
        });
        assert!(!other.join().unwrap(), "another was given the job");
        self.shutdown.request();
        jobs.iter().map(|_| Verdict::Done).collect()
    }
}

/// The test's runtime has one thread, and that is blocked.
#[tokio::test]
async fn a_lease_is_kept_alive_while_the_whole_program_computes() {
    let server = Beanstalkd::start();
    let queue = Queue::Beanstalkd(queue(server.port(), "n").with_ttr(SHORT));
    queue.put(vec![job("x")]).await.unwrap();
    let shutdown = Shutdown::default();
    let handler = Blocking { port: server.port(), shutdown: shutdown.clone() };
    consumer::run(&queue, &["t".to_owned()], &shutdown, &handler).await;
    assert!(queue.list(None).await.unwrap().is_empty(), "it could not be deleted");
}

#[tokio::test]
async fn an_old_buried_job_is_found_with_its_reason_and_looking_for_it_costs_little() {
    const DEEPEST: u64 = 50;
    let server = Beanstalkd::start();
    let queue = Queue::Beanstalkd(queue(server.port(), "n").with_deepest(DEEPEST));
    // Two that were buried, the second of which is at no tube's head, and two that wait likewise.
    queue.put(["a", "b", "c", "d"].map(job).to_vec()).await.unwrap();
    for reason in ["first", "second"] {
        let (_, lease) = take(&queue, SOON).await.unwrap();
        queue.give_up(&lease, GiveUp::Bury { reason: reason.into() }).await.unwrap();
    }
    for _ in 0..3 * DEEPEST {
        let ids = queue.put(vec![NewJob::new("signs", &"of life", 1)]).await.unwrap();
        queue.withdraw(ids[0]).await.unwrap();
    }
    let mut line = Line::to(&server).await;
    let mut asked = async || {
        let Ok(Reply::Data(stats)) = line.say(Command::Stats).await else { panic!("no statistics") };
        let stats = String::from_utf8(stats).unwrap();
        let count = stats.lines().find_map(|line| line.strip_prefix("cmd-stats-job: ")).unwrap();
        count.parse::<u64>().unwrap()
    };
    let listed = async || {
        let jobs = queue.list(Some("t")).await.unwrap();
        jobs.into_iter().map(|job| (job.state, job.reason)).collect::<Vec<_>>()
    };
    let before = asked().await;
    let buried = |reason: &str| (State::Buried, Some(reason.to_owned()));
    // The last one that waits is older than any that is looked for.
    let wanted = [buried("first"), buried("second"), (State::Ready, None)];
    assert_eq!(listed().await, wanted);
    let first = asked().await - before;
    assert!(first <= DEEPEST + 10, "{first} jobs were asked for");
    assert_eq!(listed().await, wanted);
    let second = asked().await - before - first;
    assert!(second <= 15, "{second} jobs were asked for again");
    // What comes later is seen.
    queue.put(vec![job("e"), job("f")]).await.unwrap();
    assert_eq!(listed().await.len(), 5);
}
