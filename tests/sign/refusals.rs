//! What a broken or malicious signer can send: none of it is ever published.

use std::path::Path;

use reimzul::queue::{GiveUp, Lease, NewJob, PRIORITY_FOLLOW_UP, State};
use reimzul::role::Site;
use reimzul::sys::fs;
use reimzul::sys::openpgp::SecretKey;
use reimzul::sys::rpm::signing::signable;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::farm::{Build, farm, published, reason, repository};
use crate::harness::keys::{Key, Kind, key};
use crate::harness::{Ask, Root, SOON, binary_rpm, eventually, listed, target};

const STAMP: &str = "20261123204406";

/// A bstore that trusts this key, whose holder is the test.
fn store(key: &Key) -> Root {
    farm(&format!("public_key = {}", key.public.display()))
}

/// The next order for a key, as its holder takes it.
async fn order(site: &Site, key: &Key) -> (Value, Lease) {
    let tube = format!("sign-{}", key.id());
    let taken = site.queue.reserve(&[tube], 1, SOON, &CancellationToken::new()).await.unwrap();
    let (job, lease) = taken.into_iter().next().expect("nothing was ordered");
    (serde_json::from_slice(&job.body).unwrap(), lease)
}

async fn done(site: &Site, lease: &Lease) {
    site.queue.give_up(lease, GiveUp::Delete).await.unwrap();
}

async fn send(site: &Site, tube: &str, body: &Value) {
    site.queue.put(vec![NewJob::new(tube, body, PRIORITY_FOLLOW_UP)]).await.unwrap();
}

/// The signature of an RPM's header by a key.
fn signature(key: &Key, rpm: &Path) -> String {
    SecretKey::read(&key.secret, None).unwrap().sign(&signable(rpm).unwrap().header[..]).unwrap()
}

/// The answer to an order of one package.
fn answer(order: &Value, header: &str) -> Value {
    let mut package = order["packages"][0].clone();
    package["header"] = header.into();
    json!({"what": "packages", "target": order["target"], "packages": [package]})
}

#[tokio::test]
async fn a_signature_that_is_wrong_publishes_nothing() {
    let (key, other) = (key(Kind::Ed25519), key(Kind::Other));
    let root = store(&key);
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    site.queue.put(vec![build.request()]).await.unwrap();
    let (ordered, lease) = order(&site, &key).await;
    done(&site, &lease).await;
    let rpm = build.built(&root, "hello-1.0-1.noarch.rpm");
    let foreign = signature(&other, &rpm);
    let of_another = signature(&key, &binary_rpm("other"));
    let mut broken = signature(&key, &rpm);
    broken.replace_range(100..104, "AAAA");
    let forged = |field: &str, value: &str| {
        let mut answer = answer(&ordered, &signature(&key, &rpm));
        answer["packages"][0][field] = value.into();
        answer
    };
    let cases = [
        ("by another key", answer(&ordered, &foreign), "rpmkeys refuses"),
        ("of another package", answer(&ordered, &of_another), "rpmkeys refuses"),
        ("damaged", answer(&ordered, &broken), "signature"),
        ("none", answer(&ordered, ""), "cannot be used"),
        ("for what was not built", forged("evr", "2.0-1"), "is none of the RPMs"),
        ("for a file that was not built", forged("file", "evil-1.0-1.noarch.rpm"), "is none of the RPMs"),
        ("for other content", forged("sha256", &"a".repeat(64)), "is none of the RPMs"),
        ("for a place elsewhere", forged("file", "../../../etc/evil.rpm"), "no answer of a signer"),
        ("nonsense", json!({"what": "packages"}), "no answer of a signer"),
    ];
    for (case, body, part) in cases {
        send(&site, "signed", &body).await;
        let (tube, said) = reason(&site, State::Buried).await;
        assert_eq!(tube, "signed", "{case}");
        assert!(said.contains(part), "{case}: {said}");
        assert_eq!(published(&root), Vec::<String>::new(), "{case}");
        let buried = site.queue.list(Some("signed")).await.unwrap();
        for job in buried {
            assert!(site.queue.withdraw(job.id).await.unwrap(), "{case}");
        }
    }
    // And the right one is all that was missing.
    send(&site, "signed", &answer(&ordered, &signature(&key, &rpm))).await;
    let (ordered, lease) = order(&site, &key).await;
    assert_eq!(published(&root), build.signed());
    assert!(!repository(&root).join("repodata/repomd.xml").exists(), "its metadata is not signed yet");
    let text = ordered["text"].as_str().unwrap();
    let good = SecretKey::read(&key.secret, None).unwrap().sign(text.as_bytes()).unwrap();
    let body = json!({"target": target(), "sha256": fs::sha256_of(text.as_bytes()), "signature": good});
    send(&site, "repomd", &body).await;
    done(&site, &lease).await;
    site.quiet().await;
    roles.stop();
    assert_eq!(listed(&repository(&root)), build.files);
}

