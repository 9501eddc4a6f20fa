//! A broker that goes in the middle of it: no request is lost, none is built twice, and of the results none that the
//! broker has not acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reimzul::remote::request::{Client, State};
use reimzul::sys::mqtt::{Mqtt, Options};
use serde_json::Value;

use crate::harness::mosquitto::Mosquitto;
use crate::harness::{Ask, eventually};
use crate::stand::{POLICY, Stand, asked, spec};

/// Several people ask for builds at the same time, each for the next when the last was answered.
const PEOPLE: usize = 20;
const EACH: usize = 10;

async fn ask_all(stand: &Stand) {
    let mut people = tokio::task::JoinSet::new();
    for _ in 0..PEOPLE {
        let (broker, signer) = stand.client("alice");
        people.spawn(async move {
            for _ in 0..EACH {
                let patience = Duration::from_secs(60);
                let sent = Client::send(&broker, &signer, &[asked("tiny", "alice")], patience).await;
                let mut client = sent.expect("the broker comes back");
                while client.next(false, patience).await.is_some() {}
                assert!(matches!(client.sent[0].state, State::Accepted { .. }), "{:?}", client.sent[0].state);
                client.close().await;
            }
        });
    }
    while let Some(done) = people.join_next().await {
        done.unwrap();
    }
}

const RESULTS: &str = "reimzul/builds/results";

/// Somebody who reads the results along, in a session that the broker keeps: the timestamps of those that came.
async fn listen(broker: &Mosquitto) -> Arc<Mutex<BTreeSet<String>>> {
    let options = Options { persistent: true, ..broker.options("listener", &[RESULTS]) };
    let (client, mut messages) = Mqtt::start(options);
    client.connected().await.unwrap();
    let heard = Arc::<Mutex<BTreeSet<String>>>::default();
    let noted = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let result: Value = serde_json::from_slice(&message.payload).unwrap();
            noted.lock().unwrap().insert(result["timestamp"].as_str().unwrap().to_owned());
            client.acknowledge(&message);
        }
    });
    heard
}

/// Two hundred requests and their results, with a broker that is ended twice meanwhile.
async fn a_broker_that_is_ended_in_the_middle(end: fn(&Mosquitto), loses_none: bool) {
    let stand = Stand::new("null", POLICY);
    stand.repository("tiny", "c9", "x", &[("SPECS/tiny.spec", spec("tiny").as_bytes())]);
    let site = stand.root.site();
    let heard = listen(&stand.broker).await;
    let _roles = stand.root.start(&["all", "--slots", "4"]);
    let breaking = async {
        for wanted in [PEOPLE * EACH / 4, PEOPLE * EACH / 2] {
            let accepted = || stand.audit().iter().filter(|line| line["verdict"] == "accepted").count();
            // One after the other, for all of them may take a slow machine longer than anything should.
            while accepted() < wanted {
                let before = accepted();
                eventually("one more request", async || (accepted() > before).then_some(())).await;
            }
            end(&stand.broker);
            tokio::time::sleep(Duration::from_millis(300)).await;
            stand.broker.begin();
        }
    };
    tokio::join!(ask_all(&stand), breaking);
    site.quiet().await;
    // Every nonce was accepted once, led to one build, and that was made once.
    let accepted: Vec<_> = stand.audit().into_iter().filter(|line| line["verdict"] == "accepted").collect();
    let mut nonces: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &accepted {
        *nonces.entry(line["nonce"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(nonces.len(), PEOPLE * EACH);
    let twice = nonces.iter().find(|(_, times)| **times > 1).map(|(nonce, _)| *nonce);
    let lines: Vec<_> = stand.audit().into_iter().filter(|line| line["nonce"].as_str() == twice).collect();
    assert!(twice.is_none(), "accepted twice: {lines:?}");
    let mut builds: BTreeMap<String, usize> = BTreeMap::new();
    for line in stand.root.read("log/reimzul.log").lines().filter(|line| line.contains("status Success")) {
        let stamp = line.split('(').nth(1).unwrap().split(')').next().unwrap();
        *builds.entry(stamp.to_owned()).or_default() += 1;
    }
    assert_eq!(builds.len(), PEOPLE * EACH, "a build was lost");
    assert!(builds.values().all(|times| *times == 1), "built twice: {builds:?}");
    results_are_told(&stand, &heard, &builds, loses_none).await;
}

/// The outbox is empty, so every result was acknowledged: the broker's own log says so, too. Only one that is killed may
/// lose what it has acknowledged, and then goes on as before.
async fn results_are_told(
    stand: &Stand,
    heard: &Mutex<BTreeSet<String>>,
    builds: &BTreeMap<String, usize>,
    loses_none: bool,
) {
    assert!(stand.root.site().outbox.waiting().await.unwrap().is_empty());
    let acknowledged = stand.broker.acknowledged("reimzul-notifier-", RESULTS);
    assert!(acknowledged >= builds.len(), "{acknowledged} of {} were acknowledged", builds.len());
    let is_built = |stamp: &String| builds.contains_key(stamp);
    assert!(heard.lock().unwrap().iter().all(is_built), "what was never built is no result");
    if loses_none {
        eventually("all results", async || (heard.lock().unwrap().len() == builds.len()).then_some(())).await;
    }
    let asked = ["-q", "-p", "tiny", "-b", "c9", "-a", crate::harness::arch(), "-t", "mini"];
    let path = stand.request("alice", &asked).ok().out;
    let stamp = path.split('/').nth(2).unwrap().to_owned();
    eventually("one more result", async || heard.lock().unwrap().contains(&stamp).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_restarted_loses_no_request_and_no_result_and_nothing_is_built_twice() {
    a_broker_that_is_ended_in_the_middle(Mosquitto::terminate, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_loses_no_request_and_only_results_it_had_acknowledged() {
    a_broker_that_is_ended_in_the_middle(Mosquitto::kill, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_killed_is_followed_by_one_that_goes_on() {
    let stand = Stand::new("null", POLICY);
    stand.repository("tiny", "c9", "x", &[("SPECS/tiny.spec", spec("tiny").as_bytes())]);
    let site = stand.root.site();
    let killing = async {
        for _ in 0..6 {
            let roles = stand.root.start(&["mqtt-sub"]);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            roles.kill();
        }
        stand.root.start(&["mqtt-sub"])
    };
    let ((), _roles) = tokio::join!(ask_all(&stand), killing);
    let jobs = site.queue.list(Some(crate::harness::arch())).await.unwrap();
    assert_eq!(jobs.len(), PEOPLE * EACH, "a job for each request, no more and no less");
}
