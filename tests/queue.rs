//! What every queue engine must do, as one suite; each engine runs all of it.
//!
//! Where another process is needed, this very program runs again: see [`as_another_process`].

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reimzul::model::Layout;
use reimzul::queue::{self, GiveUp, Job, LARGEST_JOB, Lease, NewJob, Queue, QueueError, State, TTR};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use harness::beanstalkd::{self as server, Beanstalkd};
use harness::{SOON, eventually};

/// A queue's server, or what stands for it, with nothing in it.
struct Farm {
    folder: tempfile::TempDir,
    server: Option<Beanstalkd>,
    ttr: Duration,
}

impl Farm {
    fn sqlite() -> Farm {
        Farm { folder: tempfile::tempdir().unwrap(), server: None, ttr: TTR }
    }

    fn beanstalkd() -> Farm {
        Farm { server: Some(Beanstalkd::start()), ..Farm::sqlite() }
    }

    fn port(&self) -> Option<u16> {
        self.server.as_ref().map(Beanstalkd::port)
    }

    /// Until the server has noticed who is gone, where there is one; nobody else has to.
    async fn noticed<T: PartialEq + std::fmt::Debug, F: AsyncFnMut() -> T>(&self, wanted: T, mut look: F) {
        if self.server.is_some() {
            eventually("the server notices", async || (look().await == wanted).then_some(())).await;
        }
        assert_eq!(look().await, wanted);
    }

    /// A short time to run. The server's is the job's, whoever takes it.
    fn short(&self) -> Duration {
        if self.server.is_some() { Duration::from_secs(4) } else { Duration::from_millis(300) }
    }

    fn with_ttr(self, ttr: Duration) -> Farm {
        Farm { ttr, ..self }
    }

    /// One more handle, as another process would have it.
    fn open(&self) -> Queue {
        open(self.folder.path(), self.port(), self.ttr)
    }

    /// Another process that does `what` with the queue.
    fn process(&self, what: &str) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["as_another_process", "--exact", "--nocapture", "--quiet"])
            .env(CHILD, what)
            .env(CHILD_ROOT, self.folder.path())
            .env(CHILD_PORT, self.port().map(|port| port.to_string()).unwrap_or_default())
            .env(CHILD_TTR, self.ttr.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Other { child, lines }
    }
}

fn open(root: &Path, port: Option<u16>, ttr: Duration) -> Queue {
    match port {
        None => Queue::Sqlite(queue::sqlite::Queue::open(&Layout::new(root)).unwrap().with_ttr(ttr)),
        Some(port) => Queue::Beanstalkd(server::queue(port, "node").with_ttr(ttr)),
    }
}

/// One test per engine and story.
macro_rules! conformance {
    ($engine:ident: $($story:ident,)*) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    super::$story(super::Farm::$engine()).await;
                }
            )*
        }
    };
}

macro_rules! both_engines {
    ($($story:ident,)*) => {
        conformance! { sqlite: $($story,)* }
        conformance! { beanstalkd: $($story,)* }
    };
}

both_engines! {
    the_most_urgent_job_runs_first_and_equals_in_order,
    a_body_comes_out_as_it_went_in,
    several_tubes_are_one_line,
    a_reserve_waits_as_long_as_it_was_told,
    a_waiting_reserve_sees_another_handles_put,
    a_waiting_reserve_sees_another_processes_put,
    a_waiting_reserve_ends_when_told_to_stop,
    a_delayed_job_comes_later,
    a_released_job_is_there_again_and_counts_no_loss,
    a_job_released_with_a_delay_comes_later,
    a_buried_job_waits_for_a_kick,
    one_job_is_kicked_out_of_its_grave_or_its_delay,
    a_kicked_job_starts_with_a_clean_slate_and_old_leases_stay_dead,
    a_touch_keeps_a_lease_beyond_its_time,
    a_lease_that_ran_out_is_anothers_and_the_old_one_can_do_nothing,
    a_dead_processes_job_is_ready_again_at_once,
    a_handle_that_is_gone_hands_its_job_back,
    several_consumers_share_the_work,
    a_job_too_large_is_refused,
    many_jobs_are_put_all_or_none,
    a_job_that_nobody_holds_can_be_withdrawn,
    stats_tell_where_jobs_stand_and_who_waits,
    what_the_dead_held_is_shown_as_ready_before_anybody_reserves,
    a_process_knows_what_it_holds,
    a_job_tells_how_long_it_is_delayed_or_held,
    processes_open_a_fresh_queue_at_the_same_moment,
    the_ledger_balances_however_processes_die,
}

