//! Bad input: what cannot be listed is set aside, with its reason, and the rest goes on.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use reimzul::config::RepoEngine;
use reimzul::metadata::Repository;

use crate::oracle::Place;
use crate::rpms;

#[tokio::test]
async fn files_that_cannot_be_listed_are_set_aside_and_the_rest_goes_on() {
    for engine in [RepoEngine::Incremental, RepoEngine::CreaterepoC] {
        let place = Place::new(engine);
        let good = rpms::build(place.tree(), "good", 1, 5);
        let bytes = std::fs::read(&good).unwrap();
        let folder = place.tree().join("bad");
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &[u8], bytes: &[u8]| {
            std::fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), bytes).unwrap();
        };
        write(b"empty.rpm", b"");
        write(b"foreign.rpm", b"MZ is no RPM");
        write(b"truncated.rpm", &bytes[..bytes.len() - 10]);
        write(b"header-only.rpm", &bytes[..200]);
        let mut lying = bytes.clone();
        lying[104..112].fill(0xff);
        write(b"lying.rpm", &lying);
        write(b"new\nline.rpm", &bytes);
        write(b"latin-\xe9.rpm", &bytes);
        std::fs::create_dir(folder.join("folder.rpm")).unwrap();
        let made = place.update().await;
        assert_eq!(made.packages, 1, "{engine:?}: {made:?}");
        let mut reasons: Vec<String> = made
            .excluded
            .iter()
            .map(|one| format!("{}: {}", one.file.file_name().unwrap().display(), one.reason))
            .collect();
        reasons.sort();
        for (name, reason) in [
            ("empty.rpm", ": it is empty"),
            ("foreign.rpm", "is not an RPM"),
            ("truncated.rpm", "where its header says"),
            ("header-only.rpm", "a header is larger than the file"),
            ("lying.rpm", "a header is larger than"),
            ("line.rpm", "its name has control characters"),
            ("latin-", "its name is no UTF-8"),
        ] {
            let told = reasons.iter().any(|line| line.contains(name) && line.contains(reason));
            assert!(told, "{engine:?}: {name}: {reason}\n{reasons:#?}");
        }
        assert_eq!(reimzul::metadata::excluded::read(&place.repository.cache).len(), made.excluded.len());
        // What is mended is listed, and what is known to be bad is not told again.
        write(b"truncated.rpm", &bytes);
        let made = place.update().await;
        assert_eq!((made.packages, made.newly_excluded.len()), (2, 0), "{engine:?}: {made:?}");
    }
}

#[tokio::test]
async fn a_damaged_payload_is_not_listed_and_two_of_one_nevra_both_are() {
    let place = Place::new(RepoEngine::Incremental);
    rpms::build(place.tree(), "same", 1, 5);
    let other = place.tree().join("elsewhere");
    rpms::build(&other, "same", 1, 6);
    let damaged = rpms::build(place.tree(), "damaged", 1, 5);
    let mut bytes = std::fs::read(&damaged).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    let made = place.update().await;
    assert_eq!((made.packages, made.excluded.len()), (2, 1), "{made:?}");
    assert!(made.excluded[0].reason.contains("does not match the digest"), "{made:?}");
    std::fs::remove_file(damaged).unwrap();
    place.update().await;
    place.agrees();
}

/// A file system of its own, of some megabytes.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(path: &Path) -> Small<'_> {
        std::fs::create_dir_all(path).unwrap();
        let mut command = Command::new("mount");
        assert!(
            command.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(path).status().unwrap().success()
        );
        Small(path)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_state_and_the_next_run_mends_it() {
    for engine in [RepoEngine::Incremental, RepoEngine::CreaterepoC] {
        let place = Place::new(engine);
        let (tree, cache) = (place.tree().to_owned(), place.repository.cache.clone());
        let repodata = tree.join("repodata");
        let (_one, _other) = (Small::mount(&repodata), Small::mount(&cache));
        for number in 0..50 {
            rpms::build(&tree, &format!("p{number}"), 1, 10);
        }
        let first = place.update().await;
        let before = std::fs::read(repodata.join("repomd.xml")).unwrap();
        rpms::build(&tree, "late", 1, 10);
        for full in [&repodata, &cache] {
            let filler = full.join("filler");
            let _ = std::fs::write(&filler, vec![0; 4 << 20]);
            let locked = place.repository.lock().await.unwrap();
            let said = locked.update(place.wanted(), None).await;
            let now = std::fs::read(repodata.join("repomd.xml")).unwrap();
            assert!(said.is_err() && now == before, "{engine:?}, {}: {said:?}", full.display());
            let names: Vec<String> = crate::harness::values(&String::from_utf8(now).unwrap(), "href=\"");
            assert!(names.iter().all(|name| tree.join(name).exists()));
            std::fs::remove_file(filler).unwrap();
        }
        let made = place.update().await;
        assert_eq!(
            (made.packages, Repository::state(&tree).unwrap()),
            (first.packages + 1, Some(made.state))
        );
        place.agrees();
    }
}
