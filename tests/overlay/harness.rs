//! Builds for the tests: a root folder with the mini distribution as its target, source RPMs made on the spot.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reimzul::build::engine::overlay::Overlay;
use reimzul::build::engine::{Outcome, Request};
use reimzul::model::{Arch, Disttag, Failure, Layout, Target};
use tokio_util::sync::CancellationToken;

pub const HELLO_SOURCE: &str = "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n";
pub const HELLO_C: &str = "\
Source0: hello.c
BuildRequires: gcc
%prep
%setup -q -c -T
cp %{SOURCE0} .
%build
gcc %{optflags} -o hello-c hello.c
%install
install -D -m 755 hello-c %{buildroot}%{_bindir}/hello-c
%files
%{_bindir}/hello-c
";

/// A root folder to build in.
pub struct Site {
    pub root: PathBuf,
    pub engine: Overlay,
    pub cancel: CancellationToken,
    pub timeout: Option<Duration>,
}

/// What a build left.
#[derive(Debug)]
pub struct Built {
    pub outcome: Outcome,
    pub resultdir: PathBuf,
    pub seconds: f64,
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn target_dir() -> PathBuf {
    // <target>/tmp is Cargo's, for tests.
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The mini distribution, made if need be.
pub fn mini_distro() -> PathBuf {
    if let Some(path) = std::env::var_os("REIMZUL_MINI_DISTRO") {
        return path.into();
    }
    let out = target_dir().with_file_name("mini-distro");
    let made = Command::new(repository().join("examples/mini-distro/mini-distro")).arg(&out).status();
    assert!(made.is_ok_and(|status| status.success()), "examples/mini-distro/mini-distro failed: see above");
    out
}

pub fn target() -> Target {
    "mini.x86_64".parse().unwrap()
}

impl Site {
    /// The root folder that most tests share, so that its base is made once.
    pub async fn shared() -> Site {
        Site::at(target_dir().join("overlay-shared"), &mini_distro())
    }

    pub fn at(root: PathBuf, distro: &Path) -> Site {
        need("unshare", "util-linux");
        need("dnf-3", "dnf");
        need("rpmbuild", "rpm");
        let layout = Layout::new(&root);
        std::fs::create_dir_all(layout.targets()).unwrap();
        let _ = std::os::unix::fs::symlink(distro, root.join("mini-distro"));
        std::fs::copy(distro.join("mini.x86_64.repo"), layout.target_file(&target())).unwrap();
        let engine = Overlay::new(layout).with_exe(env!("CARGO_BIN_EXE_reimzul").into());
        Site { root, engine, cancel: CancellationToken::new(), timeout: None }
    }

    /// A source RPM of a package `name` 1-1 whose spec ends with `rest`.
    pub fn srpm(&self, name: &str, rest: &str, sources: &[(&str, &str)]) -> PathBuf {
        let folder = self.root.join("sources").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&folder).unwrap();
        for (file, content) in sources {
            std::fs::write(folder.join(file), content).unwrap();
        }
        let (head, sections) = rest.find("\n%").map_or(("", rest), |at| rest.split_at(at + 1));
        let (head, sections) = if rest.starts_with('%') { ("", rest) } else { (head, sections) };
        let spec = format!(
            "Name: {name}\nVersion: 1\nRelease: 1%{{?dist}}\nSummary: A test\nLicense: MIT\n{head}\
             %description\nA test.\n{sections}"
        );
        std::fs::write(folder.join("package.spec"), spec).unwrap();
        let made = Command::new("rpmbuild")
            .args(["-bs", "--nodeps", "--define", "dist .x", "--define"])
            .arg(format!("_sourcedir {}", folder.display()))
            .arg("--define")
            .arg(format!("_srcrpmdir {}", folder.display()))
            .arg(folder.join("package.spec"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder.join(format!("{name}-1-1.x.src.rpm"))
    }

    pub async fn build(&self, srpm: &Path) -> Built {
        let resultdir = self.root.join("results").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&resultdir).unwrap();
        let disttag: Disttag = ".mini1".parse().unwrap();
        let request = Request {
            srpm,
            resultdir: &resultdir,
            target: &target(),
            arch: Arch::X86_64,
            disttag: &disttag,
            timeout: self.timeout,
        };
        let started = Instant::now();
        let outcome = self.engine.build(request, &self.cancel).await;
        let seconds = started.elapsed().as_secs_f64();
        Built { outcome, resultdir, seconds }
    }
}

impl Built {
    #[track_caller]
    pub fn succeeded(&self) {
        if let Err(failure) = &self.outcome.result {
            panic!(
                "{failure}\n--- build.log\n{}\n--- root.log\n{}",
                self.log("build.log"),
                self.log("root.log")
            );
        }
    }

    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.outcome.result {
            Err(failure) => failure,
            Ok(()) => panic!("it succeeded\n--- build.log\n{}", self.log("build.log")),
        }
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.resultdir.join(name)).unwrap()
    }

    pub fn rpms(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.resultdir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".rpm"))
            .collect();
        names.sort();
        names
    }
}

fn need(program: &str, package: &str) {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
    assert!(found, "{program} is missing: install the package {package}");
}
