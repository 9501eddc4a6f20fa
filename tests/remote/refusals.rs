//! Who is not who they say, or may not: refused, each with its reason, to them and in the audit log; and hostile
//! messages, which do nothing.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reimzul::model::answer::{Answer, Told};
use reimzul::model::{Nonce, request::SIGNATURE};
use reimzul::remote::request::signed;
use reimzul::remote::signature::Signer;
use reimzul::sys::mqtt::{Message, Mqtt};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::harness::mosquitto::next;
use crate::harness::{Process, SOON, arch, eventually};
use crate::stand::{POLICY, Stand, asked, git, spec};

/// What a person says in a request; the rest proves it.
const FIELDS: [&str; 10] = [
    "pkg",
    "git_branch",
    "git_ref",
    "arch",
    "submitter",
    "target",
    "disttag",
    "sources_dir",
    "scratch",
    "mail",
];

/// A bridge, and somebody who speaks to it without our client.
struct Talk {
    stand: Stand,
    mqtt: Mqtt,
    answers: UnboundedReceiver<Message>,
    _roles: Process,
}

impl Talk {
    async fn new(more: &str) -> Talk {
        let stand = Stand::new("null", &format!("{POLICY}{more}"));
        stand.repository("tiny", "c9", "x", &[("SPECS/tiny.spec", spec("tiny").as_bytes())]);
        let roles = stand.root.start(&["mqtt-sub"]);
        let (mqtt, mut answers) = stand.broker.client("mallory", &["reimzul/requests/#"]);
        // The bridge's hello. The broker sends no more once twenty are not acknowledged.
        mqtt.acknowledge(&next(&mut answers).await);
        Talk { stand, mqtt, answers, _roles: roles }
    }

    fn signer(&self, certificate: &Path) -> Signer {
        Signer::open(&self.stand.files(certificate)).unwrap()
    }

    /// A good request, signed with a certificate of that name.
    fn good(&self, who: &str) -> Map<String, Value> {
        let signer = self.signer(&self.stand.broker.certificate(who));
        signed(&signer, &asked("tiny", who), &nonce()).unwrap()
    }

    async fn publish(&self, fields: &Map<String, Value>) {
        let topic = format!("reimzul/submit/{}", arch());
        self.mqtt.publish(&topic, serde_json::to_vec(fields).unwrap()).await.unwrap();
    }

    /// What is answered, `received` aside.
    async fn answer(&mut self, fields: &Map<String, Value>) -> Answer {
        self.publish(fields).await;
        loop {
            let message = tokio::time::timeout(SOON, self.answers.recv()).await;
            let message = message.unwrap_or_else(|_| panic!("no answer to {fields:?}")).unwrap();
            self.mqtt.acknowledge(&message);
            let Ok(told) = serde_json::from_slice::<Told>(&message.payload) else { continue };
            if fields["nonce"] == told.nonce.as_str() && told.answer != Answer::Received {
                return told.answer;
            }
        }
    }

    async fn refused(&mut self, fields: &Map<String, Value>, why: &str) {
        match self.answer(fields).await {
            Answer::Refused { reason } => assert!(reason.contains(why), "{why}: {reason}"),
            other => panic!("{why}: {other:?}"),
        }
        let last = self.stand.audit().pop().unwrap();
        let said = last["why"].as_str().unwrap();
        assert!(last["verdict"] == "refused" && said.contains(why), "{last}");
    }

    async fn jobs(&self) -> usize {
        self.stand.root.site().queue.list(None).await.unwrap().len()
    }
}

