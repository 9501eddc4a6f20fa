//! Sources over HTTP: gone on with after a cut, begun anew where the file has changed, refused where they are not what
//! was submitted.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use reimzul::history::Find;
use reimzul::model::{BuildJob, Class, Failure, Status};
use reimzul::queue::{NewJob, PRIORITY};
use reimzul::sys::fs;
use reimzul::sys::http::{Http, HttpError};
use reimzul::sys::tls::{Tls, TlsFiles};

use crate::fleet::{self, Ca, Server, free_port, write};
use crate::harness::{Ask, Root, eventually, srpm};

const SIZE: usize = 300_000;

/// nginx with one file, and where it is fetched to.
struct Stand {
    root: Root,
    port: u16,
    http: Http,
    _nginx: Server,
}

impl Stand {
    fn new() -> Stand {
        let (root, port) = (Root::new(), free_port());
        root.write("incoming/file", &"a".repeat(SIZE));
        let ca_cert = Some(write(&root.join("hosts"), "ca.pem", &Ca::new("Fleet CA").pem()));
        let tls = Tls::open(&TlsFiles { ca_cert, ..TlsFiles::default() }).unwrap();
        let nginx = fleet::nginx_plain(&root.join("hosts"), &root.join("incoming"), port);
        Stand { port, http: Http::new(&tls).unwrap(), _nginx: nginx, root }
    }

    fn to(&self) -> PathBuf {
        self.root.join("fetched")
    }

    async fn fetch(&self, port: u16, sha256: &str) -> Result<(), HttpError> {
        let url = format!("http://127.0.0.1:{port}/reimzul-incoming/file").parse().unwrap();
        self.http.fetch(&url, &self.to(), sha256).await
    }

    /// Statuses, each with the range that was asked for or a dash, sorted.
    async fn answers(&self, count: usize) -> Vec<String> {
        eventually("so many requests in nginx's log", async || {
            let log = std::fs::read_to_string(self.root.join("hosts/access.log")).unwrap_or_default();
            let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
            lines.sort();
            (lines.len() == count).then_some(lines)
        })
        .await
    }
}

/// Where a range begins.
fn first_byte(answer: &str) -> usize {
    let range = answer.split_once(" bytes=").unwrap_or_else(|| panic!("{answer} is to no range")).1;
    range.trim_end_matches('-').parse().unwrap()
}

fn digest(path: &Path) -> String {
    fs::sha256(path).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_left_is_gone_on_with_and_not_fetched_again() {
    let stand = Stand::new();
    let (cut, cuts) = fleet::cutter(stand.port, SIZE / 2, true, 1);
    let wanted = digest(&stand.root.join("incoming/file"));
    stand.fetch(cut, &wanted).await.unwrap();
    assert_eq!(digest(&stand.to()), wanted);
    assert!(cuts.load(Ordering::SeqCst) <= 0, "nothing was cut");
    let answers = stand.answers(2).await;
    assert_eq!(answers[0], "200 -");
    assert!(answers[1].starts_with("206 ") && first_byte(&answers[1]) > 0, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_changed_meanwhile_is_begun_anew() {
    let stand = Stand::new();
    let (second, arrived) = fleet::gate(stand.port, 2);
    let (cut, _) = fleet::cutter(second, SIZE / 2, true, 1);
    let new = write(&stand.root.join("incoming"), "new", &"b".repeat(SIZE - 1));
    let wanted = digest(&new);
    let change = async {
        let connection = fleet::held(arrived).await;
        std::fs::rename(&new, stand.root.join("incoming/file")).unwrap();
        connection.send(true).unwrap();
    };
    let (fetched, ()) = tokio::join!(stand.fetch(cut, &wanted), change);
    fetched.unwrap();
    assert_eq!(digest(&stand.to()), wanted);
    let answers = stand.answers(2).await;
    assert!(answers.iter().all(|answer| answer.starts_with("200 ")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.contains("bytes=") && first_byte(answer) > 0), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_digest_is_refused_and_not_kept() {
    let stand = Stand::new();
    let error = stand.fetch(stand.port, &"0".repeat(64)).await.unwrap_err();
    let found = digest(&stand.root.join("incoming/file"));
    let said = format!("file is not what was submitted: its SHA-256 is {found}, not {}", "0".repeat(64));
    assert!(error.to_string().ends_with(&said) && error.is_final(), "{error}");
    assert!(!stand.to().exists() && !stand.root.join("fetched.part").exists());
}

/// How a job ends whose source RPM, served over HTTP, is changed by `spoil`.
async fn failure_of(is_stamped: bool, spoil: impl FnOnce(&Path)) -> Failure {
    let (root, port) = (Root::new(), free_port());
    let work = root.join("hosts");
    std::fs::create_dir_all(&work).unwrap();
    let url = format!("[sources]\nurl = http://127.0.0.1:{port}/reimzul-incoming/\n");
    root.write("reimzul.ini", &format!("[worker]\nengine = null\nretry_delay = 0\n{url}"));
    let site = root.site();
    let submitted = site.submit(&srpm("hello", 1)).await;
    if !is_stamped {
        assert!(site.queue.withdraw(submitted.job_id).await.unwrap());
        let old = BuildJob { stamp: None, ..submitted.job.clone() };
        site.queue.put(vec![NewJob::new(old.arch.tube(), &old, PRIORITY)]).await.unwrap();
    }
    spoil(&root.join("incoming/hello-1.0-1.src.rpm"));
    let _nginx = fleet::nginx_plain(&work, &root.join("incoming"), port);
    let roles = root.start(&["worker", "notifier"]);
    let failed = eventually("a failed build", async || {
        let find = Find { status: Some(Status::Failed), ..Find::default() };
        site.history.find(find).await.unwrap().pop()
    })
    .await;
    roles.stop();
    failed.event.failure.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_another_digest_or_size_fails_its_build_with_the_reason() {
    let other = failure_of(true, |path| assert!(std::fs::copy(srpm("hello", 2), path).is_ok())).await;
    assert_eq!(other.class, Class::Source);
    assert!(other.lines[0].contains("is not what was submitted: its SHA-256 is"), "{other}");
    // An old submitter's job has no digest.
    let shorten = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 10).unwrap();
    };
    let short = failure_of(false, shorten).await;
    assert_eq!(short.class, Class::Source);
    assert!(short.lines[0].contains("bytes where its header says"), "{short}");
}
