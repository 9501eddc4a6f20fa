//! Input that nobody sane would send: it may be refused, and must never panic, leave its folder, or change.

mod harness;

use std::path::{Component, Path};
use std::sync::LazyLock;

use proptest::prelude::*;
use reimzul::config::Config;
use reimzul::model::event::carried_on;
use reimzul::model::job::Stamp;
use reimzul::model::{
    Arch, BuildId, BuildJob, BuildPath, BuildRecord, Disttag, Event, PkgName, SrpmName, Status, Submitter,
    Target, Timestamp, VersionRelease,
};
use reimzul::sys::openpgp::{self, PublicKeys, SecretKey};
use reimzul::sys::rpm::{self, signing::Signatures};
use serde_json::{Map, Value, json};

use harness::keys::Kind;

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = serde_json::from_slice::<BuildJob>(&bytes);
        let _ = serde_json::from_slice::<Event>(&bytes);
        let _ = serde_json::from_slice::<BuildRecord>(&bytes);
        let _ = serde_json::from_slice::<reimzul::repo::Request>(&bytes);
        let _ = serde_json::from_slice::<reimzul::sign::Request>(&bytes);
    }

    #[test]
    fn nearly_right_jobs_and_events_are_read_or_refused(fields in nearly_right()) {
        let text = serde_json::to_string(&fields).unwrap();
        if let Ok(job) = serde_json::from_str::<BuildJob>(&text) {
            let again: BuildJob = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
            // Of half a stamp nothing is left, which is what becomes of it anyway.
            prop_assert_eq!(&again.stamp, &job.stamp);
            if job.stamp.is_some() {
                prop_assert_eq!(again, job);
            }
        }
        if let Ok(event) = serde_json::from_str::<Event>(&text) {
            let again: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
            prop_assert_eq!(again.key(), event.key());
            prop_assert_eq!(again, event);
        }
    }

    /// Whatever else an old submitter wrote into a job, a stamp makes it a build that can be told of.
    #[test]
    fn every_job_can_be_stamped_and_its_event_read(extra in unknown_fields()) {
        let mut fields = extra;
        for (name, value) in good_job() {
            fields.insert(name, value);
        }
        let job: BuildJob = serde_json::from_value(Value::Object(fields)).unwrap();
        let stamped = job.stamped(stamp());
        let read: BuildJob = serde_json::from_str(&serde_json::to_string(&stamped).unwrap()).unwrap();
        prop_assert_eq!(&read, &stamped);
        prop_assert!(read.stamp.is_some());
        let mut event = serde_json::from_value::<Event>(good_event()).unwrap();
        event.extra = carried_on(&read.extra);
        let text = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn an_accepted_name_is_spelled_as_it_was_and_stays_in_its_folder(text in name()) {
        same(text.parse::<Target>().ok(), &text)?;
        same(text.parse::<PkgName>().ok(), &text)?;
        same(text.parse::<VersionRelease>().ok(), &text)?;
        same(text.parse::<SrpmName>().ok(), &text)?;
        same(text.parse::<BuildId>().ok(), &text)?;
        if let Ok(disttag) = text.parse::<Disttag>() {
            prop_assert_eq!(disttag.to_string(), text.clone());
            prop_assert!(!text.contains(['/', '%', '\n', ' ']));
        }
        if let Ok(submitter) = text.parse::<Submitter>() {
            prop_assert_eq!(submitter.to_string(), text.clone());
            prop_assert!(!text.chars().any(char::is_control));
        }
        if let Ok(name) = text.parse::<SrpmName>() {
            let (package, evr) = name.split();
            prop_assert!(package.to_string().parse::<PkgName>().is_ok());
            prop_assert!(evr.to_string().parse::<VersionRelease>().is_ok());
        }
        let _ = text.parse::<Arch>();
        let _ = text.parse::<Status>();
    }

    #[test]
    fn a_timestamp_is_spelled_as_it_was(text in "[0-9]{14}|.{0,20}") {
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            prop_assert_eq!(timestamp.to_string(), text);
            prop_assert!(timestamp.next() >= timestamp);
        }
    }

    #[test]
    fn a_builds_path_has_four_parts_below_its_root(
        (target, pkgname, evr) in ("[a-z.~^+-]{1,12}", "[a-z._-]{1,12}", "[0-9.~-]{1,12}")
    ) {
        let (Ok(target), Ok(pkgname), Ok(evr)) = (target.parse(), pkgname.parse(), evr.parse()) else {
            return Ok(());
        };
        let path = BuildPath { target, pkgname, timestamp: stamp().timestamp, evr, arch: Arch::Noarch };
        let parts: Vec<Component> = path.relative().components().map(|part| match part {
            Component::Normal(_) => part,
            other => panic!("{path} has {other:?} in it"),
        }).map(|_| Component::CurDir).collect();
        prop_assert_eq!(parts.len(), 4);
    }

    #[test]
    fn any_text_is_a_configuration_or_an_error(text in "(\\[[a-z]{0,8}\\]\n|[a-z_]{0,9} ?= ?[^\n]{0,9}\n|[ -~]{0,12}\n){0,8}") {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("reimzul.ini"), text).unwrap();
        if let Err(error) = Config::load(None, Some(folder.path())) {
            prop_assert!(!error.to_string().contains('\n'), "more than a line: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The header of a real source RPM with some bytes changed, and perhaps cut off.
    #[test]
    fn a_damaged_rpm_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = SRPM.clone();
        for (at, byte) in changes {
            // Most of it is header; what decides over lengths and offsets is there.
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        match rpm::whole(file.path()) {
            Ok(whole) => prop_assert_eq!(whole.size, bytes.len() as u64),
            Err(error) => prop_assert!(error.to_string().len() < 400, "{error}"),
        }
        let _ = rpm::header(file.path());
        // Signed or refused, but not something else.
        let signatures = Signatures { header: ED25519.clone(), whole: None };
        let signed = file.path().with_extension("signed");
        if rpm::signing::signable(file.path()).is_ok()
            && rpm::signing::write_signed(file.path(), &signed, &signatures).is_ok()
        {
            prop_assert_eq!(rpm::header(&signed).is_ok(), rpm::header(file.path()).is_ok());
        }
        let _ = std::fs::remove_file(&signed);
    }

    /// The counts and lengths at the head of its two headers, set to anything.
    #[test]
    fn an_rpm_that_lies_about_its_lengths_is_refused(
        section in 0..2_usize, count in any::<u32>(), length in any::<u32>(),
    ) {
        let mut bytes = SRPM.clone();
        let heads: Vec<usize> = (0..bytes.len() - 4)
            .filter(|at| bytes[*at..].starts_with(&[0x8e, 0xad, 0xe8, 0x01]))
            .collect();
        let at = heads[section];
        bytes[at + 8..at + 12].copy_from_slice(&count.to_be_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&length.to_be_bytes());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let _ = rpm::whole(file.path());
    }
}

proptest! {
    // Keys and signatures come from files and jobs.
    #[test]
    fn what_is_no_key_or_signature_is_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let text = String::from_utf8_lossy(&bytes);
        let armored = format!("-----BEGIN PGP SIGNATURE-----\n\n{text}\n-----END PGP SIGNATURE-----\n");
        prop_assert!(openpgp::packet(&armored).is_err() && openpgp::packet(&text).is_err());
        let _ = PublicKeys::parse(&bytes);
        let key = std::fs::read(harness::keys::key(Kind::Ed25519).public).unwrap();
        let mut damaged = key.clone();
        damaged[at.index(key.len())] ^= flip;
        let _ = PublicKeys::parse(&damaged);
        let mut packet = ED25519.clone();
        packet[at.index(ED25519.len())] ^= flip;
        let signatures = Signatures { header: packet, whole: Some(bytes) };
        let folder = tempfile::tempdir().unwrap();
        let _ = rpm::signing::write_signed(&harness::srpm("hello", 1), &folder.path().join("x"), &signatures);
    }
}

