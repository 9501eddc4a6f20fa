//! Several hosts for real, set up as docs/deploy.md says: a controller, a bstore, two builders and a client, each with
//! its own systemd and network, with nothing open between them but TLS ports. Real packages are built while cables are
//! pulled and machines crash, and the ledger must balance.

#[path = "../harness/mod.rs"]
mod harness;
mod host;
mod story;
