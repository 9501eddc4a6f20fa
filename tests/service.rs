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
    // Its socket holds a few messages, and nobody reads them any more.
    drop(manager);
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
        let limit = match name {
            "reimzul.service" | "reimzul-worker@.service" | "reimzul-mqtt-sub.service" => 87,
            "reimzul-stunnel.service" => 15,
            _ => 14,
        };
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

/// A copy of this machine's file system in which systemd can run; changes go to a folder aside.
struct Container {
    folder: tempfile::TempDir,
}

impl Container {
    fn new() -> Container {
        let folder = tempfile::Builder::new().prefix("reimzul-container-").tempdir_in("/var/tmp").unwrap();
        let container = Container { folder };
        for part in ["upper", "work", "root"] {
            std::fs::create_dir(container.part(part)).unwrap();
        }
        let (upper, work) = (container.part("upper"), container.part("work"));
        let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay", "-o", &layers]).arg(container.root());
        Ran::of(&mut mount).ok();
        container
    }

    fn part(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.part("root")
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "-D"]);
        Ran::of(nspawn.arg(self.root()).args(arguments).stdin(std::process::Stdio::null()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.root()).status();
    }
}

/// What an administrator does, once systemd is up; what it says ends up in /said.
const DAY: &str = "#!/bin/sh
exec >/said 2>&1
set -ex
systemctl start reimzul-notifier reimzul-signer reimzul-repogen-worker@1 reimzul-worker@1
systemctl is-active reimzul-notifier reimzul-signer reimzul-repogen-worker@1 reimzul-worker@1
runuser -u reimzul -- reimzul submit -s /hello-1.0-1.src.rpm -t mini -a x86_64 --wait
soon() { timeout 60 sh -c \"until $1; do sleep 0.2; done\"; }
soon 'test -e /srv/reimzul/bstore/repo/mini.x86_64/repodata/repomd.xml'
soon 'grep Success /var/log/reimzul/reimzul.log'
soon 'test -e /srv/reimzul/bstore/tosign/mini.x86_64/hello-1.0-1.src.rpm'
soon 'journalctl -q --no-pager -o cat REIMZUL_STATUS=Success REIMZUL_TARGET=mini.x86_64 | grep hello/'
journalctl -q --no-pager -o json -n 1 REIMZUL_PACKAGE=hello | grep MESSAGE_ID
systemctl reload reimzul-notifier
systemctl is-active reimzul-notifier
systemctl kill -s KILL reimzul-notifier
soon 'systemctl show -P NRestarts reimzul-notifier | grep -x 1'
soon 'systemctl is-active reimzul-notifier'
systemctl stop reimzul-worker@1
systemctl show -P Result reimzul-worker@1
echo the day is over
";

#[test]
fn a_real_systemd_starts_watches_and_stops_the_units() {
    let container = Container::new();
    let tried = container.run(&["/bin/true"]);
    assert_eq!(
        tried.code, 0,
        "systemd-nspawn can start no container here: run the tests as root, on a machine or in a container that may \
         mount and unshare, with the package systemd-container: {}",
        tried.err
    );
    let mut make = Command::new("make");
    make.arg("install")
        .arg(format!("DESTDIR={}", container.root().display()))
        .arg(format!("binary={BINARY}"));
    Ran::of(make.current_dir(env!("CARGO_MANIFEST_DIR"))).ok();
    let srpm = harness::srpm("hello", 1);
    container.write("etc/reimzul/reimzul.ini", "[worker]\nengine = null\n", 0o644);
    std::fs::copy(srpm, container.root().join("hello-1.0-1.src.rpm")).unwrap();
    container.write("day", DAY, 0o755);
    let unit = "[Service]\nType=oneshot\nExecStart=/day\nExecStopPost=systemctl --no-block poweroff\n";
    container.write("etc/systemd/system/day.service", unit, 0o644);
    let target = "[Unit]\nRequires=basic.target\nWants=day.service\nAfter=basic.target\n";
    container.write("etc/systemd/system/day.target", target, 0o644);
    container.write("etc/machine-id", "", 0o444);
    let ran = container.run(&["--boot", "systemd.unit=day.target"]);
    let said = std::fs::read_to_string(container.root().join("said")).unwrap_or(ran.out + &ran.err);
    assert!(said.ends_with("the day is over\n"), "{said}");
    assert!(said.contains("\nsuccess\n"), "it stopped well: {said}");
}
