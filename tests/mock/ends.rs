//! Every way in which mock ends, and what is made of it.

use reimzul::model::{Class, Failure};

use crate::harness::Site;

/// What a build that behaves like this fails by. All logs must exist, and nothing may be left.
async fn failure(behaviour: &str) -> Failure {
    let site = Site::new(behaviour);
    let built = site.build().await;
    for log in ["build.log", "root.log"] {
        assert!(!built.log(log).is_empty(), "{behaviour}: {log} is empty");
    }
    for log in ["state.log", "installed_pkgs.log", "stdout", "stderr", "mock.cfg"] {
        built.log(log);
    }
    site.is_tidy().await;
    built.failure().clone()
}

/// Class, whether another try may help, and the first line.
async fn told(behaviour: &str) -> (Class, bool, String) {
    let failure = failure(behaviour).await;
    assert!((1..=5).contains(&failure.lines.len()), "{failure:?}");
    (failure.class, failure.retry, failure.lines[0].clone())
}

const LOG: &str = ">> \"$resultdir/build.log\"";

#[tokio::test]
async fn exit_1_after_rpmbuild_began_is_the_packages_own() {
    let part = |name: &str, said: &str| {
        format!(
            "rpmbuild; echo \"Executing(%{name}): /bin/sh -e /var/tmp/rpm-tmp.x
{said}
error: Bad exit status from /var/tmp/rpm-tmp.x (%{name})
RPM build errors:
    Bad exit status from /var/tmp/rpm-tmp.x (%{name})\" {LOG}; fail 1"
        )
    };
    let broken = "hello.c:3:5: error: 'x' undeclared".to_owned();
    assert_eq!(told(&part("build", &broken)).await, (Class::Build, false, broken.clone()));
    let failure = failure(&part("build", &broken)).await;
    assert_eq!((failure.phase.as_str(), failure.log.as_deref()), ("build", Some("build.log")));
    let mock_3 = "echo 'Child return code was: 1\nTraceback (most recent call last):\nmockbuild.exception.Error: Command failed' \
                  >> \"$resultdir/build.log\"; fail 1";
    let traced = part("build", &broken).replace("fail 1", mock_3);
    assert_eq!(told(&traced).await, (Class::Build, false, broken.clone()));
    let tests = part("check", "FAIL: one of them");
    assert_eq!(told(&tests).await, (Class::Check, false, "FAIL: one of them".into()));
}

#[tokio::test]
async fn unpackaged_files_are_told_though_mock_mixes_the_lines_up() {
    // rpmbuild's two outputs reach the log one after the other.
    let behaviour = format!(
        "rpmbuild; echo \"Executing(%install): /bin/sh -e /var/tmp/rpm-tmp.x
+ touch /opt/forgotten
Processing files: x-1-1.noarch
RPM build errors:
error: Installed (but unpackaged) file(s) found:
   /opt/forgotten
    Installed (but unpackaged) file(s) found:
   /opt/forgotten\" {LOG}; fail 1"
    );
    let failure = failure(&behaviour).await;
    assert_eq!((failure.class, failure.phase.as_str()), (Class::Packaging, "package"));
    assert!(failure.lines.iter().any(|line| line.contains("/opt/forgotten")), "{:?}", failure.lines);
}

#[tokio::test]
async fn the_reason_is_found_behind_rpmbuilds_summary_too() {
    let behaviour = format!(
        "rpmbuild; echo \"error: Bad exit status from /var/tmp/rpm-tmp.x (%build)
Executing(%build): /bin/sh -e /var/tmp/rpm-tmp.x
RPM build errors:
    Bad exit status from /var/tmp/rpm-tmp.x (%build)
+ gcc hello.c
hello.c:3:5: error: 'x' undeclared\" {LOG}; fail 1"
    );
    assert_eq!(told(&behaviour).await, (Class::Build, false, "hello.c:3:5: error: 'x' undeclared".into()));
}

#[tokio::test]
async fn a_wrong_arch_and_a_spec_that_does_not_parse_are_the_packages_own_too() {
    let wrong_arch = format!("rpmbuild; echo 'error: Architecture is not included: x86_64' {LOG}; fail 1");
    let said = "error: Architecture is not included: x86_64".to_owned();
    assert_eq!(told(&wrong_arch).await, (Class::Build, false, said));
    let unparsable = format!("setup; echo 'error: line 5: Unknown tag: Nme: x' {LOG}; fail 1");
    let said = "error: line 5: Unknown tag: Nme: x".to_owned();
    assert_eq!(told(&unparsable).await, (Class::Build, false, said));
}