fn nonce() -> Nonce {
    uuid::Uuid::new_v4().simple().to_string().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_who_they_say_or_may_not_is_refused_with_the_reason() {
    let mut talk = Talk::new("").await;
    let good = talk.good("alice");

    // Forged: signed by one, in the name of another; and changed on the way.
    let forger = talk.signer(&talk.stand.broker.certificate("mallory"));
    let forged = signed(&forger, &asked("tiny", "alice"), &nonce()).unwrap();
    talk.refused(&forged, "it names alice as who asks, but is signed by mallory").await;
    let last = talk.stand.audit().pop().unwrap();
    assert_eq!(
        (&last["who"], &last["proven"], &last["nonce"]),
        (&json!("alice"), &json!(false), &forged["nonce"])
    );
    assert_eq!((&last["what"]["pkg"], &last["what"]["signature"]), (&json!("tiny"), &Value::Null));
    for (field, value) in [("pkg", json!("kernel")), ("mail", json!(true)), ("later", json!("unknown"))] {
        let mut changed = good.clone();
        changed.insert(field.into(), value);
        talk.refused(&changed, "it was changed on the way").await;
    }
    // Without a proof, and with half of one.
    let mut bare = good.clone();
    bare.shift_remove(SIGNATURE);
    talk.refused(&bare, "its proof is not complete").await;
    // Another CA's certificate, and one that has expired.
    let foreign = crate::harness::ca::Ca::new("Another").sign("alice", "alice", (-1, 365));
    let path = talk.stand.root.join("foreign.pem");
    std::fs::write(&path, foreign).unwrap();
    let foreign = signed(&talk.signer(&path), &asked("tiny", "alice"), &nonce()).unwrap();
    talk.refused(&foreign, "is not of a CA that this controller trusts").await;
    let expired = talk.signer(&talk.stand.broker.certificate_of("alice", (-9, -2)));
    let expired = signed(&expired, &asked("tiny", "alice"), &nonce()).unwrap();
    talk.refused(&expired, "the certificate of alice has expired").await;
    // Too old, and too early.
    let signer = talk.signer(&talk.stand.broker.certificate("alice"));
    let fields = serde_json::to_value(asked("tiny", "alice")).unwrap().as_object().unwrap().clone();
    for (seconds, why) in [(-2 * 86_400, "which is longer ago than 86400 s"), (3600, "which is yet to come")]
    {
        let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
        let made = signer.sign(fields.clone(), &nonce(), time).unwrap();
        talk.refused(&made, why).await;
    }
    // Without the right: nobody, another target, no scratch build.
    let signed_by = |who: &str| talk.good(who);
    let (nobody, carol, bob) = (signed_by("mallory"), signed_by("carol"), signed_by("bob"));
    talk.refused(&nobody, "mallory may not have anything built here").await;
    talk.refused(&carol, "carol may not have a build of tiny for mini").await;
    let last = talk.stand.audit().pop().unwrap();
    assert_eq!((&last["who"], &last["proven"]), (&json!("carol"), &json!(true)));
    talk.refused(&bob, "bob may not have a build of tiny for mini").await;
    // On another arch's topic.
    let astray = serde_json::to_vec(&talk.good("alice")).unwrap();
    talk.mqtt.publish("reimzul/submit/aarch64", astray).await.unwrap();
    eventually("a refusal", async || {
        let said = talk.stand.audit().pop()?["why"].as_str()?.to_owned();
        said.contains("on the topic reimzul/submit/aarch64").then_some(())
    })
    .await;
    assert_eq!(talk.jobs().await, 0);

    // Replayed: the same answer, and no second job; with other content: refused.
    let first = talk.answer(&good).await;
    assert!(matches!(first, Answer::Accepted { .. }), "{first:?}");
    assert_eq!(talk.answer(&good).await, first);
    let reused = good["nonce"].as_str().unwrap().parse().unwrap();
    let mut other = asked("tiny", "alice");
    other.scratch = true;
    let other = signed(&signer, &other, &reused).unwrap();
    talk.refused(&other, "was used for another request").await;
    assert_eq!(talk.jobs().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_clients_request_is_believed_only_where_that_is_allowed() {
    let old = serde_json::to_value(asked("tiny", "alice")).unwrap().as_object().unwrap().clone();
    let talk = Talk::new("").await;
    talk.publish(&old).await;
    eventually("a refusal", async || {
        let last = talk.stand.audit().pop()?;
        last["why"].as_str()?.contains("it is not signed").then_some(())
    })
    .await;
    assert_eq!(talk.jobs().await, 0);

    let talk = Talk::new("allow_unsigned = yes\n").await;
    // A broker may deliver it twice, and more. While the first is being settled another one is left to it.
    talk.publish(&old).await;
    eventually("a verdict", async || talk.stand.audit().pop()).await;
    eventually("that it is a repetition", async || {
        talk.publish(&old).await;
        (talk.stand.audit().pop()?["verdict"] == "repeated").then_some(())
    })
    .await;
    assert_eq!(talk.jobs().await, 1);
    let audit = talk.stand.audit();
    assert_eq!((&audit[0]["verdict"], &audit[0]["proven"]), (&json!("accepted"), &json!(false)));
    assert!(audit[1..].iter().all(|line| line["verdict"] == "repeated"), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_injected_anywhere_is_executed() {
    let mut talk = Talk::new("").await;
    let marker = talk.stand.root.join("marker");
    let touch = format!("touch {}", marker.display());
    let signer = talk.signer(&talk.stand.broker.certificate("alice"));
    let base = serde_json::to_value(asked("tiny", "alice")).unwrap().as_object().unwrap().clone();
    let injections = [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!(";{touch};"),
        format!("x\n{touch}\n"),
        format!("|{touch}"),
        format!("%({touch})"),
        format!("%{{lua:os.execute('{touch}')}}"),
        format!("--upload-pack={touch}"),
        format!("ext::{touch}"),
        "../../../../etc".to_owned(),
        "a\u{0}b".to_owned(),
    ];
    for field in FIELDS {
        for injection in &injections {
            let mut fields = base.clone();
            fields.insert(field.into(), injection.as_str().into());
            let fields = signer.sign(fields, &nonce(), jiff::Timestamp::now()).unwrap();
            match talk.answer(&fields).await {
                Answer::Refused { reason } => assert!(!reason.is_empty()),
                other => panic!("{field} = {injection}: {other:?}"),
            }
        }
    }
    // In what git holds: a spec that runs commands as it is parsed, hooks, attributes, links, a list of sources.
    let mut hostile = spec("tiny");
    hostile.insert_str(0, &format!("%(({touch}) 2>/dev/null; echo ran > /tmp/ran; cat /tmp/ran >&2)\n%{{lua:os.execute('{touch}')}}\n"));
    let list = format!("{} SOURCES/../../../../marker\n", "a".repeat(40));
    talk.stand.repository("hostile", "c9", "x", &[("SPECS/hostile.spec", hostile.as_bytes())]);
    talk.stand.repository(
        "leaving",
        "c9",
        "x",
        &[("SPECS/leaving.spec", spec("leaving").as_bytes()), (".leaving.metadata", list.as_bytes())],
    );
    for pkg in ["hostile", "leaving"] {
        let fields = signed(&signer, &asked(pkg, "alice"), &nonce()).unwrap();
        assert!(matches!(talk.answer(&fields).await, Answer::Refused { .. }), "{pkg}");
    }
    // A link to a file of the controller's becomes a file that says where it led to.
    let secret = talk.stand.root.join("secret");
    std::fs::write(&secret, "geheim").unwrap();
    talk.stand.repository("linking", "c9", "x", &[("SPECS/linking.spec", b"".as_slice())]);
    let linking = spec("linking").replace("Summary", "Source0: link\nSummary");
    std::fs::create_dir_all(talk.stand.tree("linking").join("SOURCES")).unwrap();
    std::os::unix::fs::symlink(&secret, talk.stand.tree("linking").join("SOURCES/link")).unwrap();
    talk.stand.commit("linking", "c9", "y", &[("SPECS/linking.spec", linking.as_bytes())]);
    let fields = signed(&signer, &asked("linking", "alice"), &nonce()).unwrap();
    assert!(matches!(talk.answer(&fields).await, Answer::Accepted { .. }));
    let srpm = talk.stand.root.files("incoming").into_iter().find(|file| file.contains("linking-")).unwrap();
    let content = std::process::Command::new("rpm2cpio").arg(talk.stand.root.join(srpm)).output().unwrap();
    let has = |word: &str| content.stdout.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    assert!(has("linking.spec") && !has("geheim"), "{content:?}");
    assert!(!marker.exists(), "something was executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_an_impossible_date_is_refused_and_others_are_served() {
    let mut talk = Talk::new("").await;
    let signer = talk.signer(&talk.stand.broker.certificate("alice"));
    let text = spec("dated");
    talk.stand.repository("dated", "c9", "x", &[("SPECS/dated.spec", text.as_bytes())]);
    let tree = talk.stand.tree("dated");
    let at = tree.display().to_string();
    let object = git(&["-C", &at, "cat-file", "commit", "HEAD"]);
    let committer = object.lines().find(|line| line.starts_with("committer ")).unwrap();
    let date = committer.rsplit(' ').nth(1).unwrap();
    let file = tree.join(".git/late");
    let late = committer.replace(date, "18446744073709551615");
    std::fs::write(&file, object.replace(committer, &late)).unwrap();
    let hash = ["-C", &at, "hash-object", "-t", "commit", "-w", "--literally", ".git/late"];
    let commit = git(&hash).trim().to_owned();
    git(&["-C", &at, "push", "--quiet", "--force", "origin", &format!("{commit}:refs/heads/c9")]);
    let fields = signed(&signer, &asked("dated", "alice"), &nonce()).unwrap();
    match talk.answer(&fields).await {
        Answer::Refused { reason } => assert!(reason.contains("a date that no RPM can have"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let good = talk.good("alice");
    assert!(matches!(talk.answer(&good).await, Answer::Accepted { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_messages_do_nothing() {
    let mut talk = Talk::new("allow_unsigned = yes\n").await;
    let mut runner = TestRunner::default();
    let payload = payload();
    for number in 0..10_000 {
        let bytes = payload.new_tree(&mut runner).unwrap().current();
        // The broker takes them one after the other; not each need be waited for.
        talk.mqtt.publish(&format!("reimzul/submit/{}", arch()), bytes).await.unwrap();
        if number % 100 == 0 {
            while let Ok(answer) = talk.answers.try_recv() {
                talk.mqtt.acknowledge(&answer);
            }
            eventually("a verdict on each", async || (talk.stand.audited() > number).then_some(())).await;
        }
    }
    // It lives, and does what it is there for.
    let good = talk.good("alice");
    let answer = tokio::time::timeout(Duration::from_secs(60), talk.answer(&good)).await.expect("it lives");
    assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
    assert_eq!(talk.jobs().await, 1, "and nothing else was queued");
}

/// Noise, and requests that are nearly right; never one that is right.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let others = ["nonce", "time", "certificate", "algorithm", "signature", "odd"];
    let field = prop::sample::select([&FIELDS[..], &others[..]].concat());
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z0-9./-]{0,20}".prop_map(Value::from),
        Just(json!(["x"])),
        Just(json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        Just(json!("0123456789abcdef0123456789abcdef")),
    ];
    // Who nobody is may have nothing built, whatever else is right.
    let nearly = proptest::collection::vec((field, value), 1..5).prop_map(|changes| {
        let mut fields = json!({"pkg": "tiny", "git_branch": "c9", "git_ref": "HEAD", "arch": arch(),
            "submitter": "nobody", "target": "mini", "disttag": "", "sources_dir": "", "scratch": false});
        for (name, value) in changes {
            fields[name] = value;
        }
        fields.to_string().into_bytes()
    });
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        ".{0,200}".prop_map(String::into_bytes),
        nearly.clone(),
        (nearly, any::<usize>()).prop_map(|(mut bytes, at)| {
            bytes.truncate(at % (bytes.len() + 1));
            bytes
        }),
    ]
}