/// A signature packet.
static ED25519: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = SecretKey::read(&harness::keys::key(Kind::Ed25519).secret, None).unwrap();
    openpgp::packet(&key.sign(&b"x"[..]).unwrap()).unwrap()
});

static SRPM: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read(harness::srpm("hello", 1)).unwrap());

fn same<T: std::fmt::Display>(name: Option<T>, text: &str) -> Result<(), TestCaseError> {
    let Some(name) = name else { return Ok(()) };
    prop_assert_eq!(name.to_string(), text);
    let parts: Vec<Component> = Path::new(text).components().collect();
    prop_assert!(matches!(parts.as_slice(), [Component::Normal(_)]), "{:?} is no file's name", text);
    prop_assert!(!text.starts_with('-') && text.len() <= 200);
    Ok(())
}

/// Names, near misses and nonsense.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z.+~^_-]{0,12}(\\.src\\.rpm)?",
        "(\\.\\./|/|-|\\.)?[a-z0-9-]{0,10}(\\.src\\.rpm)?",
        "[a-z]{190,210}",
        "\\PC{0,12}",
        any::<String>(),
    ]
}

fn stamp() -> Stamp {
    Stamp {
        build_id: "b1".parse().unwrap(),
        timestamp: "20261123204406".parse().unwrap(),
        sha256: "00".into(),
        pkgname: "hello".parse().unwrap(),
        evr: "1-1".parse().unwrap(),
    }
}