#[tokio::test]
async fn exit_1_without_logs_is_the_source_rpm_unless_mock_may_not_run() {
    let garbage = "echo 'ERROR: Cannot find/open srpm: x. Error: error reading package header' >&2; exit 1";
    let (class, retry, line) = told(garbage).await;
    assert_eq!((class, retry), (Class::Source, false));
    assert_eq!(line, "Cannot find/open srpm: x. Error: error reading package header");
    for refusal in
        ["Must be member of 'mock' group to run mock! ()", "mock will not run from the root account"]
    {
        let (class, retry, line) = told(&format!("echo \"ERROR: {refusal}\" >&2; exit 1")).await;
        assert_eq!((class, retry, line.as_str()), (Class::Config, true, refusal));
    }
}

#[tokio::test]
async fn a_spent_time_limit_is_a_timeout() {
    let behaviour = format!("rpmbuild; echo 'Executing(%build): x\nsleeping' {LOG}; fail 11");
    let failure = failure(&behaviour).await;
    assert_eq!((failure.class, failure.retry, failure.phase.as_str()), (Class::Timeout, false, "build"));
    assert_eq!(failure.lines, ["not done within the time that it was given: it was in %build", "sleeping"]);
}

#[tokio::test]
async fn buildrequires_that_cannot_be_met_are_named_and_final() {
    let behaviour = "setup; dnf_fails \"No matching package to install: 'nosuch-devel >= 2'\" \
                     'Not all dependencies satisfied' 'Error: Some packages could not be found.'; fail 30";
    let said = format!(
        "nothing provides 'nosuch-devel >= 2' needed by {}",
        crate::common::srpm("bash", 1).file_name().unwrap().display()
    );
    assert_eq!(told(behaviour).await, (Class::Buildroot, false, said));
    let failure = failure(behaviour).await;
    assert_eq!((failure.phase.as_str(), failure.log.as_deref()), ("builddep", Some("root.log")));
}

#[tokio::test]
async fn a_dead_repository_is_the_farms_fault() {
    let behaviour = "init; dnf_fails 'Errors during downloading metadata for repository mini:' \
                     '  - Curl error (7): Could not connect to server'; fail 30";
    let failure = failure(behaviour).await;
    assert_eq!((failure.class, failure.retry, failure.phase.as_str()), (Class::Buildroot, true, "base"));
    assert!(failure.lines.iter().any(|line| line.contains("Curl error (7)")), "{:?}", failure.lines);
}

#[tokio::test]
async fn a_chroot_that_asks_for_what_is_not_there_is_final() {
    let behaviour = "init; dnf_fails 'No match for group package \"nosuch\"' \
                     \"Error: No match for argument: nosuch\" 'Error: Unable to find a match: nosuch'; fail 30";
    let (class, retry, line) = told(behaviour).await;
    assert_eq!((class, retry), (Class::Buildroot, false));
    assert!(line.contains("nosuch"), "{line}");
}

#[tokio::test]
async fn what_an_earlier_command_said_is_not_the_reason() {
    let behaviour = "init; root_log \"Executing command: ['/usr/bin/dnf-3', 'install']\" \
                     'No match for argument: optional' 'Child return code was: 0'; state 'Start: build setup for x'; \
                     dnf_fails 'Error: Failed to download metadata for repo mini'; fail 30";
    let (class, retry, line) = told(behaviour).await;
    assert_eq!((class, retry), (Class::Buildroot, true));
    assert!(line.contains("Failed to download metadata"), "{line}");
}

#[tokio::test]
async fn a_truncated_payload_is_the_source_rpms_fault() {
    let reason = "error: unpacking of archive failed on file x.spec: cpio: read failed";
    let behaviour = format!(
        "setup; echo '########\n{reason}' {LOG}; echo 'ERROR: Source RPM is not installable:' >&2; fail 40"
    );
    assert_eq!(told(&behaviour).await, (Class::Source, false, reason.into()));
    assert_eq!(told("rpmbuild; fail 40").await.0, Class::Packaging);
}

