//! What new metadata costs, and how that grows with the repository. Run by `cargo bench --bench repo`.
//!
//! Beside ours: createrepo_c with the old system's options, with those that it is the fastest with, and a plain copy of
//! the metadata, which is the limit. Each figure is of one more package, in a repository of N with 20 files each.

mod common;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "../tests/metadata/rpms.rs"]
mod rpms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Table, millis};
use harness::{Root, eventually, target};
use reimzul::config::{RepoEngine, RepoOptions};
use reimzul::metadata::{Made, Repository, Wanted};
use reimzul::model::Arch;
use reimzul::queue::{CREATEREPO, NewJob, PRIORITY};
use serde_json::json;

const SIZES: [usize; 4] = [500, 1000, 4000, 16_000];
const FILES: usize = 20;
const TIMES: usize = 15;

fn main() {
    let Some(table) = Table::begin("Metadata of a repository of N RPMs with 20 files each") else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for size in SIZES {
            growth(&table, size).await;
        }
        burst(&table).await;
    });
}

struct Tree {
    _folder: tempfile::TempDir,
    repository: Repository,
    added: usize,
}

impl Tree {
    fn new(size: usize) -> Tree {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let tree = folder.path().join("tree");
        for number in 0..size {
            rpms::build(&tree, &format!("package-{number}"), 1, FILES);
        }
        let options = RepoOptions { engine: RepoEngine::Incremental, ..RepoOptions::default() };
        let repository = Repository { tree, cache: folder.path().join("cache"), options };
        Tree { _folder: folder, repository, added: 0 }
    }

    fn add(&mut self) -> PathBuf {
        self.added += 1;
        let rpm = rpms::build(&self.repository.tree, &format!("added-{}", self.added), 1, FILES);
        rpm.parent().expect("a folder").to_owned()
    }

    async fn update(&self, folder: Option<&Path>) -> (Made, Duration) {
        let (begun, tree) = (Instant::now(), self.repository.tree.clone());
        let only = folder.map(|folder| {
            let relative = folder.strip_prefix(&tree).expect("it is in the tree").to_owned();
            let names = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name());
            let is_rpm = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".rpm");
            let files = names.filter(is_rpm).map(|name| relative.join(name)).collect();
            BTreeMap::from([(relative, files)])
        });
        let wanted = Wanted { all: Arc::new(move || Ok(found(&tree))), only };
        let locked = self.repository.lock().await.expect("the lock");
        let made = locked.update(wanted, None).await.expect("metadata");
        (made, begun.elapsed())
    }
}

/// The builds' RPMs: `<tree>/<name>/<time>/<build>/<file>`.
fn found(tree: &Path) -> Vec<PathBuf> {
    let mut level = vec![tree.to_owned()];
    for _ in 0..4 {
        let below = level.iter().filter(|path| path.file_name() != Some("repodata".as_ref()));
        let entries = below.flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten());
        level = entries.map(|entry| entry.path()).filter(|path| !path.ends_with("repodata")).collect();
    }
    let rpms = level.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rpm"));
    rpms.map(|path| path.strip_prefix(tree).expect("it is in the tree").to_owned()).collect()
}

async fn growth(table: &Table, size: usize) {
    let mut tree = Tree::new(size);
    let (_, cold) = tree.update(None).await;
    table.row(&format!("N = {size}: cold, all RPMs read"), &format!("{:.0} ms", millis(cold)), "ours");
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let folder = tree.add();
        times.push(tree.update(Some(&folder)).await.1);
    }
    table.spread("  one added", times, "ours, warm: its folder is known");
    let folder = tree.add();
    let (_, scan) = {
        let _ = folder;
        tree.update(None).await
    };
    table.row(
        "  one added, looked for",
        &format!("{:.1} ms", millis(scan)),
        "ours, warm, the tree is looked through",
    );
    let live = tree.repository.tree.join("repodata");
    table.spread("  a plain copy of the metadata", copies(&live), "the same three files, copied and synced");
    for (what, options) in [
        ("-d --update --workers 64", &["-d", "--update", "--workers", "64", "--retain-old-md", "3"][..]),
        ("--no-database --update", &["--no-database", "--update"][..]),
    ] {
        let times = createrepo(&mut tree, options);
        table.spread(&format!("  createrepo_c {what}"), times, "one added, pages cached");
    }
}

fn copies(live: &Path) -> Vec<Duration> {
    let repomd = std::fs::read_to_string(live.join("repomd.xml")).expect("repomd.xml");
    let files = harness::values(&repomd, "href=\"repodata/");
    let times = (0..TIMES).map(|_| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let begun = Instant::now();
        for file in &files {
            let to = folder.path().join(file);
            std::fs::copy(live.join(file), &to).expect("a copy");
            std::fs::File::open(to).and_then(|file| file.sync_data()).expect("a sync");
        }
        begun.elapsed()
    });
    times.collect()
}

/// Into a folder beside the tree, warmed up by a run.
fn createrepo(tree: &mut Tree, options: &[&str]) -> Vec<Duration> {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let run = |tree: &mut Tree| {
        tree.add();
        let begun = Instant::now();
        let mut command = Command::new("createrepo_c");
        command.arg("--quiet").args(options).arg("--outputdir").arg(out.path()).arg(&tree.repository.tree);
        assert!(command.status().expect("createrepo_c").success());
        begun.elapsed()
    };
    run(tree);
    (0..5).map(|_| run(tree)).collect()
}

/// Two hundred builds that finish within a second.
async fn burst(table: &Table) {
    const BUILDS: usize = 200;
    let root = Root::new();
    let (site, target) = (root.site(), target());
    let tree = root.join(format!("bstore/repo/{target}"));
    for number in 0..4000 {
        rpms::build(&tree, &format!("package-{number}"), 1, FILES);
    }
    root.write("reimzul.ini", "[repo]\nengine = incremental\n");
    let repogen = root.start(&["repogen"]);
    site.queue.put(vec![reimzul::repo::request(&target)]).await.expect("a request");
    let idle = || async { site.queue.list(Some(CREATEREPO)).await.expect("jobs").is_empty().then_some(()) };
    eventually("the first metadata", async || idle().await).await;
    let before = Repository::state(&tree).expect("a state").unwrap_or_default();
    let begun = Instant::now();
    for number in 0..BUILDS {
        rpms::build(&tree, &format!("burst-{number}"), 1, FILES);
        let event = json!({"target": target, "pkgname": format!("burst-{number}"), "timestamp": "20260101000000",
            "evr": "1.0-1", "arch": Arch::X86_64});
        site.queue.put(vec![NewJob::new(CREATEREPO, &event, PRIORITY)]).await.expect("a request");
        let due = begun + Duration::from_secs(1).mul_f64((number + 1) as f64 / BUILDS as f64);
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
    }
    let ended = begun.elapsed();
    eventually("all of them", async || idle().await).await;
    let all = begun.elapsed();
    let states = Repository::state(&tree).expect("a state").unwrap_or_default() - before;
    repogen.stop();
    table.row(
        "200 builds within a second",
        &format!("{:.2} s", all.as_secs_f64()),
        "from the first to all visible",
    );
    table.row(
        "  after the last one",
        &format!("{:.0} ms", millis(all.saturating_sub(ended))),
        "until all are visible",
    );
    table.row("  states made", &states.to_string(), "N = 4,000");
}
