//! The whole path on real parts: specs and source RPMs become RPMs in a repository, by the binary, in a real
//! chroot of the mini distribution.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Ran, Root, eventually};
use serde_json::Value;

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/packages");

/// A root with the overlay engine and the mini distribution, as `make demo` has it.
fn root() -> Root {
    let root = Root::new();
    root.write("reimzul.ini", "[worker]\nengine = overlay\nretry_delay = 0\n");
    add_target(&root, "mini-distro", "mini.x86_64.repo");
    root
}

/// The same where i386 is built along.
fn root_with_companion() -> Root {
    let root = root();
    add_target(&root, "mini-distro-i386", "mini.i386.repo");
    root
}

/// Has a distribution that `make fixtures` made be the root's, by its target file.
fn add_target(root: &Root, distro: &str, file: &str) {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(distro);
    let text = std::fs::read_to_string(made.join(file))
        .unwrap_or_else(|error| panic!("{}: {error}: `make test` makes it", made.display()));
    let text = text.replace(&format!("$root/{distro}"), &made.display().to_string());
    root.write(&format!("targets/{file}"), &text);
}

fn spec(name: &str) -> String {
    format!("{PACKAGES}/{name}/{name}.spec")
}

/// Builds, and gives what it printed as JSON.
fn build(root: &Root, packages: &[&str], options: &[&str]) -> (Ran, Value) {
    let ran = root.run(&[&["--json", "build", "-t", "mini", "-a", "x86_64"], options, packages].concat());
    let said = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran, said)
}

fn folder(build: &Value) -> PathBuf {
    PathBuf::from(build["folder"].as_str().unwrap())
}

