//! Builds for the tests: a root folder with the mini distribution as its target, source RPMs made on the spot.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
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

pub fn target_dir() -> PathBuf {
    // <target>/tmp is Cargo's, for tests.
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The mini distribution, made if need be.
pub fn mini_distro() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(make_mini_distro)
}

fn make_mini_distro() -> PathBuf {
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
    pub fn shared() -> Site {
        Site::at(target_dir().join("overlay-shared"), mini_distro())
    }

    /// A root folder of one test's own, empty but for sources while another process of the test has it.
    pub fn own(name: &str) -> Site {
        let root = target_dir().join(format!("overlay-{name}"));
        if std::env::var_os("REIMZUL_TEST_SLEEPER").is_none() {
            let _ = std::fs::remove_dir_all(&root);
        }
        Site::at(root, mini_distro())
    }

    pub fn at(root: PathBuf, distro: &Path) -> Site {
        need("unshare", "util-linux");
        need("dnf-3", "dnf");
        need("rpmbuild", "rpm");
        let layout = Layout::new(&root);
        std::fs::create_dir_all(layout.targets()).unwrap();
        let _ = std::os::unix::fs::symlink(distro, root.join("mini-distro"));
        // Renamed into place: tests that run at the same time read it.
        let text = std::fs::read(distro.join("mini.x86_64.repo")).unwrap();
        reimzul::sys::fs::write_whole(&layout.target_file(&target()), &text).unwrap();
        let exe = std::env::var_os("REIMZUL_TEST_EXE")
            .map_or_else(|| env!("CARGO_BIN_EXE_reimzul").into(), PathBuf::from);
        let engine = Overlay::new(layout).with_exe(exe);
        Site { root, engine, cancel: CancellationToken::new(), timeout: None }
    }

    /// Changes the target file.
    pub fn target_file(&self, change: impl Fn(String) -> String) {
        let path = self.root.join("targets/mini.x86_64.repo");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }

    /// The engine's folder of the target.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache/overlay/mini.x86_64")
    }

    /// Returns when the base is made, for tests that measure time.
    pub async fn ready(&self) {
        let ready = Site {
            timeout: None,
            cancel: CancellationToken::new(),
            ..Site::at(self.root.clone(), mini_distro())
        };
        ready.build(&ready.srpm("ready", &script("", ""), &[])).await.succeeded();
    }

    /// A spec of a package `name` 1-1 that ends with `rest`, with its sources beside it.
    pub fn spec(&self, name: &str, rest: &str, sources: &[(&str, &str)]) -> PathBuf {
        let folder = self.root.join("sources").join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir_all(&folder).unwrap();
        for (file, content) in sources {
            std::fs::write(folder.join(file), content).unwrap();
        }
        let at = rest.find("\n%").map_or(rest.len(), |at| at + 1);
        let (head, sections) = if rest.starts_with('%') { ("", rest) } else { rest.split_at(at) };
        let text = format!(
            "Name: {name}\nVersion: 1\nRelease: 1%{{?dist}}\nSummary: A test\nLicense: MIT\n{head}\
             %description\nA test.\n{sections}"
        );
        let spec = folder.join(format!("{name}.spec"));
        std::fs::write(&spec, text).unwrap();
        spec
    }

    /// The source RPM of [`Site::spec`].
    pub fn srpm(&self, name: &str, rest: &str, sources: &[(&str, &str)]) -> PathBuf {
        self.pack_here(&self.spec(name, rest, sources))
    }

    /// The source RPM of a spec with its sources beside it, made by this machine's rpmbuild, as people make them.
    pub fn pack_here(&self, spec: &Path) -> PathBuf {
        let out = self.root.join("sources").join(uuid::Uuid::new_v4().to_string());
        let made = Command::new("rpmbuild")
            .args(["-bs", "--nodeps", "--define", "dist .x", "--define", "packing 1", "--target", "noarch"])
            .args(["--define".into(), format!("_sourcedir {}", spec.parent().unwrap().display())])
            .args(["--define".into(), format!("_srcrpmdir {}", out.display())])
            .arg(spec)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}: {}", spec.display(), String::from_utf8_lossy(&made.stderr));
        std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path()
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
            quota: None,
            fresh: false,
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
            .filter(|name| Path::new(name).extension().is_some_and(|end| end == "rpm"))
            .collect();
        names.sort();
        names
    }
}

pub fn need(program: &str, package: &str) {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
    assert!(found, "{program} is missing: install the package {package}");
}

/// The rest of a spec whose package holds nothing: tags, and sections that may leave out %files.
pub fn script(tags: &str, sections: &str) -> String {
    let noarch =
        if tags.contains("Arch:") || sections.contains("promised") { "" } else { "BuildArch: noarch\n" };
    let files = if sections.contains("%files") { "" } else { "%files\n" };
    let tags = if tags.is_empty() { String::new() } else { format!("{tags}\n") };
    format!("{noarch}{tags}{sections}{files}")
}

/// How many processes have this command line (arguments separated by NUL).
pub fn running(command: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.strip_suffix(b"\0") == Some(command.as_bytes()))
        .count()
}

/// The process of a program that has an argument with these words in it.
pub fn pid_of(program: &str, words: &str) -> Option<nix::unistd::Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut pids = entries.filter_map(|entry| {
        let line = String::from_utf8(std::fs::read(entry.path().join("cmdline")).ok()?).ok()?;
        let found = line.starts_with(&format!("{program}\0")) && line.contains(words);
        found.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    });
    pids.next().map(nix::unistd::Pid::from_raw)
}
