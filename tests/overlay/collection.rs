//! The collection of failing packages, `tests/failing/`: each is built for real, and the class, the phase, the log,
//! and the lines that are told of it are pinned, in a snapshot per folder.
//!
//! A package is a spec, with its sources beside it; `%{summary}` says what is wrong with it. Where the tool that fails is
//! not in the mini distribution, the source is a log of what it prints. The macro `packing` is defined while the
//! source RPM is made, for what is to go wrong in the build only.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reimzul::build::engine::overlay::Packing;
use reimzul::model::{Arch, Failure};

use crate::harness::{Built, Site, target};

/// Where a snapshot is told of a failure, and of nothing that is another at the next run or on another machine.
const FILTERS: [(&str, &str); 8] = [
    (r"rpm-tmp\.\w+", "rpm-tmp.XXXXXX"),
    (r"/tmp/cc\w+\.(\w)", "/tmp/ccXXXXXX.$1"),
    (r"(/builddir/build/BUILD\w*)/[\w-]+-1-(1\.mini1\.x86_64|build/BUILDROOT)", "$1/NVRA"),
    (r"line (\d+): +\d+ (Segmentation|Aborted|Killed|Terminated)", "line $1: PID $2"),
    (r"[\u{2018}\u{2019}]", "'"),
    // A pipeline's traces come in any order, and word by word among one another.
    (r"    .*/usr/lib/rpm/rpmuncompress.*", "    + /usr/lib/rpm/rpmuncompress …"),
    (r"kill (-9 )?[1-9]\d*", "kill ${1}PID"),
    (r"python3\.\d+", "python3.X"),
];

fn folder(group: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failing").join(group)
}

/// The specs of a folder, by name.
fn specs(group: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(group)).unwrap().map(|entry| entry.unwrap().path());
    let mut specs: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "spec")).collect();
    specs.sort();
    specs
}

fn told(name: &str, failure: &Failure) -> String {
    let what_becomes = if failure.retry { "tried again" } else { "final" };
    let log = failure.log.as_deref().unwrap_or("no log");
    let mut text = format!("{name}: {} in {}, {what_becomes}, {log}\n", failure.class, failure.phase);
    for line in &failure.lines {
        writeln!(text, "    {line}").unwrap();
    }
    text
}

fn pin(group: &str, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../failing");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, shown) in FILTERS {
        settings.add_filter(pattern, shown);
    }
    settings.bind(|| insta::assert_snapshot!(group, told));
}

/// Builds the packages of a folder, and pins how they fail.
async fn build_all(group: &str, timeout: Option<Duration>) {
    let site = Site { timeout, ..Site::shared() };
    let (mut all, mut built_after_all) = (String::new(), Vec::new());
    for spec in specs(group) {
        let name = spec.file_stem().unwrap().to_string_lossy();
        let built = site.build(&site.pack_here(&spec)).await;
        match &built.outcome.result {
            Err(failure) => all += &told(&name, failure),
            Ok(()) => built_after_all.push(name.into_owned()),
        }
        assert_complete(&spec, &built);
    }
    assert_eq!(built_after_all, [""; 0], "these were built");
    pin(group, &all);
}

/// A failed build leaves its logs and no RPMs.
fn assert_complete(spec: &Path, built: &Built) {
    let rpms = if built.outcome.result.is_ok() { Vec::new() } else { built.rpms() };
    assert_eq!(rpms, [""; 0], "{} failed and left RPMs", spec.display());
    for log in ["build.log", "root.log", "state.log", "installed_pkgs.log"] {
        assert!(built.resultdir.join(log).is_file(), "{} left no {log}", spec.display());
    }
}

#[tokio::test]
async fn specs_that_cannot_be_packed() {
    let site = Site::shared();
    let (target, disttag, outdir) = (target(), ".mini1".parse().unwrap(), tempfile::tempdir().unwrap());
    let mut all = String::new();
    for spec in specs("packing") {
        let packing = Packing {
            spec: &spec,
            sourcedir: spec.parent().unwrap(),
            target: &target,
            arch: Arch::X86_64,
            disttag: &disttag,
            outdir: outdir.path(),
        };
        let failure = site.engine.make_srpm(&packing, &site.cancel).await.unwrap_err();
        all += &told(&spec.file_stem().unwrap().to_string_lossy(), &failure);
    }
    pin("packing", &all);
}

#[tokio::test]
async fn specs_that_do_not_parse_in_the_target() {
    build_all("spec", None).await;
}

#[tokio::test]
async fn what_the_target_cannot_provide() {
    build_all("buildroot", None).await;
}

#[tokio::test]
async fn unpacking_and_patching() {
    build_all("prep", None).await;
}

#[tokio::test]
async fn compilers_interpreters_and_make() {
    build_all("build", None).await;
}

#[tokio::test]
async fn builds_that_kill() {
    build_all("kill", None).await;
}

#[tokio::test]
async fn tools_as_they_are_on_record() {
    build_all("tools", None).await;
}

#[tokio::test]
async fn installing() {
    build_all("install", None).await;
}

#[tokio::test]
async fn test_suites() {
    build_all("check", None).await;
}

#[tokio::test]
async fn packages_that_are_not_what_the_spec_promises() {
    build_all("package", None).await;
}

#[tokio::test]
async fn builds_without_end() {
    Site::shared().ready().await;
    build_all("timeout", Some(Duration::from_secs(8))).await;
}
