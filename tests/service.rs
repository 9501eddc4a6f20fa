//! Roles as services of systemd: what they tell it, the units that `make install` installs, and both under a real
//! systemd in a container of its own.

mod harness;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use harness::{BINARY, Ran, Root, SOON};

/// What a service tells its manager, as it comes.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(root: &Root) -> Manager {
        let path = root.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Manager { socket, path }
    }

    /// Waits until `line` is told, and gives the whole message.
    fn hears(&self, line: &str) -> String {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < SOON {
            let length = self.socket.recv(&mut buffer).unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|told| told == line) {
                return message;
            }
        }
        panic!("the manager was not told {line}");
    }
}

#[test]
fn a_service_says_when_it_is_up_that_it_lives_and_when_it_stops() {
    let root = Root::new();
    let manager = Manager::new(&root);
    let socket = manager.path.to_str().unwrap();
    let roles =
        root.start_with(&["notifier", "signer"], &[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "300000")]);
    assert!(manager.hears("READY=1").contains("STATUS=running notifier, signer"));
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    roles.terminate();
    manager.hears("STOPPING=1");
    assert_eq!(roles.ended().0, Some(0));
}

/// The units, installed below a folder so that the program they name is there.
fn installed(below: &Path) -> Vec<PathBuf> {
    let mut make = Command::new("make");
    make.arg("install").arg(format!("PREFIX={}", below.display())).arg(format!("binary={BINARY}"));
    Ran::of(make.current_dir(env!("CARGO_MANIFEST_DIR"))).ok();
    let folder = below.join("lib/systemd/system");
    let mut units: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    units.sort();
    units
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let units = installed(folder.path());
    let ran = Ran::of(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units)).ok();
    assert_eq!((ran.out, ran.err), (String::new(), String::new()));
}

#[test]
fn the_units_are_as_closed_as_the_documentation_says() {
    let folder = tempfile::tempdir().unwrap();
    for unit in installed(folder.path()).iter().filter(|unit| unit.extension().unwrap() == "service") {
        let name = unit.file_name().unwrap().to_str().unwrap();
        // Of 100, as `--threshold` has it; builders make chroots, and can be closed little.
        let limit = if name.starts_with("reimzul-worker") || name == "reimzul.service" { 83 } else { 14 };
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager", &format!("--threshold={limit}")]).arg(unit);
        Ran::of(&mut analyze).ok();
        let documented =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd.md")).unwrap();
        let row =
            documented.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no row of {name}"));
        assert!(row.contains(&format!("{}.{}", limit / 10, limit % 10)), "{row}");
    }
}
