//! A tree of a hundred thousand files, most of which are none of the repository's.

use std::path::Path;

use crate::crashes::{request, served};
use crate::harness::{Root, listed, target};
use crate::rpms;

const BUILDS: usize = 20;
const COPIES: usize = 500;
const FILES: usize = 100_000;

/// Beside what builds left: copies of an RPM by links, what an unfinished build left, and notes.
fn fill(tree: &Path) {
    let rpms: Vec<_> = (0..BUILDS).map(|number| rpms::build(tree, &format!("p{number}"), 1, 3)).collect();
    let folder = |number: usize| tree.join(format!("p{}/20260101000000/1.0-1.x86_64", number % BUILDS));
    for number in 0..COPIES {
        std::fs::hard_link(&rpms[0], folder(number).join(format!("copy-{number}.noarch.rpm"))).unwrap();
    }
    let unfinished = tree.join("unfinished/20260101000000/1.0-1.x86_64");
    std::fs::create_dir_all(&unfinished).unwrap();
    for number in 0..COPIES {
        std::fs::write(unfinished.join(format!("u-{number}.rpm")), "no RPM").unwrap();
    }
    for number in 0..FILES - 2 * COPIES {
        std::fs::File::create(folder(number).join(format!("note-{number}.txt"))).unwrap();
    }
}

#[tokio::test]
async fn in_a_tree_of_a_hundred_thousand_files_a_new_build_is_listed_without_looking_through_them() {
    let root = Root::new();
    let (site, target) = (root.site(), target());
    let tree = root.join(format!("bstore/repo/{target}"));
    fill(&tree);
    let repogen = root.start(&["repogen"]);
    site.queue.put(vec![request(&target, "p0")]).await.unwrap();
    served(&site).await;
    let before = listed(&tree);
    assert_eq!(before.len(), BUILDS + COPIES);
    // Whoever looks for the others now finds that they are gone.
    let elsewhere = root.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let moved: Vec<String> = (0..BUILDS).map(|number| format!("p{number}")).collect();
    for name in &moved {
        std::fs::rename(tree.join(name), elsewhere.join(name)).unwrap();
    }
    rpms::build(&tree, "new", 1, 3);
    site.queue.put(vec![request(&target, "new")]).await.unwrap();
    served(&site).await;
    let mut expected = [&before[..], &["new-1.0-1.noarch.rpm".to_owned()]].concat();
    expected.sort();
    assert_eq!(listed(&tree), expected);
    for name in &moved {
        std::fs::rename(elsewhere.join(name), tree.join(name)).unwrap();
    }
    root.run(&["repogen", target.as_str()]).ok();
    served(&site).await;
    repogen.stop();
    assert_eq!(listed(&tree), expected);
    assert_eq!(reimzul::metadata::Repository::state(&tree).unwrap(), Some(2), "a state of no change");
}
