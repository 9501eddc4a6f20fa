//! Builds that use more than they may: each ends with class `limit`, says which, and leaves nothing.

use std::path::{Path, PathBuf};

use reimzul::build::engine::{Engine, Request};
use reimzul::build::limits::Guard;
use reimzul::config::Config;
use reimzul::model::{Arch, Class, Resources};

use crate::harness::{Built, Site, running, script, target};

/// Builds with these lines in section `[worker]`. None, said in a line, where this machine cannot enforce them.
async fn build_within(site: &Site, limits: &str, srpm: &Path) -> Option<(Built, Resources)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("[worker]\n{limits}\n")).unwrap();
    let config = Config::load(Some(file.path()), Some(&site.root)).unwrap();
    let guard = match Guard::of(&config) {
        Ok(guard) => guard,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    let resultdir = site.root.join("results").join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir_all(&resultdir).unwrap();
    let request = Request {
        srpm,
        resultdir: &resultdir,
        target: &target(),
        arch: Arch::X86_64,
        disttag: &".mini1".parse().unwrap(),
        timeout: site.timeout,
        quota: None,
        fresh: false,
    };
    let engine = Engine::Overlay(site.engine.clone());
    let started = std::time::Instant::now();
    let (outcome, resources) = guard.build(&engine, request, &site.cancel).await;
    Some((Built { outcome, resultdir, seconds: started.elapsed().as_secs_f64() }, resources))
}

#[track_caller]
fn assert_limit(built: &Built, phase: &str, first: &str, among: &str) {
    let failure = built.failure();
    let seen = (failure.class, failure.phase.as_str(), failure.retry);
    assert_eq!(seen, (Class::Limit, phase, false), "{failure}\n{}", built.log("build.log"));
    assert!(failure.lines[0].starts_with(first), "{:?}", failure.lines);
    assert!(
        failure.lines.len() <= 5 && failure.lines[1..].iter().any(|line| line.contains(among)),
        "{failure:?}"
    );
    assert_eq!(built.rpms(), [""; 0], "it failed and left RPMs");
}

const EATS: &str = "head -c 2000M /dev/zero | tail -n 1 > /dev/null";

#[tokio::test]
async fn a_build_that_needs_too_much_memory() {
    let site = Site::shared();
    site.ready().await;
    let eats = site.srpm("eats", &script("", &format!("%build\necho hungry\n{EATS}\n")), &[]);
    let Some((built, resources)) = build_within(&site, "memory = 100M", &eats).await else { return };
    let first = "it needed more than 100 MiB of memory ([worker] memory): the kernel killed 1 of its processes; at \
                 most 1";
    assert_limit(&built, "build", first, "Killed");
    let peak = resources.peak_memory.unwrap();
    assert!((90 << 20..=100 << 20).contains(&peak), "{peak}");
    assert!(resources.cpu_seconds.unwrap() > 0.0);
    assert_eq!(resources.peak_disk, None, "what is not limited is not measured");
}

#[tokio::test]
async fn a_build_that_succeeds_in_spite_of_a_killed_child() {
    let site = Site::shared();
    site.ready().await;
    let bears = site.srpm("bears-it", &script("", &format!("%build\n({EATS}) || echo never mind\n")), &[]);
    let Some((built, _)) = build_within(&site, "memory = 100M", &bears).await else { return };
    built.succeeded();
    assert!(built.log("build.log").contains("never mind\n"), "{}", built.log("build.log"));
}

#[tokio::test]
async fn memory_that_is_a_file_counts_too() {
    let site = Site::shared();
    site.ready().await;
    let fills = site.srpm("fills-shm", &script("", "%build\ncat /dev/zero > /dev/shm/x\n"), &[]);
    let Some((built, _)) = build_within(&site, "memory = 100M", &fills).await else { return };
    assert_eq!(built.failure().class, Class::Limit, "{}", built.failure());
}

const FORKS: &str = "#include <unistd.h>\nint main(void) { for (;;) if (fork() == 0) for (;;) pause(); }\n";

#[tokio::test]
async fn a_build_that_forks_without_end() {
    let site = Site::shared();
    site.ready().await;
    let sections = "%build\necho breeding\ngcc -o forks-86511 %{SOURCE0}\nexec ./forks-86511\n";
    let forks = site.srpm("forks", &script("Source0: forks.c", sections), &[("forks.c", FORKS)]);
    let Some((built, _)) = build_within(&site, "processes = 60", &forks).await else { return };
    assert_limit(
        &built,
        "build",
        "it wanted more than 60 processes at once ([worker] processes): ",
        "forks-86511",
    );
    assert!(built.failure().lines[0].ends_with("; at most 60 ran at once"), "{:?}", built.failure().lines);
    assert_eq!(running("./forks-86511"), 0);
}

