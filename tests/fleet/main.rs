//! Several hosts for real, each with its own systemd and network, with nothing open between them but TLS ports: a
//! controller, a bstore, builders and a client. Set up as docs/deploy.md says, real packages are built while cables are
//! pulled and machines crash, and the ledger must balance. Set up by deploy/ansible, a second run changes nothing.

mod ansible;
mod fleet;
#[path = "../harness/mod.rs"]
mod harness;
mod host;
mod story;
