//! From a build in the bstore to a client that installs it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use reimzul::queue::{CREATEREPO, NOTIFY, NewJob, PRIORITY_FOLLOW_UP};
use serde_json::json;

use crate::farm::{Build, Web, by_file, dnf_install, farm, published, repository, rpmkeys};
use crate::harness::beanstalkd::Beanstalkd;
use crate::harness::keys::{Home, Kind, PASSPHRASE, key};
use crate::harness::{Ask, Root, binary_rpm, eventually, listed, srpm, target};

const STAMP: &str = "20261123204406";

fn hello(root: &Root) -> Build {
    Build::put(root, STAMP, &[binary_rpm("hello"), srpm("hello", 1)])
}

/// Everything that a client looks at.
fn assert_published(root: &Root, build: &Build, public: &Path, url: &str) {
    assert_eq!(published(root), build.signed());
    for file in build.signed() {
        let (good, said) = rpmkeys(public, &root.join(&file));
        assert!(good, "{said}");
    }
    assert_eq!(listed(&repository(root)), ["hello-1.0-1.noarch.rpm", "hello-1.0-1.src.rpm"]);
    let (good, said) = dnf_install(url, &repository(root).join("RPM-GPG-KEY"), "hello");
    assert!(good, "{said}");
    assert_eq!(root.files("bstore/tosign"), Vec::<String>::new());
}

#[tokio::test]
async fn packages_signed_with_rsa_and_ed25519_keys_are_installed_by_a_strict_dnf() {
    for kind in [Kind::Rsa, Kind::Ed25519, Kind::Subkey] {
        let key = key(kind);
        let root = farm(&by_file(&key));
        let (site, roles) = (root.site(), root.start(&["signer"]));
        let build = hello(&root);
        site.queue.put(vec![build.request()]).await.unwrap();
        site.quiet().await;
        roles.stop();
        assert_published(&root, &build, &key.public, &format!("file://{}", repository(&root).display()));
        let left = |file: &String| file.contains("/.work/") && !file.ends_with("/.lock");
        assert_eq!(
            root.files("bstore/signing").into_iter().find(left),
            None,
            "a signer that ends leaves nothing"
        );
    }
}

#[tokio::test]
async fn the_whole_farm_signs_what_it_builds_and_a_wrong_key_is_not_trusted_by_clients() {
    let (key, other) = (key(Kind::Ed25519), key(Kind::Other));
    let root = farm(&by_file(&key));
    let (site, roles) = (root.site(), root.start_all());
    let build = site.submit(&srpm("hello", 1)).await;
    let scratch = site.submit_scratch(&srpm("other", 1)).await;
    for build in [&build, &scratch] {
        site.result(build).await;
    }
    site.quiet().await;
    roles.stop();
    assert_eq!(published(&root), [format!("bstore/signed/{}/hello-1.0-1.src.rpm", build.path)]);
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.src.rpm"]);
    let url = format!("file://{}", repository(&root).display());
    let (good, said) = dnf_install(&url, &other.public, "hello.src");
    assert!(!good && said.contains("signature"), "{said}");
}

#[tokio::test]
async fn the_key_may_be_on_a_host_of_its_own_that_only_takes_jobs_and_reads() {
    let (key, queue) = (key(Kind::Rsa), Beanstalkd::start());
    let store = farm(&format!("public_key = {}\n[queue]\nurl = {}", key.public.display(), queue.url()));
    let web = Web::of(&store.join("bstore"));
    let (url, queue) = (web.url(), queue.url());
    let vault = farm(&format!("{}\nurl = {url}\n[queue]\nurl = {queue}", by_file(&key)));
    let (site, publisher, holder) = (store.site(), store.start(&["signer"]), vault.start(&["signer"]));
    let build = hello(&store);
    site.queue.put(vec![build.request()]).await.unwrap();
    site.quiet().await;
    publisher.stop();
    holder.stop();
    assert_published(&store, &build, &key.public, &format!("{url}signed/{}/", target()));
    assert_eq!(vault.files("bstore"), Vec::<String>::new(), "the key's host has no bstore");
    let left = |file: &String| !file.ends_with("/.lock");
    assert_eq!(vault.files("cache").into_iter().find(left), None, "and keeps nothing of it");
}

