//! kill -9 at any moment: readers see the old state or the new one, and the next run mends the rest.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reimzul::model::Target;
use reimzul::queue::{CREATEREPO, NewJob, PRIORITY};
use reimzul::role::Site;
use serde_json::json;

use crate::harness::{Root, eventually, listed, target, values};
use crate::rpms;

/// Every file that repomd.xml names is there, whole.
pub fn is_whole(tree: &Path) -> Result<(), String> {
    let repomd =
        std::fs::read_to_string(tree.join("repodata/repomd.xml")).map_err(|error| error.to_string())?;
    for href in values(&repomd, "href=\"") {
        let bytes = std::fs::read(tree.join(&href)).map_err(|error| format!("{href}: {error}"))?;
        let digest: String = reimzul::sys::fs::sha256_of(&bytes);
        if !repomd.contains(&digest) {
            return Err(format!("{href} is not what repomd.xml says"));
        }
    }
    Ok(())
}

/// A worker's, after the build of a package as [`rpms::build`] makes one.
pub fn request(target: &Target, package: &str) -> NewJob {
    let event = json!({"target": target, "pkgname": package, "timestamp": "20260101000000", "evr": "1.0-1",
        "arch": "x86_64"});
    NewJob::new(CREATEREPO, &event, PRIORITY)
}

/// Waits until no request for metadata is left.
pub async fn served(site: &Site) {
    eventually("no requests", async || {
        site.queue.list(Some(CREATEREPO)).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_a_whole_state_and_the_next_run_goes_on() {
    const KILLS: u64 = 40;
    let root = Root::new();
    let (site, target) = (root.site(), target());
    let tree = root.join(format!("bstore/repo/{target}"));
    let mut expected = BTreeSet::new();
    let mut unfinished = 0;
    for number in 0..KILLS {
        let rpm = rpms::build(&tree, &format!("p{number}"), 1, 200);
        expected.insert(rpm.file_name().unwrap().to_string_lossy().into_owned());
        site.queue.put(vec![request(&target, &format!("p{number}"))]).await.unwrap();
        let repogen = root.start(&["repogen"]);
        // From before the first step to after the last one, some steps many times over.
        tokio::time::sleep(Duration::from_millis(10 + number * 7 % 150)).await;
        repogen.kill();
        unfinished += usize::from(!site.queue.list(Some(CREATEREPO)).await.unwrap().is_empty());
        if tree.join("repodata/repomd.xml").exists() {
            is_whole(&tree).unwrap();
            let seen: BTreeSet<String> = listed(&tree).into_iter().collect();
            assert!(seen.is_subset(&expected));
        }
    }
    assert!(unfinished > 0, "no kill came in time");
    let repogen = root.start(&["repogen"]);
    served(&site).await;
    repogen.stop();
    is_whole(&tree).unwrap();
    assert_eq!(listed(&tree).into_iter().collect::<BTreeSet<_>>(), expected);
    // Whatever the killed ones left, the metadata is right.
    let verified = root.run(&["repogen", "--verify", target.as_str(), "--json"]).ok().json();
    assert_eq!(
        (verified["packages"].as_u64(), &verified["differences"]),
        (Some(KILLS), &json!([])),
        "{verified}"
    );
}
