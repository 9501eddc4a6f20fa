//! The only places that spawn programs, lock files, open databases or speak to the service manager. Knows nothing of
//! ours but [`crate::model`].

pub mod cgroup;
pub mod fs;
pub mod ini;
pub mod log;
pub mod process;
pub mod rpm;
pub mod sandbox;
pub mod service;
pub mod sqlite;
