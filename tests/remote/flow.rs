//! From a branch to RPMs in the repository.

use reimzul::sys::fs::hex;
use serde_json::{Map, Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha512};

use crate::harness::mosquitto::next;
use crate::harness::{eventually, listed};
use crate::stand::{POLICY, Stand, git, spec};

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/packages");

fn example(name: &str) -> Vec<u8> {
    std::fs::read(format!("{PACKAGES}/{name}")).unwrap()
}

/// libgreet as it would be in an old site's git: sources beside a `.libgreet.metadata`.
pub fn libgreet(stand: &Stand) {
    let makefile = example("libgreet/Makefile");
    let source = example("libgreet/libgreet.c");
    let sha1 = hex(&Sha1::digest(&source));
    stand.upload(&format!("libgreet/c9/{sha1}"), &source);
    stand.repository(
        "libgreet",
        "c9",
        "import libgreet-1.2.0-1.el9_7",
        &[
            (".libgreet.metadata", format!("{sha1} SOURCES/libgreet.c\n").as_bytes()),
            ("SPECS/libgreet.spec", &example("libgreet/libgreet.spec")),
            ("SOURCES/Makefile", &makefile),
            ("SOURCES/libgreet.h", &example("libgreet/libgreet.h")),
            ("SOURCES/libgreet.pc.in", &example("libgreet/libgreet.pc.in")),
            ("SOURCES/test-libgreet.c", &example("libgreet/test-libgreet.c")),
        ],
    );
}

