//! Reimzul: a distributed build system for RPM distributions.
//!
//! The code map, in the order of a build's life:
//!
//! - [`model`]: the types everything speaks in; no I/O
//! - [`sys`]: files, processes, namespaces, SQLite: the only places that touch them
//! - [`config`], [`stamp`], [`targets`]: the INI file; what makes a submission a build of its own; what can be
//!   built for
//! - [`queue`], [`consumer`], [`shutdown`]: jobs in tubes; the one place that acknowledges them; how that stops
//! - [`submit`]: a source RPM becomes a job
//! - [`remote`]: a git branch does, by MQTT
//! - [`build`]: a job becomes RPMs and logs, by an engine
//! - [`upload`]: those are put into the bstore in one step
//! - [`metadata`], [`repo`]: a repository's metadata, of any tree; of a target's finished builds
//! - [`notify`], [`history`]: who is told, and what is kept for ever
//! - [`sign`]: RPMs staged for signing, or signed and published
//! - [`init`]: the files of a host of a fleet
//! - [`role`], [`cli`]: what a process can be, and what a person can say

pub mod build;
pub mod cli;
pub mod config;
pub mod consumer;
pub mod history;
pub mod init;
pub mod metadata;
pub mod model;
pub mod notify;
pub mod queue;
pub mod remote;
pub mod repo;
pub mod role;
pub mod shutdown;
pub mod sign;
pub mod stamp;
pub mod submit;
pub mod sys;
pub mod targets;
pub mod upload;