async fn the_most_urgent_job_runs_first_and_equals_in_order(farm: Farm) {
    let queue = farm.open();
    for (body, priority) in [("late", 9000), ("first", 8192), ("second", 8192), ("now", 1024)] {
        queue.put(vec![NewJob::new("t", &body, priority)]).await.unwrap();
    }
    let mut order = Vec::new();
    while let Some((job, lease)) = take(&queue, &["t"]).await {
        order.push(text(&job));
        queue.give_up(&lease, GiveUp::Delete).await.unwrap();
    }
    assert_eq!(order, ["now", "first", "second", "late"]);
}

async fn a_body_comes_out_as_it_went_in(farm: Farm) {
    let queue = farm.open();
    let body: Vec<u8> = (0..=255).collect();
    let job = NewJob { body: body.clone(), ..job("t", "") };
    let ids = queue.put(vec![job]).await.unwrap();
    let (job, _lease) = take(&queue, &["t"]).await.unwrap();
    assert_eq!((vec![job.id], job.tube.as_str()), (ids, "t"));
    assert_eq!(job.body, body);
    assert_eq!((job.reserves, job.releases, job.losses()), (1, 0, 0));
}

async fn several_tubes_are_one_line(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("x86_64", "a"), job("other", "b"), job("noarch", "c")]).await.unwrap();
    queue.put(vec![NewJob::new("i386", &"urgent", 1)]).await.unwrap();
    let (mut order, mut leases) = (Vec::new(), Vec::new());
    while let Some((job, lease)) = take(&queue, &["noarch", "x86_64", "i386"]).await {
        order.push(text(&job));
        leases.push(lease);
    }
    assert_eq!(order, ["urgent", "a", "c"], "and what is in no tube of ours stays");
}

