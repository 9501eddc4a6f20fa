//! Realistic logs, and what is told from them.

use std::path::Path;

use super::text::TAIL;
use super::*;

fn failed(part: &str, said: &str) -> Failure {
    let log = format!(
        "Building for target x86_64\nExecuting(%prep): /bin/sh -e /var/tmp/rpm-tmp.a\n+ cd x\nerror: an old one\n\
         Executing(%{part}): /bin/sh -e /var/tmp/rpm-tmp.b\n+ umask 022\n{said}\n\
         error: Bad exit status from /var/tmp/rpm-tmp.b (%{part})\n\nRPM build errors:\n\
         \x20   Bad exit status from /var/tmp/rpm-tmp.b (%{part})\n"
    );
    rpmbuild(Some(part), &log, 1, false)
}

#[test]
fn a_compilers_error_comes_before_makes() {
    let failure = failed(
        "build",
        "gcc -c hello.c\nhello.c: In function \u{2018}main\u{2019}:\n\
         \x1b[01m\x1b[Khello.c:3:5:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[K\u{2018}x\u{2019} undeclared\n\
         \x20   3 |     x;\nmake: *** [Makefile:2: hello.o] Error 1",
    );
    assert_eq!((failure.class, failure.phase.as_str()), (Class::Build, "build"));
    assert_eq!(failure.lines, ["hello.c:3:5: error: \u{2018}x\u{2019} undeclared"]);
}

#[test]
fn make_speaks_when_nobody_else_does() {
    let failure = failed("build", "false\nmake: *** [Makefile:2: all] Error 1");
    assert_eq!(failure.lines, ["make: *** [Makefile:2: all] Error 1", "false"]);
}

#[test]
fn the_usual_tools_are_understood() {
    for line in [
        "a.c:1:10: fatal error: zlib.h: No such file or directory",
        "/usr/bin/ld: main.o: undefined reference to `deflate'",
        "/usr/bin/ld: cannot find -lz: No such file or directory",
        "configure: error: no acceptable C compiler found in $PATH",
        "CMake Error at CMakeLists.txt:3 (find_package):",
        "error[E0425]: cannot find value `x` in this scope",
        "ModuleNotFoundError: No module named 'setuptools'",
        "/var/tmp/rpm-tmp.b: line 30: cmake: command not found",
        "/var/tmp/rpm-tmp.b: 30: m4: not found",
        "meson.build:1:0: ERROR: Unknown compiler(s): [['cc']]",
        "1 out of 1 hunk FAILED -- saving rejects to file hello.c.rej",
        "tar: hello.tar.gz: Cannot open: No such file or directory",
    ] {
        let failure = failed("build", &format!("doing\nthings\n{line}\nmake: *** [all] Error 2"));
        assert_eq!(failure.lines[0], line);
    }
}

#[test]
fn a_test_suites_failures_are_named() {
    let failure = failed(
        "check",
        "PASS: one\nFAIL: two\nFAIL: three\n# TOTAL: 3\nmake[2]: *** [Makefile:9: test-suite.log] Error 1",
    );
    assert_eq!(
        (failure.class, failure.lines),
        (Class::Check, vec!["FAIL: two".to_owned(), "FAIL: three".into()])
    );
    let failure = failed("check", "not ok 2 - adds\nok 3");
    assert_eq!(failure.lines, ["not ok 2 - adds"]);
    let failure = failed("check", "test tests::x ... FAILED\nthread 'tests::x' panicked at src/lib.rs:3:5:");
    assert_eq!(failure.lines[0], "test tests::x ... FAILED");
}

#[test]
fn the_last_words_stand_in_for_an_error() {
    let said = failed("install", "+ ./tool\nnothing\nto see\nhere");
    assert_eq!(said.lines, ["nothing", "to see", "here", "+ ./tool"]);
    assert_eq!(failed("install", "+ false").lines, ["+ false"]);
    assert_eq!(failed("install", "+ /bin/mkdir -p x\n+ exit 3").lines, ["+ /bin/mkdir -p x", "+ exit 3"]);
    assert_eq!(rpmbuild(None, "", 1, false).lines, ["it ended with exit status 1 and gave no reason"]);
}

