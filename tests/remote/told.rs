//! Everybody who should know of a request's build hears of it, by a real server of each kind.

use serde_json::{Value, json};

use crate::flow::libgreet;
use crate::harness::ircd::{Network, Reader, secret};
use crate::harness::mail_server::MailServer;
use crate::harness::mosquitto::next;
use crate::harness::{Ask, eventually, listed};
use crate::stand::{POLICY, Stand};

/// The sections of a site that tells people by mail and on IRC.
fn sections(mails: &MailServer, network: &Network) -> String {
    format!(
        "{POLICY}[mail]\nnotifications = yes\nmail_from = builds@example.org\nhost = localhost\nport = {}\n\
         scratch_domain = people.example.org\n[mail_rcpts]\nx86_64 = packagers@example.org\n\
         [irc]\nhost = 127.0.0.1\nport = {}\nca_cert = {}\nuser = reimzul\npassword_file = irc.password\n\
         [irc_channels]\n* = #builds\n",
        mails.port,
        network.tls_port,
        network.ca().display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_as_rpms_a_mail_a_message_and_a_line_in_the_channel() {
    let (mails, network) = (MailServer::start(&[]), Network::start());
    network.register("geheim").await;
    let channel = Reader::join(network.port, "reader", &["#builds"]);
    let stand = Stand::new("overlay", &sections(&mails, &network));
    secret(stand.root.path(), "geheim");
    stand.add_mini_distro();
    libgreet(&stand);
    let (reader, mut results) = stand.broker.client("reader", &["reimzul/builds/results"]);
    reader.connected().await.unwrap();
    let mut roles = stand.root.start(&["all"]);
    roles.until_it_says("on the IRC server");

    let asked = ["-p", "libgreet", "-b", "c9", "-a", "x86_64", "-t", "mini", "--wait"];
    let ran = stand.request("alice", &asked).ok();
    let built = ran.out.lines().find_map(|line| line.strip_prefix("built ")).expect("it is built");
    let first = stand.audit().remove(0);
    assert_eq!(
        (&first["who"], &first["proven"], &first["verdict"]),
        (&json!("alice"), &json!(true), &json!("accepted"))
    );

    let repository = stand.root.join("bstore/repo/mini.x86_64");
    for rpm in ["libgreet-1.2.0-1.el9_7.x86_64.rpm", "libgreet-devel-1.2.0-1.el9_7.x86_64.rpm"] {
        eventually(rpm, async || {
            let there = repository.join("repodata/repomd.xml").exists();
            (there && listed(&repository).iter().any(|listed| listed == rpm)).then_some(())
        })
        .await;
    }
    let mail = mails.has(1).await.remove(0);
    let (subject, body) = (mail["headers"]["subject"].as_str().unwrap(), mail["body"].as_str().unwrap());
    assert_eq!(mail["to"], json!(["packagers@example.org"]));
    assert!(
        subject.contains(" libgreet-1.2.0-1.el9_7.src.rpm (arch: x86_64) target mini.x86_64 : Success"),
        "{subject}"
    );
    assert!(body.contains("\nSubmitter: alice\n") && body.contains("\nWrote: "), "{body}");
    let result: Value = serde_json::from_slice(&next(&mut results).await.payload).unwrap();
    for (field, value) in
        [("status", "Success"), ("pkgname", "libgreet"), ("submitter", "alice"), ("git_branch", "c9")]
    {
        assert_eq!(result[field], value, "{field}");
    }
    assert!(built.contains(result["timestamp"].as_str().unwrap()), "{built} {result}");
    let line = "Success: libgreet-1.2.0-1.el9_7.x86_64 for mini.x86_64, submitted by alice";
    assert_eq!(channel.hears("#builds", 1).await, [line]);

    // A scratch build is told to nobody, but to who asked, by mail if that was asked for, too.
    for more in [&["--scratch"][..], &["--scratch", "--mail"]] {
        stand.request("alice", &[&asked[..], more].concat()).ok();
    }
    stand.root.site().quiet().await;
    roles.stop();
    let to: Vec<Value> = mails.mails().iter().map(|mail| mail["to"].clone()).collect();
    assert_eq!(to, [json!(["packagers@example.org"]), json!(["alice@people.example.org"])]);
    assert!(results.try_recv().is_err());
    assert_eq!(channel.said("#builds").len(), 1);
}