#[test]
fn a_program_is_built_against_the_library_built_before_it_and_can_be_installed() {
    let root = root();
    // In the wrong order: the library is built first all the same.
    let (ran, builds) = build(&root, &[&spec("greet"), &spec("libgreet")], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(builds.as_array().unwrap().len(), 2);
    for build in builds.as_array().unwrap() {
        assert_eq!(build["status"], "Success");
        let record = &build["record"];
        assert_eq!(record["engine"]["name"], "overlay");
        assert_eq!(record["source"]["sha256"].as_str().unwrap().len(), 64);
        assert!(record["buildroot"].as_array().unwrap().len() > 50);
        assert!(record["durations"]["check"].as_f64().unwrap() >= 0.0);
        for log in ["build.log", "root.log", "state.log", "installed_pkgs.log", "build.json"] {
            assert!(folder(build).join(log).metadata().unwrap().len() > 0, "{log} is empty");
        }
    }
    let (library, program) = (&builds[0], &builds[1]);
    assert!(library["build"].as_str().unwrap().starts_with("mini.x86_64/libgreet/"), "{library}");
    let in_root = program["record"]["buildroot"].as_array().unwrap();
    assert!(in_root.iter().any(|nevra| nevra == "libgreet-devel-1.2.0-1.mini1.x86_64"), "{in_root:?}");
    let staged = root.files("bstore/tosign/mini.x86_64");
    assert!(staged.iter().any(|file| file.ends_with("greet-data-1.0-1.mini1.noarch.rpm")), "{staged:?}");

    let scratch = installed(&root, "greet");
    let said = Ran::of(Command::new("chroot").arg(&scratch).args(["/usr/bin/greet", "builder"]));
    assert!(said.code == 0 && said.out.contains("builder"), "{said:?}");
}

/// Installs from the built repository, as a user of it would, into a folder.
fn installed(root: &Root, package: &str) -> PathBuf {
    let (scratch, home) = (root.join("scratch-root"), root.join("home"));
    // Debian's rpm keeps its database elsewhere, where no other system looks for it.
    root.write("home/.rpmmacros", "%_dbpath /var/lib/rpm\n");
    let target = root.read("targets/mini.x86_64.repo");
    let (_, repositories) = target.split_once("\n[mini]").unwrap();
    let built = root.join("bstore/repo/mini.x86_64");
    let own = format!("[built]\nname=built\nbaseurl=file://{}\ngpgcheck=0\n", built.display());
    root.write("home/repos/all.repo", &format!("[mini]{repositories}\n{own}"));
    let option = |name: &str, path: &Path| format!("--setopt={name}={}", path.display());
    let ran = Ran::of(
        Command::new("dnf")
            .args(["-q", "-y", "--noplugins", "--releasever=1", "--setopt=install_weak_deps=False"])
            .arg(format!("--installroot={}", scratch.display()))
            .arg(option("reposdir", &home.join("repos")))
            .arg(option("cachedir", &home.join("cache")))
            .args(["install", package])
            .env("HOME", &home),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    scratch
}

/// Read-your-writes: with two slots, both are begun at once where the one is not told to follow the other.
#[tokio::test]
async fn what_is_submitted_with_what_it_needs_is_built_against_it_and_says_which_state_it_saw() {
    let root = root();
    root.write("reimzul.ini", "[worker]\nengine = overlay\nretry_delay = 0\nslots = 2\n");
    let submit = |name: &str, options: &[&str]| {
        let srpm = packed(&root, name).display().to_string();
        let ran = root.run(&[&["submit", "-q", "-t", "mini", "-a", "x86_64", "-s", &srpm], options].concat());
        ran.ok().out.trim().to_owned()
    };
    let roles = root.start_all();
    let library = submit("libgreet", &[]);
    let program = submit("greet", &["--after", &library]);
    let site = root.site();
    let status = eventually("the program's result", async || {
        let path = program.parse().unwrap();
        let all = reimzul::history::Find { all: true, ..reimzul::history::Find::default() };
        let found = site.history.find(all).await.unwrap();
        let result = found.into_iter().find(|one| one.event.path() == path && one.event.status.is_result());
        result.map(|result| result.event)
    })
    .await;
    assert_eq!(status.status, reimzul::model::Status::Success, "{:?}", status.failure);
    let record = harness::record(&root.join(format!("bstore/repo/{program}")));
    assert!(record.buildroot.iter().any(|nevra| nevra.starts_with("libgreet-devel-")), "{record:?}");
    let [mini, own] = record.repositories.as_slice() else { panic!("{:?}", record.repositories) };
    assert_eq!((mini.id.as_str(), own.id.as_str()), ("mini", "reimzul-own"));
    assert_eq!(own.baseurl.as_deref(), Some("file://$root/bstore/repo/mini.x86_64"));
    assert!(!mini.baseurl.as_ref().unwrap().is_empty());
    // The state it saw is still readable, under its number.
    let number = own.revision.unwrap();
    let kept = root.join(format!("bstore/repo/mini.x86_64/repodata/{number}-repomd.xml"));
    assert_eq!(own.sha256, reimzul::sys::fs::sha256(&kept).unwrap().0);
    let why = root.run(&["why", &program]).ok().out;
    assert!(why.contains(&format!("reimzul-own {number}")), "{why}");
    roles.stop();
    let first = harness::record(&root.join(format!("bstore/repo/{library}")));
    assert_eq!(first.repositories.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["mini"]);
}

/// dnf believes its copy of a repository elsewhere for a while; not for a build that follows others.
#[tokio::test]
async fn what_follows_sees_a_repository_elsewhere_as_it_is_now() {
    let root = root();
    std::fs::create_dir_all(root.join("bstore/repo")).unwrap();
    let mut server = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(root.join("bstore/repo"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut said)
        .unwrap();
    let port = said.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let elsewhere = format!("[elsewhere]\nbaseurl = http://127.0.0.1:{port}/mini.x86_64/\ngpgcheck = 0\n");
    let target = root.read("targets/mini.x86_64.repo");
    let target = target.replacen("[reimzul]\n", "[reimzul]\nown_repository = no\n", 1) + "\n" + &elsewhere;
    root.write("targets/mini.x86_64.repo", &target);

    let work = tempfile::tempdir().unwrap();
    let submit = |name: &str, version: u32, needs: &str, options: &[&str]| {
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n{needs}\n\
             %description\nA test.\n%files\n"
        );
        let folder = work.path().join(format!("{name}-{version}"));
        std::fs::create_dir(&folder).unwrap();
        let srpm = harness::packed(&spec, name, &folder).display().to_string();
        root.run(&[&["submit", "-q", "-t", "mini", "-a", "x86_64", "-s", &srpm], options].concat()).ok().out
    };
    let roles = root.start_all();
    let repository = root.join("bstore/repo/mini.x86_64");
    root.run(&["repogen", "mini.x86_64"]).ok();
    eventually("metadata", async || repository.join("repodata/repomd.xml").exists().then_some(())).await;
    submit("lib", 1, "", &["--wait"]);
    eventually("lib 1", async || {
        harness::listed(&repository).contains(&"lib-1-1.noarch.rpm".into()).then_some(())
    })
    .await;
    submit("app", 1, "BuildRequires: lib", &["--wait"]);
    let lib = submit("lib", 2, "", &[]).trim().to_owned();
    submit("app", 2, "BuildRequires: lib", &["--after", &lib, "--wait"]);
    roles.stop();
    let _ = (server.kill(), server.wait());
    let in_root = |version: u32| {
        let folder = root.files("bstore/repo/mini.x86_64/app");
        let file =
            folder.iter().find(|file| file.contains(&format!("/{version}-1.x86_64/build.json"))).unwrap();
        harness::record(root.join(file).parent().unwrap()).buildroot
    };
    assert!(in_root(1).contains(&"lib-1-1.noarch".to_owned()), "{:?}", in_root(1));
    assert!(in_root(2).contains(&"lib-2-1.noarch".to_owned()), "{:?}", in_root(2));
}

/// The source RPM of an example package.
fn packed(root: &Root, name: &str) -> PathBuf {
    let out = root.join("packed").join(name);
    let ran = Ran::of(
        Command::new("rpmbuild")
            .args(["-bs", "--nodeps", "--define", "dist .mini1"])
            .args(["--define", &format!("_sourcedir {PACKAGES}/{name}")])
            .args(["--define", &format!("_srcrpmdir {}", out.display())])
            .arg(spec(name)),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn dynamic_buildrequires_are_met_and_are_no_result() {
    let root = root();
    let (ran, builds) = build(&root, &[&spec("libgreet"), &spec("dynamic")], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = builds[1]["record"]["results"].to_string();
    assert!(
        results.contains("dynamic-1.0-1.mini1.x86_64.rpm") && !results.contains("buildreqs"),
        "{results}"
    );
}

#[test]
fn what_lacks_a_buildrequires_that_nobody_could_guess_is_built_again_once_it_is_there() {
    let root = root();
    let noarch = |name: &str, tags: &str| {
        let spec = format!(
            "Name: {name}\nVersion: 1\nRelease: 1\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n{tags}\n\
             %description\nA test.\n%files\n"
        );
        root.write(&format!("packages/{name}.spec"), &spec);
        root.join(format!("packages/{name}.spec")).display().to_string()
    };
    let user = noarch("user", "BuildRequires: virtue");
    let maker = noarch("maker", "Provides: virtue");
    let (ran, builds) = build(&root, &[&user, &maker], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(builds.as_array().unwrap().len(), 2, "the try that failed is not told as a build of its own");
    let events = root.run(&["--json", "query", "--all"]).json();
    let failed = events.as_array().unwrap().iter().filter(|event| event["status"] == "Failed").count();
    assert_eq!(failed, 1, "{events}");
}

#[test]
fn upstream_programs_are_built_for_x86_64_and_true_i386_with_their_tests_each_after_what_it_needs() {
    let root = root_with_companion();
    let slots = ["--slots", "2"];
    let (ran, builds) = build(&root, &[&spec("bc"), &spec("tree"), &spec("ed")], &slots);
    assert_eq!(ran.code, 0, "{ran:?}");
    let records = records(&root);
    for package in ["bc", "ed", "tree"] {
        for (arch, rpm_arch, class) in [("x86_64", "x86_64", ELFCLASS64), ("i386", "i686", ELFCLASS32)] {
            let (folder, record) = records
                .iter()
                .find(|(_, record)| record["arch"] == arch && record["pkgname"] == package)
                .unwrap_or_else(|| panic!("{package} for {arch} is not there: {builds}"));
            assert!(record["durations"]["check"].as_f64().unwrap() > 0.0, "{record}");
            let rpm = record["results"].as_array().unwrap().iter().find(|result| {
                let file = result["file"].as_str().unwrap();
                !file.contains("debuginfo") && file.ends_with(&format!(".{rpm_arch}.rpm"))
            });
            let rpm = folder.join(rpm.expect("an RPM of that arch")["file"].as_str().unwrap());
            check_program(&unpacked(&root, &rpm).join("usr/bin").join(package), class);
            if package == "bc" {
                let in_root = record["buildroot"].as_array().unwrap();
                assert!(
                    in_root.iter().any(|one| *one == format!("ed-1.19-1.mini1.{rpm_arch}")),
                    "{in_root:?}"
                );
            }
        }
    }
}

/// Every finished build's folder and `build.json`.
fn records(root: &Root) -> Vec<(PathBuf, Value)> {
    let files = root.files("bstore/repo").into_iter().filter(|file| file.ends_with("/build.json"));
    files
        .map(|file| (root.join(&file).with_file_name(""), serde_json::from_str(&root.read(&file)).unwrap()))
        .collect()
}

/// elf(5): e_ident[EI_CLASS].
const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;

fn check_program(program: &Path, class: u8) {
    let header = std::fs::read(program).unwrap();
    assert_eq!((&header[..4], header[4]), (&b"\x7fELF"[..], class), "{}", program.display());
    let said = Ran::of(Command::new("file").arg("-b").arg(program)).out;
    let bits = if class == ELFCLASS32 { "ELF 32-bit LSB" } else { "ELF 64-bit LSB" };
    assert!(said.starts_with(bits), "{said}");
}

fn unpacked(root: &Root, rpm: &Path) -> PathBuf {
    let folder = root.join("unpacked").join(rpm.file_name().unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    let archive = folder.join("archive.cpio");
    let made = Command::new("rpm2cpio").arg(rpm).stdout(std::fs::File::create(&archive).unwrap()).status();
    assert!(made.unwrap().success(), "rpm2cpio {}", rpm.display());
    let mut cpio = Command::new("cpio");
    cpio.args(["-idm", "--quiet"]).current_dir(&folder).stdin(std::fs::File::open(&archive).unwrap());
    Ran::of(&mut cpio).ok();
    folder
}

#[test]
fn a_build_over_its_limit_is_told_by_every_command_and_what_builds_use_is_recorded() {
    let root = root();
    let ini = root.read("reimzul.ini") + "memory = 300M\ndisk = 2G\n";
    root.write("reimzul.ini", &ini);
    let checked = root.run(&["check-config"]);
    if !checked.out.contains("memory per build: 300 MiB, by a cgroup in ") {
        println!("skipped: {}", checked.out);
        return;
    }
    let eats = "head -c 2000M /dev/zero | tail -n 1 > /dev/null";
    let hungry = format!(
        "Name: hungry\nVersion: 1\nRelease: 1%{{?dist}}\nSummary: Hungry\nLicense: MIT\nBuildArch: noarch\n\
         %description\nHungry.\n%build\n{eats}\n%files\n"
    );
    root.write("packages/hungry.spec", &hungry);
    root.write("packages/modest.spec", &hungry.replace("hungry", "modest").replace(eats, "true"));
    let packages =
        ["hungry", "modest"].map(|name| root.join(format!("packages/{name}.spec")).display().to_string());
    let (ran, builds) = build(&root, &[&packages[0], &packages[1]], &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let failure = &builds[0]["record"]["failure"];
    assert_eq!((&failure["class"], &failure["retry"]), (&"limit".into(), &false.into()), "{failure}");
    let line = failure["lines"][0].as_str().unwrap();
    assert!(
        line.starts_with("it needed more than 300 MiB of memory ([worker] memory): the kernel killed"),
        "{line}"
    );
    assert_eq!(builds[1]["status"], "Success");
    for build in builds.as_array().unwrap() {
        let used = &build["record"]["resources"];
        assert!(used["peak_memory"].as_u64().unwrap() > 1 << 20, "{used}");
        assert!(
            used["peak_disk"].as_u64().unwrap() > 0 && used["cpu_seconds"].as_f64().unwrap() > 0.0,
            "{used}"
        );
    }
    let listed = root.run(&["query", "-s", "Failed"]).ok().out;
    assert!(listed.contains("hungry-1-1.mini1.x86_64") && listed.contains(" limit"), "{listed}");
}

const BROKEN: &str = "Name: broken\nVersion: 1\nRelease: 1%{?dist}\nSummary: Broken\nLicense: MIT\n\
    Source0: broken.c\nBuildRequires: gcc\n%description\nBroken.\n%prep\n%setup -q -c -T\n%build\n\
    gcc -o broken %{SOURCE0}\n%install\ninstall -D broken %{buildroot}/usr/bin/broken\n%files\n/usr/bin/broken\n";

#[test]
fn a_failure_says_why_and_a_mended_spec_needs_no_new_release() {
    let root = root();
    root.write("packages/broken.spec", BROKEN);
    root.write("packages/broken.c", "int main(void) { return missing; }\n");
    root.write(
        "packages/lacking.spec",
        &BROKEN
            .replace("gcc\n%desc", "gcc, nobody-has-this >= 2\n%desc")
            .replace("Name: broken", "Name: lacking"),
    );
    let spec = |name: &str| root.join(format!("packages/{name}.spec")).display().to_string();
    let ran = root.run(&["build", &spec("broken"), &spec("lacking"), "-t", "mini"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for said in [
        "class build, in build",
        "error: 'missing' undeclared",
        "class buildroot, in builddep",
        "nothing provides 'nobody-has-this >= 2' needed by lacking-1-1.mini1.src.rpm",
        "1-1.mini1.x86_64/root.log",
    ] {
        assert!(ran.out.contains(said), "{said} is not in:\n{}", ran.out);
    }
    assert_eq!(root.files("bstore/tosign"), [""; 0]);
    let rpms = |below: &str| root.files(below).into_iter().filter(|file| file.ends_with("rpm")).count();
    assert_eq!(rpms("bstore/repo"), 0, "a failed build leaves logs and no RPMs");

    root.write("packages/broken.c", "int main(void) { return 0; }\n");
    let (ran, _) = build(&root, &[&spec("broken")], &["--scratch"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(rpms("bstore/scratch") >= 2);
    assert_eq!((rpms("bstore/repo"), root.files("bstore/tosign").len()), (0, 0));
}

#[test]
fn a_worker_killed_in_the_middle_of_a_real_build_is_replaced_and_the_build_is_done_once() {
    let root = root();
    let others = root.start(&["repogen", "notifier", "signer"]);
    let first = root.start(&["worker"]);
    root.write(
        "packages/slow.spec",
        &BROKEN.replace("Name: broken", "Name: slow").replace("%install", "sleep 6\n%install"),
    );
    root.write("packages/broken.c", "int main(void) { return 0; }\n");
    let made = Ran::of(
        Command::new("rpmbuild")
            .args(["-bs", "--nodeps", "--define"])
            .arg(format!("_sourcedir {}", root.join("packages").display()))
            .arg("--define")
            .arg(format!("_srcrpmdir {}", root.join("packages").display()))
            .arg(root.join("packages/slow.spec")),
    );
    assert_eq!(made.code, 0, "{made:?}");
    let srpm = root.join("packages/slow-1-1.src.rpm").display().to_string();
    assert_eq!(root.run(&["submit", "-s", &srpm, "-t", "mini", "-d", ".mini1"]).code, 0);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let building = || {
        let logs = root.files("results").into_iter().filter(|file| file.ends_with("build.log"));
        // It may have gone since it was listed.
        let mut texts = logs.map(|log| std::fs::read_to_string(root.join(log)).unwrap_or_default());
        texts.any(|text| text.contains("sleep 6")).then_some(())
    };
    runtime.block_on(eventually("the build's start", async || building()));
    first.kill();
    let second = root.start(&["worker"]);
    let result = || {
        let said = root.run(&["--json", "query", "-s", "Success"]).out;
        serde_json::from_str::<Value>(&said).unwrap().as_array().unwrap().first().cloned()
    };
    runtime.block_on(eventually("the result of the second try", async || result()));
    second.stop();
    others.stop();

    let records: Vec<String> =
        root.files("bstore/repo").into_iter().filter(|file| file.ends_with("build.json")).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    let record: Value = serde_json::from_str(&root.read(&records[0])).unwrap();
    assert!(record["attempt"].as_str().unwrap().ends_with("-2"), "{record}");
    let left: Vec<String> = root
        .files("cache/overlay/mini.x86_64/builds")
        .into_iter()
        .filter(|file| !file.ends_with("lock"))
        .collect();
    assert_eq!(left, [""; 0], "the killed worker's folder was swept by the second one");
}

#[test]
fn a_build_that_fails_by_what_it_left_publishes_no_rpm() {
    let root = root();
    let junk = "%install\ncd /builddir/build\nmkdir -p RPMS/x86_64\necho junk > RPMS/x86_64/junk-1-1.x86_64.rpm\n%files\n";
    let head = "Name: junk\nVersion: 1\nRelease: 1\nSummary: Junk\nLicense: MIT\nBuildArch: noarch\n%description\nJunk.\n";
    root.write("packages/junk.spec", &format!("{head}{junk}"));
    let (ran, builds) = build(&root, &[&root.join("packages/junk.spec").display().to_string()], &[]);
    assert_eq!((ran.code, &builds[0]["failure"]["class"]), (1, &Value::from("packaging")));
    let left = root.files("bstore/repo").into_iter().filter(|file| file.ends_with("rpm")).count();
    assert_eq!(left, 0, "an RPM in the folder would be listed");
}
