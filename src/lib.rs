//! Reimzul: a distributed build system for RPM distributions.
pub mod build;
pub mod model;
pub mod sys;
