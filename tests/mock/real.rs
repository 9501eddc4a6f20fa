//! The same with mock itself, where one is on PATH and may be run; else a line says that it was skipped. Debian has no
//! package of it. Builds are for the mini distribution (`examples/mini-distro`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use reimzul::build::engine::mock::{Mock, Settings, unusable};
use reimzul::build::engine::{Outcome, Request};
use reimzul::config::MockOptions;
use reimzul::metadata::Repository;
use reimzul::model::{Arch, Class, Layout};
use tokio_util::sync::CancellationToken;

use crate::common::eventually;

const CONFIG: &str = include_str!("../../examples/mini-distro/mock.cfg");

/// A root folder whose target is the mini distribution; nothing where there is no mock.
struct Site {
    folder: tempfile::TempDir,
    /// mock's name of the target, and so of its cache.
    target: String,
}

/// mock keeps its caches by the targets' names, whatever root they belong to: they are made new for each test.
fn site(name: &str) -> Option<Site> {
    if let Some(why) = unusable("mock".as_ref()) {
        println!("skipped, for want of a real mock: {why}");
        return None;
    }
    let folder = tempfile::Builder::new().prefix("reimzul-mock-").tempdir().unwrap();
    // mock's user is another than root, where root runs the tests.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let site = Site { folder, target: format!("reimzul-test-{name}-{}.x86_64", std::process::id()) };
    let configs = site.folder.path().join("root/mock_configs/mock");
    std::fs::create_dir_all(&configs).unwrap();
    std::fs::write(configs.join(format!("{}.cfg", site.target)), CONFIG).unwrap();
    Some(site)
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.cache());
    }
}

fn mini_distro() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mini-distro");
    let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mini-distro/mini-distro");
    assert!(Command::new(make).arg(&out).status().is_ok_and(|status| status.success()), "see above");
    out
}

impl Site {
    fn cache(&self) -> PathBuf {
        Path::new("/var/cache/mock").join(&self.target)
    }

    fn chroots(&self) -> usize {
        let entries = std::fs::read_dir("/var/lib/mock").into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&self.target)).count()
    }

    fn engine(&self) -> Mock {
        let options = MockOptions {
            base_url: format!("file://{}", mini_distro().join("repo").display()),
            update: Some(false),
            stale_after: Duration::ZERO,
        };
        Mock::new(Layout::new(self.folder.path().join("root")), Settings::new(options))
    }

    /// A source RPM of a package that holds nothing, with these tags and sections.
    fn srpm(&self, name: &str, tags: &str, sections: &str) -> PathBuf {
        let folder = self.folder.path().join("sources");
        std::fs::create_dir_all(&folder).unwrap();
        let spec = folder.join(format!("{name}.spec"));
        let text = format!(
            "Name: {name}\nVersion: 1\nRelease: 1\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n{tags}\n\
             %description\nA test.\n{sections}\n%files\n"
        );
        std::fs::write(&spec, text).unwrap();
        let made = Command::new("rpmbuild")
            .args(["-bs", "--nodeps", "--define"])
            .arg(format!("_srcrpmdir {}", folder.display()))
            .arg(&spec)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder.join(format!("{name}-1-1.src.rpm"))
    }

    async fn build(&self, srpm: &Path, cancel: &CancellationToken) -> (Outcome, PathBuf) {
        let resultdir = self.folder.path().join("results").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&resultdir).unwrap();
        let (target, disttag) = (self.target.parse().unwrap(), ".real".parse().unwrap());
        let request = Request {
            srpm,
            resultdir: &resultdir,
            target: &target,
            arch: Arch::X86_64,
            disttag: &disttag,
            timeout: None,
            quota: None,
            fresh: false,
        };
        let engine = self.engine();
        let outcome = engine.build(request, cancel).await;
        let said = std::fs::read_to_string(resultdir.join("stderr")).unwrap_or_default();
        assert!(engine.name().version.starts_with(|c: char| c.is_ascii_digit()), "{said}");
        (outcome, resultdir)
    }
}

#[tokio::test]
async fn mock_builds_and_fails_and_two_builds_share_its_root_cache() {
    let Some(site) = site("build") else { return };
    let never = CancellationToken::new();
    let good = site.srpm("good", "BuildRequires: m4", "%build\nm4 --version\n");
    let (outcome, folder) = site.build(&good, &never).await;
    outcome.result.unwrap_or_else(|failure| {
        panic!("{failure}\n{}", std::fs::read_to_string(folder.join("stderr")).unwrap_or_default())
    });
    for log in ["build.log", "root.log", "state.log", "installed_pkgs.log", "stdout", "stderr", "mock.cfg"] {
        assert!(folder.join(log).exists(), "{log}");
    }
    for phase in ["base", "builddep", "rpmbuild"] {
        assert!(outcome.durations.contains_key(phase), "{:?}", outcome.durations);
    }
    assert!(folder.join("good-1-1.noarch.rpm").exists());
    // Read off the copies of metadata in mock's cache.
    let state = Repository::state(&mini_distro().join("repo")).unwrap();
    let seen: Vec<_> = outcome.repositories.iter().map(|seen| seen.revision).collect();
    assert_eq!(seen, [state], "{:?}", outcome.repositories);

    let made = cached(&site);
    let bad = site.srpm("bad", "", "%build\necho 'bad.c:1: error: nothing works'\nfalse\n");
    let unmet = site.srpm("unmet", "BuildRequires: nosuch-devel >= 2", "");
    let (again, bad) = tokio::join!(site.build(&good, &never), site.build(&bad, &never));
    again.0.result.unwrap();
    let failure = bad.0.result.unwrap_err();
    assert_eq!((failure.class, failure.phase.as_str()), (Class::Build, "build"), "{failure}");
    assert!(failure.lines[0].contains("nothing works"), "{failure}");
    assert_eq!(cached(&site), made, "the root cache was made anew");
    let used = std::fs::read_to_string(again.1.join("stderr")).unwrap();
    assert!(used.contains("unpacking root cache"), "{used}");

    let failure = site.build(&unmet, &never).await.0.result.unwrap_err();
    assert_eq!((failure.class, failure.retry), (Class::Buildroot, false), "{failure}");
    assert_eq!(failure.lines[0], "nothing provides 'nosuch-devel >= 2' needed by unmet-1-1.src.rpm");
    eventually("a tidy machine", async || (site.chroots() == 0).then_some(())).await;
}

/// When the root cache was made.
fn cached(site: &Site) -> SystemTime {
    let folder = site.cache().join("root_cache");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let cache = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("cache.tar"));
    cache.expect("there is a root cache").metadata().unwrap().modified().unwrap()
}

#[tokio::test]
async fn mock_is_ended_with_all_it_runs() {
    let Some(site) = site("cancel") else { return };
    let sleeps = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter(|entry| {
                std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0086222\0")
            })
            .count()
    };
    let cancel = CancellationToken::new();
    let srpm = site.srpm("long", "", "%build\nsleep 86222\n");
    let stop = async {
        // A cold cache on a busy machine takes its time.
        while sleeps() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cancel.cancel();
    };
    let (built, ()) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(600), site.build(&srpm, &cancel)), async {
            let _ = tokio::time::timeout(Duration::from_secs(300), stop).await;
        });
    let failure = built.unwrap().0.result.unwrap_err();
    assert_eq!(failure.class, Class::Killed, "{failure}");
    assert_eq!((sleeps(), site.chroots()), (0, 0));
}
