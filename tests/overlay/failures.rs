//! Packages that fail: the class, the phase and the lines that tell why.

use std::time::Duration;

use reimzul::model::Class;

use crate::harness::{Site, script};

struct Case {
    name: &'static str,
    rest: String,
    class: Class,
    phase: &'static str,
    line: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |name, head, sections, class, phase, line| Case {
        name,
        rest: script(head, sections),
        class,
        phase,
        line,
    };
    vec![
        case(
            "prep",
            "",
            "%prep\ncat no-such-file\n",
            Class::Build,
            "prep",
            "cat: no-such-file: No such file or directory",
        ),
        case(
            "compile",
            "",
            "%build\nmkdir x\ncd x\nprintf 'int main(void)\\n{\\n  return oops;\\n}\\n' > a.c\n\
             printf 'a: a.c\\n\\tgcc -o a a.c\\n' > Makefile\nmake\n",
            Class::Build,
            "build",
            "a.c:3:10: error: 'oops' undeclared (first use in this function)",
        ),
        case(
            "check",
            "",
            "%check\necho 'PASS: one'\necho 'FAIL: two'\nexit 1\n",
            Class::Check,
            "check",
            "FAIL: two",
        ),
        case("silent", "", "%install\nfalse\n", Class::Build, "install", "+ false"),
        case(
            "unpackaged",
            "",
            "%install\nmkdir -p %{buildroot}/opt\ntouch %{buildroot}/opt/forgotten\n",
            Class::Packaging,
            "package",
            "error: Installed (but unpackaged) file(s) found:",
        ),
        case(
            "missing",
            "",
            "%files\n/opt/promised\n",
            Class::Packaging,
            "package",
            "error: File not found: /builddir/build/BUILDROOT/missing-1-1.mini1.x86_64/opt/promised",
        ),
        case(
            "unmet",
            "BuildRequires: nosuch-devel >= 2, m4",
            "%build\ntrue\n",
            Class::Buildroot,
            "builddep",
            "nothing provides 'nosuch-devel >= 2' needed by unmet-1-1.mini1.src.rpm",
        ),
        case(
            "unparsable",
            "",
            "%if \"%{?dist}\" == \".mini1\"\n%{error:broken here}\n%endif\n",
            Class::Build,
            "spec",
            "error: broken here",
        ),
        case(
            "wrong-arch",
            "ExclusiveArch: s390x",
            "%build\ntrue\n",
            Class::Build,
            "spec",
            "error: Architecture is not included: x86_64",
        ),
    ]
}

#[tokio::test]
async fn each_kind_of_failure_is_told_apart() {
    let site = Site::shared();
    for Case { name, rest, class, phase, line } in cases() {
        let built = site.build(&site.srpm(name, &rest, &[])).await;
        let failure = built.failure();
        assert_eq!(
            (failure.class, failure.phase.as_str()),
            (class, phase),
            "{name}: {failure}\n{}",
            built.log("build.log")
        );
        assert!(
            failure.lines[0].replace(['\u{2018}', '\u{2019}'], "'").starts_with(line),
            "{name}: {:?}",
            failure.lines
        );
        assert!(!failure.retry, "{name} is the package's fault");
        assert_eq!(built.rpms(), [""; 0], "{name} failed and left RPMs");
        for log in ["build.log", "root.log", "state.log", "installed_pkgs.log"] {
            assert!(built.resultdir.join(log).is_file(), "{name} left no {log}");
        }
    }
}

#[tokio::test]
async fn a_source_rpm_that_is_none_is_told() {
    let site = Site::shared();
    let file = site.root.join("garbage.src.rpm");
    std::fs::write(&file, "garbage").unwrap();
    let built = site.build(&file).await;
    assert_eq!(built.failure().class, Class::Source);

    let good = site.srpm("truncated", &script("Source0: big", ""), &[("big", &"0123456789".repeat(5000))]);
    let bytes = std::fs::read(&good).unwrap();
    std::fs::write(&good, &bytes[..bytes.len() - 40]).unwrap();
    let built = site.build(&good).await;
    assert_eq!(built.failure().class, Class::Source, "{}", built.failure());
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended() {
    let site = Site { timeout: Some(Duration::from_millis(1500)), ..Site::shared() };
    site.ready().await;
    let sections = "%build\necho begun\n(setsid sleep 86311 &)\nsleep 86311\n";
    let built = site.build(&site.srpm("late", &script("", sections), &[])).await;
    assert_eq!(built.failure().class, Class::Timeout);
    assert_eq!(built.failure().lines[0], "not done within 1.5 seconds, and ended");
    assert!(built.seconds < 4.0, "{}", built.seconds);
    // At once, since the sandbox was waited for.
    assert_eq!(crate::harness::running("sleep\u{0}86311"), 0);
}

#[tokio::test]
async fn a_cancelled_build_ends_soon() {
    let site = Site::shared();
    site.ready().await;
    let srpm = site.srpm("cancelled", &script("", "%build\necho begun\nsleep 86322\n"), &[]);
    let cancel = async {
        while crate::harness::running("sleep\u{0}86322") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        site.cancel.cancel();
        std::time::Instant::now()
    };
    let (built, cancelled) = tokio::join!(site.build(&srpm), cancel);
    assert!(cancelled.elapsed() < Duration::from_secs(1), "{:?}", cancelled.elapsed());
    assert_eq!(built.failure().class, Class::Killed);
    assert!(built.failure().retry);
    assert_eq!(crate::harness::running("sleep\u{0}86322"), 0);
}

#[tokio::test]
async fn a_dead_repository_is_the_farms_fault() {
    let site = Site::own("dead-repository");
    site.target_file(|text| text + "\n[dead]\nbaseurl=http://127.0.0.1:1/repo/\n");
    let built = site.build(&site.srpm("poor", &script("", ""), &[])).await;
    let failure = built.failure();
    assert_eq!(
        (failure.class, failure.phase.as_str(), failure.retry),
        (Class::Buildroot, "base", true),
        "{failure}"
    );
    assert!(failure.lines.iter().any(|line| line.contains("127.0.0.1")), "{:?}", failure.lines);
}

#[tokio::test]
async fn a_target_that_is_not_configured_is_told() {
    let site = Site::own("no-target");
    std::fs::remove_file(site.root.join("targets/mini.x86_64.repo")).unwrap();
    let built = site.build(&site.srpm("homeless", &script("", ""), &[])).await;
    assert_eq!(built.failure().class, Class::Config);
    assert!(built.failure().lines[0].ends_with("targets here: none"), "{:?}", built.failure().lines);
}
