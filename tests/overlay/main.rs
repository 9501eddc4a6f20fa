//! The overlay engine, with real builds in real chroots of the mini distribution (`examples/mini-distro`).

mod bases;
mod collection;
mod failures;
mod harness;
mod leftovers;
mod limits;
mod room;
mod rootless;
mod strictness;

use harness::{HELLO_C, HELLO_SOURCE, Site, script};
use reimzul::build::engine::overlay::Packing;
use reimzul::model::{Arch, Class};

#[tokio::test]
async fn a_small_c_package_builds() {
    let site = Site::shared();
    let built = site.build(&site.srpm("hello-c", HELLO_C, &[("hello.c", HELLO_SOURCE)])).await;
    built.succeeded();
    assert_eq!(
        built.rpms(),
        [
            "hello-c-1-1.mini1.src.rpm",
            "hello-c-1-1.mini1.x86_64.rpm",
            "hello-c-debuginfo-1-1.mini1.x86_64.rpm"
        ]
    );
    for phase in ["base", "srpm", "prep", "build", "install", "package", "collect"] {
        assert!(built.outcome.durations.contains_key(phase), "no {phase} in {:?}", built.outcome.durations);
    }
    assert!(built.outcome.buildroot.iter().any(|nevra| nevra.starts_with("gcc-")));
    assert!(built.outcome.buildroot.is_sorted());
    assert!(built.log("state.log").contains(" - Start: rpmbuild hello-c-1-1.x.src.rpm\n"));
    assert!(built.log("installed_pkgs.log").lines().all(|line| line.ends_with(" installed")));
}

#[tokio::test]
async fn buildrequires_are_installed_and_nothing_else() {
    let site = Site::shared();
    let uses_zlib = "%build\necho '#include <zlib.h>' | gcc -E - > /dev/null\n";
    let without = site.build(&site.srpm("undeclared", &script("", uses_zlib), &[])).await;
    assert_eq!(without.failure().class, Class::Build);
    assert!(without.failure().lines[0].contains("zlib.h: No such file"), "{:?}", without.failure().lines);

    let with = site.build(&site.srpm("declared", &script("BuildRequires: zlib-devel", uses_zlib), &[])).await;
    with.succeeded();
    assert!(with.outcome.buildroot.iter().any(|nevra| nevra.starts_with("zlib-devel-")));
    assert!(with.log("installed_pkgs.log").contains("zlib-devel-"));
    assert!(with.log("root.log").contains("zlib-devel"));
    assert!(with.log("state.log").contains("Finish: build setup for declared-1-1.x.src.rpm"));
    // What was tried before the BuildRequires were there is nobody's business.
    assert!(!with.log("build.log").contains("Failed build dependencies"), "{}", with.log("build.log"));
}

#[tokio::test]
async fn buildrequires_that_a_spec_generates_are_installed_too() {
    let site = Site::shared();
    let sections = "%generate_buildrequires\necho zlib-devel\ntest ! -e /usr/include/zlib.h || echo m4\n\
                    %build\ntest -e /usr/include/zlib.h\nm4 --version\n";
    let built = site.build(&site.srpm("generated", &script("", sections), &[])).await;
    built.succeeded();
    assert!(built.outcome.buildroot.iter().any(|nevra| nevra.starts_with("m4-")));
    let unmet = "%generate_buildrequires\necho 'nosuch-devel >= 2'\n";
    let built = site.build(&site.srpm("generated-unmet", &script("", unmet), &[])).await;
    assert_eq!(built.failure().class, Class::Buildroot);
    assert!(
        built.failure().lines[0].starts_with("nothing provides 'nosuch-devel >= 2' needed by"),
        "{:?}",
        built.failure().lines
    );
}

#[tokio::test]
async fn two_builds_run_at_once() {
    let site = Site::shared();
    let sections = "%build\nsleep 1\n";
    let (one, other) = (
        site.srpm("at-once-a", &script("BuildRequires: m4", sections), &[]),
        site.srpm("at-once-b", &script("BuildRequires: zlib-devel", sections), &[]),
    );
    site.ready().await;
    let (one, other) = tokio::join!(site.build(&one), site.build(&other));
    one.succeeded();
    other.succeeded();
    assert!(
        !other.log("installed_pkgs.log").contains("m4-1"),
        "one build's packages are in the other's root"
    );
}

#[tokio::test]
async fn a_spec_is_packed_with_its_sources() {
    let site = Site::shared();
    let spec = site.spec("packed", HELLO_C, &[("hello.c", HELLO_SOURCE)]);
    let outdir = tempfile::tempdir().unwrap();
    let disttag = ".q1".parse().unwrap();
    let target = harness::target();
    let packing = Packing {
        spec: &spec,
        sourcedir: spec.parent().unwrap(),
        target: &target,
        arch: Arch::X86_64,
        disttag: &disttag,
        outdir: outdir.path(),
    };
    let packed = site.engine.make_srpm(&packing, &site.cancel).await.unwrap();
    assert_eq!(packed, outdir.path().join("packed-1-1.q1.src.rpm"));

    std::fs::remove_file(spec.with_file_name("hello.c")).unwrap();
    let failure = site.engine.make_srpm(&packing, &site.cancel).await.unwrap_err();
    assert_eq!(failure.to_string(), "source failure in srpm: source hello.c: No such file or directory");
}

#[tokio::test]
async fn a_machine_that_can_build_is_found_fit() {
    let site = Site::shared();
    let findings = site.engine.check().await;
    assert!(findings.iter().all(|finding| finding.ok), "{findings:#?}");
    assert!(
        findings.last().unwrap().text.starts_with("namespaces and overlay mounts work in "),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn the_root_folder_may_be_named_relatively() {
    let shared = Site::shared();
    let here = std::env::current_dir().unwrap();
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let site = Site::at(up.join(shared.root.strip_prefix("/").unwrap()), harness::mini_distro());
    assert!(site.root.is_relative());
    let srpm = site.srpm("relative", &script("BuildRequires: m4", "%build\nm4 --version\n"), &[]);
    site.build(&srpm).await.succeeded();
}
