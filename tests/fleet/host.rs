//! Hosts for real: systemd in a container each, a network of their own between them, firewalled, and cables that can
//! be cut. A host's file system is this machine's, with its changes in a folder aside; all goes with the values.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{BINARY, Ran, SOON};

/// Network namespaces, joined by a bridge in one more of them.
pub struct Network {
    name: String,
    spaces: Mutex<Vec<String>>,
}

impl Network {
    pub fn new() -> Network {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("reimzul{}-{number}", std::process::id());
        let network = Network { name, spaces: Mutex::default() };
        let switch = network.space("switch");
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "bridge", "up"]);
        network
    }

    fn space(&self, name: &str) -> String {
        let space = format!("{}-{name}", self.name);
        ip(&["netns", "add", &space]);
        self.spaces.lock().unwrap().push(space.clone());
        space
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    /// A namespace at this address, plugged in.
    pub fn join(&self, name: &str, address: &str) -> String {
        let (space, switch) = (self.space(name), self.switch());
        ip(&["-n", &switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &space]);
        ip(&["-n", &switch, "link", "set", name, "master", "bridge", "up"]);
        ip(&["-n", &space, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        ip(&["-n", &space, "link", "set", "eth0", "up"]);
        space
    }

    /// Pulls a host's cable, or plugs it in again. Nobody is told.
    pub fn cable(&self, host: &Host, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", &self.switch(), "link", "set", host.name, state]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for space in self.spaces.lock().unwrap().drain(..) {
            let _ = Command::new("ip").args(["netns", "delete", &space]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    Ran::of(Command::new("ip").args(arguments)).ok();
}

/// A machine that systemd runs on.
pub struct Host {
    pub name: &'static str,
    space: String,
    folder: tempfile::TempDir,
    /// Whether it has the program from the start.
    has_program: bool,
    running: Option<Running>,
}

struct Running {
    nspawn: Child,
    /// systemd, as this machine numbers it.
    leader: String,
}

/// Where the hosts have the mini distribution: below /tmp, say, units with a /tmp of their own would not see it.
pub const MINI_DISTRO: &str = "/opt/mini-distro";

/// Where this machine has it.
pub fn mini_distro() -> PathBuf {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mini-distro");
    assert!(made.join("repo").exists(), "{} is not there: `make test` makes it", made.display());
    made
}

/// All the hosts, by number, as /etc/hosts has them.
const NAMES: [&str; 5] = ["ctl", "store", "build1", "build2", "client"];

/// Where a host is, in every network.
pub fn address(name: &str) -> String {
    let number = NAMES.iter().position(|known| *known == name).unwrap() + 1;
    format!("10.77.0.{number}")
}

impl Host {
    /// A host that lets nobody in but through these ports, not yet running.
    pub fn new(network: &Network, name: &'static str, ports: &[u16]) -> Host {
        let space = network.join(name, &address(name));
        let folder = tempfile::Builder::new().prefix("reimzul-host-").tempdir_in("/var/tmp").unwrap();
        let host = Host { name, space, folder, has_program: true, running: None };
        for part in ["upper", "work", "root", "srv"] {
            std::fs::create_dir(host.folder.path().join(part)).unwrap();
        }
        let part = |name: &str| host.folder.path().join(name).display().to_string();
        let layers = format!("lowerdir=/,upperdir={},workdir={}", part("upper"), part("work"));
        Ran::of(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers, &part("root")])).ok();
        // What this machine has enabled is no business of a bare host.
        let _ = std::fs::remove_dir_all(host.path("/etc/systemd/system/multi-user.target.wants"));
        host.write("/etc/machine-id", "");
        host.write("/etc/hostname", &format!("{name}\n"));
        let hosts = NAMES.iter().map(|name| format!("{} {name}\n", address(name)));
        host.write("/etc/hosts", &format!("127.0.0.1 localhost\n{}", hosts.collect::<String>()));
        host.write(
            "/etc/systemd/system/host.target",
            "[Unit]\nRequires=basic.target\nWants=multi-user.target\n",
        );
        host.firewall(ports);
        host
    }

    /// A host that has yet to get the program.
    pub fn without_program(mut self) -> Host {
        let _ = std::fs::remove_file(self.path("/usr/local/bin/reimzul"));
        self.has_program = false;
        self
    }

    /// A file on it, as this machine sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        let path = Path::new(path).strip_prefix("/").unwrap();
        // It is bound into the container: overlay mounts of ours cannot lie on another one.
        match path.strip_prefix("srv") {
            Ok(below) => self.folder.path().join("srv").join(below),
            Err(_) => self.folder.path().join("root").join(path),
        }
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        let path = self.path(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn firewall(&self, ports: &[u16]) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let open = if ports.is_empty() {
            String::new()
        } else {
            format!("tcp dport {{ {} }} accept\n", ports.join(", "))
        };
        let rules = format!(
            "table inet filter {{ chain input {{ type filter hook input priority 0; policy drop;\n\
             iif lo accept\nct state established,related accept\n{open}}}\n}}\n"
        );
        let file = self.folder.path().join("rules");
        std::fs::write(&file, rules).unwrap();
        Ran::of(Command::new("ip").args(["netns", "exec", &self.space, "nft", "-f"]).arg(file)).ok();
    }

    /// Switches it on.
    pub fn boot(&mut self) {
        let repository = env!("CARGO_MANIFEST_DIR");
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn
            .args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"])
            .arg(format!("--network-namespace-path=/run/netns/{}", self.space))
            .arg(format!("--bind={}:/srv", self.folder.path().join("srv").display()))
            .arg(format!("--bind-ro={repository}"))
            .arg(format!("--bind-ro={}:{MINI_DISTRO}", mini_distro().display()))
            .args(self.has_program.then(|| format!("--bind-ro={BINARY}:/usr/local/bin/reimzul")))
            .arg("--directory")
            .arg(self.folder.path().join("root"))
            .args(["--boot", "systemd.unit=host.target"])
            .stdin(Stdio::null());
        let log = std::fs::File::create(self.folder.path().join("console")).unwrap();
        nspawn.stdout(log.try_clone().unwrap()).stderr(log);
        let nspawn = nspawn.spawn().unwrap_or_else(|error| panic!("{error}: install systemd-container"));
        let children = format!("/proc/{0}/task/{0}/children", nspawn.id());
        let leader = self.soon("has no process", || {
            let found = std::fs::read_to_string(&children).unwrap_or_default();
            found.split_whitespace().find(|process| is_the_first(process)).map(str::to_owned)
        });
        self.running = Some(Running { nspawn, leader });
        self.soon("does not come up", || {
            let ran = self.run(&["systemctl", "is-system-running"]);
            ["running", "degraded"].contains(&ran.out.trim()).then_some(())
        });
    }

    /// Pulls its plug.
    pub fn crash(&mut self) {
        if let Some(Running { mut nspawn, leader }) = self.running.take() {
            let leader = nix::unistd::Pid::from_raw(leader.parse().unwrap());
            let _ = nix::sys::signal::kill(leader, nix::sys::signal::Signal::SIGKILL);
            let _ = nspawn.kill();
            let _ = nspawn.wait();
        }
    }

    fn soon<T>(&self, trouble: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            if let Some(found) = look() {
                return found;
            }
            let console = || std::fs::read_to_string(self.folder.path().join("console")).unwrap_or_default();
            assert!(Instant::now() < until, "{} {trouble}: {}", self.name, console());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command on it, ready to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let leader = &self.running.as_ref().expect("it runs").leader;
        let mut command = Command::new("nsenter");
        command.args(["-t", leader, "--all"]).args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// As the user that everything of ours runs as.
    pub fn reimzul(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["runuser", "-u", "reimzul", "--", "reimzul"], arguments].concat())
    }

    /// Whether a port of another host can be reached from here.
    pub fn reaches(&self, other: &Host, port: u16) -> bool {
        let to: SocketAddr = format!("{}:{port}", address(other.name)).parse().unwrap();
        self.inside(move || TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
    }

    /// A service that listens on all addresses, as a careless one would.
    pub fn listen(&self, port: u16) -> TcpListener {
        self.inside(move || TcpListener::bind(("0.0.0.0", port)).unwrap())
    }

    /// Runs in its network. A thread of its own, since the namespace stays with it.
    fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let space = std::fs::File::open(format!("/run/netns/{}", self.space)).unwrap();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            act()
        });
        thread.join().unwrap()
    }
}

/// Whether a process is number 1 of a container. nspawn has others, for a moment.
fn is_the_first(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(running) = &self.running
        {
            let mut journal = Command::new("nsenter");
            journal.args([
                "-t",
                &running.leader,
                "--all",
                "journalctl",
                "--no-pager",
                "-n",
                "40",
                "-o",
                "cat",
            ]);
            let said = journal.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("---- the last words of {}:\n{}", self.name, said.unwrap_or_default());
        }
        self.crash();
        let _ = Command::new("umount").arg(self.folder.path().join("root")).status();
    }
}
