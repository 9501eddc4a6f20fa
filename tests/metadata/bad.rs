//! Bad input: what cannot be listed is set aside, with its reason, and the rest goes on.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use reimzul::config::RepoEngine;
use reimzul::metadata::Repository;
use reimzul::queue::CREATEREPO;

use crate::crashes::{request, served};
use crate::harness::{Root, eventually, target};
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
        std::os::unix::fs::symlink("nowhere", folder.join("dangling.rpm")).unwrap();
        std::os::unix::fs::symlink("loop.rpm", folder.join("loop.rpm")).unwrap();
        nix::unistd::mkfifo(&folder.join("pipe.rpm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
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
            ("dangling.rpm", "No such file"),
            ("loop.rpm", "Too many levels of symbolic links"),
            ("pipe.rpm", "it is a FIFO"),
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

/// An RPM whose header has an entry of a number that rpm refuses, with a digest that is right; and one whose digest is
/// wrong.
fn damaged_headers(bytes: &[u8]) -> [Vec<u8>; 2] {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let length = |header: usize| 16 + number(header + 8) * 16 + number(header + 12);
    let start = (96 + length(96)).next_multiple_of(8);
    let header = start..start + length(start);
    let before = reimzul::sys::fs::sha256_of(&bytes[header.clone()]);
    let digest = bytes.windows(64).position(|part| part == before.as_bytes()).unwrap();
    let mut refused = bytes.to_vec();
    refused[start + 32..start + 36].copy_from_slice(&50_u32.to_be_bytes());
    let after = reimzul::sys::fs::sha256_of(&refused[header.clone()]);
    refused[digest..digest + 64].copy_from_slice(after.as_bytes());
    let mut changed = bytes.to_vec();
    let at = bytes.windows(9).position(|part| part == b"be listed").unwrap();
    changed[at] = b'B';
    [refused, changed]
}

#[tokio::test]
async fn a_header_that_rpm_refuses_or_that_was_changed_is_set_aside() {
    for engine in [RepoEngine::Incremental, RepoEngine::CreaterepoC] {
        let place = Place::new(engine);
        let good = std::fs::read(rpms::build(place.tree(), "good", 1, 5)).unwrap();
        let [refused, changed] = damaged_headers(&good);
        std::fs::write(place.tree().join("changed.rpm"), changed).unwrap();
        let made = place.update().await;
        assert_eq!((made.packages, made.excluded.len()), (1, 1), "{engine:?}: {made:?}");
        assert!(made.excluded[0].reason.contains("its header does not match its digest"), "{made:?}");
        std::fs::write(place.tree().join("refused.rpm"), refused).unwrap();
        // The built-in engine sees nothing wrong; compared with createrepo_c, it does.
        place.update().await;
        place.repository.lock().await.unwrap().verify(place.wanted(), None).await.unwrap();
        rpms::build(place.tree(), "late", 1, 5);
        let made = place.update().await;
        assert_eq!((made.packages, made.excluded.len()), (2, 2), "{engine:?}: {made:?}");
        assert!(made.excluded[1].reason.starts_with("rpm cannot read it: tag[0]: BAD, tag 50"), "{made:?}");
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

/// `rw` or `ro`
fn remount(path: &Path, how: &str) {
    let mut command = Command::new("mount");
    let status = command.arg("--options").arg(format!("remount,{how}")).arg(path).status();
    assert!(status.unwrap().success(), "{how} {}", path.display());
}

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

#[tokio::test]
async fn a_read_only_disk_leaves_the_old_state_and_the_next_run_mends_it() {
    for engine in [RepoEngine::Incremental, RepoEngine::CreaterepoC] {
        let place = Place::new(engine);
        let (tree, cache) = (place.tree().to_owned(), place.repository.cache.clone());
        let repodata = tree.join("repodata");
        let (_one, _other) = (Small::mount(&repodata), Small::mount(&cache));
        rpms::build(&tree, "early", 1, 10);
        place.update().await;
        let before = std::fs::read(repodata.join("repomd.xml")).unwrap();
        rpms::build(&tree, "late", 1, 10);
        for part in [&repodata, &cache] {
            remount(part, "ro");
            let update = async || place.repository.lock().await?.update(place.wanted(), None).await;
            let said = update().await.unwrap_err().to_string();
            remount(part, "rw");
            for word in [part.to_str().unwrap(), "Read-only file system", "have it mounted for writing"] {
                assert!(said.contains(word), "{engine:?}: {word} is not in {said}");
            }
            assert_eq!(std::fs::read(repodata.join("repomd.xml")).unwrap(), before);
        }
        let made = place.update().await;
        assert_eq!((made.packages, made.is_new), (2, true), "{engine:?}");
        place.agrees();
    }
}

#[tokio::test]
async fn without_memory_for_createrepo_c_the_old_state_stays_and_the_next_run_mends_it() {
    let root = Root::with("[repo]\nengine = createrepo_c\n");
    let (site, target) = (root.site(), target());
    let tree = root.join(format!("bstore/repo/{target}"));
    // With this file there is so little memory that createrepo_c begins and cannot go on. Where it then waits for
    // ever, that is ended.
    let limit = root.join("limit");
    let path = root.with_createrepo(&format!(
        "[ -e {} ] && exec timeout 10 prlimit --as=90000000 $real \"$@\"\nexec $real \"$@\"",
        limit.display()
    ));
    let repogen = root.start_with(&["repogen"], &[("PATH", &path)]);
    let ask = async |name: &str| {
        rpms::build(&tree, name, 1, 2000);
        site.queue.put(vec![request(&target, name)]).await.unwrap();
    };
    ask("first").await;
    served(&site).await;
    let before = root.read(format!("bstore/repo/{target}/repodata/repomd.xml"));
    root.write("limit", "");
    ask("second").await;
    let reason =
        eventually("why it waits", async || site.queue.list(Some(CREATEREPO)).await.unwrap().pop()?.reason)
            .await;
    assert!(reason.starts_with("createrepo_c for "), "{reason}");
    assert_eq!(root.read(format!("bstore/repo/{target}/repodata/repomd.xml")), before);
    std::fs::remove_file(limit).unwrap();
    served(&site).await;
    repogen.stop();
    assert_eq!(crate::harness::listed(&tree).len(), 2);
}

#[tokio::test]
async fn stats_show_what_repositories_leave_out() {
    let root = Root::new();
    let (site, target) = (root.site(), target());
    let tree = root.join(format!("bstore/repo/{target}"));
    let folder = rpms::build(&tree, "good", 1, 1).parent().unwrap().to_owned();
    for number in 0..5 {
        std::fs::write(folder.join(format!("bad-{number}.rpm")), "").unwrap();
    }
    std::fs::write(folder.join("new\nline.rpm"), "").unwrap();
    site.queue.put(vec![request(&target, "good")]).await.unwrap();
    let repogen = root.start(&["repogen"]);
    served(&site).await;
    let notifier = root.start(&["notifier"]);
    let stats = eventually("a sign of the store", async || {
        let stats = root.run(&["stats"]).ok().out;
        stats.contains("leaves out").then_some(stats)
    })
    .await;
    let expected = format!(
        "the repository of {target} leaves out 6 RPMs:\n  \
         good/20260101000000/1.0-1.x86_64/bad-0.rpm: it is empty\n"
    );
    assert!(stats.contains(&expected), "{stats}");
    assert!(stats.contains(&format!("all of them are in bstore/cache/{target}/excluded.json")), "{stats}");
    let told = root.run(&["stats", "--json"]).ok().json()["stores"][0]["left_out"][0].clone();
    assert_eq!((&told["count"], told["files"].as_array().unwrap().len()), (&6.into(), 6), "{told}");
    notifier.stop();
    repogen.stop();
}
