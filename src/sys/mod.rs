//! The only places that spawn programs, lock files or open databases. Knows nothing of ours but [`crate::model`].

pub mod cgroup;
pub mod fs;
pub mod http;
pub mod ini;
pub mod log;
pub mod net;
pub mod process;
pub mod rpm;
pub mod sandbox;
pub mod sqlite;
pub mod tls;
