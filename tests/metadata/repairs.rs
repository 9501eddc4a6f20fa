//! Where createrepo_c says otherwise than the built-in engine, however often that reads everything.

use serde_json::{Value, json};

use crate::crashes::{request, served};
use crate::harness::{Ran, Root, listed, target};
use crate::rpms;

/// A createrepo_c that says more of each package than the built-in engine knows of.
const OTHERWISE: &str = r#"exec "$real" --baseurl http://example.org/ "$@""#;

struct Farm {
    root: Root,
    path: String,
}

impl Farm {
    /// Builds a package and has it listed.
    async fn build(&self, package: &str) {
        let (root, site) = (&self.root, self.root.site());
        rpms::build(&root.join(format!("bstore/repo/{}", target())), package, 1, 3);
        let repogen = root.start_with(&["repogen"], &[("PATH", &self.path)]);
        site.queue.put(vec![request(&target(), package)]).await.unwrap();
        served(&site).await;
        repogen.stop();
    }

    fn verify(&self) -> Value {
        let mut command = self.root.command(&["repogen", "--verify", target().as_str(), "--json"]);
        Ran::of(command.env("PATH", &self.path)).ok().json()
    }

    /// Whether createrepo_c made what readers see: it alone says digests of what is unpacked.
    fn is_createrepos(&self) -> bool {
        let repomd = self.root.read(format!("bstore/repo/{}/repodata/repomd.xml", target()));
        repomd.contains("<open-checksum")
    }

    fn listed(&self) -> usize {
        listed(&self.root.join(format!("bstore/repo/{}", target()))).len()
    }
}

#[tokio::test]
async fn where_the_built_in_engine_is_wrong_createrepo_c_makes_the_metadata_from_then_on() {
    let root = Root::new();
    let path = root.with_createrepo(OTHERWISE);
    let farm = Farm { root, path };
    farm.build("one").await;
    assert!(!farm.is_createrepos());
    let said = farm.verify();
    assert_eq!(said["left"], json!([]), "{said}");
    assert_eq!(
        (said["differences"].as_array().unwrap().len(), said["state"].as_u64()),
        (1, Some(1)),
        "{said}"
    );
    let wrong = "one/20260101000000/1.0-1.x86_64/one-1.0-1.noarch.rpm is described wrongly in primary";
    assert_eq!((&said["wrong_anew"], said["repaired_by"].as_u64()), (&json!([wrong]), Some(3)), "{said}");
    assert!(farm.is_createrepos());
    // Neither the next build nor another look brings the wrong text back.
    farm.build("two").await;
    assert!(farm.is_createrepos());
    assert_eq!((farm.verify()["differences"].clone(), farm.listed()), (json!([]), 2));
    // Another version of this program may know better, and reads everything anew.
    farm.root.write(&format!("bstore/cache/{}/by-createrepo_c", target()), "0.0.1");
    farm.build("three").await;
    assert_eq!((farm.is_createrepos(), farm.listed()), (false, 3));
    let told =
        Ran::of(farm.root.command(&["repogen", "--verify", target().as_str()]).env("PATH", &farm.path)).ok();
    assert!(told.err.contains("the built-in engine is wrong about mini."), "{told:?}");
    assert!(told.out.contains("made anew as state 7; 3 RPMs, as createrepo_c describes them"), "{told:?}");
}

#[tokio::test]
async fn a_repogen_compares_by_itself_after_so_many_runs() {
    let root = Root::with("[repo]\nverify_every = 2");
    let path = root.with_createrepo(OTHERWISE);
    let farm = Farm { root, path };
    let mut made = Vec::new();
    for package in ["one", "two", "three"] {
        farm.build(package).await;
        made.push((farm.is_createrepos(), farm.listed()));
    }
    assert_eq!(made, [(false, 1), (true, 2), (true, 3)]);
}
