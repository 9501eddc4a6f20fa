//! Real builds, by the binary, of what `make bench` has made and fetched.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

const ONE_FILE: &str = "Name: onefile\nVersion: 1\nRelease: 1\nSummary: One C file\nLicense: MIT\n\
    Source0: onefile.c\nBuildRequires: gcc\n%description\nOne C file.\n%prep\n%setup -q -c -T\ncp %{SOURCE0} .\n\
    %build\ngcc -O2 -g -o onefile onefile.c\n%install\ninstall -D onefile %{buildroot}/usr/bin/onefile\n\
    %files\n/usr/bin/onefile\n";

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Has the mini distribution for `arch` be a target of the root folder.
pub fn install_target(root: &Path, arch: &str) {
    let distro = if arch == "x86_64" { "mini-distro".to_owned() } else { format!("mini-distro-{arch}") };
    let (made, file) = (repository().join("target").join(&distro), format!("mini.{arch}.repo"));
    let text = std::fs::read_to_string(made.join(&file))
        .unwrap_or_else(|error| panic!("{}: {error}: `make bench` makes it", made.display()));
    let text = text.replace(&format!("$root/{distro}"), &made.display().to_string());
    std::fs::create_dir_all(root.join("targets")).expect("a folder for targets");
    std::fs::write(root.join("targets").join(file), text).expect("the target file");
}

/// Builds source RPMs or specs by one `reimzul build`, and gives the `build.json` of each.
pub fn build(root: &Path, options: &[&str], packages: &[PathBuf]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_reimzul"))
        .args(["--json", "build", "--root"])
        .arg(root)
        .args(options)
        .args(packages)
        .stderr(Stdio::inherit())
        .output()
        .expect("reimzul runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let built: Vec<Value> = serde_json::from_slice(&output.stdout).expect("its JSON");
    built.into_iter().map(|mut build| build["record"].take()).collect()
}

/// What the engine itself took, as its record tells.
pub fn engine_seconds(record: &Value) -> f64 {
    let ours = ["fetch", "digests"];
    let durations = record["durations"].as_object().expect("durations");
    let phases = durations.iter().filter(|(phase, _)| !ours.contains(&phase.as_str()));
    phases.filter_map(|(_, took)| took.as_f64()).sum()
}

/// A package of one C file, that build-requires these.
pub fn one_file(work: &Path, name: &str, requires: &str) -> PathBuf {
    let folder = work.join(name).join("in");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("onefile.c"), "int main(void) { return 0; }\n").expect("the source");
    let spec = ONE_FILE.replace("Name: onefile", &format!("Name: {name}"));
    let spec = spec.replace("BuildRequires: gcc", &format!("BuildRequires: {requires}"));
    std::fs::write(folder.join(format!("{name}.spec")), spec).expect("the spec");
    pack(work, &folder.join(format!("{name}.spec")))
}

/// The source RPM of a spec with its sources beside it.
pub fn pack(work: &Path, spec: &Path) -> PathBuf {
    let folder = spec.parent().expect("a folder");
    let out = work.join(spec.file_stem().expect("a name")).join("out");
    run(Command::new("rpmbuild")
        .args(["-bs", "--nodeps", "--define"])
        .arg(format!("_sourcedir {}", folder.display()))
        .arg("--define")
        .arg(format!("_srcrpmdir {}", out.display()))
        .arg(spec));
    let made = std::fs::read_dir(&out).expect("what rpmbuild made").flatten().next().expect("a source RPM");
    made.path()
}

pub fn run(command: &mut Command) {
    let output = command.output().expect("rpmbuild is installed: package rpm (Debian) or rpm-build (Fedora)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
