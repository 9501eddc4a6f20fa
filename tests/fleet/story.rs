//! A fleet's first day, and its bad one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{self, Ran};
use crate::host::{Host, Network};

/// How long a thing may take that waits for another machine to come back.
const PATIENCE: Duration = Duration::from_secs(240);
const TARGET: &str = "mini.x86_64";

/// Who only asks: of the history, over TLS.
const CLIENT: &str = "[queue]\nurl = beanstalks://ctl:11301\n[history]\nurl = mongodb://ctl:27018/?tls=true\n\
    [tls]\nca_cert = /etc/reimzul/tls/ca.pem\ntls_cert = /etc/reimzul/tls/host.pem\n";

struct Fleet {
    ctl: Host,
    store: Host,
    builders: [Host; 2],
    client: Host,
    network: Network,
    /// Each job's build id, and its package.
    submitted: BTreeMap<String, String>,
}

impl Fleet {
    /// Three bare hosts, a second builder and somebody else's, set up by what `reimzul init` says.
    fn set_up() -> Fleet {
        let network = Network::new();
        let host = |name, ports: &[u16]| {
            let mut host = Host::new(&network, name, ports);
            host.boot();
            host
        };
        let fleet = Fleet {
            ctl: host("ctl", &[11301, 11443, 27018]),
            store: host("store", &[11875, 11444]),
            builders: [host("build1", &[]), host("build2", &[])],
            client: host("client", &[]),
            network,
            submitted: BTreeMap::new(),
        };
        fleet.start_mongodb();
        init(&fleet.ctl, &["controller", "--ca"]);
        let config = fleet.ctl.read("/etc/reimzul/reimzul.ini");
        fleet.ctl.write("/etc/reimzul/reimzul.ini", &config.replace("# url = mongodb:", "url = mongodb:"));
        fleet.ctl.run(&["systemd-tmpfiles", "--create"]).ok();
        fleet.ctl.run(&["systemctl", "restart", "reimzul-notifier"]).ok();
        fleet.certify(&fleet.store);
        init(&fleet.store, &["bstore", "--controller", "ctl"]);
        for builder in &fleet.builders {
            fleet.certify(builder);
            add_target(builder);
            init(builder, &["builder", "--controller", "ctl", "--bstore", "store"]);
        }
        fleet.certify(&fleet.client);
        fleet.client.write("/etc/reimzul/reimzul.ini", CLIENT);
        add_target(&fleet.ctl);
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

    /// What `reimzul certificate` prints is copied to the host, as by scp.
    fn certify(&self, host: &Host) {
        let folder = self.ctl.run(&["reimzul", "certificate", host.name]).ok().out;
        for file in ["ca.pem", "host.pem"] {
            host.write(
                &format!("/etc/reimzul/tls/{file}"),
                &self.ctl.read(&format!("{}/{file}", folder.trim())),
            );
        }
    }

    fn hosts(&self) -> [&Host; 4] {
        [&self.ctl, &self.store, &self.builders[0], &self.builders[1]]
    }

    /// Puts a package of this machine's into the queue, on the controller.
    fn submit(&mut self, srpm: &Path) -> String {
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
            let said = self.ctl.reimzul(&["--json", "query", "-s", status]).ok().json();
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
    fn until(&self, id: &str, status: &str) -> Value {
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

    fn builder(&self, name: &str) -> &Host {
        self.builders.iter().find(|host| host.name == name).unwrap_or_else(|| panic!("no builder {name}"))
    }

    /// Every job has exactly one result, a Success, and its packages are in the repository, once.
    fn balance(&self) {
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
        let wanted: Vec<String> = self.submitted.values().cloned().collect();
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

/// Writes a role's files, and does what that says is next, line by line.
fn init(host: &Host, arguments: &[&str]) {
    let said = host.run(&[&["reimzul", "init"], arguments].concat()).ok().out;
    let next = said.split("Next,").nth(1).unwrap_or_else(|| panic!("{said}"));
    let steps = next.lines().filter(|line| line.starts_with("  ") && !line.trim_start().starts_with('#'));
    for step in steps.flat_map(|line| line.split("&&")).map(str::trim) {
        let words: Vec<&str> = step.split_whitespace().collect();
        // Once the others are there.
        if !words.contains(&"check-config") {
            host.run(&words).ok();
        }
    }
}

/// The mini distribution, and what the fleet has built, through this host's stunnel.
fn add_target(host: &Host) {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("mini-distro");
    let text = std::fs::read_to_string(made.join("mini.x86_64.repo"))
        .unwrap_or_else(|error| panic!("{}: {error}: `make test` makes it", made.display()));
    let text = text.replace("$root/mini-distro", &made.display().to_string());
    let own = "[fleet]\nname = Built here\nbaseurl = http://localhost:11081/bstore/repo/mini.x86_64/\n\
               gpgcheck = 0\nmetadata_expire = 0\nskip_if_unavailable = 1\n";
    host.write("/srv/reimzul/targets/mini.x86_64.repo", &format!("{text}\n{own}"));
}

/// A package whose build takes so many seconds.
fn slow(name: &str, seconds: u32, work: &Path) -> std::path::PathBuf {
    let spec = format!(
        "Name: {name}\nVersion: 1.0\nRelease: 1\nSummary: Takes its time\nLicense: MIT\nBuildArch: noarch\n\
         %description\nTakes its time.\n%build\nsleep {seconds}\n%install\nmkdir -p %{{buildroot}}/usr/share/slow\n\
         echo {name} > %{{buildroot}}/usr/share/slow/{name}\n%files\n/usr/share/slow/{name}\n"
    );
    harness::packed(&spec, name, work)
}

#[test]
fn a_fleet_is_set_up_builds_over_tls_alone_and_survives_what_happens_to_it() {
    let work = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::set_up();
    everything_is_connected(&fleet);
    nothing_but_tls_is_open(&fleet);
    both_builders_build(&mut fleet, work.path());
    a_cable_is_pulled(&mut fleet, work.path());
    the_controller_crashes(&mut fleet, work.path());
    the_bstore_is_down(&mut fleet, work.path());
    fleet.balance();
    a_client_sees_it_all(&fleet);
}

/// History and packages, with nothing but a certificate.
fn a_client_sees_it_all(fleet: &Fleet) {
    let client = &fleet.client;
    let found = client.run(&["reimzul", "--json", "query", "-s", "Success", "-n", "100"]).ok().json();
    assert_eq!(found.as_array().unwrap().len(), fleet.submitted.len(), "{found}");
    let tls = "/etc/reimzul/tls";
    let from = |more: &str| {
        let repository = format!("--repofrompath=fleet,https://store:11444/bstore/repo/{TARGET}/");
        let trust = format!("--setopt=fleet.sslcacert={tls}/ca.pem");
        client.run(
            &[
                &["dnf", "-q", "--disablerepo=*", &repository, "--enablerepo=fleet", &trust][..],
                &more.split_whitespace().collect::<Vec<_>>(),
                &["--setopt=fleet.skip_if_unavailable=False", "repoquery", "--qf", "%{name}"],
            ]
            .concat(),
        )
    };
    let certificate =
        format!("--setopt=fleet.sslclientcert={tls}/host.pem --setopt=fleet.sslclientkey={tls}/host.pem");
    assert_ne!(from("").code, 0, "who has no certificate gets nothing");
    let listed = from(&certificate).ok().out;
    for name in ["first1", "cut", "crash3", "kept"] {
        assert!(listed.lines().any(|line| line == name), "{listed}");
    }
}

fn everything_is_connected(fleet: &Fleet) {
    for (host, roles) in fleet.hosts().into_iter().zip(["notifier", "repogen", "worker", "worker"]) {
        let Ran { code, out, err } = host.reimzul(&["check-config", "--connect", roles]);
        assert_eq!(code, 0, "{}: {out}{err}", host.name);
        let failed = host.run(&["systemctl", "--failed", "--no-legend"]).out;
        assert!(!failed.contains("reimzul"), "{}: {failed}", host.name);
    }
}

fn nothing_but_tls_is_open(fleet: &Fleet) {
    let (ctl, store, build1) = (&fleet.ctl, &fleet.store, &fleet.builders[0]);
    for (host, port) in [(ctl, 11301), (ctl, 11443), (ctl, 27018), (store, 11875), (store, 11444)] {
        assert!(build1.reaches(host, port), "{}:{port}", host.name);
    }
    for (host, port) in [(ctl, 11300), (ctl, 11080), (ctl, 27017), (store, 11874), (store, 11081)] {
        assert!(!build1.reaches(host, port), "{}:{port} is open to others", host.name);
    }
    // It is the firewall that keeps plain ports closed, and not only that the services listen on loopback.
    let _careless = store.listen(11300);
    assert!(store.reaches(store, 11300) && !build1.reaches(store, 11300));
}

fn both_builders_build(fleet: &mut Fleet, work: &Path) {
    let ids: Vec<String> = (1..=4).map(|n| fleet.submit(&slow(&format!("first{n}"), 3, work))).collect();
    let by: Vec<Value> = ids.iter().map(|id| fleet.until(id, "Success")["builder_fqdn"].clone()).collect();
    for builder in ["build1", "build2"] {
        assert!(by.iter().any(|name| name == builder), "{by:?}");
    }
}

fn a_cable_is_pulled(fleet: &mut Fleet, work: &Path) {
    let id = fleet.submit(&slow("cut", 10, work));
    let by = fleet.until(&id, "Building")["builder_fqdn"].as_str().unwrap().to_owned();
    fleet.network.cable(fleet.builder(&by), false);
    std::thread::sleep(Duration::from_secs(30));
    fleet.network.cable(fleet.builder(&by), true);
    fleet.until(&id, "Success");
}

fn the_controller_crashes(fleet: &mut Fleet, work: &Path) {
    let ids: Vec<String> = (1..=3).map(|n| fleet.submit(&slow(&format!("crash{n}"), 8, work))).collect();
    fleet.until(&ids[0], "Building");
    fleet.ctl.crash();
    std::thread::sleep(Duration::from_secs(5));
    fleet.ctl.boot();
    for id in &ids {
        fleet.until(id, "Success");
    }
}

fn the_bstore_is_down(fleet: &mut Fleet, work: &Path) {
    let id = fleet.submit(&slow("kept", 5, work));
    fleet.until(&id, "Building");
    fleet.store.crash();
    std::thread::sleep(Duration::from_secs(25));
    fleet.store.boot();
    fleet.until(&id, "Success");
}
