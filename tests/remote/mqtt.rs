//! The client that everything of MQTT stands on.

use std::collections::BTreeSet;

use reimzul::sys::mqtt::{Mqtt, MqttError, Options};

use crate::harness::eventually;
use crate::harness::mosquitto::{Mosquitto, next};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_has_been_acknowledged_and_arrives() {
    let broker = Mosquitto::start();
    let (reader, mut messages) = broker.client("reader", &["t/#"]);
    reader.connected().await.unwrap();
    let (writer, _) = broker.client("writer", &[]);
    for number in 0..50 {
        writer.publish(&format!("t/{number}"), vec![b'x'; number * 1000]).await.unwrap();
    }
    for number in 0..50 {
        let message = next(&mut messages).await;
        assert_eq!((message.topic.as_str(), message.payload.len()), (&*format!("t/{number}"), number * 1000));
        reader.acknowledge(&message);
    }
    for bad in ["", "a/#", "a/+", "$SYS/x"] {
        assert!(matches!(writer.publish(bad, Vec::new()).await, Err(MqttError::Topic { .. })), "{bad}");
    }
    writer.close().await;
}

fn persistent(broker: &Mosquitto) -> Options {
    Options { persistent: true, client_id: "keeper".into(), ..broker.options("keeper", &["t"]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_and_what_came_meanwhile_comes_too() {
    let broker = Mosquitto::start();
    let (keeper, mut messages) = Mqtt::start(persistent(&broker));
    keeper.connected().await.unwrap();
    let (writer, _) = broker.client("writer", &[]);
    writer.publish("t", b"one".to_vec()).await.unwrap();
    writer.publish("t", b"two".to_vec()).await.unwrap();
    let first = next(&mut messages).await;
    // Acknowledged out of order: the first is not, so the second cannot be yet.
    keeper.acknowledge(&next(&mut messages).await);
    keeper.close().await;
    drop(first);
    writer.publish("t", b"three".to_vec()).await.unwrap();
    let (keeper, mut messages) = Mqtt::start(persistent(&broker));
    let mut again = BTreeSet::new();
    while again.len() < 3 {
        let message = next(&mut messages).await;
        again.insert(String::from_utf8(message.payload.clone()).unwrap());
        keeper.acknowledge(&message);
    }
    assert_eq!(again.into_iter().collect::<Vec<_>>(), ["one", "three", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_connected_and_subscribed_to_anew() {
    let broker = Mosquitto::start();
    let (keeper, mut messages) = Mqtt::start(persistent(&broker));
    let (writer, _) = broker.client("writer", &[]);
    keeper.connected().await.unwrap();
    for end in [Mosquitto::terminate, Mosquitto::kill] {
        end(&broker);
        let sent = writer.publish("t", b"lost".to_vec()).await;
        assert!(sent.is_err(), "nobody can have acknowledged it");
        broker.begin();
        keeper.connected().await.unwrap();
        eventually("a publication", async || writer.publish("t", b"found".to_vec()).await.ok()).await;
        while next(&mut messages).await.payload != b"found" {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_connect_is_told_why() {
    let broker = Mosquitto::start();
    let stranger = crate::harness::ca::Ca::new("Another").sign("stranger", "stranger", (-1, 365));
    let path = broker.ca().with_file_name("stranger.pem");
    std::fs::write(&path, stranger).unwrap();
    let (client, _messages) = Mqtt::start(broker.options_by(&path, "stranger", &[]));
    let said = client.publish("t", Vec::new()).await.unwrap_err().to_string();
    assert!(
        said.contains("the server does not accept our certificate") && said.contains("stranger.pem"),
        "{said}"
    );
}
