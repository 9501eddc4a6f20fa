//! Results by MQTT, through a real broker, which goes away in the middle of them.

use std::collections::BTreeSet;

use reimzul::sys::mqtt::Mqtt;
use serde_json::{Value, json};

use crate::harness::mosquitto::{Mosquitto, next};
use crate::harness::{Root, SOON, eventually};
use crate::{fields, tell, told};

const RESULTS: &str = "reimzul/builds/results";

fn root(broker: &Mosquitto) -> Root {
    let section = broker.section("controller", "reimzul");
    Root::with(&format!(
        "{section}notifications = True\n[bstore]\nbase_url = http://bstore.example.org/repo/\n"
    ))
}

#[tokio::test]
async fn everybody_hears_of_results_and_who_asked_for_a_build_of_its_outcome() {
    let broker = Mosquitto::start();
    let root = root(&broker);
    let checked = root.run(&["check-config", "--connect", "notifier"]).ok().out;
    assert!(checked.contains("mqtt: the broker 127.0.0.1"), "{checked}");
    let (site, roles) = (root.site(), root.start(&["notifier"]));
    let (client, mut messages) = broker.client("reader", &["reimzul/#"]);
    client.connected().await.unwrap();
    let mut scratch = fields("scratch", "Failed");
    scratch["scratch"] = json!(true);
    scratch["nonce"] = json!("0123456789abcdef");
    tell(&site, &fields("hello", "Building")).await;
    tell(&site, &scratch).await;
    told(&site).await;
    let answer = next(&mut messages).await;
    assert_eq!(answer.topic, "reimzul/requests/0123456789abcdef");
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(
        (&answer["state"], &answer["status"], &answer["scratch"]),
        (&json!("outcome"), &json!("Failed"), &json!(true))
    );

    let mut asked = fields("hello", "Success");
    asked["nonce"] = json!("fedcba9876543210");
    asked["git_branch"] = json!("c9");
    tell(&site, &asked).await;
    let mut got = [next(&mut messages).await, next(&mut messages).await];
    got.sort_by(|one, other| one.topic.cmp(&other.topic));
    assert_eq!(got[1].topic, "reimzul/requests/fedcba9876543210");
    assert_eq!(got[0].topic, RESULTS);
    let result: Value = serde_json::from_slice(&got[0].payload).unwrap();
    for field in ["srpm", "status", "target", "arch", "timestamp", "submitter", "build_id", "git_branch"] {
        assert_eq!(result[field], asked[field], "{field}");
    }
    assert_eq!(result["url"], "http://bstore.example.org/repo/mini.x86_64/hello/20261123204406/1-1.x86_64/");
    assert_eq!(result["nonce"], Value::Null, "whose request it was is nobody else's business");
    told(&site).await;
    roles.stop();
}

#[tokio::test]
async fn a_broker_that_is_restarted_in_the_middle_of_200_results_loses_none() {
    let broker = Mosquitto::start();
    let root = root(&broker);
    let mut options = broker.options("reader", &[RESULTS]);
    options.persistent = true;
    let (client, mut messages) = Mqtt::start(options);
    client.connected().await.unwrap();
    let (site, roles) = (root.site(), root.start(&["notifier"]));
    let mut heard = BTreeSet::new();
    for number in 0..200 {
        tell(&site, &fields(&format!("p{number}"), "Success")).await;
        if number == 100 {
            broker.terminate();
        }
        if number == 150 {
            eventually("results wait", async || {
                let waiting = site.outbox.waiting().await.unwrap();
                waiting.iter().any(|sink| sink.sink == "results" && sink.reason.is_some()).then_some(())
            })
            .await;
            broker.begin();
        }
    }
    while heard.len() < 200 {
        let message = tokio::time::timeout(SOON, messages.recv()).await.expect("all come").unwrap();
        let result: Value = serde_json::from_slice(&message.payload).unwrap();
        heard.insert(result["pkgname"].as_str().unwrap().to_owned());
        client.acknowledge(&message);
    }
    told(&site).await;
    roles.stop();
    assert_eq!(root.read("log/reimzul.log").lines().count(), 200, "the other sinks went on");
}
