//! Events in the journal: what a notifier sends to it where its stderr is the journal's.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::harness::{Root, SOON};
use crate::{fields, tell};

/// systemd's place for it (systemd-journald.service(8)).
const JOURNAL: &str = "/run/systemd/journal";

/// A notifier in whose eyes ours is the journal's socket; killed when dropped.
struct Notifier(Child);

impl Notifier {
    fn start(root: &Root) -> (Notifier, UnixDatagram) {
        std::fs::create_dir_all(JOURNAL).unwrap();
        let ours = root.join("journal");
        std::fs::create_dir(&ours).unwrap();
        let socket = UnixDatagram::bind(ours.join("socket")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let stderr = std::fs::File::create(root.join("stderr")).unwrap();
        let found = stderr.metadata().unwrap();
        let mut command = root.command(&["run", "notifier"]);
        command.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()));
        let enter = move || {
            let (nothing, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(nothing, "/", nothing, private, nothing)?;
            Ok(mount(Some(&ours), JOURNAL, nothing, MsFlags::MS_BIND, nothing)?)
        };
        // SAFETY: all are mere system calls.
        unsafe { command.pre_exec(enter) };
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        (Notifier(child), socket)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Entry = BTreeMap<String, String>;

/// The fields of an entry in the journal's own protocol: `NAME=VALUE`, or the name, and the value after its length.
fn read(mut datagram: &[u8]) -> Entry {
    let mut entry = Entry::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(end) = datagram.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&datagram[..end], &datagram[end + 1..]);
        if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            entry.insert(text(&line[..at]), text(&line[at + 1..]));
            datagram = rest;
        } else {
            let (length, rest) = rest.split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            entry.insert(text(line), text(&rest[..length]));
            datagram = &rest[length + 1..];
        }
    }
    entry
}

/// Waits for the entry about a package.
fn about(socket: &UnixDatagram, package: &str) -> Entry {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut buffer).expect("an entry comes");
        let entry = read(&buffer[..length]);
        if entry.get("REIMZUL_PACKAGE").is_some_and(|named| named == package) {
            return entry;
        }
    }
}

#[tokio::test]
async fn an_event_is_an_entry_with_fields_to_look_for() {
    let root = Root::new();
    let (site, (_notifier, socket)) = (root.site(), Notifier::start(&root));
    let mut failed = fields("hello", "Failed");
    failed["failure"] = json!({"class": "check", "phase": "check", "lines": ["x"]});
    tell(&site, &failed).await;
    tell(&site, &fields("other", "Success")).await;
    let (failed, other) = (about(&socket, "hello"), about(&socket, "other"));
    for (field, value) in [
        ("MESSAGE", "Failed mini.x86_64/hello/20261123204406/1-1.x86_64"),
        ("MESSAGE_ID", "c0e1f8b8f2a44c5b9d8a6a7f3f0f5e21"),
        ("PRIORITY", "5"),
        ("REIMZUL_BUILD", "mini.x86_64/hello/20261123204406/1-1.x86_64"),
        ("REIMZUL_BUILD_ID", "id-of-hello"),
        ("REIMZUL_SRPM", "hello-1-1.src.rpm"),
        ("REIMZUL_TARGET", "mini.x86_64"),
        ("REIMZUL_ARCH", "x86_64"),
        ("REIMZUL_STATUS", "Failed"),
        ("REIMZUL_SCRATCH", "false"),
        ("REIMZUL_SUBMITTER", "kb"),
        ("REIMZUL_BUILDER", "b1.example.org"),
        ("REIMZUL_FAILURE", "check"),
    ] {
        assert_eq!(failed.get(field).map(String::as_str), Some(value), "{field} of {failed:?}");
    }
    assert_eq!(other["REIMZUL_STATUS"], "Success");
    assert_eq!(other.get("REIMZUL_FAILURE"), None);
}
