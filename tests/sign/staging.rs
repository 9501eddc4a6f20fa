//! Staging for a signer outside.

use std::os::unix::fs::MetadataExt;

use crate::farm::{Build, by_file, farm, published};
use crate::harness::keys::{Kind, key};
use crate::harness::{Ask, Root, binary_rpm, srpm, target};

const STAMP: &str = "20261123204406";

fn staged(root: &Root) -> Vec<String> {
    root.files(&format!("bstore/tosign/{}", target()))
}

async fn stage(root: &Root, builds: &[&Build]) {
    let (site, roles) = (root.site(), root.start(&["signer"]));
    site.queue.put(builds.iter().map(|build| build.request()).collect()).await.unwrap();
    site.quiet().await;
    roles.stop();
}

#[tokio::test]
async fn rpms_are_staged_once_by_links_that_nobody_may_write_to() {
    let root = farm("");
    let build = Build::put(&root, STAMP, &[binary_rpm("hello"), srpm("hello", 1)]);
    let failed = Build::put_as(&root, "20261123204407", &[binary_rpm("failed")], "Failed", false);
    let scratch = Build::put_as(&root, "20261123204408", &[binary_rpm("scratch")], "Success", true);
    stage(&root, &[&build, &failed, &scratch]).await;
    let expected = ["hello-1.0-1.noarch.rpm", "hello-1.0-1.src.rpm"]
        .map(|file| format!("bstore/tosign/{}/{file}", target()));
    assert_eq!(staged(&root), expected);
    let inode = |path: std::path::PathBuf| {
        let found = std::fs::metadata(path).unwrap();
        (found.ino(), found.mode() & 0o777)
    };
    let links: Vec<_> = expected.iter().map(|file| inode(root.join(file))).collect();
    for (file, link) in build.files.iter().zip(&links) {
        assert_eq!(inode(build.built(&root, file)), *link);
        assert_eq!(link.1 & 0o222, 0, "{file} can be written to in two places");
    }
    // Half of one, as another program may leave it; and again, all of it.
    let half = root.join(&expected[0]);
    std::fs::remove_file(&half).unwrap();
    std::fs::write(&half, "half").unwrap();
    stage(&root, &[&build, &build]).await;
    assert_eq!(staged(&root), expected, "nothing beside them");
    assert_eq!(expected.iter().map(|file| inode(root.join(file))).collect::<Vec<_>>(), links);
}

#[tokio::test]
async fn copies_are_staged_where_asked_for_and_where_links_cannot_be() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    for (sign, apart) in [("stage = copy", false), ("", true)] {
        let root = farm(sign);
        let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
        if apart {
            std::os::unix::fs::symlink(elsewhere.path(), root.join("bstore/tosign")).unwrap();
        }
        stage(&root, &[&build]).await;
        let copy = root.join(format!("bstore/tosign/{}/hello-1.0-1.noarch.rpm", target()));
        let built = build.built(&root, "hello-1.0-1.noarch.rpm");
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&built).unwrap());
        let inode = |path| std::fs::metadata(path).unwrap().ino();
        assert_ne!(inode(&copy), inode(&built));
        // What signs in place signs the copy.
        std::fs::write(&copy, "signed").unwrap();
        assert_ne!(std::fs::read(&built).unwrap(), b"signed");
    }
}

#[tokio::test]
async fn a_target_with_an_empty_section_is_staged_where_others_are_signed() {
    let key = key(Kind::Ed25519);
    let root = farm(&format!("{}\n[sign {}]\n", by_file(&key), target()));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    stage(&root, &[&build]).await;
    assert_eq!(staged(&root).len(), 1);
    assert_eq!(published(&root), Vec::<String>::new());
}