#[test]
fn complaints_about_files_are_packaging() {
    let log = "Executing(%install): /bin/sh\nProcessing files: x-1-1.x86_64\n\
               Checking for unpackaged file(s): /usr/lib/rpm/check-files /builddir\n\
               error: Installed (but unpackaged) file(s) found:\n   /opt/one\n   /opt/two\n\n\
               RPM build errors:\n    Installed (but unpackaged) file(s) found:\n   /opt/one\n";
    let failure = rpmbuild(Some("package"), log, 1, false);
    assert_eq!((failure.class, failure.phase.as_str()), (Class::Packaging, "package"));
    assert_eq!(failure.lines, ["error: Installed (but unpackaged) file(s) found:", "/opt/one", "/opt/two"]);
    let log = "Processing files: x-1-1.x86_64\nerror: File not found: /builddir/x\n\nRPM build errors:\n";
    assert_eq!(rpmbuild(Some("package"), log, 1, false).lines, ["error: File not found: /builddir/x"]);
}

#[test]
fn a_spec_that_does_not_parse_is_told_by_its_line() {
    let log = "error: line 7: Unknown tag: Bogus: x\n";
    let failure = rpmbuild(None, log, 1, false);
    assert_eq!((failure.class, failure.phase.as_str()), (Class::Build, "spec"));
    assert_eq!(failure.lines, ["error: line 7: Unknown tag: Bogus: x"]);
}

#[test]
fn a_compiler_that_was_killed_is_the_farms_fault() {
    let failure = failed(
        "build",
        "gcc: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
    );
    assert_eq!((failure.class, failure.retry), (Class::Killed, true));
}

#[test]
fn dnf_tells_whose_fault_it_was() {
    let unmet = dnf(
        "No matching package to install: 'foo-devel >= 2'\nNot all dependencies satisfied\n\
         Error: Some packages could not be found.\n",
        false,
    );
    assert_eq!((unmet.class, unmet.retry), (Class::Buildroot, false));
    assert_eq!(unmet.lines, ["nothing provides 'foo-devel >= 2'"]);

    let deep = dnf(
        "Error: \n Problem: package bar-1-1.x86_64 requires libfoo.so, but none of the providers can be installed\n\
         \x20 - conflicting requests\n  - nothing provides libfoo.so needed by bar-1-1.x86_64\n",
        false,
    );
    assert_eq!(deep.lines, ["nothing provides libfoo.so needed by bar-1-1.x86_64"]);
    assert!(!deep.retry);

    let down = dnf(
        "Errors during downloading metadata for repository 'dead':\n\
         \x20 - Curl error (7): Couldn't connect to server for http://127.0.0.1:1/repodata/repomd.xml\n\
         Error: Failed to download metadata for repo 'dead': Cannot download repomd.xml\n",
        false,
    );
    assert_eq!((down.class, down.retry), (Class::Buildroot, true));
    assert!(down.lines.iter().any(|line| line.contains("127.0.0.1")), "{:?}", down.lines);

    let full = dnf(
        "Error: Transaction test error:\n  installing package x needs 3MB more space needed on the / filesystem\n",
        false,
    );
    assert_eq!((full.class, full.retry), (Class::Disk, true));
}

#[test]
fn a_missing_source_is_named() {
    let failure = packing(
        "error: Bad file: /builddir/build/SOURCES/a.tar.gz: No such file or directory\n\nRPM build errors:\n    Bad file: …\n",
    );
    assert_eq!(failure.lines, ["source a.tar.gz: No such file or directory"]);
}

#[test]
fn lines_are_made_fit_to_be_shown() {
    assert_eq!(clean("\x1b[1mbold\x1b[0m\ttab\r"), "bold tab");
    assert_eq!(clean(&"x".repeat(1000)).chars().count(), 300);
}

#[test]
fn only_the_end_of_a_huge_log_is_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let size = usize::try_from(TAIL).unwrap() * 2;
    std::fs::write(file.path(), "x".repeat(size) + "end").unwrap();
    let tail = read_tail(file.path(), 0);
    assert_eq!(tail.len(), size / 2);
    assert!(tail.ends_with("end"));
    assert_eq!(read_tail(file.path(), size as u64), "end");
    assert_eq!(read_tail(Path::new("/no/such/log"), 0), "");
}
