//! The only places that spawn programs, lock files, open databases, connect to servers or speak to the service
//! manager. Knows nothing of ours but [`crate::model`].

pub mod cgroup;
pub mod fs;
pub mod gpg;
pub mod http;
pub mod ini;
pub mod irc;
pub mod log;
pub mod machine;
pub mod mqtt;
pub mod net;
pub mod nfs;
pub mod openpgp;
pub mod process;
#[cfg(feature = "psk")]
pub mod psk;
pub mod rpm;
pub mod rpmkeys;
pub mod sandbox;
pub mod service;
pub mod smtp;
pub mod sqlite;
pub mod steady;
pub mod tls;
