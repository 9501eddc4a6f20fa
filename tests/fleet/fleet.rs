//! A fleet of such hosts, and what is asked of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness;
use crate::host::{self, Host, Network};

/// How long a thing may take that waits for another machine to come back.
const PATIENCE: Duration = Duration::from_secs(240);
pub const TARGET: &str = "mini.x86_64";
/// A site's own settings for its controller.
pub const CONTROLLER: &str = "[history]\nurl = mongodb://127.0.0.1:27017/\n";

pub struct Fleet {
    pub ctl: Host,
    pub store: Host,
    pub builders: Vec<Host>,
    /// Who only asks.
    pub client: Host,
    pub network: Network,
    /// Each job's build id, and its package.
    pub submitted: BTreeMap<String, String>,
}

impl Fleet {
    /// Bare hosts, each prepared before it is switched on. The controller has a MongoDB.
    pub fn bare(builders: &[&'static str], open: &[u16], prepare: impl Fn(Host) -> Host) -> Fleet {
        let network = Network::new();
        let host = |name, ports: &[u16]| {
            let mut host = prepare(Host::new(&network, name, &[ports, open].concat()));
            host.boot();
            host
        };
        let fleet = Fleet {
            ctl: host("ctl", &[11301, 11443, 27018]),
            store: host("store", &[11875, 11444]),
            builders: builders.iter().map(|name| host(name, &[])).collect(),
            client: host("client", &[]),
            network,
            submitted: BTreeMap::new(),
        };
        fleet.start_mongodb();
        fleet
    }

    /// A MongoDB of sorts, which the machine starts as it starts the real one.
    fn start_mongodb(&self) {
        let server = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/secantusd-py");
        let unit = format!(
            "[Service]\nExecStart={} --host 127.0.0.1 --port 27017 --sync-on-commit --storage-path /var/lib/mongodb\n\
             StateDirectory=mongodb\n[Install]\nWantedBy=multi-user.target\n",
            server.display()
        );
        self.ctl.write("/etc/systemd/system/mongodb.service", &unit);
        self.ctl.run(&["systemctl", "daemon-reload"]).ok();
        self.ctl.run(&["systemctl", "enable", "--now", "mongodb"]).ok();
    }

    /// Puts a package of this machine's into the queue, on the controller.
    pub fn submit(&mut self, srpm: &Path) -> String {
        let name = srpm.file_name().unwrap().to_str().unwrap();
        let place = format!("/srv/{name}");
        std::fs::copy(srpm, self.ctl.path(&place)).unwrap();
        let said =
            self.ctl.reimzul(&["--json", "submit", "-s", &place, "-t", "mini", "-a", "x86_64"]).ok().json();
        let said = said.as_array().map_or(&said, |all| &all[0]);
        let id = said["job"]["build_id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
        self.submitted.insert(id.clone(), name.to_owned());
        id
    }

    /// The documents of the history, by build.
    fn history(&self) -> BTreeMap<String, Vec<Value>> {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut add = |status: &str| {
            let said = self.ctl.reimzul(&["--json", "query", "-s", status]);
            // Its MongoDB may be starting.
            let said = if said.code == 0 { said.json() } else { Value::Null };
            for document in said.as_array().into_iter().flatten() {
                found
                    .entry(document["build_id"].as_str().unwrap_or_default().into())
                    .or_default()
                    .push(document.clone());
            }
        };
        for status in ["Building", "Success", "Failed"] {
            add(status);
        }
        found
    }

    /// The document of this status, once it is there.
    pub fn until(&self, id: &str, status: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let history = self.history();
            let of = history.get(id).into_iter().flatten();
            if let Some(found) = of.clone().find(|document| document["status"] == status) {
                return found.clone();
            }
            assert!(
                Instant::now() < until,
                "no {status} of {id}: {:?}\n{}",
                of.collect::<Vec<_>>(),
                self.state()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn state(&self) -> String {
        self.ctl.reimzul(&["stats"]).out
    }

    pub fn builder(&self, name: &str) -> &Host {
        self.builders.iter().find(|host| host.name == name).unwrap_or_else(|| panic!("no builder {name}"))
    }

    /// Every job has exactly one result, a Success, and its packages are in the repository, once.
    pub fn balance(&self) {
        for id in self.submitted.keys() {
            self.until(id, "Success");
        }
        let log = self.ctl.read("/var/log/reimzul/reimzul.log");
        let told = |srpm: &str, status: &str| {
            let ours = log.lines().filter(|line| line.contains(&format!("SRPM {srpm} ")));
            ours.filter(|line| line.contains(&format!("status {status} "))).count()
        };
        for srpm in self.submitted.values() {
            assert_eq!((told(srpm, "Success"), told(srpm, "Failed")), (1, 0), "{srpm}:\n{log}");
        }
        let repository = self.store.path(&format!("/srv/reimzul/bstore/repo/{TARGET}"));
        let until = Instant::now() + PATIENCE;
        let binary = |srpm: &String| srpm.replace(".src.rpm", ".x86_64.rpm");
        let wanted: Vec<String> =
            self.submitted.values().flat_map(|srpm| [srpm.clone(), binary(srpm)]).collect();
        loop {
            let listed = harness::listed(&repository);
            let times = |name: &String| listed.iter().filter(|path| *path == name).count();
            if wanted.iter().all(|name| times(name) == 1) {
                return;
            }
            assert!(Instant::now() < until, "{wanted:?} are not all listed once: {listed:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The mini distribution, and what the fleet has built, through a host's stunnel.
pub fn target() -> String {
    let made = host::mini_distro().join("mini.x86_64.repo");
    let text = std::fs::read_to_string(&made).unwrap_or_else(|error| panic!("{}: {error}", made.display()));
    let text = text.replace("$root/mini-distro", host::MINI_DISTRO);
    let own = "[fleet]\nname = Built here\nbaseurl = http://localhost:11081/bstore/repo/mini.x86_64/\n\
               gpgcheck = 0\nmetadata_expire = 0\nskip_if_unavailable = 1\n";
    format!("{text}\n{own}")
}

/// A package with a program that is compiled, and whose build takes so many seconds.
pub fn slow(name: &str, seconds: u32, work: &Path) -> PathBuf {
    let spec = format!(
        "Name: {name}\nVersion: 1.0\nRelease: 1\nSummary: Takes its time\nLicense: MIT\nBuildRequires: gcc\n\
         %description\nTakes its time.\n%build\nsleep {seconds}\n\
         echo 'int main(void) {{ return 0; }}' > {name}.c\ngcc -O2 -g -o {name} {name}.c\n./{name}\n\
         %install\ninstall -D {name} %{{buildroot}}/usr/bin/{name}\n%files\n/usr/bin/{name}\n"
    );
    harness::packed(&spec, name, work)
}