async fn a_reserve_waits_as_long_as_it_was_told(farm: Farm) {
    let queue = farm.open();
    let begun = Instant::now();
    let got = queue.reserve(&tubes(&["t"]), 1, Duration::from_millis(300), &CancellationToken::new()).await;
    assert!(got.unwrap().is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

async fn a_waiting_reserve_sees_another_handles_put(farm: Farm) {
    let (one, other) = (farm.open(), farm.open());
    let waiting = tokio::spawn(async move { wait(&one, &["t"]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    other.put(vec![job("t", "news")]).await.unwrap();
    let (job, _lease) = waiting.await.unwrap().unwrap();
    assert_eq!(text(&job), "news");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

async fn a_waiting_reserve_sees_another_processes_put(farm: Farm) {
    let queue = farm.open();
    let mut other = farm.process("put what it is told");
    other.hear("ready");
    let waiting = tokio::spawn(async move { wait(&queue, &["t"]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    other.tell("news");
    let begun = Instant::now();
    let (job, _lease) = waiting.await.unwrap().unwrap();
    assert_eq!(text(&job), "news");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

async fn a_waiting_reserve_ends_when_told_to_stop(farm: Farm) {
    let queue = farm.open();
    let stop = CancellationToken::new();
    let waiting = tokio::spawn({
        let stop = stop.clone();
        async move { queue.reserve(&tubes(&["t"]), 1, SOON * 10, &stop).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    let ended = tokio::time::timeout(SOON, waiting).await.expect("it goes on waiting");
    assert!(ended.unwrap().unwrap().is_empty());
}

async fn a_delayed_job_comes_later(farm: Farm) {
    let queue = farm.open();
    let delay = Duration::from_secs(3);
    let begun = Instant::now();
    queue.put(vec![job("t", "later").delayed(delay)]).await.unwrap();
    assert!(take(&queue, &["t"]).await.is_none());
    assert_eq!(states(&queue).await, [State::Delayed]);
    assert!(wait(&queue, &["t"]).await.is_some());
    assert!(begun.elapsed() >= delay, "it came after {:?}", begun.elapsed());
}

async fn a_released_job_is_there_again_and_counts_no_loss(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "x"), job("t", "y")]).await.unwrap();
    for time in 1..=3 {
        let (job, lease) = take(&queue, &["t"]).await.unwrap();
        assert_eq!((text(&job).as_str(), job.reserves, job.losses()), ("x", time, 0));
        queue.give_up(&lease, release(Duration::ZERO)).await.unwrap();
    }
}

async fn a_job_released_with_a_delay_comes_later(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "x")]).await.unwrap();
    let (_, lease) = take(&queue, &["t"]).await.unwrap();
    queue.give_up(&lease, release(Duration::from_secs(3))).await.unwrap();
    assert!(take(&queue, &["t"]).await.is_none());
    assert_eq!(queue.list(Some("t")).await.unwrap()[0].reason.as_deref(), Some("not now"));
    let (_, lease) = wait(&queue, &["t"]).await.unwrap();
    queue.give_up(&lease, GiveUp::Delete).await.unwrap();
    assert_eq!(queue.list(None).await.unwrap().len(), 0, "nothing is left of it, not even why it waited");
}

async fn a_buried_job_waits_for_a_kick(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "x"), job("t", "y"), job("t", "z")]).await.unwrap();
    for _ in 0..3 {
        let (_, lease) = take(&queue, &["t"]).await.unwrap();
        queue.give_up(&lease, GiveUp::Bury { reason: "broken".into() }).await.unwrap();
    }
    assert!(take(&queue, &["t"]).await.is_none());
    assert_eq!(queue.list(Some("t")).await.unwrap()[0].reason.as_deref(), Some("broken"));
    assert_eq!(queue.kick("t", 2).await.unwrap(), 2);
    let (first, _held) = take(&queue, &["t"]).await.unwrap();
    let (second, _held_too) = take(&queue, &["t"]).await.unwrap();
    assert_eq!([text(&first), text(&second)], ["x", "y"]);
    assert_eq!(queue.kick("t", 10).await.unwrap(), 1);
    assert_eq!(queue.kick("t", 10).await.unwrap(), 0, "there is none left");
    assert_eq!(queue.kick("nowhere", 10).await.unwrap(), 0);
}

async fn one_job_is_kicked_out_of_its_grave_or_its_delay(farm: Farm) {
    let queue = farm.open();
    let ids = queue
        .put(vec![job("t", "a"), job("t", "b"), job("t", "c").delayed(SOON), job("t", "d")])
        .await
        .unwrap();
    for _ in 0..2 {
        let (_, lease) = take(&queue, &["t"]).await.unwrap();
        queue.give_up(&lease, GiveUp::Bury { reason: "broken".into() }).await.unwrap();
    }
    let (_, _held) = take(&queue, &["t"]).await.unwrap();
    assert!(queue.kick_job(ids[1]).await.unwrap());
    assert!(queue.kick_job(ids[2]).await.unwrap(), "a delayed job need not be waited for");
    assert!(!queue.kick_job(ids[2]).await.unwrap(), "it is ready already");
    assert!(!queue.kick_job(ids[3]).await.unwrap(), "a held job is its holder's");
    assert!(!queue.kick_job(ids[3] + 1000).await.unwrap());
    let (first, _first) = take(&queue, &["t"]).await.unwrap();
    let (second, _second) = take(&queue, &["t"]).await.unwrap();
    assert_eq!([text(&first), text(&second)], ["b", "c"]);
    assert!(take(&queue, &["t"]).await.is_none(), "the other one is still buried");
}

async fn a_kicked_job_starts_with_a_clean_slate_and_old_leases_stay_dead(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "x")]).await.unwrap();
    let (_, old) = take(&queue, &["t"]).await.unwrap();
    // It is buried by who has it, while somebody keeps a copy of the lease.
    queue.give_up(&old.clone(), GiveUp::Bury { reason: "broken".into() }).await.unwrap();
    queue.kick("t", 1).await.unwrap();
    let (job, new) = take(&queue, &["t"]).await.unwrap();
    assert_eq!(job.losses(), 0);
    assert!(lost(&queue.touch(&old).await), "a former reservation's lease came to life");
    assert!(lost(&queue.give_up(&old, GiveUp::Delete).await));
    queue.give_up(&new, GiveUp::Delete).await.unwrap();
}

async fn a_touch_keeps_a_lease_beyond_its_time(farm: Farm) {
    let farm = farm.with_ttr(Duration::from_secs(6));
    let (holder, other) = (farm.open(), farm.open());
    holder.put(vec![job("t", "x")]).await.unwrap();
    let (_, lease) = take(&holder, &["t"]).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        holder.touch(&lease).await.unwrap();
        assert!(take(&other, &["t"]).await.is_none(), "it was taken after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    holder.give_up(&lease, GiveUp::Delete).await.unwrap();
}

/// A lease whose time has run out, with who has it, and the job with the lease of who got it then. About once in ten
/// times beanstalkd (1.12) forgets that, as long as nothing comes from the holder: a timer that fires in the very
/// microsecond of the end finds it not yet there, and is not set again. Then it is another job's turn.
async fn run_out(farm: &Farm, other: &Queue) -> (Queue, Lease, Job, Lease) {
    for _ in 0..20 {
        let slow = farm.open();
        slow.put(vec![job("t", "x")]).await.unwrap();
        let (_, old) = take(&slow, &["t"]).await.unwrap();
        let patience = 3 * farm.ttr;
        let got = other.reserve(&tubes(&["t"]), 1, patience, &CancellationToken::new()).await.unwrap().pop();
        if let Some((job, new)) = got {
            return (slow, old, job, new);
        }
        drop((slow, old));
        let (_, lease) = wait(other, &["t"]).await.expect("its holder is gone");
        other.give_up(&lease, GiveUp::Delete).await.unwrap();
    }
    panic!("its time is over");
}

async fn a_lease_that_ran_out_is_anothers_and_the_old_one_can_do_nothing(farm: Farm) {
    let short = farm.short();
    let farm = farm.with_ttr(short);
    let other = open(farm.folder.path(), farm.port(), TTR);
    let (slow, old, job, new) = run_out(&farm, &other).await;
    assert_eq!((text(&job).as_str(), job.losses()), ("x", 1));
    // The old holder has woken up, and finishes what it was at.
    old.check().expect("it cannot know yet");
    assert!(lost(&slow.give_up(&old, GiveUp::Delete).await));
    assert!(lost(&slow.give_up(&old, release(Duration::ZERO)).await));
    assert!(lost(&slow.give_up(&old, GiveUp::Bury { reason: String::new() }).await));
    assert!(lost(&slow.touch(&old).await));
    assert!(old.check().is_err() && old.ended().is_cancelled(), "now it knows");
    assert_eq!(states(&other).await, [State::Reserved]);
    other.give_up(&new, GiveUp::Delete).await.unwrap();
    assert_eq!(states(&other).await, []);
}

async fn a_dead_processes_job_is_ready_again_at_once(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "x")]).await.unwrap();
    let mut holder = farm.process("take one and hold it");
    holder.hear("held");
    assert!(take(&queue, &["t"]).await.is_none(), "a living process's job is its own");
    let waiting = tokio::spawn(async move { wait(&queue, &["t"]).await });
    let begun = Instant::now();
    holder.kill();
    let (job, _lease) = waiting.await.unwrap().expect("its holder is dead");
    assert_eq!(job.losses(), 1);
    assert!(begun.elapsed() < TTR / 4, "it took {:?}, as if its time had to run out", begun.elapsed());
}

