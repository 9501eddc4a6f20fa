//! What is old goes, in its steps, and nothing else: with the real binary and real createrepo_c, on builds that are
//! put into the bstore as workers leave them.

mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reimzul::config::Config;
use reimzul::model::BuildRecord;
use reimzul::model::job::Predecessor;
use reimzul::queue::{NewJob, PRIORITY};
use serde_json::{Value, json};

use harness::{Ask, Root, arch, eventually, listed, need_createrepo, srpm, target};

const DAY: u64 = 86_400;

/// A package of a build that is put into a bstore.
#[derive(Clone, Copy)]
struct Package<'a> {
    name: &'a str,
    /// `[EPOCH:]VERSION-RELEASE`.
    evr: &'a str,
}

/// A root with old builds.
struct Bstore {
    root: Root,
    builds: u32,
}

impl Bstore {
    fn new(prune: &str) -> Bstore {
        need_createrepo();
        let root = Root::with(&format!("[prune]\n{prune}"));
        // What commands need to know it for a root.
        drop(root.site());
        Bstore { root, builds: 0 }
    }

    /// A successful build of these packages, so many days old; its path.
    fn built(&mut self, days: u64, packages: &[Package]) -> String {
        self.put("repo", days, packages, &json!({"status": "Success"}))
    }

    fn put(&mut self, tree: &str, days: u64, packages: &[Package], more: &Value) -> String {
        self.builds += 1;
        let Package { name, evr } = packages[0];
        let evr = evr.rsplit(':').next().unwrap();
        let timestamp =
            format!("20200101{:02}{:02}{:02}", self.builds / 3600, self.builds / 60 % 60, self.builds % 60);
        let path = format!("{}/{name}/{timestamp}/{evr}.{}", target(), arch());
        let folder = self.root.join(format!("bstore/{tree}/{path}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut results = Vec::new();
        for package in packages {
            let file = rpm(package.name, package.evr);
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            std::fs::copy(&file, folder.join(&name)).unwrap();
            let nevra = format!("{}-{}.noarch", package.name, package.evr);
            results.push(json!({"file": name, "nevra": nevra, "size": 1, "sha256": ""}));
        }
        let finished = (jiff::Timestamp::now() - Duration::from_secs(days * DAY + 60)).to_string();
        let mut record = json!({"srpm": format!("{name}-{evr}.src.rpm"), "arch": arch(), "target": target(),
            "disttag": "", "scratch": tree == "scratch", "submitter": "kb", "status": "Success", "builder_fqdn": "b1",
            "evr": evr, "pkgname": name, "timestamp": timestamp, "build_id": format!("id{}", self.builds),
            "format": 1, "attempt": "1-1", "source": {"file": "", "size": 0, "sha256": ""}, "results": results,
            "durations": {}, "started": finished, "finished": finished,
            "engine": {"name": "null", "version": ""}, "buildroot": []});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let _: BuildRecord = serde_json::from_value(record.clone()).unwrap();
        std::fs::write(folder.join("build.json"), record.to_string()).unwrap();
        std::fs::write(folder.join("build.log"), "made\n").unwrap();
        path
    }

    fn prune(&self, options: &[&str]) -> Vec<(String, String)> {
        let said = self.root.run(&[&["prune", "--json"], options].concat()).ok().json();
        let items = said["items"].as_array().unwrap().iter();
        let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
        items.map(|item| (text(item, "what"), text(item, "name"))).collect()
    }

    fn listed(&self) -> Vec<String> {
        listed(&self.root.join(format!("bstore/repo/{}", target())))
    }

    /// The RPMs of a build that are there.
    fn rpms(&self, build: &str) -> Vec<String> {
        let files = self.root.files(&format!("bstore/repo/{build}"));
        let name = |file: &String| file.rsplit('/').next().unwrap().to_owned();
        files
            .iter()
            .map(name)
            .filter(|name| Path::new(name).extension().is_some_and(|end| end == "rpm"))
            .collect()
    }

    /// As if a build's absence from the repository had been published so long ago.
    fn published_ago(&self, build: &str, seconds: i64) {
        let mark = format!("bstore/repo/{build}/unlisted.json");
        let mut unlisted: Value = serde_json::from_str(&self.root.read(&mark)).unwrap();
        unlisted["published"] = json!(unlisted["published"].as_i64().unwrap() - seconds);
        self.root.write(&mark, &unlisted.to_string());
    }
}

/// A real RPM, made once and kept below `target/`.
fn rpm(name: &str, evr: &str) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prune-rpms");
    let (epoch, rest) = evr.split_once(':').unwrap_or(("0", evr));
    let (version, release) = rest.rsplit_once('-').unwrap();
    let path = kept.join(epoch).join(format!("{name}-{rest}.noarch.rpm"));
    if !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let work = tempfile::tempdir_in(&kept).unwrap();
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: {release}\nEpoch: {epoch}\nSummary: A test\nLicense: MIT\n\
             BuildArch: noarch\n%description\nTo be pruned.\n%files\n"
        );
        let made = harness::built(&spec, name, work.path());
        std::fs::rename(made, &path).unwrap();
    }
    path
}

