//! How a builder reaches its hosts: real nginx, rsyncd and stunnel, and connections that are cut.

mod fleet;
#[path = "../harness/mod.rs"]
mod harness;

mod certificates;
mod commit;
mod path;
mod sources;
mod stunnel;