fn good_job() -> Map<String, Value> {
    let job = json!({"srpm": "hello-1-1.src.rpm", "arch": "x86_64", "target": "mini.x86_64", "disttag": "",
        "scratch": false, "submitter": "kb"});
    job.as_object().unwrap().clone()
}

fn good_event() -> Value {
    let mut event = good_job();
    for (name, value) in [
        ("status", "Success"),
        ("builder_fqdn", "b1"),
        ("evr", "1-1"),
        ("pkgname", "hello"),
        ("timestamp", "20261123204406"),
        ("build_id", "b1"),
    ] {
        event.insert(name.into(), value.into());
    }
    Value::Object(event)
}

const FIELDS: [&str; 20] = [
    "srpm",
    "arch",
    "target",
    "disttag",
    "scratch",
    "submitter",
    "status",
    "builder_fqdn",
    "evr",
    "pkgname",
    "timestamp",
    "build_id",
    "sha256",
    "failure",
    "format",
    "source",
    "results",
    "latest_build",
    "git_branch",
    "pkg",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./-]{0,8}".prop_map(Value::from),
        Just(json!("hello-1-1.src.rpm")),
        Just(json!("20261123204406")),
        Just(json!("x86_64")),
        Just(json!(["a", 1])),
        Just(json!({"class": "build", "phase": "build", "lines": []})),
    ]
}

/// A good event with some fields changed, and some missing.
fn nearly_right() -> impl Strategy<Value = Value> {
    let changes =
        proptest::collection::vec((prop::sample::select(&FIELDS[..]), proptest::option::of(value())), 0..4);
    changes.prop_map(|changes| {
        let mut event = good_event();
        let fields = event.as_object_mut().unwrap();
        for (name, value) in changes {
            match value {
                Some(value) => fields.insert(name.to_owned(), value),
                None => fields.shift_remove(name),
            };
        }
        event
    })
}

/// Fields that a job does not have, many of which an event or a record does.
fn unknown_fields() -> impl Strategy<Value = Map<String, Value>> {
    let field = (prop::sample::select(&FIELDS[..]), value());
    proptest::collection::vec(field, 0..8)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