#[tokio::test]
async fn metadata_with_a_wrong_signature_is_never_switched_to() {
    let (key, other) = (key(Kind::Ed25519), key(Kind::Other));
    let root = store(&key);
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    site.queue.put(vec![build.request()]).await.unwrap();
    let (ordered, lease) = order(&site, &key).await;
    done(&site, &lease).await;
    let header = signature(&key, &build.built(&root, "hello-1.0-1.noarch.rpm"));
    send(&site, "signed", &answer(&ordered, &header)).await;
    let forged = |text: &str, signed: &str, by: &Key| {
        let signature = SecretKey::read(&by.secret, None).unwrap().sign(signed.as_bytes()).unwrap();
        json!({"target": target(), "sha256": fs::sha256_of(text.as_bytes()), "signature": signature})
    };
    for (case, by, change) in [("by another key", &other, ""), ("of something else", &key, " ")] {
        let (ordered, lease) = order(&site, &key).await;
        let text = ordered["text"].as_str().unwrap().to_owned();
        send(&site, "repomd", &forged(&text, &format!("{text}{change}"), by)).await;
        done(&site, &lease).await;
        let (tube, said) = reason(&site, State::Delayed).await;
        assert_eq!(tube, "signed", "{case}");
        assert!(said.contains("the signature is refused"), "{case}: {said}");
        assert!(!repository(&root).join("repodata/repomd.xml").exists(), "{case}");
        assert!(!repository(&root).join("repodata/repomd.xml.asc").exists(), "{case}");
        let job = site.queue.list(Some("signed")).await.unwrap().pop().unwrap();
        site.queue.kick_job(job.id).await.unwrap();
    }
    roles.kill();
}

#[tokio::test]
async fn what_lies_about_unsigned_is_not_published() {
    let key = key(Kind::Ed25519);
    let root = farm(&crate::farm::by_file(&key));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    // Beside what was built, where publishers work, and where signatures are waited for.
    let evil = binary_rpm("evil");
    for place in [
        format!("bstore/repo/{}/{}", target(), build.place),
        format!("bstore/signing/{}", target()),
        "bstore/signing/.work".to_owned(),
        format!("bstore/tosign/{}", target()),
    ] {
        std::fs::create_dir_all(root.join(&place)).unwrap();
        std::fs::copy(&evil, root.join(&place).join("evil-1.0-1.noarch.rpm")).unwrap();
    }
    site.queue.put(vec![build.request()]).await.unwrap();
    site.quiet().await;
    root.run(&["sign", target().as_str()]).ok();
    site.quiet().await;
    roles.stop();
    assert_eq!(published(&root), build.signed());
    assert_eq!(listed(&repository(&root)), build.files);
}

#[tokio::test]
async fn what_was_changed_after_it_was_built_is_neither_signed_nor_published() {
    let key = key(Kind::Ed25519);
    let root = store(&key);
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    let rpm = build.built(&root, "hello-1.0-1.noarch.rpm");
    let good = signature(&key, &rpm);
    let mut bytes = std::fs::read(&rpm).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(&rpm, bytes).unwrap();
    site.queue.put(vec![build.request()]).await.unwrap();
    let (ordered, lease) = order(&site, &key).await;
    done(&site, &lease).await;
    // A signer would have seen it; this one signs all the same.
    send(&site, "signed", &answer(&ordered, &good)).await;
    let (_, said) = reason(&site, State::Buried).await;
    assert!(said.contains("rpmkeys refuses"), "{said}");
    roles.stop();
    assert_eq!(published(&root), Vec::<String>::new());

    let root = farm(&crate::farm::by_file(&key));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    std::fs::copy(binary_rpm("other"), build.built(&root, "hello-1.0-1.noarch.rpm")).unwrap();
    site.queue.put(vec![build.request()]).await.unwrap();
    let (tube, said) = reason(&site, State::Buried).await;
    assert_eq!(tube, format!("sign-{}", key.id()));
    assert!(said.contains("is not what was built"), "{said}");
    roles.stop();
    assert_eq!(published(&root), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_repomd_is_not_signed_and_orders_for_other_targets_wait() {
    let key = key(Kind::Ed25519);
    let root = farm(&format!("{}\n[sign other.x86_64]\n", crate::farm::by_file(&key)));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let tube = format!("sign-{}", key.id());
    send(&site, &tube, &json!({"what": "repomd", "target": target(), "text": "I owe you a house"})).await;
    let (_, said) = reason(&site, State::Buried).await;
    assert!(said.contains("no repomd.xml"), "{said}");
    send(&site, &tube, &json!({"what": "repomd", "target": "other.x86_64", "text": "<repomd/>"})).await;
    let (_, said) = reason(&site, State::Delayed).await;
    assert!(said.contains("no key for other.x86_64"), "{said}");
    for body in [json!("x"), json!({}), json!({"what": "packages", "target": "../x", "packages": []})] {
        send(&site, &tube, &body).await;
        send(&site, "repomd", &body).await;
        send(&site, "tosign", &body).await;
    }
    eventually("nonsense is buried", async || {
        let jobs = site.queue.list(None).await.unwrap();
        let buried = jobs.iter().filter(|job| job.state == State::Buried).count();
        (buried == 10).then_some(())
    })
    .await;
    assert!(!site.queue.list(Some("signed")).await.unwrap().iter().any(|job| job.state == State::Ready));
    roles.stop();
}