#[tokio::test]
async fn a_broken_configuration_is_told_in_mocks_words() {
    for status in [3, 5, 6, 50] {
        let behaviour = format!("echo 'ERROR: Config error: /x.cfg: invalid syntax' >&2; exit {status}");
        let (class, retry, line) = told(&behaviour).await;
        assert_eq!(
            (class, retry, line.as_str()),
            (Class::Config, false, "Config error: /x.cfg: invalid syntax")
        );
    }
}

#[tokio::test]
async fn an_unusable_result_folder_is_the_builders_fault() {
    let behaviour = "echo 'ERROR: The /x directory can not be created.' >&2; exit 70";
    let (class, retry, line) = told(behaviour).await;
    assert_eq!((class, retry, line.as_str()), (Class::Config, true, "The /x directory can not be created."));
}

#[tokio::test]
async fn a_full_disk_is_told_by_who_ran_into_it() {
    let room = "No space left on device";
    for behaviour in [
        format!("echo \"ERROR: [Errno 28] {room}: '/x'\" >&2; exit 70"),
        format!("init; root_log 'Executing command: dnf' 'Error: {room}'; fail 30"),
        format!("rpmbuild; echo 'Executing(%build): x\ncp: error writing y: {room}' {LOG}; fail 1"),
    ] {
        let (class, retry, line) = told(&behaviour).await;
        assert_eq!((class, retry), (Class::Disk, true), "{behaviour}");
        assert!(line.contains(room), "{line}");
    }
    // A test suite that tries what happens then is none.
    let tried =
        format!("rpmbuild; echo 'Executing(%check): x\nok: {room} is caught\nFAIL: other' {LOG}; fail 1");
    assert_eq!(told(&tried).await, (Class::Check, false, "FAIL: other".into()));
}

#[tokio::test]
async fn signals_from_outside_are_no_fault_of_the_package() {
    for behaviour in [
        "rpmbuild; exit 143",
        "rpmbuild; exit 129",
        "rpmbuild; exit 7",
        "rpmbuild; kill -9 $$",
        "rpmbuild; exit 137",
    ] {
        let failure = failure(behaviour).await;
        assert_eq!((failure.class, failure.retry), (Class::Killed, true), "{behaviour}: {failure:?}");
    }
}

#[tokio::test]
async fn other_ends_are_tried_elsewhere() {
    for (status, class) in [
        (20, Class::Buildroot),
        (25, Class::Buildroot),
        (80, Class::Config),
        (90, Class::Buildroot),
        (99, Class::Buildroot),
    ] {
        let behaviour = format!("init; echo 'ERROR: it is odd' >&2; exit {status}");
        assert_eq!(told(&behaviour).await, (class, true, "it is odd".into()), "{status}");
    }
    // A command that failed while the chroot was made passes its own status on.
    let command = "init; printf 'ERROR: Exception(x)\\nERROR: Command failed: \\n # /usr/sbin/useradd -n\\nno -n\\n' >&2; exit 2";
    assert_eq!(failure(command).await.lines, ["/usr/sbin/useradd -n", "no -n"]);
    let silent = told("exit 77").await;
    assert_eq!(silent.2, "mock ended with exit status 77 and gave no reason");
    assert_eq!(told("init; fail 31").await.0, Class::Buildroot);
}

#[tokio::test]
async fn a_success_without_an_rpm_is_none() {
    let (class, retry, line) = told("rpmbuild; touch \"$resultdir/$pkg\"; cleanup; exit 0").await;
    assert_eq!((class, retry), (Class::Packaging, false));
    assert_eq!(line, "the build succeeded and made no RPM");
}

#[tokio::test]
async fn a_busy_build_root_is_tried_again_with_a_fresh_folder() {
    let site = Site::new(
        "init; [ $(grep -c resultdir \"$here/calls\") -ge 3 ] || { rm -rf \"$chroot\"; exit 60; }; rpmbuild; succeed",
    );
    let built = site.build().await;
    built.succeeded();
    assert_eq!(site.builds().len(), 3);
    assert_eq!(built.log("state.log").matches("Mock Version").count(), 2, "{}", built.log("state.log"));

    let (class, retry, line) = told("init; rm -rf \"$chroot\"; exit 60").await;
    assert_eq!((class, retry), (Class::Buildroot, true));
    assert_eq!(line, "the build root is in use by another mock, and stayed so");
}