async fn a_handle_that_is_gone_hands_its_job_back(farm: Farm) {
    let (one, other) = (farm.open(), farm.open());
    one.put(vec![job("t", "x")]).await.unwrap();
    let (_, lease) = take(&one, &["t"]).await.unwrap();
    drop((one, lease));
    assert!(wait(&other, &["t"]).await.is_some());
}

async fn several_consumers_share_the_work(farm: Farm) {
    const JOBS: usize = 500;
    let queue = farm.open();
    queue.put((0..JOBS).map(|number| job("t", &number.to_string())).collect()).await.unwrap();
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let queue = queue.clone();
        consumers.spawn(async move {
            let mut handled = Vec::new();
            while let Some((job, lease)) = take(&queue, &["t"]).await {
                handled.push(text(&job));
                queue.give_up(&lease, GiveUp::Delete).await.unwrap();
            }
            handled
        });
    }
    let handled = consumers.join_all().await;
    let busy = handled.iter().filter(|list| !list.is_empty()).count();
    let all: Vec<String> = handled.into_iter().flatten().collect();
    assert_eq!(all.len(), JOBS, "some were handled twice, or never");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), JOBS);
    assert!(busy > 1, "one consumer did it all");
    assert_eq!(states(&queue).await, []);
}

async fn a_job_too_large_is_refused(farm: Farm) {
    let queue = farm.open();
    let of_size = |size| NewJob { body: vec![b'x'; size], ..job("t", "") };
    queue.put(vec![of_size(LARGEST_JOB)]).await.unwrap();
    let refused = queue.put(vec![of_size(LARGEST_JOB + 1)]).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.starts_with("a job of 65536 bytes is too large for tube t: the limit is 65535; "), "{said}");
    assert!(said.contains("larger -z"), "{said}");
    assert_eq!(states(&queue).await.len(), 1);
}

