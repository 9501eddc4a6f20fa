//! Builds on request, by MQTT: who may not log in to the controller asks for a build of a git branch, proves who it is
//! by a certificate, and hears what comes of it.
//!
//! `request` is the client's side. Role `mqtt-sub` is the [`bridge`], which takes messages in; its desk
//! decides on each: read (`letter`), proved ([`signature`]), allowed (`policy`), remembered (`ledger`), made a source RPM
//! of (`scm`), and queued by the same door as `reimzul submit`.

mod audit;
pub mod bridge;
mod desk;
mod ledger;
mod letter;
mod policy;
pub mod request;
mod scm;
pub mod signature;