fn of<'a>(name: &'a str, evr: &'a str) -> Package<'a> {
    Package { name, evr }
}

fn item(what: &str, name: &str) -> (String, String) {
    (what.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_build_goes_in_steps_and_the_newest_stay_by_rpms_rules() {
    let mut store = Bstore::new("newest = 2\ndays = 10\nlog_days = 100\ngrace = 3600");
    // Newest first, as rpm sees it; the order of building is another.
    let epoch = store.built(90, &[of("a", "1:0.5-1")]);
    let ten = store.built(80, &[of("a", "1.10-1")]);
    let nine = store.built(70, &[of("a", "1.9-1")]);
    let rc = store.built(60, &[of("a", "1.9~rc1-1")]);
    let young = store.built(5, &[of("a", "0.1-1")]);
    let other = store.built(400, &[of("b", "1-1")]);
    let kept = [&epoch, &ten, &young, &other];
    let expected = [item("unlist", &nine), item("unlist", &rc)];

    let before = store.root.files("bstore");
    assert_eq!(store.prune(&[]), expected, "a dry run");
    assert_eq!(store.root.files("bstore"), before, "a dry run changes nothing");

    assert_eq!(store.prune(&["--run"]), expected);
    let names = ["a-0.1-1", "a-0.5-1", "a-1.10-1", "b-1-1"].map(|name| format!("{name}.noarch.rpm"));
    assert_eq!(store.listed(), names);
    assert_eq!(store.rpms(&nine), ["a-1.9-1.noarch.rpm"], "a client may be downloading it");
    assert_eq!(store.prune(&["--run"]), [item("grace", &nine), item("grace", &rc)]);

    store.published_ago(&nine, 3700);
    assert_eq!(store.prune(&["--run"]), [item("rpms", &nine), item("grace", &rc)]);
    assert_eq!(store.rpms(&nine), Vec::<String>::new());
    assert!(store.root.join(format!("bstore/repo/{nine}/build.log")).exists(), "logs stay longer");
    assert_eq!(store.prune(&["--run"]), [item("grace", &rc)]);

    let ini = store.root.read("reimzul.ini").replace("log_days = 100", "log_days = 65");
    store.root.write("reimzul.ini", &ini);
    assert_eq!(store.prune(&["--run"]), [item("logs", &nine), item("grace", &rc)]);
    assert!(!store.root.join(format!("bstore/repo/{nine}")).exists());
    assert!(!store.root.join("bstore/trash").exists() || store.root.files("bstore/trash").is_empty());
    for build in kept {
        assert_eq!(store.rpms(build).len(), 1, "{build}");
    }
    assert_eq!(store.listed(), names);
}

#[tokio::test]
async fn a_build_stays_whole_as_long_as_one_of_its_packages_is_needed() {
    let mut store = Bstore::new("newest = 1\ndays = 0\ngrace = 0");
    let old = store.built(50, &[of("a", "1-1"), of("a-compat", "1-1")]);
    let middle = store.built(40, &[of("a", "2-1")]);
    let new = store.built(30, &[of("a", "3-1")]);
    assert_eq!(store.prune(&["--run"]), [item("unlist", &middle)]);
    assert_eq!(store.prune(&["--run"]), [item("rpms", &middle)]);
    assert_eq!((store.rpms(&old).len(), store.rpms(&new).len()), (2, 1));
    assert_eq!(store.listed(), ["a-1-1.noarch.rpm", "a-3-1.noarch.rpm", "a-compat-1-1.noarch.rpm"]);
}

#[tokio::test]
async fn of_builds_of_one_version_the_last_counts() {
    let mut store = Bstore::new("newest = 2\ndays = 0\ngrace = 0");
    let first = store.built(50, &[of("a", "2-1")]);
    let again = store.built(40, &[of("a", "2-1")]);
    let old = store.built(60, &[of("a", "1-1")]);
    assert_eq!(store.prune(&["--run"]), [item("unlist", &first)]);
    assert_eq!((store.rpms(&again).len(), store.rpms(&old).len()), (1, 1));
}

#[tokio::test]
async fn what_is_protected_or_followed_stays() {
    let mut store = Bstore::new("newest = 1\ndays = 0\ngrace = 0\nlog_days = 0\nscratch_days = 0");
    let protected = store.built(50, &[of("a", "1-1")]);
    let followed = store.built(50, &[of("a", "2-1")]);
    let old = store.built(50, &[of("a", "3-1")]);
    store.built(50, &[of("a", "4-1")]);
    let scratch = store.put("scratch", 50, &[of("a", "5-1")], &json!({}));
    let site = store.root.site();
    let request = harness::request(&srpm("app", 1));
    let accepted = reimzul::submit::accept(&site.config.layout, &request).unwrap();
    accepted.keep(&site.config.layout).unwrap();
    let after = Predecessor { build: followed.parse().unwrap(), build_id: "id2".parse().unwrap() };
    let job =
        reimzul::submit::enqueue(&site.queue, &site.stamps, &accepted.following(vec![after])).await.unwrap();
    store.root.run(&["protect", &protected, &scratch]).ok();
    assert_eq!(store.prune(&["--run"]), [item("unlist", &old)]);
    assert!(site.queue.withdraw(job.job_id).await.unwrap());
    store.root.run(&["protect", "--off", &protected, &scratch]).ok();
    let now: BTreeSet<_> = store.prune(&["--run"]).into_iter().collect();
    let expected = [
        item("rpms", &old),
        item("scratch", &scratch),
        item("unlist", &followed),
        item("unlist", &protected),
    ];
    assert_eq!(now, BTreeSet::from(expected));
    assert!(!store.root.join(format!("bstore/scratch/{scratch}")).exists());
    let refused = store.root.run(&["protect", &format!("{}/a/20200101000000/9-9.{}", target(), arch())]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[tokio::test]
async fn what_was_to_go_and_is_needed_again_is_listed_again() {
    let mut store = Bstore::new("newest = 1\ndays = 0\ngrace = 3600");
    let old = store.built(50, &[of("a", "1-1")]);
    let new = store.built(40, &[of("a", "2-1")]);
    assert_eq!(store.prune(&["--run"]), [item("unlist", &old)]);
    assert_eq!(store.listed(), ["a-2-1.noarch.rpm"]);
    std::fs::remove_dir_all(store.root.join(format!("bstore/repo/{new}"))).unwrap();
    assert_eq!(store.prune(&["--run"]), [item("relist", &old)]);
    assert_eq!(store.listed(), ["a-1-1.noarch.rpm"]);
    assert_eq!(store.prune(&["--run"]), []);
}

#[tokio::test]
async fn failed_builds_and_what_is_no_build_of_ours() {
    let mut store = Bstore::new("newest = 1\ndays = 0\nlog_days = 30\ngrace = 0");
    let failure = json!({"status": "Failed", "results": [],
        "failure": {"class": "build", "phase": "build", "lines": ["no"]}});
    let failed = store.put("repo", 31, &[of("a", "1-1")], &failure);
    let recent = store.put("repo", 29, &[of("a", "1-1")], &failure);
    for build in [&failed, &recent] {
        std::fs::remove_file(store.root.join(format!("bstore/repo/{build}/a-1-1.noarch.rpm"))).unwrap();
    }
    let (old_worker, broken) = ("x/20200101000000/1-1.x86_64", "y/20200101000000/1-1.x86_64");
    let at = |path: &str, file: &str| format!("bstore/repo/{}/{path}/{file}", target());
    store.root.write(&at(old_worker, "x-1-1.noarch.rpm"), "an old worker's");
    store.root.write(&at(broken, "build.json"), "{");
    store.root.write(&at(broken, "y-1-1.noarch.rpm"), "no RPM");
    store.root.write(&at("notes", "a b.txt"), "by hand");
    assert_eq!(store.prune(&["--run"]), [item("logs", &failed)]);
    assert!(store.root.join(format!("bstore/repo/{recent}/build.log")).exists());
    for there in [at(old_worker, "x-1-1.noarch.rpm"), at(broken, "y-1-1.noarch.rpm"), at("notes", "a b.txt")]
    {
        assert!(store.root.join(&there).exists(), "{there}");
    }
}

#[tokio::test]
async fn sources_and_leftovers_go_unless_a_job_needs_them() {
    let store = Bstore::new("source_days = 30\nleftover_days = 7");
    let (root, site) = (&store.root, store.root.site());
    let queued = site.submit(&srpm("queued", 1)).await;
    let waiting = site.submit(&srpm("waiting", 1)).await;
    assert!(site.queue.withdraw(waiting.job_id).await.unwrap());
    site.queue.put(vec![NewJob::new(reimzul::queue::WAITING, &waiting.job, PRIORITY)]).await.unwrap();
    for name in ["gone", "young", "again"] {
        std::fs::copy(srpm(name, 1), root.join(format!("incoming/{name}-1.0-1.src.rpm"))).unwrap();
    }
    root.write("incoming/notes.txt", "by hand");
    let id = &queued.job.stamp.as_ref().unwrap().build_id;
    let (kept, left) =
        (format!("bstore/upload/{id}.x86_64.1-1/a.rpm"), "bstore/upload/dead.x86_64.1-1/a.rpm");
    let results = format!("results/{}/dead/20200101000000/1-1.{}", target(), arch());
    let unsent = format!("results/{}/1-1/build.json", queued.path);
    for file in [kept.as_str(), left, &format!("{results}/1-1/build.log"), &unsent] {
        root.write(file, "left");
    }
    for file in root.files("") {
        let name = file.trim_start_matches('/');
        if !name.contains("young") && !name.starts_with("reimzul") {
            old(&root.join(name));
        }
    }
    for folder in [left, &kept, &format!("{results}/1-1/x"), &unsent] {
        for parent in Path::new(folder).ancestors().skip(1).take_while(|parent| *parent != Path::new("")) {
            old(&root.join(parent));
        }
    }
    // Submitted again in the same moment: it is young then.
    assert_eq!(queued_again(root), 0);
    let expected = BTreeSet::from([
        item("source", "gone-1.0-1.src.rpm"),
        item("upload", "dead.x86_64.1-1"),
        item("results", results.strip_prefix("results/").unwrap()),
    ]);
    assert_eq!(store.prune(&["-t", target().as_str()]), [], "only that target's builds");
    assert_eq!(store.prune(&[]).into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(store.prune(&["--run"]).into_iter().collect::<BTreeSet<_>>(), expected);
    let sources = [
        "again-1.0-1.src.rpm",
        "notes.txt",
        "queued-1.0-1.src.rpm",
        "waiting-1.0-1.src.rpm",
        "young-1.0-1.src.rpm",
    ];
    assert_eq!(root.files("incoming")[1..], sources.map(|name| format!("incoming/{name}")));
    assert_eq!(root.files("bstore/upload"), [kept]);
    assert_eq!(root.files("results"), [unsent]);
    assert_eq!(store.prune(&["--run"]), []);
}

/// Submits the source RPM `again` and takes the job back, which leaves the file young.
fn queued_again(root: &Root) -> usize {
    let build = root.run(&["submit", "-q", "-t", "mini", "-s", "again-1.0-1.src.rpm"]).ok().out;
    root.run(&["drop", build.trim()]).ok();
    // What the drop tells of it names the source RPM too.
    let site = root.site();
    let runtime = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            for event in site.queue.list(Some(reimzul::queue::NOTIFY)).await.unwrap() {
                site.queue.withdraw(event.id).await.unwrap();
            }
            site.queue.list(Some(reimzul::queue::NOTIFY)).await.unwrap().len()
        })
    });
    runtime.join().unwrap()
}

fn old(path: &Path) {
    let Ok(file) = std::fs::File::open(path) else { return };
    file.set_modified(SystemTime::now() - Duration::from_secs(60 * DAY)).unwrap();
}

#[tokio::test]
async fn metadata_that_cannot_be_made_leaves_the_files_and_the_next_run_goes_on() {
    let mut store = Bstore::new("newest = 1\ndays = 0\ngrace = 0");
    let old = store.built(50, &[of("a", "1-1")]);
    store.built(40, &[of("a", "2-1")]);
    let cache = store.root.join(format!("bstore/cache/{}", target()));
    std::fs::create_dir_all(cache.parent().unwrap()).unwrap();
    std::fs::write(&cache, "a file where a folder should be").unwrap();
    let ran = store.root.run(&["prune", "--run"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains(&format!("{old} (unlist) was not done: ")), "{ran:?}");
    assert_eq!(store.rpms(&old).len(), 1);
    let ran = store.root.run(&["prune", "--run"]);
    assert!(ran.err.contains(&format!("{old} (grace) was not done: ")), "{ran:?}");
    assert_eq!(store.rpms(&old).len(), 1, "a state without it was never published");
    std::fs::remove_file(&cache).unwrap();
    assert_eq!(store.prune(&["--run"]), [item("grace", &old)]);
    assert_eq!(store.listed(), ["a-2-1.noarch.rpm"]);
    assert_eq!(store.prune(&["--run"]), [item("rpms", &old)]);
}

/// However often it is killed: what is needed is never touched, and the next run goes on.
#[tokio::test]
async fn killed_at_any_point_it_leaves_what_is_needed_and_goes_on_next_time() {
    const VERSIONS: u32 = 12;
    let mut store = Bstore::new("newest = 1\ndays = 0\nlog_days = 45\ngrace = 0");
    let evrs: Vec<String> = (1..=VERSIONS).map(|version| format!("{version}-1")).collect();
    let builds: Vec<String> = evrs.iter().map(|evr| store.built(50, &[of("k", evr)])).collect();
    let newest = builds.last().unwrap();
    for turn in 0..25_u64 {
        let process = store.root.launch(&["prune", "--run"], &[], std::process::Stdio::null());
        tokio::time::sleep(Duration::from_millis(turn * 9 % 170)).await;
        process.kill();
        assert_eq!(store.rpms(newest).len(), 1, "after {turn} kills");
        let repodata = store.root.join(format!("bstore/repo/{}/repodata/repomd.xml", target()));
        if repodata.exists() {
            assert!(store.listed().contains(&format!("k-{VERSIONS}-1.noarch.rpm")));
        }
    }
    eventually("nothing left to do", async || store.prune(&["--run"]).is_empty().then_some(())).await;
    assert_eq!(store.listed(), [format!("k-{VERSIONS}-1.noarch.rpm")]);
    let left: BTreeSet<String> = builds
        .iter()
        .filter(|build| store.root.join(format!("bstore/repo/{build}")).exists())
        .cloned()
        .collect();
    assert_eq!(left, BTreeSet::from([newest.clone()]));
    assert_eq!(store.root.files("bstore/trash"), Vec::<String>::new());
}

#[tokio::test]
async fn what_would_go_is_shown_in_a_table_that_fits() {
    let mut store = Bstore::new("newest = 1\ndays = 0\ngrace = 3600");
    let name = "package-with-a-rather-long-name";
    store.built(50, &[of(name, "1.0.0-1")]);
    store.built(40, &[of(name, "2.0.0-1")]);
    let mut command = store.root.command(&["prune"]);
    let ran = harness::Ran::of(command.env("COLUMNS", "80")).ok();
    let widest = ran.out.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80 || ran.out.lines().any(|line| line.starts_with("nothing was done")), "{}", ran.out);
    assert!(ran.out.lines().take(2).all(|line| line.chars().count() <= 80), "{}", ran.out);
    assert!(ran.out.contains("would leave the repository"), "{}", ran.out);
    let refused = store.root.run(&["prune", "-t", "../etc"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let lock = Config::load(None, Some(store.root.path())).unwrap().layout.locks().join("prune");
    let held = reimzul::sys::fs::Lock::try_take(&lock).unwrap().unwrap();
    let busy = store.root.run(&["prune"]);
    assert!(busy.code == 4 && busy.err.contains("another prune runs"), "{busy:?}");
    drop(held);
}
