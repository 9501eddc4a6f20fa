//! What a bridge connects to is tried by `check-config --connect mqtt-sub`; git and the lookaside by HTTPS.

use reimzul::sys::fs::hex;
use sha2::{Digest, Sha256};

use crate::harness::Ran;
use crate::harness::ca::Ca;
use crate::stand::{POLICY, Stand, spec};

const CHECK: [&str; 3] = ["check-config", "--connect", "mqtt-sub"];

fn refused(ran: &Ran, parts: &[&str]) {
    assert_eq!(ran.code, 3, "{ran:?}");
    for part in parts {
        assert!(ran.out.contains(part), "'{part}' is not said: {}", ran.out);
    }
}

#[test]
fn the_broker_is_tried_and_what_is_wrong_with_certificates_is_told() {
    let stand = Stand::new("null", POLICY);
    let broker = format!("mqtt: the broker 127.0.0.1:{} lets us in", stand.broker.port());
    assert!(stand.root.run(&CHECK).ok().out.contains(&broker));
    let good = stand.root.read("reimzul.ini");
    let with = |key: &str, path: &std::path::Path| {
        let had = good.lines().find(|line| line.starts_with(key)).unwrap();
        stand.root.write("reimzul.ini", &good.replace(had, &format!("{key} = {}", path.display())));
        stand.root.run(&CHECK)
    };
    let other = Ca::new("Another CA");
    stand.root.write("other-ca.pem", &other.pem());
    stand.root.write("stranger.pem", &other.sign("stranger", "stranger", (-1, 365)));
    let unknown = with("ca_cert", &stand.root.join("other-ca.pem"));
    refused(
        &unknown,
        &[
            "certificate, of broker, is signed by Broker CA, which is not among",
            "other-ca.pem; name its CA as ca_cert in section [mqtt]",
        ],
    );
    let stranger = with("tls_cert", &stand.root.join("stranger.pem"));
    refused(
        &stranger,
        &["the server does not accept our certificate", "stranger.pem", "have it signed by the CA"],
    );
    let expired = with("tls_cert", &stand.broker.certificate_of("controller", (-9, -2)));
    refused(&expired, &["the certificate of controller in", "has expired on", "renew it"]);
    refused(&with("tls_cert", &stand.root.join("none.pem")), &["cannot read the key", "none.pem"]);
    stand.root.write("reimzul.ini", &good);
    stand.broker.kill();
    refused(&stand.root.run(&CHECK), &["mqtt: the MQTT broker 127.0.0.1", "is its service running"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_the_lookaside_are_reached_by_https_with_the_sites_own_ca() {
    let ca = Ca::new("Git CA");
    let stand = Stand::by_https(&ca.sign("git", "127.0.0.1", (-1, 365)), POLICY);
    let source = b"what the package is made of";
    let sha256 = hex(&Sha256::digest(source));
    stand.upload(&format!("tiny/stable/{sha256}"), source);
    let spec = spec("tiny").replace("Summary", "Source0: data\nSummary");
    let list = format!("{sha256} SOURCES/data\n");
    stand.repository(
        "tiny",
        "c9",
        "x",
        &[("SPECS/tiny.spec", spec.as_bytes()), (".tiny.metadata", list.as_bytes())],
    );
    let request =
        || stand.request("alice", &["-p", "tiny", "-b", "c9", "-s", "stable", "-a", "x86_64", "-t", "mini"]);

    refused(
        &stand.root.run(&CHECK),
        &["of git, is signed by Git CA, which is not among whom this system trusts"],
    );
    let roles = stand.root.start(&["mqtt-sub"]);
    let ran = request();
    let said = [
        ": branch c9 of https://127.0.0.1",
        "tiny.git cannot be cloned: ",
        "of git, is signed by Git CA, which",
    ];
    assert!(ran.code == 2 && said.iter().all(|part| ran.err.contains(part)), "{ran:?}");
    roles.stop();

    stand.root.write("git-ca.pem", &ca.pem());
    let config = stand.root.read("reimzul.ini").replace("[scm]\n", "[scm]\nca_cert = git-ca.pem\n");
    stand.root.write("reimzul.ini", &config);
    let checked = stand.root.run(&CHECK).ok().out;
    assert_eq!(checked.matches("requests: https://127.0.0.1").count(), 2, "{checked}");
    let _roles = stand.root.start(&["mqtt-sub"]);
    let ran = request().ok();
    assert!(ran.out.contains("accepted mini.x86_64/tiny/"), "{ran:?}");
    let content = std::process::Command::new("rpm2cpio")
        .arg(stand.root.join("incoming/tiny-1.0-1.el9.src.rpm"))
        .output();
    let content = content.unwrap().stdout;
    assert!(content.windows(source.len()).any(|bytes| bytes == source), "its source came from the lookaside");
}
