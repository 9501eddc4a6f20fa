//! Results over rsync, one upload at a time: what is sent, in which order, and whose they are when a lease is lost on the
//! way.

use std::path::PathBuf;
use std::time::Duration;

use reimzul::config::Config;
use reimzul::model::{Attempt, BuildRecord, Event};
use reimzul::queue::{Lease, NewJob, Queue, QueueError};
use reimzul::upload::rsync::Rsync;
use reimzul::upload::{Parcel, Upload, UploadError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fleet::{self, Server, free_port};
use crate::harness::beanstalkd::{self, Beanstalkd};
use crate::harness::{Root, SOON, record};

const TUBE: &str = "x86_64";
/// Longer than it takes to get as far as the place, and soon over.
const TTR: Duration = Duration::from_secs(15);
const RPM: &str = "hello-1-1.x86_64.rpm";

/// A queue with one job, and a store.
struct Stand {
    queue: Beanstalkd,
    store: Root,
    port: u16,
    _rsyncd: Server,
}

impl Stand {
    async fn new() -> Stand {
        let (queue, store, port) = (Beanstalkd::start(), Root::new(), free_port());
        std::fs::create_dir_all(store.join("hosts")).unwrap();
        let rsyncd = fleet::rsyncd(&store.join("hosts"), &store.join("bstore"), port);
        let stand = Stand { queue, store, port, _rsyncd: rsyncd };
        stand.handle().put(vec![NewJob::new(TUBE, &"hello", 1)]).await.unwrap();
        stand
    }

    fn handle(&self) -> Queue {
        Queue::Beanstalkd(beanstalkd::queue(self.queue.port(), "node").with_ttr(TTR))
    }

    /// A builder that takes the job as soon as it can, and reaches the store at that port.
    async fn builder(&self, name: &'static str, port: u16) -> Builder {
        let (queue, never) = (self.handle(), CancellationToken::new());
        let (_, lease) = queue.reserve(&[TUBE.to_owned()], 1, SOON, &never).await.unwrap().pop().unwrap();
        let root = Root::new();
        let upload = format!("[bstore]\nupload = rsync://127.0.0.1:{port}/reimzul-bstore\n");
        root.write("reimzul.ini", &upload);
        Builder { root, queue, lease, name }
    }

    fn place(&self) -> PathBuf {
        self.store.join("bstore/repo").join(event().path().relative())
    }

    /// Whose RPM is in place.
    fn rpm(&self) -> String {
        std::fs::read_to_string(self.place().join(RPM)).unwrap()
    }

    /// What rsyncd's log says it was sent.
    fn received(&self) -> Vec<String> {
        let log = self.store.read("hosts/rsyncd.log");
        let received = log.lines().filter_map(|line| Some(line.split_once("] recv ")?.1.to_owned()));
        received.collect()
    }
}

/// Who has built the job.
struct Builder {
    root: Root,
    queue: Queue,
    lease: Lease,
    name: &'static str,
}

fn event() -> Event {
    serde_json::from_value(json!({"srpm": "hello-1-1.src.rpm", "arch": "x86_64", "target": "mini.x86_64",
        "disttag": "", "scratch": false, "submitter": "kb", "status": "Success", "builder_fqdn": "b1", "evr": "1-1",
        "pkgname": "hello", "timestamp": "20261123204406", "build_id": "b1"}))
    .unwrap()
}

impl Builder {
    /// Its RPM holds its name.
    async fn commit(&self) -> Result<(), UploadError> {
        let config = Config::load(None, Some(self.root.path())).unwrap();
        let upload = Rsync::new(config.upload.clone().unwrap(), config);
        let (event, attempt) = (event(), Attempt(self.name.to_owned()));
        self.root.write(&format!("results/{RPM}"), self.name);
        self.root.write("results/build.log", "built\n");
        let mut fields = serde_json::to_value(&event).unwrap();
        let more = json!({"format": 1, "attempt": self.name, "source": {"file": "", "size": 0, "sha256": ""},
            "results": [], "durations": {}, "started": "", "finished": "", "engine": {"name": "", "version": ""},
            "buildroot": []});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let record: BuildRecord = serde_json::from_value(fields).unwrap();
        let parcel = Parcel {
            from: &self.root.join("results"),
            build: &event.path(),
            build_id: event.build_id.as_ref().unwrap(),
            attempt: &attempt,
            scratch: false,
            record: &record,
        };
        Upload::Rsync(Box::new(upload)).commit(&self.queue, &self.lease, parcel).await
    }
}

/// The connections of an upload: folders, what gathers, the place, `build.json`, and tidying up.
const PLACE: usize = 3;
const RECORD: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_lease_on_the_way_into_place_leaves_what_another_put_there() {
    let stand = Stand::new().await;
    let (slow, arrived) = fleet::gate(stand.port, PLACE);
    let first = stand.builder("first", slow).await;
    let first = tokio::spawn(async move { first.commit().await });
    let connection = fleet::held(arrived).await;
    // Nobody keeps its lease alive: when its time has run out, another takes the job.
    let second = stand.builder("second", stand.port).await;
    second.commit().await.unwrap();
    connection.send(false).unwrap();
    let lost = first.await.unwrap().unwrap_err();
    assert_eq!((stand.rpm().as_str(), record(&stand.place()).attempt.as_str()), ("second", "second"));
    assert!(matches!(lost, UploadError::Lease(QueueError::LeaseLost(_))), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lease_in_the_middle_of_it_ends_at_once() {
    let stand = Stand::new().await;
    let (slow, arrived) = fleet::gate(stand.port, PLACE);
    let builder = stand.builder("only", slow).await;
    let lease = builder.lease.clone();
    let committing = tokio::spawn(async move { builder.commit().await });
    let connection = fleet::held(arrived).await;
    // The server is gone, and with it whatever was reserved.
    stand.queue.kill();
    tokio::time::timeout(SOON, lease.ended().cancelled()).await.unwrap();
    let lost = tokio::time::timeout(SOON / 4, committing).await.expect("it goes on").unwrap().unwrap_err();
    assert!(matches!(lost, UploadError::Lease(QueueError::LeaseLost(_))), "{lost}");
    connection.send(true).unwrap();
    assert!(!stand.place().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_never_stands_beside_results_that_it_does_not_tell_of() {
    let stand = Stand::new().await;
    stand.builder("first", stand.port).await.commit().await.unwrap();
    assert_eq!((stand.rpm().as_str(), record(&stand.place()).attempt.as_str()), ("first", "first"));
    // The first has not deleted its job, so it is built again.
    let (slow, arrived) = fleet::gate(stand.port, RECORD);
    let second = stand.builder("second", slow).await;
    let second = tokio::spawn(async move { second.commit().await });
    let connection = fleet::held(arrived).await;
    assert_eq!(stand.rpm(), "second");
    assert!(!stand.place().join("build.json").exists(), "it is the first one's");
    connection.send(true).unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(record(&stand.place()).attempt, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_is_linked_into_place_and_not_sent_again() {
    let stand = Stand::new().await;
    stand.builder("only", stand.port).await.commit().await.unwrap();
    assert_eq!(stand.rpm(), "only");
    let received = stand.received();
    let of = |file: &str| received.iter().filter(|line| line.contains(file)).cloned().collect::<Vec<_>>();
    for file in [RPM, "build.log"] {
        let [once] = of(file).try_into().unwrap_or_else(|_| panic!("{file} was not sent once: {received:?}"));
        assert!(once.starts_with("upload/b1.x86_64.only/"), "{once}");
    }
    let [last] = of("build.json").try_into().unwrap_or_else(|_| panic!("{received:?}"));
    assert!(last.starts_with("repo/mini.x86_64/hello/20261123204406/1-1.x86_64/build.json"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_rsync_cannot_write_through_to_its_disk_gets_results_all_the_same() {
    let stand = Stand::new().await;
    let config = stand.store.read("hosts/rsyncd.conf");
    // As if it did not know it. The daemon reads its configuration for each connection.
    stand.store.write("hosts/rsyncd.conf", &(config + "refuse options = fsync\n"));
    stand.builder("only", stand.port).await.commit().await.unwrap();
    assert_eq!((stand.rpm().as_str(), record(&stand.place()).attempt.as_str()), ("only", "only"));
    assert!(stand.store.read("hosts/rsyncd.log").contains("fsync"), "it was not asked for");
}
