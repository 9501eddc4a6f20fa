//! Which configuration a build gets, and what it is made of.

use std::path::Path;
use std::time::SystemTime;

use reimzul::model::{Arch, Class};

use crate::harness::{CONFIG, Site, after};

fn modified(path: impl AsRef<Path>) -> SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

#[tokio::test]
async fn a_configuration_stays_as_it_is_until_its_text_changes() {
    let site = Site::new("rpmbuild; succeed");
    let config = |n: u32| site.join(format!("root/cache/mock/configs/c9.x86_64/{n}/c9.x86_64.cfg"));
    site.build().await.succeeded();
    let first = modified(config(1));
    // A newer template with the same text is the same configuration.
    site.write("root/mock_configs/mock/c9.x86_64.cfg", CONFIG);
    site.build().await.succeeded();
    assert_eq!(modified(config(1)), first);
    assert_eq!(after(&site.builds()[1], "-r"), config(1).display().to_string());

    site.write("root/mock_configs/mock/c9.x86_64.cfg", &format!("{CONFIG}# changed\n"));
    site.is_tidy().await;
    site.build().await.succeeded();
    assert_eq!(after(&site.builds()[2], "-r"), config(2).display().to_string());
    assert!(modified(config(2)) > first, "mock would go on with the root cache of the old configuration");
    assert!(!config(1).exists(), "a configuration that nobody uses is left");

    // Back to the first text: for mock that is a change as well.
    let second = modified(config(2));
    site.write("root/mock_configs/mock/c9.x86_64.cfg", CONFIG);
    site.is_tidy().await;
    site.build().await.succeeded();
    assert!(modified(config(3)) > second);
    assert_eq!(after(&site.builds()[3], "-r"), config(3).display().to_string());
}

#[tokio::test]
async fn a_configuration_in_use_stays_where_another_takes_its_place() {
    let site = Site::new(
        "rpmbuild; while [ ! -e \"$here/go\" ]; do sleep 0.05; done; cat \"$config\" > /dev/null || exit 3; succeed",
    );
    let change = async {
        crate::common::eventually("a build under way", async || (site.builds().len() == 1).then_some(()))
            .await;
        site.write("root/mock_configs/mock/c9.x86_64.cfg", &format!("{CONFIG}# changed\n"));
        let second = async {
            crate::common::eventually("a second build", async || (site.builds().len() == 2).then_some(()))
                .await;
            site.write("fake/go", "");
        };
        tokio::join!(site.build(), second).0
    };
    let (one, other) = tokio::join!(site.build(), change);
    one.succeeded();
    other.succeeded();
}

#[tokio::test]
async fn what_a_configuration_stands_on_is_beside_it() {
    let site = Site::new("rpmbuild; ls -R \"$configdir\" > \"$here/listing\"; succeed");
    site.write("root/mock_configs/mock/site-defaults.cfg", "# the site's\n");
    site.write(
        "root/mock_configs/mock/templates/base.tpl",
        "# http://repohost TARGETNAME\ninclude('more.tpl')\n",
    );
    site.write("own/templates/mocks.tpl", "# mock's own\n");
    site.write("own/more.tpl", "# more\n");
    site.write(
        "root/mock_configs/mock/c9.x86_64.cfg",
        &format!("{CONFIG}include('templates/base.tpl')\ninclude(\"templates/mocks.tpl\")\ninclude('/etc/passwd')\ninclude('../../../reimzul.db')\n"),
    );
    site.build().await.succeeded();
    let dir = "root/cache/mock/configs/c9.x86_64/1";
    assert_eq!(site.read(format!("{dir}/site-defaults.cfg")), "# the site's\n");
    assert_eq!(site.read(format!("{dir}/logging.ini")), "# mock's\n");
    assert_eq!(
        site.read(format!("{dir}/templates/base.tpl")),
        "# http://bstore:11081/bstore c9.x86_64\ninclude('more.tpl')\n"
    );
    assert_eq!(site.read(format!("{dir}/templates/mocks.tpl")), "# mock's own\n");
    assert_eq!(site.read(format!("{dir}/more.tpl")), "# more\n");
    let listing = site.read("fake/listing");
    assert!(!listing.contains("passwd") && !listing.contains("reimzul.db"), "{listing}");
}

