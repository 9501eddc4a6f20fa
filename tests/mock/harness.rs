//! Builds for the tests: a root folder with configurations, and a mock that is none (`fake.sh`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reimzul::build::engine::mock::{Mock, Settings};
use reimzul::build::engine::{Outcome, Request};
use reimzul::config::MockOptions;
use reimzul::model::{Arch, Failure, Layout, Target};
use tokio_util::sync::CancellationToken;

pub const CONFIG: &str = "config_opts['root'] = 'TARGETNAME'\nbaseurl=http://repohost/repo/c9\n";

/// A root folder, and beside it the fake, mock's own configurations, and the source RPMs.
pub struct Site {
    folder: tempfile::TempDir,
    pub settings: Settings,
    pub cancel: CancellationToken,
    pub disttag: &'static str,
    pub timeout: Option<Duration>,
}

/// What a build left.
#[derive(Debug)]
pub struct Built {
    pub outcome: Outcome,
    pub resultdir: PathBuf,
}

impl Site {
    /// Where a build behaves as `behaviour`, a shell's words, says.
    pub fn new(behaviour: &str) -> Site {
        let folder = tempfile::Builder::new().prefix("reimzul-mock-").tempdir().unwrap();
        let options = MockOptions {
            base_url: "http://bstore:11081/bstore".into(),
            update: None,
            stale_after: Duration::from_secs(3600),
        };
        let settings = Settings {
            program: folder.path().join("fake/mock").into(),
            grace: Duration::from_millis(500),
            busy: vec![Duration::from_millis(10); 2],
            caches: folder.path().join("fake/cache"),
            ..Settings::new(options)
        };
        let site =
            Site { folder, settings, cancel: CancellationToken::new(), disttag: ".el9", timeout: None };
        site.write("fake/mock", include_str!("fake.sh"));
        std::fs::set_permissions(site.join("fake/mock"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(crate::common::binary_rpm("made"), site.join("fake/result.rpm")).unwrap();
        site.behave(behaviour);
        site.write("root/mock_configs/mock/c9.x86_64.cfg", CONFIG);
        site.write("own/site-defaults.cfg", "# mock's\n");
        site.write("own/logging.ini", "# mock's\n");
        site
    }

    pub fn behave(&self, behaviour: &str) {
        self.write("fake/behaviour", behaviour);
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn engine(&self) -> Mock {
        let layout = Layout::new(self.join("root")).with_mock_configs(None, Some(self.join("own")));
        Mock::new(layout, self.settings.clone())
    }

    pub async fn build(&self) -> Built {
        self.build_for("c9.x86_64", Arch::X86_64).await
    }

    pub async fn build_for(&self, target: &str, arch: Arch) -> Built {
        self.build_srpm(&crate::common::srpm("bash", 1), target, arch).await
    }

    pub async fn build_srpm(&self, srpm: &Path, target: &str, arch: Arch) -> Built {
        let resultdir = self.join("results").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&resultdir).unwrap();
        let target: Target = target.parse().unwrap();
        let disttag = self.disttag.parse().unwrap();
        let request = Request {
            srpm,
            resultdir: &resultdir,
            target: &target,
            arch,
            disttag: &disttag,
            timeout: self.timeout,
            quota: None,
            fresh: false,
        };
        let outcome = self.engine().build(request, &self.cancel).await;
        Built { outcome, resultdir }
    }

    /// The calls so far, each with its arguments.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.join("fake/calls")).unwrap_or_default();
        text.lines()
            .map(|line| line.trim_end_matches('\u{1f}').split('\u{1f}').map(str::to_owned).collect())
            .collect()
    }

    /// The calls that were builds.
    pub fn builds(&self) -> Vec<Vec<String>> {
        self.calls().into_iter().filter(|call| call.contains(&"--resultdir".to_owned())).collect()
    }

    /// The chroots there are.
    pub fn chroots(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.join("fake/lib")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// The notes of builds under way.
    pub fn notes(&self) -> usize {
        std::fs::read_dir(self.join("root/cache/mock/running")).into_iter().flatten().count()
    }

    /// Waits until what a build left is cleaned away, which its result does not wait for.
    pub async fn is_tidy(&self) {
        crate::common::eventually("a tidy machine", async || {
            (self.notes() == 0 && self.chroots().is_empty()).then_some(())
        })
        .await;
    }
}

impl Built {
    #[track_caller]
    pub fn succeeded(&self) {
        if let Err(failure) = &self.outcome.result {
            panic!("{failure}\n--- stderr\n{}\n--- root.log\n{}", self.log("stderr"), self.log("root.log"));
        }
    }

    #[track_caller]
    pub fn failure(&self) -> &Failure {
        self.outcome.result.as_ref().expect_err("it succeeded")
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.resultdir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// What an option of a call is followed by.
pub fn after<'a>(call: &'a [String], option: &str) -> &'a str {
    let at = call.iter().position(|word| word == option).unwrap_or_else(|| panic!("no {option} in {call:?}"));
    &call[at + 1]
}