async fn many_jobs_are_put_all_or_none(farm: Farm) {
    let queue = farm.open();
    let too_large = NewJob { body: vec![0; LARGEST_JOB + 1], ..job("t", "") };
    assert!(queue.put(vec![job("t", "a"), too_large, job("t", "b")]).await.is_err());
    assert_eq!(states(&queue).await, [], "half of a put stayed");
    let ids = queue.put(vec![job("t", "a"), job("u", "b")]).await.unwrap();
    assert_eq!(ids.len(), 2);
    assert!(ids[0] < ids[1]);
    assert_eq!(queue.put(Vec::new()).await.unwrap(), Vec::<u64>::new());
}

async fn a_job_that_nobody_holds_can_be_withdrawn(farm: Farm) {
    let queue = farm.open();
    let ids = queue.put(vec![job("t", "a"), job("t", "b")]).await.unwrap();
    let (_, lease) = take(&queue, &["t"]).await.unwrap();
    assert!(!queue.withdraw(ids[0]).await.unwrap(), "a held job was taken from its holder");
    assert!(queue.withdraw(ids[1]).await.unwrap());
    assert!(!queue.withdraw(ids[1]).await.unwrap(), "it was gone already");
    queue.give_up(&lease, GiveUp::Bury { reason: "x".into() }).await.unwrap();
    assert!(queue.withdraw(ids[0]).await.unwrap());
    assert_eq!(states(&queue).await, []);
}

async fn stats_tell_where_jobs_stand_and_who_waits(farm: Farm) {
    let queue = farm.open();
    assert_eq!(queue.stats().await.unwrap(), []);
    let later = job("t", "later").delayed(SOON);
    queue.put(vec![job("t", "a"), job("t", "b"), job("t", "c"), later]).await.unwrap();
    let (_, bad) = take(&queue, &["t"]).await.unwrap();
    queue.give_up(&bad, GiveUp::Bury { reason: "bad".into() }).await.unwrap();
    let _held = take(&queue, &["t"]).await.unwrap();
    let mut other = farm.process("take one and hold it");
    other.hear("held");
    let stats = |watching, ready, reserved| queue::TubeStats {
        tube: "t".into(),
        ready,
        reserved,
        delayed: 1,
        buried: 1,
        watching,
    };
    assert_eq!(queue.stats().await.unwrap(), [stats(2, 0, 2)]);
    other.kill();
    farm.noticed(1, async || queue.stats().await.unwrap()[0].watching).await;
    eventually("the dead one's job", async || take(&queue, &["t"]).await).await;
}

async fn what_the_dead_held_is_shown_as_ready_before_anybody_reserves(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "a")]).await.unwrap();
    let mut other = farm.process("take one and hold it");
    other.hear("held");
    assert_eq!(states(&queue).await, [State::Reserved]);
    other.kill();
    farm.noticed(vec![State::Ready], async || states(&queue).await).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats[0].ready, stats[0].reserved), (1, 0));
}

