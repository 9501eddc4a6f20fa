//! deploy/ansible: without fault for ansible-lint, and run for real, by ssh from a machine of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::{Fleet, TARGET, slow, target};
use crate::harness::{BINARY, Ran, SOON};
use crate::host::{Host, address};

const SSH: u16 = 22;

/// The machine that Ansible runs on.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// With a key, the program without what only a debugger wants, and a target.
    fn new() -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(desk.path("key"));
        Ran::of(&mut keygen).ok();
        Ran::of(Command::new("strip").arg("-o").args([&desk.path("reimzul"), Path::new(BINARY)])).ok();
        std::fs::write(desk.path("mini.x86_64.repo"), target()).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A host that knows the desk's key, and has nothing of ours.
    fn bare(&self, host: Host) -> Host {
        let host = host.without_program();
        host.write("/root/.ssh/authorized_keys", &std::fs::read_to_string(self.path("key.pub")).unwrap());
        host.write("/etc/ssh/sshd_config", "UsePAM no\nSubsystem sftp internal-sftp\n");
        // It has no network to get lists of packages from, and all packages.
        host.write("/var/lib/apt/periodic/update-success-stamp", "");
        host
    }

    /// The fleet as an administrator writes it down.
    fn write_down(&self, slots: u32) {
        let host = |name: &str| json!({"hosts": {name: {"ansible_host": address(name)}}});
        let with = |name: &str, settings: Value| {
            let mut group = host(name);
            group["vars"] = json!({"reimzul_settings": settings});
            group
        };
        let inventory = json!({
            "controller": with("ctl", json!({"history": {"url": "mongodb://127.0.0.1:27017/"}})),
            "bstore": host("store"),
            "builders": with("build1", json!({"worker": {"slots": slots, "min_free": "1G"}})),
            "clients": host("client"),
            "all": {"vars": {
                "ansible_user": "root",
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_private_key_file": self.path("key"),
                "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=/dev/null",
                "reimzul_binary": self.path("reimzul"),
                "reimzul_targets": [self.path("mini.x86_64.repo")],
            }},
        });
        std::fs::write(self.path("fleet.json"), inventory.to_string()).unwrap();
    }

    /// Runs the playbook, and says how much it changed on each host.
    fn play(&self, space: &str, more: &[&str]) -> Vec<(String, u32)> {
        let mut play = Command::new("ip");
        play.args(["netns", "exec", space]).arg(python("ansible-playbook"));
        play.arg("-i").arg(self.path("fleet.json")).arg("site.yml").args(more);
        play.current_dir(roles()).envs([
            ("ANSIBLE_NOCOLOR", "1"),
            ("ANSIBLE_HOST_KEY_CHECKING", "False"),
            ("LC_ALL", "C.UTF-8"),
        ]);
        // Connections that are kept must not be those of another run, to hosts of the same addresses.
        play.env("ANSIBLE_HOME", self.path("ansible")).env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.path("cp"));
        let ran = Ran::of(play.stdin(Stdio::null())).ok();
        let recap = ran.out.split("PLAY RECAP").nth(1).unwrap_or_else(|| panic!("{ran:?}"));
        recap.lines().skip(1).filter_map(changes).collect()
    }
}

/// `ctl : ok=20 changed=12 …`
fn changes(line: &str) -> Option<(String, u32)> {
    let (host, counts) = line.split_once(':')?;
    let changed = counts.split_whitespace().find_map(|count| count.strip_prefix("changed="))?;
    Some((host.trim().to_owned(), changed.parse().unwrap()))
}

fn roles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ansible")
}

/// A program of the tests' Python environment.
fn python(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin").join(program);
    assert!(path.exists(), "{} is missing: run `make fixtures`", path.display());
    path
}

fn counts(of: &[(&str, u32)]) -> Vec<(String, u32)> {
    of.iter().map(|(host, changed)| ((*host).to_owned(), *changed)).collect()
}

#[test]
fn a_fleet_is_set_up_by_ansible_and_a_second_run_changes_nothing() {
    let work = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let mut fleet = Fleet::bare(&["build1"], &[SSH], |host| desk.bare(host));
    let space = fleet.network.join("desk", "10.77.0.100");
    for host in [&fleet.ctl, &fleet.store, &fleet.builders[0], &fleet.client] {
        host.run(&["systemctl", "start", "sshd"]).ok();
    }
    desk.write_down(1);
    desk.play(&space, &["--check", "--limit", "client"]);
    assert!(!fleet.client.path("/usr/local/bin/reimzul").exists(), "looking changes nothing");

    let first = desk.play(&space, &[]);
    assert!(first.len() == 4 && first.iter().all(|(_, changed)| *changed > 4), "{first:?}");
    let again = desk.play(&space, &[]);
    assert_eq!(again, counts(&[("build1", 0), ("client", 0), ("ctl", 0), ("store", 0)]));

    a_package_is_built(&mut fleet, work.path());
    a_setting_changes(&desk, &space, &fleet);
}

/// Submitted on the controller, built on the builder, listed on the bstore, and told to the client.
fn a_package_is_built(fleet: &mut Fleet, work: &Path) {
    fleet.submit(&slow("rolled", 1, work));
    fleet.balance();
    let found = fleet.client.reimzul(&["--json", "query", "-s", "Success", "-t", TARGET]).ok().json();
    assert_eq!(found[0]["pkgname"], "rolled", "{found}");
}

/// It is foretold, and comes to its host, whose worker is started anew.
fn a_setting_changes(desk: &Desk, space: &str, fleet: &Fleet) {
    desk.write_down(2);
    for how in [&["--limit", "build1", "--check"][..], &["--limit", "build1"]] {
        let changes = desk.play(space, how);
        assert!(changes.len() == 1 && changes[0].1 > 0, "{how:?} {changes:?}");
    }
    let until = std::time::Instant::now() + SOON;
    loop {
        let stats = fleet.client.reimzul(&["--json", "stats"]).ok().json();
        if stats["builders"][0]["slots"] == 2 {
            return;
        }
        assert!(std::time::Instant::now() < until, "{stats}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn ansible_lint_finds_no_fault() {
    let home = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", python("").display(), std::env::var("PATH").unwrap());
    let mut lint = Command::new(python("ansible-lint"));
    lint.args(["--offline", "--nocolor", "--profile", "production"]).current_dir(roles());
    Ran::of(lint.env("PATH", path).env("HOME", home.path()).env("LC_ALL", "C.UTF-8")).ok();
}
