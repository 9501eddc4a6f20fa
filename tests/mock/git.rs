//! Configurations that git brings up to date.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reimzul::model::Class;

use crate::harness::{CONFIG, Site};

fn git(folder: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", "-C"])
        .arg(folder)
        .args(arguments)
        .output()
        .expect("git is missing: install the package git");
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A site whose configurations are a clone of `upstream`.
fn cloned() -> Site {
    let site = Site::new("rpmbuild; succeed");
    std::fs::remove_dir_all(site.join("root/mock_configs")).unwrap();
    site.write("upstream/mock/c9.x86_64.cfg", CONFIG);
    git(&site.join("upstream"), &["init", "--quiet"]);
    commit(&site);
    git(&site.join("root"), &["clone", "--quiet", "../upstream", "mock_configs"]);
    site
}

fn commit(site: &Site) {
    git(&site.join("upstream"), &["add", "."]);
    git(&site.join("upstream"), &["commit", "--quiet", "-m", "x"]);
}

#[tokio::test]
async fn each_build_has_the_newest_configuration() {
    let site = cloned();
    site.build().await.succeeded();
    site.write("upstream/mock/c9.x86_64.cfg", &format!("{CONFIG}# newer\n"));
    commit(&site);
    let (one, other) = tokio::join!(site.build(), site.build());
    for built in [one, other] {
        built.succeeded();
        assert!(built.log("mock.cfg").ends_with("# newer\n"));
        assert!(!built.log("root.log").contains("WARNING"));
    }
}

#[tokio::test]
async fn a_failing_update_is_a_warning_until_the_configurations_are_too_old() {
    let mut site = cloned();
    site.build().await.succeeded();
    std::fs::rename(site.join("upstream"), site.join("gone")).unwrap();
    let built = site.build().await;
    built.succeeded();
    let log = built.log("root.log");
    let warning = log.lines().last().unwrap();
    assert!(
        warning.starts_with("WARNING: the configurations in ") && warning.contains("could not be updated: ")
    );
    assert!(warning.contains("building by those of "), "{warning}");

    site.settings.options.stale_after = Duration::ZERO;
    let built = site.build().await;
    assert_eq!((built.failure().class, built.failure().retry), (Class::Config, true));
    assert!(built.failure().lines[0].contains("which is too old to build by"), "{:?}", built.failure());
    assert_eq!(site.builds().len(), 2, "mock was called with outdated configurations");

    site.settings.options.update = Some(false);
    site.build().await.succeeded();
}

#[tokio::test]
async fn a_clone_that_was_never_updated_is_not_trusted() {
    let site = cloned();
    std::fs::rename(site.join("upstream"), site.join("gone")).unwrap();
    let built = site.build().await;
    assert!(built.failure().lines[0].contains("they were last updated never"), "{:?}", built.failure());
}

#[tokio::test]
async fn local_changes_are_never_overwritten() {
    let mut site = cloned();
    site.write("root/mock_configs/mock/c9.x86_64.cfg", &format!("{CONFIG}# mine\n"));
    site.write("upstream/mock/c9.x86_64.cfg", &format!("{CONFIG}# theirs\n"));
    commit(&site);
    site.settings.options.stale_after = Duration::from_secs(3600);
    let built = site.build().await;
    assert_eq!(built.failure().class, Class::Config);
    assert!(site.read("root/mock_configs/mock/c9.x86_64.cfg").ends_with("# mine\n"));
}

#[tokio::test]
async fn a_folder_without_upstream_is_used_as_it_is() {
    let site = Site::new("rpmbuild; succeed");
    git(&site.join("root/mock_configs"), &["init", "--quiet"]);
    let built = site.build().await;
    built.succeeded();
    assert!(!built.log("root.log").contains("WARNING"));
}
