//! The mock engine: with a stand-in that behaves as mock does, and with mock itself where there is one.

#[path = "../harness/mod.rs"]
mod common;

mod calls;
mod configs;
mod ended;
mod ends;
mod git;
mod harness;
mod limits;
mod real;
