//! When a base chroot is made, kept and made anew.

use std::path::PathBuf;
use std::process::Command;

use reimzul::model::Class;

use crate::harness::{Site, script};

/// Puts a package into the repository `extra`, and makes its metadata.
fn publish(site: &Site, name: &str, version: &str, content: &str) {
    let extra = site.root.join("extra");
    std::fs::create_dir_all(&extra).unwrap();
    let spec = site.root.join(format!("{name}.spec"));
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n\
         %description\nx\n%install\nmkdir -p %{{buildroot}}/opt\necho {content} > %{{buildroot}}/opt/{name}\n\
         %files\n/opt/{name}\n"
    );
    std::fs::write(&spec, text).unwrap();
    let topdir = format!("_topdir {}", site.root.join("rpmbuild").display());
    let rpmdir = format!("_rpmdir {}", extra.display());
    let built = Command::new("rpmbuild")
        .args(["-bb", "--nodeps", "--define", &topdir, "--define", &rpmdir])
        .arg(&spec)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    index(&extra);
}

fn index(folder: &std::path::Path) {
    let indexed = Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(folder).status();
    assert!(indexed.expect("createrepo_c is missing: install the package createrepo-c").success());
}

fn bases(site: &Site) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(site.cache())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with("base-"))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_base_is_made_anew_when_what_it_holds_changed() {
    let site = Site::own("bases");
    publish(&site, "inbase", "1", "one");
    site.target_file(|text| {
        text.replace("@buildsys-build", "@buildsys-build inbase")
            + "\n[extra]\nbaseurl=file://$root/extra/\ngpgcheck=0\n"
    });
    let make = async |name: &str, content: &str| {
        let sections = format!("%build\ngrep -x {content} /opt/inbase\n");
        let built = site.build(&site.srpm(name, &script("", &sections), &[])).await;
        built.succeeded();
        built
    };
    make("first", "one").await;
    let first = bases(&site);
    assert_eq!(first.len(), 1);

    // Something else changed: the same base.
    publish(&site, "other", "1", "x");
    make("second", "one").await;
    assert_eq!(bases(&site), first);

    // What was built for the target itself is a repository, too: still the same base.
    let own = site.root.join("bstore/repo/mini.x86_64");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::rename(site.root.join("extra/noarch/other-1-1.noarch.rpm"), own.join("other-1-1.noarch.rpm"))
        .unwrap();
    index(&own);
    index(&site.root.join("extra"));
    let sections = "%build\ncat /opt/other\n";
    site.build(&site.srpm("third", &script("BuildRequires: other", sections), &[])).await.succeeded();
    assert_eq!(bases(&site), first);

    // A newer version of a package in the base.
    publish(&site, "inbase", "2", "two");
    let built = make("fourth", "two").await;
    let second = bases(&site);
    assert_ne!(second, first);
    assert_eq!(second.len(), 1, "the old base is of no use any more");
    assert!(built.outcome.buildroot.contains(&"inbase-2-1.noarch".to_owned()));
    assert_eq!(
        built.log("state.log").matches("Start: rpmbuild").count(),
        1,
        "of the try on the old base nothing is left"
    );

    // The same version with other content.
    publish(&site, "inbase", "2", "twice");
    make("fifth", "twice").await;
    assert_ne!(bases(&site), second);

    // A repository that breaks while there is a base.
    std::fs::write(site.root.join("extra/repodata/repomd.xml"), "half of i").unwrap();
    let built = site.build(&site.srpm("sixth", &script("", ""), &[])).await;
    let failure = built.failure();
    assert_eq!((failure.class, failure.phase.as_str(), failure.retry), (Class::Buildroot, "base", true));
    assert!(failure.lines.iter().any(|line| line.contains("extra")), "{:?}", failure.lines);
    for line in &failure.lines {
        assert!(built.log("root.log").contains(line), "'{line}' is not in:\n{}", built.log("root.log"));
    }
}

#[tokio::test]
async fn one_base_is_made_for_builds_that_start_together() {
    let site = Site::own("together");
    let srpms: Vec<_> = ["one", "two", "three"].map(|name| site.srpm(name, &script("", ""), &[])).into();
    let (one, two, three) = tokio::join!(site.build(&srpms[0]), site.build(&srpms[1]), site.build(&srpms[2]));
    for built in [one, two, three] {
        built.succeeded();
    }
    assert_eq!(std::fs::read_to_string(site.cache().join("base-last")).unwrap(), "1");
}
