//! A large history: as many builds as half its documents, each with the record of its beginning and its result.
//! Every source RPM was built twice, every fifth build has failed, and every third was an old worker's, without an id.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use mongodb::Database;
use mongodb::bson::{self, Document as Bdoc};
use reimzul::model::{Event, Status};
use rusqlite::params;

use super::harness::mongodb::Server;

const PACKAGES: u64 = 2000;
/// Counts up when other documents are made: those that are kept are of no use then.
const VERSION: u32 = 1;
const BATCH: usize = 5000;

/// See the module.
pub struct Large {
    pub documents: u64,
}

impl Large {
    pub fn from_environment() -> Large {
        let documents = std::env::var("REIMZUL_BENCH_DOCUMENTS").ok();
        let documents = documents.map(|text| text.parse().expect("REIMZUL_BENCH_DOCUMENTS: a number"));
        Large { documents: documents.unwrap_or(1_000_000) }
    }

    /// The last build that has an id and was successful.
    pub fn newest(&self) -> Event {
        let newest = (0..self.documents / 2)
            .rev()
            .find(|number| !number.is_multiple_of(3) && !number.is_multiple_of(5));
        build(newest.expect("a few documents"), Status::Success)
    }

    fn documents(&self) -> impl Iterator<Item = Stored> {
        (0..self.documents).map(|number| Stored::of(number / 2, number % 2 == 0))
    }

    /// Fills the table of a history that was opened before.
    pub fn fill_sqlite(&self, file: &Path) {
        let mut sql = rusqlite::Connection::open(file).expect("a database");
        let filling = sql.transaction().expect("a transaction");
        let mut insert = filling
            .prepare(
                "INSERT INTO history (key, build_id, path, srpm, arch, target, timestamp, status, latest_build, event)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )
            .expect("the table");
        for Stored { event, status, latest } in self.documents() {
            insert
                .execute(params![
                    event.key(),
                    event.build_id.as_ref().map(ToString::to_string),
                    event.path().to_string(),
                    event.srpm.as_str(),
                    event.arch.as_str(),
                    event.target.as_str(),
                    event.timestamp.to_string(),
                    status.as_str(),
                    latest,
                    serde_json::to_string(&event).expect("an event serializes"),
                ])
                .expect("a row");
        }
        drop(insert);
        filling.commit().expect("a commit");
    }

    /// Begins a server with the large history, and says where it is. What takes long to make is kept for next time.
    pub async fn serve_mongodb(&self, server: &Server) -> String {
        let kept =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("history-{VERSION}-{}", self.documents));
        let url = format!("mongodb://127.0.0.1:{}/full", server.port());
        if kept.exists() {
            copy(&kept, &server.data());
        } else {
            server.begin();
            self.fill_mongodb(&url).await;
            // What is acknowledged is on its disk.
            server.kill();
            copy(&server.data(), &kept);
        }
        server.begin();
        url
    }

    async fn fill_mongodb(&self, url: &str) {
        let begun = Instant::now();
        let history = super::harness::plans::noted(url).0;
        // Its first record makes the indexes.
        history.record(&build(self.documents, Status::Building)).await.expect("a server");
        let events = database(url).await.collection::<Bdoc>("notify_history");
        let mut documents = self.documents().map(Stored::into_document);
        for _ in 0..self.documents.div_ceil(BATCH as u64) {
            let batch: Vec<Bdoc> = documents.by_ref().take(BATCH).collect();
            events.insert_many(batch).ordered(false).await.expect("a server");
        }
        println!(
            "(the test server took {:.0} s to insert them; kept for next time)",
            begun.elapsed().as_secs_f64()
        );
    }
}

pub async fn database(url: &str) -> Database {
    let client = mongodb::Client::with_uri_str(url).await.expect("a URL");
    client.default_database().expect("a database in the URL")
}

/// An event as the history keeps it.
struct Stored {
    event: Event,
    status: Status,
    latest: Option<bool>,
}

impl Stored {
    fn of(number: u64, beginning: bool) -> Stored {
        if beginning {
            return Stored { event: build(number, Status::Building), status: Status::Done, latest: None };
        }
        let status = if number.is_multiple_of(5) { Status::Failed } else { Status::Success };
        // The second build of its source RPM.
        let latest = number / PACKAGES % 2 == 1;
        Stored { event: build(number, status), status, latest: Some(latest) }
    }

    fn into_document(self) -> Bdoc {
        let Stored { event, status, latest } = self;
        let mut document = bson::to_document(&event).expect("an event is a document");
        document.insert("status", status.as_str());
        if let Some(latest) = latest {
            document.insert("latest_build", latest);
        }
        if event.build_id.is_some() {
            document.insert("event_key", event.key());
            document.insert("path", event.path().to_string());
        }
        document
    }
}

/// An event of the so-manieth build of a history.
fn build(number: u64, status: Status) -> Event {
    let id = (!number.is_multiple_of(3)).then(|| format!("{number:032x}"));
    event(&format!("p{}", number % PACKAGES), number / PACKAGES / 2, number, status, id)
}

/// An event of the so-manieth of builds that are new, whether the history is empty or full.
pub fn new_build(number: u64, status: Status) -> Event {
    event(&format!("new{}", number % 500), 1, number, status, Some(format!("new{number}")))
}

fn event(package: &str, version: u64, number: u64, status: Status, build_id: Option<String>) -> Event {
    let begin: jiff::Timestamp = "2016-01-01T00:00:00Z".parse().expect("a time");
    let time = begin + jiff::SignedDuration::from_secs(i64::try_from(number * 300).expect("a time"));
    let mut fields = serde_json::json!({
        "srpm": format!("{package}-{version}-1.el9.src.rpm"), "arch": "x86_64",
        "target": format!("t{}.x86_64", number % 4), "disttag": ".el9", "scratch": false, "submitter": "kb",
        "status": status.as_str(), "builder_fqdn": "builder1.example.org", "evr": format!("{version}-1.el9"),
        "pkgname": package, "timestamp": time.strftime("%Y%m%d%H%M%S").to_string(),
    });
    if let Some(id) = build_id {
        fields["build_id"] = id.into();
    }
    serde_json::from_value(fields).expect("an event")
}

/// By reference where the file system can.
fn copy(from: &PathBuf, to: &PathBuf) {
    let _ = std::fs::remove_dir_all(to);
    let half = to.with_extension("half");
    let copied = Command::new("cp").args(["-a", "--reflink=auto", "--"]).args([from, &half]).status();
    assert!(copied.expect("cp").success(), "cp");
    std::fs::rename(half, to).expect("a rename");
}
