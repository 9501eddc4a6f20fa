//! What mock is called with, and what of its results is kept.

use std::time::Duration;

use reimzul::model::{Arch, Class};

use crate::harness::{Site, after};

#[tokio::test]
async fn mock_gets_exactly_these_arguments() {
    let site = Site::new("rpmbuild; succeed");
    let built = site.build().await;
    built.succeeded();
    let calls = site.builds();
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    let configdir = site.join("root/cache/mock/configs/c9.x86_64/1").display().to_string();
    let ext = after(call, "--uniqueext");
    let srpm = crate::common::srpm("bash", 1).display().to_string();
    let expected = [
        "-r",
        &format!("{configdir}/c9.x86_64.cfg"),
        "--configdir",
        &configdir,
        "--uniqueext",
        ext,
        "--resultdir",
        &built.resultdir.display().to_string(),
        "--define",
        "dist .el9",
        "--cleanup-after",
        &srpm,
    ];
    assert_eq!(call, &expected);
    assert!(ext.len() >= 8 && ext.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{ext}");
}

#[tokio::test]
async fn no_dist_is_defined_where_none_is_asked_for_and_a_timeout_is_where_one_is() {
    let mut site = Site::new("rpmbuild; succeed");
    (site.disttag, site.timeout) = ("", Some(Duration::from_millis(300)));
    site.build().await.succeeded();
    let call = &site.builds()[0];
    assert!(!call.contains(&"--define".to_owned()), "{call:?}");
    // mock counts in seconds, and 0 would be none.
    assert_eq!(after(call, "--rpmbuild_timeout"), "1");
    assert!(call.last().unwrap().ends_with(".src.rpm"));
}

#[tokio::test]
async fn a_result_has_mocks_files_and_says_what_was_in_the_buildroot() {
    let site = Site::new("echo to-stdout; echo to-stderr >&2; rpmbuild; succeed");
    let built = site.build().await;
    built.succeeded();
    assert_eq!(built.outcome.buildroot, ["bash-5-1.x86_64", "gcc-12-1.x86_64"]);
    let phases: Vec<&String> = built.outcome.durations.keys().collect();
    assert_eq!(phases, ["base", "builddep", "clean", "rpmbuild"]);
    assert_eq!((built.log("stdout"), built.log("stderr")), ("to-stdout\n".into(), "to-stderr\n".into()));
    assert_eq!(
        built.log("mock.cfg"),
        "config_opts['root'] = 'c9.x86_64'\nbaseurl=http://bstore:11081/bstore/repo/c9\n"
    );
    site.is_tidy().await;
    // Nothing was left, so mock was not called again.
    assert_eq!(site.calls().len(), 1);
}

#[tokio::test]
async fn a_build_says_which_states_of_repositories_it_saw() {
    let fetched = |id: &str, revision: &str| {
        format!(
            "mkdir -p \"$here/cache/$root/dnf_cache/{id}-0123456789abcdef/repodata\"\n\
             echo '<repomd><revision>{revision}</revision></repomd>' \
             > \"$here/cache/$root/dnf_cache/{id}-0123456789abcdef/repodata/repomd.xml\"\n"
        )
    };
    let early = fetched("fleet", "41") + &fetched("base", "today");
    let site = Site::new(&format!("{early}rpmbuild; sleep 0.05; {}succeed", fetched("late", "7")));
    let built = site.build().await;
    built.succeeded();
    let states = |outcome: &reimzul::build::engine::Outcome| -> Vec<(String, Option<u64>)> {
        outcome.repositories.iter().map(|state| (state.id.clone(), state.revision)).collect()
    };
    let seen = [("base".to_owned(), None), ("fleet".to_owned(), Some(41))];
    assert_eq!(states(&built.outcome), seen, "what came after dnf was done, another build has fetched");
    let text = "<repomd><revision>41</revision></repomd>\n";
    assert_eq!(built.outcome.repositories[1].sha256, reimzul::sys::fs::sha256_of(text.as_bytes()));
    // Another build refetched one of them.
    site.behave(&format!("rpmbuild; sleep 0.05; {}succeed", fetched("fleet", "42")));
    assert_eq!(
        states(&site.build().await.outcome),
        [("base".to_owned(), None), ("late".to_owned(), Some(7))]
    );
}

#[tokio::test]
async fn the_engine_is_called_by_the_version_that_built() {
    let site = Site::new("rpmbuild; succeed");
    let engine = site.engine();
    assert_eq!(engine.name().version, "unknown");
    let resultdir = site.join("result");
    std::fs::create_dir_all(&resultdir).unwrap();
    let (target, disttag) = ("c9.x86_64".parse().unwrap(), "".parse().unwrap());
    let srpm = crate::common::srpm("bash", 1);
    let request = reimzul::build::engine::Request {
        srpm: &srpm,
        resultdir: &resultdir,
        target: &target,
        arch: Arch::X86_64,
        disttag: &disttag,
        timeout: None,
        quota: None,
        fresh: false,
    };
    engine.build(request, &site.cancel).await.result.unwrap();
    let name = engine.name();
    assert_eq!((name.name.as_str(), name.version.as_str()), ("mock", "6.7"));
}

#[tokio::test]
async fn builds_at_once_share_the_configuration_and_have_a_root_each() {
    let site = Site::new("rpmbuild; sleep 0.2; succeed");
    let (one, other) = tokio::join!(site.build(), site.build());
    one.succeeded();
    other.succeeded();
    let calls = site.builds();
    assert_eq!(after(&calls[0], "-r"), after(&calls[1], "-r"));
    assert_ne!(after(&calls[0], "--uniqueext"), after(&calls[1], "--uniqueext"));
}

#[tokio::test]
async fn a_bootstrap_chroot_is_cleaned_away_too() {
    let site = Site::new("mkdir -p \"$here/lib/$root-bootstrap-$ext/root\"; rpmbuild; succeed");
    site.build().await.succeeded();
    site.is_tidy().await;
    let calls = site.calls();
    let clean = calls.iter().find(|call| call.contains(&"--clean".to_owned())).unwrap();
    assert_eq!(after(clean, "--config-opts"), "root=c9.x86_64-bootstrap");
    assert!(clean.contains(&"--no-bootstrap-chroot".to_owned()));
}

#[tokio::test]
async fn a_missing_mock_is_the_builders_fault() {
    let mut site = Site::new("");
    site.settings.program = site.join("nosuch").into();
    let built = site.build().await;
    assert_eq!(built.failure().class, Class::Config);
    assert!(built.failure().retry);
    assert!(built.failure().lines[0].ends_with("it is not installed, or not on PATH"));
    assert_eq!(site.notes(), 0);
    // The logs exist all the same.
    assert!(built.log("root.log").contains("it is not installed"));
}

#[tokio::test]
async fn names_that_look_like_options_reach_mock_as_what_they_are() {
    let site = Site::new("rpmbuild; succeed");
    let folder = site.join("--result; touch hurt $(id)");
    std::fs::create_dir_all(&folder).unwrap();
    let srpm = folder.join("-r --clean.src.rpm");
    std::fs::copy(crate::common::srpm("bash", 1), &srpm).unwrap();
    site.build_srpm(&srpm, "c9.x86_64", Arch::X86_64).await.succeeded();
    assert_eq!(site.builds()[0].last().unwrap(), &srpm.display().to_string());
    assert!(!site.join("hurt").exists() && !std::path::Path::new("hurt").exists());
}
