//! Signing, with keys that gpg makes and clients that believe nothing: rpmkeys, and dnf with gpgcheck=1 and
//! repo_gpgcheck=1.

#[path = "../harness/mod.rs"]
mod harness;

mod farm;
mod publish;
mod refusals;
mod staging;
mod troubles;