async fn a_process_knows_what_it_holds(farm: Farm) {
    let queue = farm.open();
    let ids = queue.put(vec![job("t", "a"), job("t", "b"), job("t", "c")]).await.unwrap();
    let mut other = farm.process("take one and hold it");
    other.hear("held");
    let (_, lease) = take(&queue, &["t"]).await.unwrap();
    let held: Vec<u64> = queue.held().await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(held, [ids[1]]);
    queue.give_up(&lease, GiveUp::Delete).await.unwrap();
    assert!(queue.held().await.unwrap().is_empty());
}

async fn a_job_tells_how_long_it_is_delayed_or_held(farm: Farm) {
    let queue = farm.open();
    queue.put(vec![job("t", "a"), job("t", "b"), job("t", "c").delayed(SOON)]).await.unwrap();
    let _held = take(&queue, &["t"]).await.unwrap();
    let told: Vec<_> = queue.list(Some("t")).await.unwrap();
    let left = |at: usize| told[at].time_left;
    assert!(left(0).is_some_and(|left| 0 < left && left <= TTR.as_secs()), "{told:?}");
    assert_eq!((left(1), told[0].reserves, told[1].reserves), (None, 1, 0));
    assert!(left(2).is_some_and(|left| 0 < left && left <= SOON.as_secs()), "{told:?}");
}

async fn processes_open_a_fresh_queue_at_the_same_moment(farm: Farm) {
    let mut others: Vec<Other> = (0..8).map(|_| farm.process("put what it is told")).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.hear("ready");
        other.tell(&number.to_string());
        other.hear("put");
    }
    assert_eq!(states(&farm.open()).await.len(), 8);
}

/// Four processes take jobs and put new ones, and are killed at any moment, again and again.
///
/// Each notes in a file of its own what it is about to do and what it has done, so that afterwards every job
/// can be accounted for: put, worked on, deleted.
async fn the_ledger_balances_however_processes_die(farm: Farm) {
    const JOBS: usize = 600;
    let queue = farm.open();
    queue.put((0..JOBS).map(|number| job("work", &format!("p{number}"))).collect()).await.unwrap();
    let mut others: Vec<Other> = (0..4).map(|_| farm.process("hammer")).collect();
    let mut kills = 0;
    let (mut until, mut last) = (Instant::now() + SOON, usize::MAX);
    loop {
        // A number from nowhere special is random enough to hit every line of the loop in time.
        let nap = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 4;
        tokio::time::sleep(Duration::from_millis(40 + nap)).await;
        let left = states(&queue).await.len();
        if left == 0 {
            break;
        }
        if left < last {
            (until, last) = (Instant::now() + SOON, left);
        }
        assert!(Instant::now() < until, "{left} jobs are left after {kills} kills");
        if kills < 16 {
            let victim = usize::from(uuid::Uuid::new_v4().as_bytes()[0]) % others.len();
            others.swap_remove(victim).kill();
            others.push(farm.process("hammer"));
            kills += 1;
        }
    }
    others.into_iter().for_each(Other::kill);
    let ledger = Ledger::read(farm.folder.path());
    let begun: BTreeSet<String> = (0..JOBS).map(|number| format!("p{number}")).collect();
    let put: BTreeSet<String> = begun.into_iter().chain(ledger.put.keys().cloned()).collect();
    assert!(ledger.put.len() > 10 && kills > 3, "{kills} kills, {} puts", ledger.put.len());
    for job in &put {
        assert!(ledger.worked.contains_key(job), "{job} was lost");
    }
    let twice: Vec<_> = ledger.deleted.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "deleted twice: {twice:?}");
    // Whoever died between deleting and noting it noted nothing: at most one job a kill, and the last four.
    assert!(ledger.deleted.len() + kills + 4 >= put.len());
    for job in ledger.worked.keys() {
        assert!(put.contains(job) || ledger.putting.contains_key(job), "{job} came from nowhere");
    }
}

/// What the processes noted, and how often.
#[derive(Default)]
struct Ledger {
    putting: BTreeMap<String, usize>,
    put: BTreeMap<String, usize>,
    worked: BTreeMap<String, usize>,
    deleted: BTreeMap<String, usize>,
}

