//! The broker's configuration as docs/requests.md has it: who may read and write what.

use reimzul::sys::mqtt::Mqtt;
use reimzul::sys::tls::{Tls, TlsFiles};
use serde_json::Value;

use crate::harness::mosquitto::next;
use crate::stand::{POLICY, Stand, spec};

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_broker_lets_requests_in_and_answers_out_and_nobody_speak_in_the_controllers_name() {
    let stand = Stand::documented(POLICY);
    stand.repository("tiny", "c9", "x", &[("SPECS/tiny.spec", spec("tiny").as_bytes())]);
    let everything = ["reimzul/submit/#", "reimzul/requests/+", "reimzul/builds/#"];
    let (mallory, mut overheard) = stand.broker.client("mallory", &everything);
    mallory.connected().await.unwrap();
    for topic in ["reimzul/requests/0123456789abcdef", "reimzul/requests/bridge", "reimzul/builds/results"] {
        // MQTT 3.1.1 has no way to say no: it is acknowledged, and goes no further.
        mallory.publish(topic, b"forged".to_vec()).await.unwrap();
    }
    let _roles = stand.root.start(&["all"]);
    let asked = ["-p", "tiny", "-b", "c9", "-a", crate::harness::arch(), "-t", "mini", "--wait"];
    let ran = stand.request("alice", &asked).ok();
    assert!(ran.out.contains("\nbuilt mini."), "{ran:?}");
    loop {
        let message = next(&mut overheard).await;
        assert!(!message.topic.starts_with("reimzul/submit/"), "requests are read by the controller alone");
        assert_ne!(message.payload, b"forged", "{}", message.topic);
        mallory.acknowledge(&message);
        if message.topic == "reimzul/builds/results" {
            let result: Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(result["pkgname"], "tiny");
            break;
        }
    }

    let files = TlsFiles { section: "mqtt", ca_cert: Some(stand.broker.ca()), ..TlsFiles::default() };
    let mut options = stand.broker.options("nobody", &[]);
    options.tls = Tls::open(&files).unwrap();
    let said = Mqtt::start(options).0.tried().await.unwrap_err().to_string();
    assert!(said.contains("wants a client certificate, and none is configured"), "{said}");
}
