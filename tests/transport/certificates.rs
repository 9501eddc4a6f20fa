//! Each thing that can be wrong with a certificate, against a real stunnel: one sentence says which, and whose.

use crate::fleet::{self, Ca, Server, free_port, write};
use crate::harness::beanstalkd::Beanstalkd;
use crate::harness::{Ask, Ran, Root, srpm};

/// A stunnel before an rsyncd, and a builder's root; the fleet's certificates are good ones.
struct Stand {
    root: Root,
    ca: Ca,
    port: u16,
    _servers: [Server; 2],
}

impl Stand {
    fn new(server: (i64, i64), name: &str) -> Stand {
        let (root, ca) = (Root::new(), Ca::new("Fleet CA"));
        let work = root.join("hosts");
        write(&work, "ca.pem", &ca.pem());
        write(&work, "server.pem", &ca.sign("bstore", name, server));
        let (plain, port) = (free_port(), free_port());
        let rsyncd = fleet::rsyncd(&work, &root.join("store"), plain);
        let stand = Stand { _servers: [rsyncd, fleet::stunnel(&work, port, plain)], root, ca, port };
        stand.root.write("client.pem", &stand.ca.sign("builder-1", "builder-1", (-1, 365)));
        stand
    }

    /// What `check-config --connect` says with these lines in [tls].
    fn check(&self, tls: &str) -> Ran {
        let text = format!(
            "[worker]\nengine = null\n[bstore]\nupload = rsyncs://127.0.0.1:{}/reimzul-bstore\n[tls]\n{tls}\n",
            self.port
        );
        self.root.write("reimzul.ini", &text);
        self.root.run(&["check-config", "--connect"])
    }

    fn refused(&self, tls: &str, parts: &[&str]) {
        let ran = self.check(tls);
        assert_eq!(ran.code, 3, "{ran:?}");
        for part in parts {
            assert!(ran.out.contains(part), "'{part}' is not said: {}", ran.out);
        }
    }
}

const GOOD: &str = "ca_cert = hosts/ca.pem\ntls_cert = client.pem";

#[test]
fn good_certificates_let_us_in_and_bad_ones_of_ours_are_told() {
    let stand = Stand::new((-1, 365), "127.0.0.1");
    assert!(stand.check(GOOD).ok().out.contains("reimzul-bstore lets us in"));

    let sign = |file: &str, days| stand.root.write(file, &stand.ca.sign("builder-1", "builder-1", days));
    sign("old.pem", (-9, -2));
    sign("new.pem", (2, 9));
    sign("soon.pem", (-1, 9));
    stand.root.write("stranger.pem", &Ca::new("Another").sign("stranger", "stranger", (-1, 365)));
    let tls = |file: &str| format!("ca_cert = hosts/ca.pem\ntls_cert = {file}");
    stand.refused(&tls("old.pem"), &["of builder-1 in", "old.pem has expired on", "renew it"]);
    stand.refused(&tls("new.pem"), &["of builder-1", "is not valid before"]);
    stand.refused(&tls("none.pem"), &["cannot read", "none.pem"]);
    stand.refused(&(tls("client.pem") + "\ntls_key = old.pem"), &["does not belong to", "builder-1"]);
    stand.refused("ca_cert = hosts/ca.pem", &["wants a client certificate", "set tls_cert"]);
    stand.refused(&tls("stranger.pem"), &["does not accept our certificate", "stranger.pem"]);
    assert!(stand.check(&tls("soon.pem")).ok().out.contains("of builder-1 in"));

    stand.root.write("other-ca.pem", &Ca::new("Another").pem());
    let unknown = "ca_cert = other-ca.pem\ntls_cert = client.pem";
    stand.refused(unknown, &["of bstore, is signed by Fleet CA", "other-ca.pem"]);
}

#[test]
fn a_servers_certificate_that_is_wrong_is_told() {
    Stand::new((-9, -2), "127.0.0.1").refused(GOOD, &["server's certificate, of bstore, has expired on"]);
    Stand::new((2, 9), "127.0.0.1").refused(GOOD, &["of bstore, is not valid before"]);
    Stand::new((-1, 99), "elsewhere.org").refused(GOOD, &["is not for 127.0.0.1 but for elsewhere.org"]);
    let soon = Stand::new((-1, 9), "127.0.0.1").check(GOOD).ok();
    assert!(soon.out.contains("the certificate of bstore at 127.0.0.1 expires in"), "{}", soon.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_warn_of_certificates_that_end_soon() {
    let stand = Stand::new((-1, 9), "127.0.0.1");
    stand.root.write("soon.pem", &stand.ca.sign("builder-1", "builder-1", (-1, 9)));
    let text = |queue: &str| {
        format!(
            "[worker]\nengine = null\n{queue}[bstore]\nupload = rsyncs://127.0.0.1:{}/reimzul-bstore\n\
             [tls]\nca_cert = hosts/ca.pem\ntls_cert = soon.pem\n",
            stand.port
        )
    };
    // rsync's connection is made by a process of its own, whose warnings are the worker's.
    stand.root.write("reimzul.ini", &text(""));
    let site = stand.root.site();
    let mut worker = stand.root.start(&["worker", "notifier"]);
    let submitted = site.submit(&srpm("soon", 1)).await;
    assert_eq!(site.result(&submitted).await.event.status.as_str(), "Success");
    worker.until_it_says("the certificate of bstore at 127.0.0.1 expires in");
    worker.stop();

    let (queue, port) = (Beanstalkd::start(), free_port());
    let _stunnel = fleet::stunnel(&stand.root.join("hosts"), port, queue.port());
    stand.root.write("reimzul.ini", &text(&format!("[queue]\nurl = beanstalks://127.0.0.1:{port}\n")));
    for role in ["repogen", "notifier", "signer"] {
        let ran = stand.root.run(&["check-config", "--connect", role]).ok();
        for whose in ["soon: the certificate of bstore at", "soon: the certificate of builder-1 in"] {
            assert!(ran.out.contains(whose), "{role}: {ran:?}");
        }
    }
}
