//! One repogen at a time works on a target, several on several, and a lock ends with who holds it.

use nix::sys::signal::Signal;

use reimzul::model::Target;

use crate::crashes::{is_whole, request, served};
use crate::harness::{Root, eventually, listed, target};
use crate::rpms;

/// What stands in for createrepo_c notes each target that it begins with; tells when it meets another one at work on the
/// same; and does not go on as long as the target's name is the name of a file in `hold/`. What it runs meanwhile may live
/// longer, and must not hold its lock.
const WATCHED: &str = r#"
for tree; do :; done
name=${tree##*/}
cd "${0%/*}/.." && mkdir -p busy hold
exec 9> "busy/$name"
flock --nonblock 9 || echo "$name" >> met
echo "$name" >> begun
while [ -e "hold/$name" ]; do sleep 0.02 9>&-; done
exec "$real" "$@"
"#;

fn other() -> Target {
    "other.x86_64".parse().unwrap()
}

/// How often metadata of a target was begun with.
fn begun(root: &Root, target: &Target) -> usize {
    let begun = std::fs::read_to_string(root.join("begun")).unwrap_or_default();
    begun.lines().filter(|line| *line == target.as_str()).count()
}

fn tree(root: &Root, target: &Target) -> std::path::PathBuf {
    root.join(format!("bstore/repo/{target}"))
}

#[tokio::test]
async fn what_a_repogen_works_on_others_leave_alone_until_it_dies() {
    let root = Root::with("[repo]\nengine = createrepo_c");
    let (site, one, other) = (root.site(), target(), other());
    let path = root.with_createrepo(WATCHED);
    rpms::build(&tree(&root, &one), "first", 1, 1);
    rpms::build(&tree(&root, &other), "second", 1, 1);
    root.write(&format!("hold/{one}"), "");
    site.queue.put(vec![request(&one, "first")]).await.unwrap();
    let holder = root.start_with(&["repogen"], &[("PATH", &path)]);
    eventually("a repogen at work", async || (begun(&root, &one) == 1).then_some(())).await;
    // So that it takes nothing else.
    holder.signal(Signal::SIGSTOP);
    rpms::build(&tree(&root, &one), "late", 1, 1);
    site.queue.put(vec![request(&one, "late"), request(&other, "second")]).await.unwrap();
    let waiter = root.start_with(&["repogen"], &[("PATH", &path)]);
    let repomd = tree(&root, &other).join("repodata/repomd.xml");
    eventually("metadata of the other target", async || repomd.exists().then_some(())).await;
    assert_eq!(begun(&root, &one), 1, "two at work on one target");
    assert!(!tree(&root, &one).join("repodata/repomd.xml").exists());
    holder.kill();
    eventually("another one at work", async || (begun(&root, &one) == 2).then_some(())).await;
    std::fs::remove_file(root.join(format!("hold/{one}"))).unwrap();
    served(&site).await;
    waiter.stop();
    assert_eq!(listed(&tree(&root, &one)), ["first-1.0-1.noarch.rpm", "late-1.0-1.noarch.rpm"]);
    assert!(!root.join("met").exists(), "{}", root.read("met"));
}

#[tokio::test]
async fn several_repogens_share_the_targets_and_lose_nothing() {
    const BUILDS: usize = 24;
    for engine in ["createrepo_c", "incremental"] {
        let root = Root::with(&format!("[repo]\nengine = {engine}"));
        let site = root.site();
        let path = root.with_createrepo(WATCHED);
        let start = |_| root.start_with(&["repogen"], &[("PATH", &path)]);
        let repogens: Vec<_> = (0..3).map(start).collect();
        for number in 0..BUILDS {
            let target = if number % 3 == 0 { other() } else { target() };
            rpms::build(&tree(&root, &target), &format!("p{number}"), 1, 1);
            site.queue.put(vec![request(&target, &format!("p{number}"))]).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        served(&site).await;
        repogens.into_iter().for_each(crate::harness::Process::stop);
        for target in [target(), other()] {
            is_whole(&tree(&root, &target)).unwrap();
        }
        let found = [target(), other()].map(|target| listed(&tree(&root, &target)).len());
        assert_eq!(found, [BUILDS * 2 / 3, BUILDS / 3], "{engine}");
        assert!(!root.join("met").exists(), "{engine}: {}", root.read("met"));
    }
}
