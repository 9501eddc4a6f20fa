//! The build stage: from a job to a folder of results in the bstore.

pub mod engine;