#[tokio::test]
async fn a_key_that_gpg_agent_holds_signs() {
    for kind in [Kind::Ed25519, Kind::Rsa] {
        let key = key(kind);
        let home = Home::with(&key);
        let root = farm(&format!("key = gpg:{}", key.fingerprint));
        let site = root.site();
        let roles = root.start_with(&["signer"], &[("GNUPGHOME", home.path().to_str().unwrap())]);
        let build = hello(&root);
        site.queue.put(vec![build.request()]).await.unwrap();
        site.quiet().await;
        roles.stop();
        assert_published(&root, &build, &key.public, &format!("file://{}", repository(&root).display()));
    }
}

#[tokio::test]
async fn a_locked_key_is_unlocked_by_the_file_of_its_passphrase() {
    let key = key(Kind::Locked);
    let root = farm(&format!("{}\npassphrase_file = pass", by_file(&key)));
    secret(&root, "pass", &format!("{PASSPHRASE}\n"));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = hello(&root);
    site.queue.put(vec![build.request()]).await.unwrap();
    site.quiet().await;
    roles.stop();
    assert_published(&root, &build, &key.public, &format!("file://{}", repository(&root).display()));
}

pub fn secret(root: &Root, name: &str, text: &str) {
    root.write(name, text);
    std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn what_was_built_before_signing_was_switched_on_is_signed_when_asked_for() {
    let key = key(Kind::Ed25519);
    let root = farm("");
    let site = root.site();
    let (first, second) = (hello(&root), Build::put(&root, "20261123204407", &[binary_rpm("other")]));
    Build::put_as(&root, "20261123204408", &[binary_rpm("failed")], "Failed", false);
    Build::put_as(&root, "20261123204409", &[binary_rpm("scratch")], "Success", true);
    let refused = root.run(&["sign", target().as_str()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("has no key in this host's configuration"), "{refused:?}");
    let ini = root.read("reimzul.ini");
    root.write("reimzul.ini", &format!("{ini}\n{}\n", by_file(&key)));
    let roles = root.start(&["signer"]);
    for _ in 0..2 {
        root.run(&["sign", target().as_str()]).ok();
        site.quiet().await;
    }
    assert_eq!(published(&root), [first.signed(), second.signed()].concat());
    // What is pruned leaves it; its logs may stay.
    for file in &second.files {
        std::fs::remove_file(second.built(&root, file)).unwrap();
    }
    root.run(&["sign", target().as_str()]).ok();
    site.quiet().await;
    roles.stop();
    assert_eq!(published(&root), first.signed());
    assert_eq!(listed(&repository(&root)), ["hello-1.0-1.noarch.rpm", "hello-1.0-1.src.rpm"]);
}

#[tokio::test]
async fn what_is_pruned_leaves_the_signed_repository_in_the_same_steps() {
    let key = key(Kind::Ed25519);
    let root = farm(&format!("{}\n[prune]\nnewest = 1\ndays = 0\ngrace = 0", by_file(&key)));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    // Two builds of one version: the later one counts.
    let (old, new) = (hello(&root), Build::put(&root, "20261123204407", &[binary_rpm("hello")]));
    site.queue.put(vec![old.request(), new.request()]).await.unwrap();
    site.quiet().await;
    let source = "hello-1.0-1.src.rpm";
    let name = new.files[0].as_str();
    assert_eq!(listed(&repository(&root)), [name, name, source]);
    // The source RPM is in the old build alone, so that it stays with that.
    assert_eq!(pruned(&root), Vec::<String>::new());
    for (what, rpms) in [("unlist", 2), ("rpms", 1)] {
        std::fs::remove_file(old.built(&root, source)).unwrap_or_default();
        let pruned = pruned(&root);
        assert_eq!(pruned, [what]);
        site.quiet().await;
        assert_eq!(listed(&repository(&root)), [name], "{what}");
        assert_eq!(published(&root).len(), rpms, "a client may be downloading it until the file goes");
    }
    roles.stop();
    assert_eq!(published(&root), new.signed());
    let folder = repository(&root).join(&old.place);
    assert!(!folder.exists(), "{} is left", folder.display());
    let (good, said) = dnf_install(&format!("file://{}", repository(&root).display()), &key.public, "hello");
    assert!(good, "{said}");
}

#[tokio::test]
async fn what_is_pruned_before_it_is_signed_holds_nothing_up() {
    let (key, queue) = (key(Kind::Ed25519), Beanstalkd::start());
    let more = format!("[queue]\nurl = {}\n[prune]\nnewest = 1\ndays = 0\ngrace = 0", queue.url());
    let store = farm(&format!("public_key = {}\n{more}", key.public.display()));
    let web = Web::of(&store.join("bstore"));
    let vault = farm(&format!("{}\nurl = {}\n[queue]\nurl = {}", by_file(&key), web.url(), queue.url()));
    let (site, publisher) = (store.site(), store.start(&["signer"]));
    let (old, new) = (hello(&store), Build::put(&store, "20261123204407", &[binary_rpm("hello")]));
    std::fs::remove_file(old.built(&store, "hello-1.0-1.src.rpm")).unwrap();
    let again = Build::put(&store, STAMP, &[binary_rpm("hello")]);
    // All in one order, which nobody takes yet.
    store.run(&["sign", target().as_str()]).ok();
    let tube = format!("sign-{}", key.id());
    let ordered = async || site.queue.list(Some(&tube)).await.unwrap().len();
    eventually("an order", async || (ordered().await == 1).then_some(())).await;
    for what in ["unlist", "rpms"] {
        assert_eq!(pruned(&store), [what]);
    }
    let holder = vault.start(&["signer"]);
    site.quiet().await;
    holder.stop();
    assert_eq!(published(&store), new.signed());
    // One that is gone without having been pruned is told.
    std::fs::remove_file(store.join(format!("bstore/repo/{}/{}/unlisted.json", target(), again.place)))
        .unwrap();
    site.queue.put(vec![again.request()]).await.unwrap();
    let holder = vault.start(&["signer"]);
    let (_, said) = crate::farm::reason(&site, reimzul::queue::State::Buried).await;
    assert!(said.contains("is not there (HTTP status 404)"), "{said}");
    holder.stop();
    publisher.stop();
}

/// What `prune --run` does with builds.
fn pruned(root: &Root) -> Vec<String> {
    let said = root.run(&["prune", "--run", "--json"]).ok().json();
    let items = said["items"].as_array().unwrap().iter();
    items.map(|item| item["what"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_old_workers_build_is_signed_as_any_other() {
    let key = key(Kind::Ed25519);
    let root = farm(&by_file(&key));
    let (site, roles) = (root.site(), root.start(&["notifier", "repogen", "signer"]));
    let build = hello(&root);
    // As an old worker leaves it, and tells of it.
    std::fs::remove_file(build.built(&root, "build.json")).unwrap();
    let event = json!({"srpm": "hello-1.0-1.src.rpm", "arch": crate::harness::arch(), "target": target(),
        "disttag": ".el9", "scratch": false, "submitter": "kb", "status": "Success", "builder_fqdn": "old-builder",
        "evr": "1.0-1", "pkgname": "hello", "timestamp": STAMP});
    let tell = |tube: &str| NewJob::new(tube, &event, PRIORITY_FOLLOW_UP);
    site.queue.put(vec![tell(NOTIFY), tell(CREATEREPO)]).await.unwrap();
    site.quiet().await;
    roles.stop();
    assert_published(&root, &build, &key.public, &format!("file://{}", repository(&root).display()));
}

#[tokio::test]
async fn an_rpm_whose_header_does_not_vouch_for_its_payload_is_signed_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("hello-1.0-1.noarch.rpm");
    make_old(&binary_rpm("hello"), &old);
    for kind in [Kind::Rsa, Kind::Ed25519] {
        let key = key(kind);
        let root = farm(&by_file(&key));
        let (site, roles) = (root.site(), root.start(&["signer"]));
        let build = Build::put(&root, STAMP, std::slice::from_ref(&old));
        site.queue.put(vec![build.request()]).await.unwrap();
        site.quiet().await;
        roles.stop();
        let (good, said) = rpmkeys(&key.public, &root.join(&build.signed()[0]));
        assert!(good, "{kind:?}: {said}");
        let signatures = said.lines().filter(|line| line.contains("ignature, key ID")).count();
        assert_eq!(signatures, 2, "of the header, and of all: {said}");
        let url = format!("file://{}", repository(&root).display());
        let (good, said) = dnf_install(&url, &key.public, "hello");
        assert!(good, "{kind:?}: {said}");
    }
}

/// As rpm before 4.14 wrote it: without a digest of the payload in the header.
fn make_old(rpm: &Path, old: &PathBuf) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sign/old_rpm.py");
    let output = Command::new("python3").arg(script).arg(rpm).arg(old).output();
    let output = output.expect("cannot run python3: install the package python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