#[tokio::test]
async fn companions_and_packages_have_roots_of_their_own() {
    let site = Site::new("rpmbuild; succeed");
    site.write("root/mock_configs/mock/c9.i386.cfg", CONFIG);
    let built = site.build_for("c9.x86_64", Arch::I386).await;
    built.succeeded();
    assert!(built.log("mock.cfg").starts_with("config_opts['root'] = 'c9.i386'\n"));
    let (pkgname, evr) = ("bash", "1.0-1");
    site.write(&format!("root/mock_configs/mock/{pkgname}-{evr}.x86_64.cfg"), CONFIG);
    let built = site.build().await;
    built.succeeded();
    // The root cache of the target's own configuration would be the wrong one.
    assert!(built.log("mock.cfg").starts_with("config_opts['root'] = 'c9.x86_64.bash-1.0-1'\n"));
}

#[tokio::test]
async fn a_configuration_of_mocks_own_is_used_where_it_is() {
    let site = Site::new("rpmbuild; succeed");
    let text = "config_opts['root'] = 'epel-9-x86_64'\ninclude('templates/x.tpl')\n";
    site.write("own/epel-9-x86_64.cfg", text);
    let built = site.build_for("epel-9.x86_64", Arch::X86_64).await;
    built.succeeded();
    let call = &site.builds()[0];
    assert_eq!(after(call, "-r"), site.join("own/epel-9-x86_64.cfg").display().to_string());
    assert_eq!(after(call, "--configdir"), site.join("own").display().to_string());
    assert_eq!(built.log("mock.cfg"), text);
}

#[tokio::test]
async fn a_target_without_configuration_is_told_and_mock_is_not_called() {
    let site = Site::new("rpmbuild; succeed");
    let built = site.build_for("c8.x86_64", Arch::X86_64).await;
    assert_eq!((built.failure().class, built.failure().retry), (Class::Config, false));
    let said = &built.failure().lines[0];
    assert!(said.starts_with("no target c8.x86_64 (did you mean c9.x86_64?): there is neither "), "{said}");
    assert!(said.ends_with("targets here: c9.x86_64"), "{said}");
    assert!(site.calls().is_empty());
    assert!(built.log("build.log").contains("no target c8.x86_64"));
}

#[tokio::test]
async fn the_engine_knows_what_it_has_a_configuration_for() {
    let site = Site::new("");
    site.write("own/epel-9-x86_64.cfg", "");
    site.write("own/epel-9-i686.cfg", "");
    let engine = site.engine();
    let knows = |target: &str, arch| engine.knows(&target.parse().unwrap(), arch);
    assert!(knows("c9.x86_64", Arch::X86_64) && knows("epel-9.x86_64", Arch::X86_64));
    assert!(knows("epel-9.x86_64", Arch::I386), "mock calls it i686");
    assert!(!knows("c9.x86_64", Arch::I386), "c9.i386.cfg is not there");
    assert!(!knows("c9.x86_64", Arch::Noarch) && !knows("c8.x86_64", Arch::X86_64));
}

#[tokio::test]
async fn a_configuration_by_which_builds_may_miss_what_was_just_built_is_told() {
    let site = Site::new("");
    site.write("root/mock_configs/mock/fresh.x86_64.cfg", &format!("{CONFIG}metadata_expire = 0\n"));
    site.write("root/mock_configs/mock/templates/fresh.tpl", "metadata_expire=0\n");
    site.write("root/mock_configs/mock/other.x86_64.cfg", "include('templates/fresh.tpl')\n");
    site.write("root/mock_configs/mock/stale.x86_64.cfg", &format!("{CONFIG}metadata_expire=6h\n"));
    let findings = site.engine().check().await;
    let found = findings.iter().find(|finding| finding.text.contains("metadata_expire")).unwrap();
    let expected =
        "look at this: by c9.x86_64.cfg, stale.x86_64.cfg dnf may use metadata that is two days old";
    assert!(found.ok && found.text.starts_with(expected), "{found:?}");
}
