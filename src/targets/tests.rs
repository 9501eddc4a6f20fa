//! Where configurations are looked for, in which order, and what is said where there is none.

use super::*;

struct Root(tempfile::TempDir);

impl Root {
    fn with(files: &[&str]) -> (Root, Layout) {
        let root = Root(tempfile::tempdir().unwrap());
        let layout = Layout::new(root.0.path().join("root"))
            .with_mock_configs(Some(root.0.path().join("site")), Some(root.0.path().join("own")));
        for file in files {
            let path = root.0.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        (root, layout)
    }
}

fn target(name: &str) -> Target {
    name.parse().unwrap()
}

/// What is found for a package `bash` 5-1, without the folders above.
fn found(layout: &Layout, name: &str, arch: Arch) -> Option<String> {
    let (pkgname, evr) = ("bash".parse().unwrap(), "5-1".parse().unwrap());
    let config = mock_config(layout, Some((&pkgname, &evr)), &target(name), arch)?;
    let above = layout.root().parent().unwrap();
    Some(config.path().strip_prefix(above).unwrap().display().to_string())
}

#[test]
fn a_packages_own_configuration_comes_first_then_the_targets_then_mocks() {
    let all = ["site/bash-5-1.x86_64.cfg", "site/epel-9.x86_64.cfg", "own/epel-9-x86_64.cfg"];
    for first in 0..all.len() {
        let (_root, layout) = Root::with(&all[first..]);
        assert_eq!(found(&layout, "epel-9.x86_64", Arch::X86_64).as_deref(), Some(all[first]));
    }
    let (_root, layout) = Root::with(&["site/zsh-5-1.x86_64.cfg", "site/bash-5-2.x86_64.cfg"]);
    assert_eq!(found(&layout, "epel-9.x86_64", Arch::X86_64), None);
}

#[test]
fn companions_have_configurations_of_their_own() {
    let (_root, layout) = Root::with(&[
        "site/c7.u.x86_64.cfg",
        "site/c7.u.i386.cfg",
        "site/c7.u.ppc.cfg",
        "site/c7.u.noarch.cfg",
        "own/epel-9-x86_64.cfg",
        "own/epel-9-i686.cfg",
        "own/f35-armhfp.cfg",
    ]);
    let found = |name, arch| found(&layout, name, arch).unwrap_or_default();
    assert_eq!(found("c7.u.x86_64", Arch::I386), "site/c7.u.i386.cfg");
    assert_eq!(found("c7.u.ppc64", Arch::Ppc), "site/c7.u.ppc.cfg");
    assert_eq!(found("c7.u.ppc64le", Arch::Noarch), "site/c7.u.noarch.cfg");
    assert_eq!(found("epel-9.x86_64", Arch::I386), "own/epel-9-i686.cfg");
    assert_eq!(found("epel-9.i686", Arch::I386), "own/epel-9-i686.cfg");
    assert_eq!(found("f35.armhfp", Arch::Armv7l), "own/f35-armhfp.cfg");
    // That it is there for another arch helps nobody.
    assert_eq!(found("epel-9.x86_64", Arch::Noarch), "");
    assert_eq!(found("epel-9.aarch64", Arch::Aarch64), "");
}

#[test]
fn a_wrong_target_is_told_with_the_nearest_there_is() {
    let (_root, layout) =
        Root::with(&["root/targets/mini.x86_64.repo", "site/c9.x86_64.cfg", "own/epel-9-x86_64.cfg"]);
    let said = |name: &str| {
        let above = layout.root().parent().unwrap().display().to_string();
        let error = check(&layout, None, &target(name), Arch::X86_64).unwrap_err();
        error.to_string().replace(&above, "")
    };
    assert_eq!(
        said("mimi.x86_64"),
        "no target mimi.x86_64 (did you mean mini.x86_64?): there is neither /root/targets/mimi.x86_64.repo nor \
         /site/mimi.x86_64.cfg nor /own/mimi-x86_64.cfg; targets here: c9.x86_64, mini.x86_64"
    );
    // mock's own are offered, and not listed.
    assert!(said("epel-8.x86_64").starts_with("no target epel-8.x86_64 (did you mean epel-9.x86_64?)"));
    assert!(said("something.else").starts_with("no target something.else: there is neither"));
    for known in ["mini.x86_64", "c9.x86_64", "epel-9.x86_64"] {
        assert_eq!(check(&layout, None, &target(known), Arch::X86_64), Ok(()));
    }
}

#[test]
fn a_machine_without_a_sites_configuration_cannot_tell() {
    let (_root, layout) = Root::with(&["own/epel-9-x86_64.cfg"]);
    assert_eq!(check(&layout, None, &target("anything.x86_64"), Arch::X86_64), Ok(()));
}

#[test]
fn what_lies_beside_configurations_is_no_target() {
    let (_root, layout) = Root::with(&["site/site-defaults.cfg", "site/.hidden.cfg", "site/c9.x86_64.cfg"]);
    let said = unknown_to_mock(&layout, &target("c8.x86_64"), Arch::X86_64).to_string();
    assert!(said.ends_with("targets here: c9.x86_64"), "{said}");
}
