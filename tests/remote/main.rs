//! Requests by MQTT, on a real mosquitto with TLS and client certificates, a git server and a lookaside over HTTP.

#[path = "../harness/mod.rs"]
mod harness;

mod checked;
mod documented;
mod flow;
mod helper;
mod lost;
mod mqtt;
mod refusals;
mod stand;
mod told;