impl Ledger {
    fn read(folder: &Path) -> Ledger {
        let mut ledger = Ledger::default();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().extension().is_none_or(|extension| extension != "ledger") {
                continue;
            }
            for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
                let (what, job) = line.split_once(' ').unwrap();
                let page = match what {
                    "putting" => &mut ledger.putting,
                    "put" => &mut ledger.put,
                    "worked" => &mut ledger.worked,
                    "deleted" => &mut ledger.deleted,
                    other => panic!("a line in the ledger begins with {other}"),
                };
                *page.entry(job.to_owned()).or_default() += 1;
            }
        }
        ledger
    }
}

const CHILD: &str = "TEST_QUEUE_CHILD";
const CHILD_ROOT: &str = "TEST_QUEUE_ROOT";
const CHILD_PORT: &str = "TEST_QUEUE_PORT";
const CHILD_TTR: &str = "TEST_QUEUE_TTR";

/// No test by itself: what this program does when a test above started it once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_another_process() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let root = std::env::var(CHILD_ROOT).unwrap();
    let ttr = Duration::from_millis(std::env::var(CHILD_TTR).unwrap().parse().unwrap());
    let port = std::env::var(CHILD_PORT).unwrap().parse().ok();
    let queue = open(Path::new(&root), port, ttr);
    match what.as_str() {
        "take one and hold it" => {
            let _held = wait(&queue, &["t"]).await.unwrap();
            say("held");
            std::future::pending::<()>().await;
        }
        "put what it is told" => {
            say("ready");
            for line in std::io::stdin().lines().map_while(Result::ok) {
                queue.put(vec![job("t", &line)]).await.unwrap();
                say("put");
            }
        }
        "hammer" => hammer(&queue, Path::new(&root)).await,
        other => panic!("what is {other}?"),
    }
}

/// Works off jobs for ever; a quarter of them puts another job.
async fn hammer(queue: &Queue, root: &Path) {
    let own = root.join(format!("{}.ledger", uuid::Uuid::new_v4().simple()));
    let mut file = std::fs::File::options().create(true).append(true).open(own).unwrap();
    let mut note = |what: &str, job: &str| {
        // One write, so that a kill leaves no half line.
        file.write_all(format!("{what} {job}\n").as_bytes()).unwrap();
    };
    loop {
        let Some((taken, lease)) = wait(queue, &["work"]).await else { return };
        let name = text(&taken);
        note("worked", &name);
        // Long enough to be hit in the middle of it.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if name.starts_with('p') && taken.id % 4 == 0 {
            let new = format!("c-{}", uuid::Uuid::new_v4().simple());
            note("putting", &new);
            queue.put(vec![job("work", &new)]).await.unwrap();
            note("put", &new);
        }
        if queue.give_up(&lease, GiveUp::Delete).await.is_ok() {
            note("deleted", &name);
        }
    }
}

/// Another process, killed when dropped.
struct Other {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Other {
    /// Waits until it has said a line.
    fn hear(&mut self, wanted: &str) {
        let mut line = String::new();
        while line.trim() != wanted {
            line.clear();
            let read = self.lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the other process ended before it said '{wanted}'");
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// SIGKILL, and gone.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) {
    // The test runner may have written half a line before.
    println!("\n{line}");
    std::io::stdout().flush().unwrap();
}

fn job(tube: &str, body: &str) -> NewJob {
    NewJob::new(tube, &json!(body), queue::PRIORITY)
}

fn text(job: &Job) -> String {
    serde_json::from_slice(&job.body).unwrap()
}

fn tubes(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// What is ready right now.
async fn take(queue: &Queue, names: &[&str]) -> Option<(Job, Lease)> {
    queue.reserve(&tubes(names), 1, Duration::ZERO, &CancellationToken::new()).await.unwrap().pop()
}

/// What comes soon.
async fn wait(queue: &Queue, names: &[&str]) -> Option<(Job, Lease)> {
    queue.reserve(&tubes(names), 1, SOON, &CancellationToken::new()).await.unwrap().pop()
}

fn release(delay: Duration) -> GiveUp {
    GiveUp::Release { delay, reason: "not now".into() }
}

fn lost(done: &Result<(), QueueError>) -> bool {
    matches!(done, Err(QueueError::LeaseLost(_)))
}

async fn states(queue: &Queue) -> Vec<State> {
    queue.list(None).await.unwrap().into_iter().map(|entry| entry.state).collect()
}