#[tokio::test]
async fn a_build_that_cannot_fork_any_more_says_so() {
    let site = Site::shared();
    site.ready().await;
    let sections = "%check\nfor i in $(seq 100); do sleep 86522 & done\n";
    let forks = site.srpm("too-many", &script("", sections), &[]);
    let Some((built, _)) = build_within(&site, "processes = 60", &forks).await else { return };
    assert_limit(&built, "check", "it wanted more than 60 processes at once ([worker] processes): ", "fork");
    assert_eq!(running("sleep\u{0}86522"), 0);
}

#[tokio::test]
async fn a_build_that_fills_the_disk() {
    let site = Site::shared();
    site.ready().await;
    let sections = "%build\necho filling\nmkdir private\nchmod 700 private\ncat /dev/zero > private/filled\n";
    let fills = site.srpm("fills-disk", &script("", sections), &[]);
    let (built, resources) = build_within(&site, "disk = 100M", &fills).await.unwrap();
    assert_limit(&built, "build", "the build folder grew over 100 MiB ([worker] disk): ", "cat /dev/zero");
    assert!(resources.peak_disk.unwrap() > 100 << 20);
}

#[tokio::test]
async fn a_build_whose_log_does_not_end() {
    let site = Site::shared();
    site.ready().await;
    // Its log is cut short, but only once it is longer than that.
    let says = site.srpm("says-yes", &script("", "%build\nyes\n"), &[]);
    let (built, _) = build_within(&site, "disk = 40M", &says).await.unwrap();
    assert_limit(&built, "build", "the build folder grew over 40 MiB ([worker] disk): ", "y");
}

#[tokio::test]
async fn a_build_is_too_large_however_soon_it_ends() {
    let site = Site::shared();
    site.ready().await;
    let writes = "%build\nhead -c 60M /dev/zero > written\n";
    let stays = site.srpm("stays-large", &script("", writes), &[]);
    let (built, _) = build_within(&site, "disk = 50M", &stays).await.unwrap();
    let failure = built.failure();
    assert_eq!((failure.class, failure.retry), (Class::Limit, false), "{failure}");
    let (built, resources) = build_within(&site, "disk = 500M", &stays).await.unwrap();
    built.succeeded();
    assert!(resources.peak_disk.unwrap() > 60 << 20, "{resources:?}");
}

#[tokio::test]
async fn processors_are_shared_and_the_group_goes_with_the_build() {
    let site = Site::shared();
    site.ready().await;
    let burns =
        site.srpm("burns", &script("", "%build\ntimeout 1 yes > /dev/null || :\nsleep 5.86533\n"), &[]);
    let look = async {
        let group = loop {
            if let Some(group) = group_of("sleep\u{0}5.86533") {
                break group;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let read = |file: &str| std::fs::read_to_string(group.join(file)).ok();
        let quota = read("cpu.cfs_quota_us").or_else(|| read("cpu.max")).unwrap();
        (group, quota)
    };
    let build = build_within(&site, "cpus = 0.5", &burns);
    let (built, looked) =
        tokio::join!(build, async { tokio::time::timeout(std::time::Duration::from_secs(60), look).await });
    let Some((built, resources)) = built else { return };
    built.succeeded();
    let (group, quota) = looked.expect("the build ran in a group of ours");
    assert!(quota.starts_with("50000"), "{quota}");
    assert!(!group.exists(), "{}", group.display());
    assert!(resources.cpu_seconds.unwrap() > 0.1);
}

/// The folder of the group with the processors' share that a process with this command line is in.
fn group_of(command: &str) -> Option<PathBuf> {
    let process = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        line.strip_suffix(b"\0") == Some(command.as_bytes())
    })?;
    let groups = std::fs::read_to_string(process.join("cgroup")).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let name =
        groups.lines().find_map(|line| line.split('/').find(|part| part.starts_with("reimzul-build-")))?;
    let paths =
        groups.lines().filter(|line| line.ends_with(name)).filter_map(|line| line.splitn(3, ':').nth(2));
    let paths: Vec<&str> = paths.collect();
    let points =
        mounts.lines().filter(|line| line.contains(" cgroup")).filter_map(|line| line.split(' ').nth(1));
    points
        .flat_map(|point| paths.iter().map(move |path| PathBuf::from(format!("{point}{path}"))))
        .find(|path| path.join("cpu.cfs_quota_us").exists() || path.join("cpu.max").exists())
}
