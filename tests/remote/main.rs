//! Requests by MQTT, on a real mosquitto with TLS and client certificates.

#[path = "../harness/mod.rs"]
mod harness;
mod mqtt;
