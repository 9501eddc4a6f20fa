//! The configurations of docs/stunnel.md, run as they stand there, but for ports, paths and hosts' names.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fleet::{self, Ca, Server, free_port, write};
use crate::harness::beanstalkd::Beanstalkd;
use crate::harness::{Ask, Root, record, srpm};

const PAGE: &str = include_str!("../../docs/stunnel.md");
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// The block of the page that begins so.
fn block(begin: &str) -> String {
    let mut blocks = PAGE.split("```").skip(1).step_by(2);
    let block = blocks.find(|block| block.trim_start_matches("ini").trim_start().starts_with(begin));
    let block = block.unwrap_or_else(|| panic!("docs/stunnel.md has no block that begins with {begin}"));
    block.strip_prefix("ini").unwrap_or(block).to_owned()
}

/// Every well-known port of a fleet, and the free one that stands for it. A builder's loopback is not the controller's.
pub struct Ports(BTreeMap<(&'static str, u16), u16>);

impl Ports {
    pub fn new() -> Ports {
        let plain = [11300, 11080, 11874, 11081];
        let plain = plain.into_iter().flat_map(|port| [("server", port), ("builder", port)]);
        let secured = [11301, 11443, 11875, 11444, 27017, 27018].map(|port| ("server", port));
        Ports(plain.chain(secured).map(|known| (known, free_port())).collect())
    }

    pub fn of(&self, host: &'static str, port: u16) -> u16 {
        self.0[&(host, port)]
    }

    /// A page's text with the ports of that host.
    pub fn put_into(&self, text: &str, host: &'static str, work: &Path) -> String {
        let mut text = text
            .replace("/etc/reimzul/tls", &work.display().to_string())
            .replace("ctl.example.org", "127.0.0.1")
            .replace("store.example.org", "127.0.0.1")
            .replace("checkHost", "checkIP")
            .replace("accept = 11", "accept = 127.0.0.1:11")
            .replace("accept = 27018", "accept = 127.0.0.1:27018");
        for ((whose, known), free) in &self.0 {
            // A secured port is a server's, wherever it is named.
            if *whose == host || !self.0.contains_key(&("builder", *known)) {
                text = text.replace(&format!(":{known}"), &format!(":{free}"));
            }
        }
        text
    }
}

/// stunnel with this configuration, which listens at that port.
pub fn stunnel(work: &Path, name: &str, text: &str, port: u16) -> Server {
    let config = write(work, name, text);
    Server::start(Command::new("stunnel4").arg(config), "stunnel4", port)
}

/// A controller's and a bstore's services on their loopback, each behind a stunnel of theirs; all in one place.
pub struct Hosts {
    pub ports: Ports,
    pub store: Root,
    pub controller: Root,
    #[cfg_attr(not(feature = "psk"), expect(dead_code, reason = "it only has to live"))]
    pub queue: Beanstalkd,
    _servers: Vec<Server>,
}

impl Hosts {
    /// `work` has what the configurations name.
    pub fn start(work: &Path, controller: &str, bstore: &str) -> Hosts {
        let (ports, store, queue) = (Ports::new(), Root::new(), Beanstalkd::start());
        let site = Root::with(&format!("[queue]\nurl = {}\n", queue.url()));
        std::fs::create_dir_all(site.join("incoming")).unwrap();
        let conf = |text: &str| {
            let text = ports.put_into(text, "server", work);
            text.replace(&format!(":{}", ports.of("server", 11300)), &format!(":{}", queue.port()))
        };
        let servers = vec![
            fleet::nginx_plain(work, &site.join("incoming"), ports.of("server", 11080)),
            fleet::rsyncd(work, &store.join("bstore"), ports.of("server", 11874)),
            stunnel(work, "controller.conf", &conf(controller), ports.of("server", 11301)),
            stunnel(work, "bstore.conf", &conf(bstore), ports.of("server", 11875)),
        ];
        Hosts { store, controller: site, queue, _servers: servers, ports }
    }

    /// A job of the controller's, built by the builder that has this root.
    pub async fn build_on(&self, builder: &Root, package: &str) {
        let site = self.controller.site();
        let (worker, notifier) = (builder.start(&["worker"]), self.controller.start(&["notifier"]));
        let submitted = site.submit(&srpm(package, 1)).await;
        let result = site.result(&submitted).await;
        assert_eq!(result.event.status.as_str(), "Success", "{:?}", result.event.failure);
        worker.stop();
        notifier.stop();
        let built = record(&self.store.join(format!("bstore/repo/{}", submitted.path)));
        assert!(!built.results.is_empty());
    }
}

pub fn keys(work: &Path, text: &str) {
    let file = write(work, "psk", text);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn builds_through_stunnel(hosts: &Hosts, work: &Path, builder: &str, package: &str) {
    let ports = &hosts.ports;
    let text = ports.put_into(&block(builder), "builder", work);
    let _stunnel = stunnel(work, "builder.conf", &text, ports.of("builder", 11300));
    let root = Root::new();
    let config = ports.put_into(&block("[queue]\nurl = beanstalk:"), "builder", work);
    let config = config.replace(":localhost:", ":127.0.0.1:").replace("//localhost:", "//127.0.0.1:");
    root.write("reimzul.ini", &format!("[worker]\nengine = null\nretry_delay = 1\n{config}"));
    let said = root.run(&["check-config", "--connect", "worker"]).ok().out;
    assert!(said.contains("lets us in") && said.contains("answers"), "{said}");
    hosts.build_on(&root, package).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_through_stunnel_with_certificates_builds() {
    let folder = tempfile::tempdir().unwrap();
    let (work, ca) = (folder.path(), Ca::new("Fleet CA"));
    write(work, "ca.pem", &ca.pem());
    write(work, "host.pem", &ca.sign("host", "127.0.0.1", (-1, 365)));
    let template =
        |name: &str| std::fs::read_to_string(format!("src/init/templates/stunnel-{name}.conf")).unwrap();
    let hosts = Hosts::start(work, &template("controller"), &template("bstore"));
    builds_through_stunnel(&hosts, work, "; builder, certificates", "hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_through_stunnel_with_pre_shared_keys_builds() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    keys(work, &format!("build1:{KEY}\n"));
    let hosts = Hosts::start(work, &block("; controller, pre-shared"), &block("; bstore, pre-shared"));
    builds_through_stunnel(&hosts, work, "; builder, pre-shared keys", "hello").await;
}

/// The last block of the page, in a program that was built for it.
#[cfg(feature = "psk")]
#[tokio::test(flavor = "multi_thread")]
async fn a_builder_with_a_pre_shared_key_needs_no_stunnel_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    keys(work, &format!("build1:{KEY}\nbuild2:ffff{KEY}\n"));
    let hosts = Hosts::start(work, &block("; controller, pre-shared"), &block("; bstore, pre-shared"));
    let root = Root::new();
    let config = hosts.ports.put_into(&block("[queue]\nurl = beanstalks:"), "builder", work);
    let write = |config: &str| {
        root.write("reimzul.ini", &format!("[worker]\nengine = null\nretry_delay = 1\n{config}"));
    };
    write(&config);
    let said = root.run(&["check-config", "--connect", "worker"]).ok().out;
    assert!(said.contains("lets us in") && said.contains("answers"), "{said}");
    hosts.build_on(&root, "hello").await;

    let refused = |parts: &[&str]| {
        let ran = root.run(&["check-config", "--connect", "worker"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        for part in parts {
            assert!(ran.out.contains(part), "'{part}' is not said: {}", ran.out);
        }
    };
    let other = crate::fleet::write(work, "other", &format!("build1:aa{KEY}\nstranger:{KEY}\n"));
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with =
        |identity: &str| config.replace("/psk\n", "/other\n").replace("= build1", &format!("= {identity}"));
    for identity in ["build1", "stranger"] {
        write(&with(identity));
        let key = format!("do not agree by the key of {identity} in");
        refused(&[&key, &format!("the same line {identity}:KEY on both sides")]);
    }
    write(&with("nobody"));
    refused(&["has no line nobody:KEY"]);
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
    write(&with("build1"));
    refused(&["may be read by everybody"]);

    // A server that shows a certificate instead could be anybody.
    let ca = Ca::new("Somebody");
    crate::fleet::write(work, "ca.pem", &ca.pem());
    crate::fleet::write(work, "server.pem", &ca.sign("server", "127.0.0.1", (-1, 365)));
    let port = free_port();
    let _impostor = fleet::stunnel(work, port, hosts.queue.port());
    write(&config.replace(&format!(":{}\n", hosts.ports.of("server", 11301)), &format!(":{port}\n")));
    refused(&["do not agree by the key of build1"]);
}

#[cfg(not(feature = "psk"))]
#[test]
fn a_program_without_pre_shared_keys_says_how_to_get_one_with_them() {
    let root = Root::with("[tls]\npsk_file = psk\n[queue]\nurl = beanstalks://127.0.0.1:1\n");
    let ran = root.run(&["check-config", "--connect", "worker"]);
    assert!(ran.code == 3 && ran.out.contains("cargo build --release --features psk"), "{ran:?}");
}
