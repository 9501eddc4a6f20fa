//! A fleet's first day, and its bad one.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::{CONTROLLER, Fleet, TARGET, slow, target};
use crate::harness::Ran;
use crate::host::Host;

impl Fleet {
    /// Bare hosts, set up by what `reimzul init` says.
    fn set_up() -> Fleet {
        let fleet = Fleet::bare(&["build1", "build2"], &[], |host| host);
        fleet.ctl.write("/root/controller.ini", CONTROLLER);
        init(&fleet.ctl, &["controller", "--ca", "--settings", "/root/controller.ini"]);
        fleet.certify(&fleet.store);
        init(&fleet.store, &["bstore", "--controller", "ctl"]);
        for builder in &fleet.builders {
            fleet.certify(builder);
            add_target(builder);
            init(builder, &["builder", "--controller", "ctl", "--bstore", "store"]);
        }
        fleet.certify(&fleet.client);
        init(&fleet.client, &["client", "--controller", "ctl"]);
        add_target(&fleet.ctl);
        fleet
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

    fn hosts(&self) -> Vec<&Host> {
        [&self.ctl, &self.store].into_iter().chain(&self.builders).chain([&self.client]).collect()
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

fn add_target(host: &Host) {
    host.write("/srv/reimzul/targets/mini.x86_64.repo", &target());
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
    for (host, roles) in
        fleet.hosts().into_iter().zip(["notifier", "repogen", "worker", "worker", "notifier"])
    {
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