/// greet in dist-git's way.
fn greet(stand: &Stand) {
    let source = example("greet/greet.c");
    let sha512 = hex(&Sha512::digest(&source));
    stand.upload(&format!("greet/greet.c/sha512/{sha512}/greet.c"), &source);
    stand.repository(
        "greet",
        "c9",
        "The first",
        &[
            ("sources", format!("SHA512 (greet.c) = {sha512}\n").as_bytes()),
            ("greet.spec", &example("greet/greet.spec")),
            ("Makefile", &example("greet/Makefile")),
            ("proverbs", &example("greet/proverbs")),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_real_package_ends_as_rpms_in_the_repository() {
    let stand = Stand::new("overlay", POLICY);
    stand.add_mini_distro();
    libgreet(&stand);
    greet(&stand);
    let _roles = stand.root.start(&["all"]);

    let ran =
        stand.request("alice", &["-p", "libgreet", "-b", "c9", "-a", "x86_64", "-t", "mini", "--wait"]).ok();
    assert!(ran.out.contains("sent libgreet for x86_64\naccepted mini.x86_64/libgreet/"), "{ran:?}");
    // The disttag is the import's.
    assert!(
        ran.out.contains("built mini.x86_64/libgreet/") && ran.out.contains("/1.2.0-1.el9_7.x86_64"),
        "{ran:?}"
    );
    let repository = stand.root.join("bstore/repo/mini.x86_64");
    let has = async |file: &str| {
        eventually(file, async || {
            let there = repository.join("repodata/repomd.xml").exists();
            (there && listed(&repository).iter().any(|listed| listed == file)).then_some(())
        })
        .await;
    };
    has("libgreet-devel-1.2.0-1.el9_7.x86_64.rpm").await;
    // It build-requires what was just built; the disttag is the branch's.
    let ran = stand
        .request("alice", &["--json", "-p", "greet", "-b", "c9", "-a", "x86_64", "-t", "mini", "--wait"]);
    let said = ran.ok().json();
    assert_eq!(
        (&said[0]["state"], &said[0]["outcomes"][0]["status"]),
        (&"accepted".into(), &"Success".into())
    );
    assert_eq!(said[0]["outcomes"][0]["submitter"], "alice");
    assert_eq!(said[0]["outcomes"][0]["evr"], "1.0-1.el9");
    has("greet-1.0-1.el9.x86_64.rpm").await;

    // A package that does not build: the requester is told why, and by the exit code.
    stand.repository(
        "broken",
        "c9",
        "x",
        &[("SPECS/broken.spec", (spec("broken") + "%build\nexit 7\n").as_bytes())],
    );
    let scratch = ["-p", "broken", "-b", "c9", "-a", "x86_64", "-t", "mini", "--wait", "--scratch"];
    let ran = stand.request("alice", &scratch);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!((ran.out.clone() + &ran.err).contains("FAILED mini.x86_64/broken/"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_rpm_serves_all_arches_and_what_cannot_be_made_is_told() {
    let stand = Stand::new("null", POLICY);
    let bare = stand.repository("tiny", "c9", "x", &[("SPECS/tiny.spec", spec("tiny").as_bytes())]);
    let first = stand.commit("tiny", "c9", "y", &[("SPECS/tiny.spec", spec("tiny").as_bytes())]);
    let _roles = stand.root.start(&["mqtt-sub"]);
    let request = |arguments: &[&str]| stand.request("alice", &[arguments, &["-t", "mini"]].concat());

    let ran = request(&["-p", "tiny", "-b", "c9", "-a", "x86_64,aarch64,noarch"]).ok();
    assert_eq!(ran.out.matches("accepted mini.").count(), 3, "{ran:?}");
    assert_eq!(stand.root.files("incoming").len(), 2, "one source RPM, and a lock");
    let made = stand.root.files("cache/requests/srpms").into_iter();
    assert_eq!(made.filter(|file| file.ends_with(".src.rpm")).count(), 1);
    // By a commit and a tag, with a disttag of one's own; a new content gets a name of its own.
    let ran = request(&["-p", "tiny", "-b", "c9", "-r", &first[..12], "-a", "x86_64", "-d", ".mine"]).ok();
    assert!(ran.out.contains("1.0-1.mine.x86_64"), "{ran:?}");
    git(&["-C", &bare.display().to_string(), "tag", "v1", &first]);
    let ran = request(&["-p", "tiny", "-b", "c9", "-r", "v1", "-a", "x86_64", "-d", ".tag"]).ok();
    assert!(ran.out.contains("1.0-1.tag.x86_64"), "{ran:?}");
    stand.commit("tiny", "c9", "z", &[("SPECS/tiny.spec", (spec("tiny") + "# more\n").as_bytes())]);
    request(&["-p", "tiny", "-b", "c9", "-a", "x86_64"]).ok();
    let kept = stand.root.files("incoming");
    assert!(
        kept.iter().any(|file| file.len() == "incoming/tiny-1.0-1.el9.01234567.src.rpm".len()),
        "{kept:?}"
    );

    let sha1 = "a".repeat(40);
    let metadata = format!("{sha1} SOURCES/a.tar.gz\n");
    let lacking = [(".lacking.metadata", metadata.as_bytes()), ("SPECS/lacking.spec", b"Name: x".as_slice())];
    stand.repository("lacking", "c9", "x", &lacking);
    stand.repository("other", "c9", "x", &[("SPECS/other.spec", spec("kernel").as_bytes())]);
    stand.repository(
        "md5",
        "c9",
        "x",
        &[("md5.spec", b"".as_slice()), ("sources", b"d41d8cd98f00b204e9800998ecf8427e  a")],
    );
    stand.repository("main", "main", "x", &[("SPECS/main.spec", spec("main").as_bytes())]);
    stand.repository("bad", "c9", "x", &[("SPECS/bad.spec", b"Name: bad\nnonsense\n")]);
    for (arguments, why) in [
        (&["-p", "nothing", "-b", "c9", "-a", "x86_64"][..], "nothing.git cannot be cloned"),
        (&["-p", "tiny", "-b", "nobranch", "-a", "x86_64"], "branch nobranch"),
        (&["-p", "tiny", "-b", "c9", "-r", "v9", "-a", "x86_64"], "branch c9 of tiny has no v9"),
        (
            &["-p", "lacking", "-b", "c9", "-a", "x86_64"],
            "the lookaside does not have a.tar.gz: HTTP status 404",
        ),
        (&["-p", "other", "-b", "c9", "-a", "x86_64"], "is of the package kernel, and not of other"),
        (&["-p", "md5", "-b", "c9", "-a", "x86_64"], "MD5 proves nothing"),
        (&["-p", "main", "-b", "main", "-a", "x86_64"], "no disttag can be told from branch main"),
        (&["-p", "bad", "-b", "c9", "-a", "x86_64"], "rpmbuild -bs failed: error: line 2"),
    ] {
        let ran = request(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("refused for x86_64: ") && ran.err.contains(why), "{why}: {ran:?}");
    }
    stand.upload(&format!("lacking/c9/{sha1}"), b"something else");
    let ran = request(&["-p", "lacking", "-b", "c9", "-a", "x86_64"]);
    assert!(ran.err.contains("the lookaside has another a.tar.gz"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_what_an_old_subscriber_reads_and_ours_beside_it() {
    let stand = Stand::new("null", POLICY);
    let (reader, mut messages) = stand.broker.client("old", &["reimzul/submit/#"]);
    reader.connected().await.unwrap();
    let asked =
        ["-p", "tiny", "-b", "c9", "-r", "v1", "-d", ".el9", "-s", "stable", "-t", "mini", "--scratch"];
    stand
        .request("alice", &[&asked[..], &["-a", "x86_64,aarch64", "--mail", "--timeout", "1"]].concat())
        .ok();
    for arch in ["x86_64", "aarch64"] {
        let message = next(&mut messages).await;
        assert_eq!((message.topic, message.retained), (format!("reimzul/submit/{arch}"), false));
        let mut fields: Map<String, Value> = serde_json::from_slice(&message.payload).unwrap();
        let old = json!({"pkg": "tiny", "git_branch": "c9", "git_ref": "v1", "arch": arch, "submitter": "alice",
            "target": "mini", "disttag": ".el9", "sources_dir": "stable", "scratch": true});
        for (name, value) in old.as_object().unwrap() {
            assert_eq!(fields.shift_remove(name).as_ref(), Some(value), "{name}");
        }
        let ours = ["mail", "nonce", "time", "certificate", "algorithm", "signature"];
        assert_eq!(fields.keys().collect::<Vec<_>>(), ours);
    }
}

#[test]
fn without_a_controller_it_is_sent_and_unconfirmed() {
    let stand = Stand::new("null", POLICY);
    let asked = ["-p", "tiny", "-b", "c9", "-a", "x86_64", "-t", "mini", "--timeout", "1"];
    let ran = stand.request("alice", &asked).ok();
    assert!(ran.out.contains("sent, unconfirmed for x86_64"), "{ran:?}");
    assert_eq!(stand.request("alice", &[&asked[..], &["--wait"]].concat()).code, 5);
    stand.broker.kill();
    let ran = stand.request("alice", &asked);
    assert!(ran.code == 4 && ran.err.contains("the request was not sent"), "{ran:?}");
    assert!(!ran.out.contains("sent"), "{ran:?}");
}
