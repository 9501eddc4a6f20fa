//! From state to state: what is added, removed and replaced, numbers, signatures, and what others put there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reimzul::config::RepoEngine;
use reimzul::metadata::{Repository, Sign};

use crate::oracle::{Place, found};
use crate::rpms;

#[tokio::test]
async fn after_any_changes_the_metadata_is_what_createrepo_c_makes_anew() {
    let place = Place::new(RepoEngine::Incremental);
    for number in 0..300 {
        rpms::build(place.tree(), &format!("p{number}"), 1, 3);
    }
    assert_eq!(place.update().await.packages, 300);
    // One added, looked for where it is.
    let added = rpms::build(place.tree(), "added", 1, 3);
    assert_eq!(place.update_only(added.parent().unwrap()).await.packages, 301);
    place.agrees();
    // Some gone, of which most of a chunk's; one replaced under its name; new ones.
    for number in (0..60).chain([100, 200, 299]) {
        std::fs::remove_dir_all(place.tree().join(format!("p{number}"))).unwrap();
    }
    rpms::build(place.tree(), "p150", 1, 9);
    for number in 300..400 {
        rpms::build(place.tree(), &format!("p{number}"), 2, 2);
    }
    assert_eq!(place.update().await.packages, 301 - 63 + 100);
    place.agrees();
    // All gone, and one back.
    for entry in std::fs::read_dir(place.tree()).unwrap().flatten() {
        if entry.file_name() != "repodata" {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    assert_eq!(place.update().await.packages, 0);
    place.agrees();
    rpms::build(place.tree(), "last", 1, 1);
    assert_eq!(place.update().await.packages, 1);
    place.agrees();
}

#[tokio::test]
async fn numbers_only_grow_and_a_state_that_says_the_same_is_not_made() {
    let mut place = Place::new(RepoEngine::Incremental);
    let rpm = rpms::build(place.tree(), "one", 1, 1);
    let first = place.update().await;
    assert_eq!((first.state, first.is_new), (1, true));
    let again = place.update_only(rpm.parent().unwrap()).await;
    assert_eq!((again.state, again.is_new), (1, false));
    rpms::build(place.tree(), "two", 1, 1);
    assert_eq!(place.update().await.state, 2);
    // Whoever makes the metadata goes on counting.
    place.repository.options.engine = RepoEngine::CreaterepoC;
    assert_eq!(place.update().await.state, 3);
    place.agrees();
    place.repository.options.engine = RepoEngine::Incremental;
    assert_eq!(place.update().await.state, 4);
    // What was kept between runs is gone: it is made anew.
    std::fs::remove_dir_all(&place.repository.cache).unwrap();
    rpms::build(place.tree(), "three", 1, 1);
    assert_eq!(place.update().await.state, 5);
    std::fs::write(place.repository.cache.join("index.db"), vec![7; 20_000]).unwrap();
    rpms::build(place.tree(), "four", 1, 1);
    assert_eq!((place.update().await.state, Repository::state(place.tree()).unwrap()), (6, Some(6)));
    place.agrees();
}

#[tokio::test]
async fn the_last_states_stay_readable_and_older_ones_go() {
    let mut place = Place::new(RepoEngine::Incremental);
    place.repository.options.keep = 2;
    place.repository.options.keep_for = Duration::ZERO;
    for number in 0..6 {
        rpms::build(place.tree(), &format!("p{number}"), 1, 1);
        place.update().await;
    }
    let kept = |number: u64| place.tree().join(format!("repodata/{number}-repomd.xml"));
    for number in 4..=6 {
        let text = std::fs::read_to_string(kept(number)).unwrap();
        assert!(text.contains(&format!("<revision>{number}</revision>")));
        for file in crate::harness::values(&text, "href=\"") {
            assert!(place.tree().join(&file).exists(), "state {number} lacks {file}");
        }
    }
    assert!((1..4).all(|number| !kept(number).exists()));
    // repomd.xml, three kept, and three lists each.
    assert_eq!(std::fs::read_dir(place.tree().join("repodata")).unwrap().count(), 1 + 3 + 9);
}

#[tokio::test]
async fn what_others_added_to_the_metadata_stays() {
    let place = Place::new(RepoEngine::Incremental);
    rpms::build(place.tree(), "one", 1, 1);
    place.update().await;
    let repodata = place.tree().join("repodata");
    for (name, text) in [("comps.xml", "<comps/>"), ("updateinfo.xml", "<updates/>")] {
        let file = place.repository.cache.join(name);
        std::fs::write(&file, text).unwrap();
        let kind = if name == "comps.xml" { "group" } else { "updateinfo" };
        let mut command = Command::new("modifyrepo_c");
        assert!(
            command.arg(format!("--mdtype={kind}")).arg(&file).arg(&repodata).status().unwrap().success()
        );
    }
    rpms::build(place.tree(), "two", 1, 1);
    place.update().await;
    let repomd = std::fs::read_to_string(repodata.join("repomd.xml")).unwrap();
    for kind in ["group", "updateinfo", "primary"] {
        assert!(repomd.contains(&format!("<data type=\"{kind}\">")), "{kind} is missing:\n{repomd}");
    }
    for file in crate::harness::values(&repomd, "href=\"") {
        assert!(place.tree().join(&file).exists(), "{file} is not there");
    }
    place.agrees();
}

#[tokio::test]
async fn a_signature_appears_with_what_it_signs() {
    let place = Place::new(RepoEngine::Incremental);
    rpms::build(place.tree(), "one", 1, 1);
    let sign: Sign<'_> = &|repomd| Box::pin(async move { Ok([b"signed: ", repomd.as_slice()].concat()) });
    let signed = |tree: &Path| {
        let [repomd, signature] =
            ["repomd.xml", "repomd.xml.asc"].map(|name| tree.join("repodata").join(name));
        let repomd = std::fs::read(repomd).unwrap();
        std::fs::read(signature).ok().map(|signature| signature == [b"signed: ", repomd.as_slice()].concat())
    };
    let update = async |sign: Option<Sign<'_>>| {
        place.repository.lock().await.unwrap().update(place.wanted(), sign).await
    };
    assert_eq!(update(None).await.unwrap().state, 1);
    assert_eq!(signed(place.tree()), None);
    // Nothing changed but that it is to be signed.
    assert_eq!(update(Some(sign)).await.unwrap().state, 2);
    assert_eq!(signed(place.tree()), Some(true));
    rpms::build(place.tree(), "two", 1, 1);
    let fails: Sign<'_> = &|_| Box::pin(async { Err("the key is locked".to_owned()) });
    let said = update(Some(fails)).await.unwrap_err().to_string();
    assert!(said.ends_with("could not be signed: the key is locked"), "{said}");
    assert_eq!((Repository::state(place.tree()).unwrap(), signed(place.tree())), (Some(2), Some(true)));
    assert_eq!(update(Some(sign)).await.unwrap().packages, 2);
    assert_eq!(signed(place.tree()), Some(true));
    assert_eq!(found(place.tree()).len(), 2);
    update(None).await.unwrap();
    assert_eq!(signed(place.tree()), None);
}

#[tokio::test]
async fn verifying_finds_what_is_wrong_and_repairs_it() {
    let place = Place::new(RepoEngine::Incremental);
    for number in 0..5 {
        rpms::build(place.tree(), &format!("p{number}"), 1, 2);
    }
    place.update().await;
    let verify = async || place.repository.lock().await.unwrap().verify(place.wanted(), None).await.unwrap();
    let verified = verify().await;
    assert_eq!((verified.packages, verified.found.len(), verified.repaired), (5, 0, None));
    // Another content of the same size and time: nobody could see that.
    let rpm = found(place.tree()).remove(0);
    let path = place.tree().join(&rpm);
    let (bytes, time) =
        (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().modified().unwrap());
    rpms::build(place.tree(), "p0", 1, 2);
    let at = bytes.windows(12).position(|part| part == b"be listed. I").unwrap();
    let other = [&bytes[..at], b"BE LISTED. I", &bytes[at + 12..]].concat();
    std::fs::write(&path, &other).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert!(!place.update().await.is_new);
    let verified = verify().await;
    assert!(!verified.found.is_empty() && verified.left.is_empty(), "{verified:?}");
    assert!(verify().await.found.is_empty());
}

/// A repository that createrepo_c made, at a migration say.
#[tokio::test]
async fn the_files_of_a_state_by_another_program_stay_for_a_while() {
    let place = Place::new(RepoEngine::Incremental);
    rpms::build(place.tree(), "one", 1, 3);
    let made = std::process::Command::new("createrepo_c").arg("--quiet").arg(place.tree()).status().unwrap();
    assert!(made.success());
    let folder = place.tree().join("repodata");
    let names = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(&folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    // Long ago.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
    for name in names() {
        std::fs::File::options().append(true).open(folder.join(name)).unwrap().set_modified(old).unwrap();
    }
    let before = names();
    place.update().await;
    assert!(names().is_superset(&before), "{:?} of {before:?}", names());
}

#[tokio::test]
async fn what_another_engine_listed_stays_listed() {
    let mut place = Place::new(RepoEngine::Incremental);
    let add = |place: &Place, name: &str| {
        rpms::build(&place.tree().join(name), name, 1, 3).parent().unwrap().to_owned()
    };
    add(&place, "one");
    place.update().await;
    add(&place, "two");
    place.repository.options.engine = RepoEngine::CreaterepoC;
    place.update().await;
    place.repository.options.engine = RepoEngine::Incremental;
    let third = add(&place, "three");
    assert_eq!(place.update_only(&third).await.packages, 3);
}
