//! Results on IRC: the real role, fed by a real broker, on real servers.

use nix::sys::signal::Signal;
use reimzul::sys::mqtt::Mqtt;
use serde_json::json;

use crate::fields;
use crate::harness::Root;
use crate::harness::ircd::{Network, Ngircd, Reader, secret};
use crate::harness::mosquitto::Mosquitto;

const CHANNELS: &str = "[irc_channels]\nfailed = #alerts\nmini* = #mini, #all\nc9.x86_64 = #all\n";

/// Publishes results as a notifier does.
async fn publish(client: &Mqtt, event: &serde_json::Value) {
    client.publish("reimzul/builds/results", event.to_string().into_bytes()).await.unwrap();
}

fn root(broker: &Mosquitto, irc: &str) -> Root {
    Root::with(&format!("{}{irc}\n{CHANNELS}", broker.section("bot", "reimzul")))
}

#[tokio::test]
async fn a_result_is_a_line_in_the_channels_of_its_target_and_outcome_through_tls_and_sasl() {
    let (broker, mut network) = (Mosquitto::start(), Network::start());
    network.register("geheim").await;
    let reader = Reader::join(network.port, "reader", &["#alerts", "#mini", "#all"]);
    let root = root(&broker, "");
    let password = secret(root.path(), "geheim");
    let irc = format!(
        "[irc]\nhost = 127.0.0.1\nport = {}\nca_cert = {}\nuser = reimzul\npassword_file = {}\n",
        network.tls_port,
        network.ca().display(),
        password.display()
    );
    let config = root.read("reimzul.ini") + &irc;
    root.write("reimzul.ini", &config);
    let checked = root.run(&["check-config", "--connect", "irc"]).ok().out;
    assert!(
        checked.contains("irc: the server 127.0.0.1") && checked.contains("mqtt: the broker"),
        "{checked}"
    );
    let mut role = root.start(&["irc"]);
    role.until_it_says("on the IRC server");
    role.until_it_says("connected to the MQTT broker");
    let (client, _) = broker.client("notifier", &[]);
    let mut failed = fields("hello", "Failed");
    failed["url"] = json!("http://b/\r\nQUIT");
    failed["submitter"] = json!("kb");
    failed["failure"] = json!({"class": "check", "phase": "check", "lines": ["x"]});
    publish(&client, &failed).await;
    client.publish("reimzul/builds/results", b"no result".to_vec()).await.unwrap();
    let line = "Failed (check): hello-1-1.x86_64 for mini.x86_64, submitted by kb http://b/  QUIT";
    for channel in ["#alerts", "#mini", "#all"] {
        assert_eq!(reader.hears(channel, 1).await, [line]);
    }
    let mut other = fields("other", "Success");
    other["target"] = json!("c9.x86_64");
    publish(&client, &other).await;
    assert_eq!(reader.hears("#all", 2).await[1], "Success: other-1-1.x86_64 for c9.x86_64, submitted by kb");
    assert!(reader.lines().iter().all(|line| !line.contains("PRIVMSG") || line.starts_with(":reimzul!")));

    // The network goes, and results come meanwhile.
    network.end();
    role.until_it_says("trying again in");
    // Who reads along must be there first.
    role.signal(Signal::SIGSTOP);
    publish(&client, &fields("meanwhile", "Success")).await;
    publish(&client, &fields("meanwhile", "Success")).await;
    network.begin();
    let reader = Reader::join(network.port, "reader", &["#mini"]);
    role.signal(Signal::SIGCONT);
    assert!(reader.hears("#mini", 1).await[0].contains("meanwhile-1-1.x86_64"));
    role.stop();

    // The role is away, and results come meanwhile.
    publish(&client, &fields("away", "Success")).await;
    let role = root.start(&["irc"]);
    assert!(reader.hears("#mini", 2).await[1].contains("away-1-1.x86_64"));
    role.stop();
    assert_eq!(reader.said("#mini").len(), 2);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let (broker, network) = (Mosquitto::start(), Network::start());
    network.register("geheim").await;
    let root = root(&broker, "");
    let password = secret(root.path(), "wrong");
    let server = format!("[irc]\nhost = 127.0.0.1\nport = {}\n", network.tls_port);
    let sections = root.read("reimzul.ini");
    let says = |irc: &str, part: &str| {
        root.write("reimzul.ini", &format!("{sections}{irc}"));
        let ran = root.run(&["check-config", "--connect", "irc"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.out.contains(part), "{ran:?}");
    };
    says(&server, "not among whom this system trusts");
    let trusted = format!("{server}ca_cert = {}\n", network.ca().display());
    let login = format!("{trusted}user = reimzul\npassword_file = {}\n", password.display());
    says(&login, "does not accept account 'reimzul'");
    std::fs::remove_file(password).unwrap();
    says(&login, "irc.password");
}

#[tokio::test]
async fn many_results_at_once_are_one_line_and_a_taken_name_or_a_kick_is_no_end() {
    let (broker, server) = (Mosquitto::start(), Ngircd::start());
    let root = root(&broker, &format!("[irc]\nhost = 127.0.0.1\nport = {}\ntls = no\n", server.port));
    let reader = Reader::join(server.port, "reimzul", &["#mini"]);
    let mut role = root.start(&["irc"]);
    role.until_it_says("on the IRC server");
    role.until_it_says("connected to the MQTT broker");
    let (client, _) = broker.client("notifier", &[]);
    for number in 0..200 {
        publish(&client, &fields(&format!("p{number}"), if number == 7 { "Failed" } else { "Success" }))
            .await;
    }
    // However they fall together, all are told of.
    let told = |lines: &[String]| -> usize {
        let many = |line: &String| line.split_once(" results: ").and_then(|(number, _)| number.parse().ok());
        lines.iter().map(|line| many(line).unwrap_or(1)).sum()
    };
    let lines = crate::harness::eventually("200 results", async || {
        let lines = reader.said("#mini");
        (told(&lines) >= 200).then_some(lines)
    })
    .await;
    assert!(told(&lines) == 200 && lines.len() < 100, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("p7-1-1.x86_64")), "{lines:?}");
    reader.put("KICK #mini reimzul_ :away with you");
    role.until_it_says("kicked out of #mini: away with you");
    publish(&client, &fields("after", "Success")).await;
    crate::harness::eventually("it is back", async || {
        reader.said("#mini").iter().any(|line| line.contains("after-1-1.x86_64")).then_some(())
    })
    .await;
    role.stop();
}

#[tokio::test]
async fn no_more_lines_go_at_once_than_a_server_bears_that_throws_out_who_floods() {
    let (broker, network) = (Mosquitto::start(), Network::start());
    let channels: Vec<String> = (0..8).map(|number| format!("#c{number}")).collect();
    let sections = format!(
        "{}[irc]\nhost = 127.0.0.1\nport = {}\ntls = no\n[irc_channels]\n* = {}\n",
        broker.section("bot", "reimzul"),
        network.port,
        channels.join(", ")
    );
    let root = Root::with(&sections);
    let names: Vec<&str> = channels.iter().map(String::as_str).collect();
    let reader = Reader::join(network.port, "reader", &[]);
    reader.put(&format!("JOIN {}", names.join(",")));
    let mut role = root.start(&["irc"]);
    role.until_it_says("on the IRC server");
    role.until_it_says("connected to the MQTT broker");
    let (client, _) = broker.client("notifier", &[]);
    publish(&client, &fields("hello", "Success")).await;
    for channel in names {
        assert_eq!(reader.hears(channel, 1).await.len(), 1);
    }
    role.terminate();
    let (code, said) = role.ended();
    assert!(code == Some(0) && !said.contains("trying again"), "{said}");
}
