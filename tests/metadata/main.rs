//! Repository metadata: the built-in engine against createrepo_c, what readers see, and what goes wrong.

mod bad;
mod crashes;
#[path = "../harness/mod.rs"]
mod harness;
mod locks;
mod many;
mod oracle;
mod readers;
mod repairs;
mod rpms;
mod states;
