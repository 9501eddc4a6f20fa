//! The files of a host's role in a fleet, which `reimzul init` writes, and the fleet's own authority.

pub mod ca;
mod settings;

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::fs::{self, FileError};
pub use settings::Settings;

/// What a host is in a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HostRole {
    /// People submit here; queue, sources and history
    Controller,
    /// Builds
    Builder,
    /// Repositories and signing
    Bstore,
    /// People ask here what the fleet does
    Client,
}

impl HostRole {
    /// The units of this role, as one enables them. The last one is all of them together.
    pub fn units(self) -> &'static [&'static str] {
        match self {
            HostRole::Controller => {
                &["beanstalkd", "reimzul-nginx", "reimzul-stunnel", "reimzul-notifier", "reimzul.target"]
            }
            HostRole::Builder => &["reimzul-stunnel", "reimzul-worker@1", "reimzul.target"],
            HostRole::Bstore => &[
                "reimzul-nginx",
                "reimzul-rsyncd",
                "reimzul-stunnel",
                "reimzul-repogen-worker@1",
                "reimzul-signer",
                "reimzul.target",
            ],
            HostRole::Client => &[],
        }
    }

    /// What `reimzul check-config` looks at on it.
    pub fn roles(self) -> &'static [&'static str] {
        match self {
            HostRole::Controller => &["notifier"],
            HostRole::Builder => &["worker"],
            HostRole::Bstore => &["repogen", "signer"],
            // Queue and history: what a notifier reaches is what a client does.
            HostRole::Client => &["notifier"],
        }
    }

    /// What this role's units run besides this program.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            HostRole::Controller => &["beanstalkd", "nginx", "stunnel"],
            HostRole::Builder => &["rsync", "stunnel"],
            HostRole::Bstore => &["createrepo_c", "nginx", "rsync", "stunnel"],
            HostRole::Client => &[],
        }
    }
}

/// How a file to be written compares with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    New,
    Same,
    Differs,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::New => "new",
            State::Same => "unchanged",
            State::Differs => "differs",
        }
    }
}

/// A file of a role.
#[derive(Debug)]
pub struct Planned {
    pub path: PathBuf,
    pub text: String,
    pub state: State,
}

/// The hosts that the files name.
#[derive(Debug, Clone)]
pub struct Hosts {
    pub controller: String,
    pub bstore: String,
}

/// The files of `role`, below `dest`, with the site's settings, compared with what is there.
pub fn plan(role: HostRole, hosts: &Hosts, site: &Settings, dest: &Path) -> Result<Vec<Planned>, FileError> {
    let fill =
        |text: &str| text.replace("@CONTROLLER@", &hosts.controller).replace("@BSTORE@", &hosts.bstore);
    let planned = |&(name, template): &(&str, &str)| {
        let filled = fill(template);
        let text = if name == CONFIG { settings::merged(&filled, site) } else { filled };
        let path = dest.join(name);
        Ok(Planned { state: compare(&path, &text)?, path, text })
    };
    files(role).iter().chain(EVERYWHERE).map(planned).collect()
}

/// Writes what is not there yet or differs, each file whole or not at all.
pub fn write(files: &[Planned]) -> Result<(), FileError> {
    for file in files.iter().filter(|file| file.state != State::Same) {
        fs::make_dir(file.path.parent().unwrap_or(Path::new("/")))?;
        fs::write_whole(&file.path, file.text.as_bytes())?;
        // Whatever the umask of who runs this: services that are not root read them. systemd-tmpfiles closes the one
        // that may hold passwords.
        fs::open_to_all(&file.path)?;
    }
    Ok(())
}

/// Where the configuration is, below the root of the file system.
pub const CONFIG: &str = "etc/reimzul/reimzul.ini";
const STUNNEL: &str = "etc/reimzul/stunnel.conf";
const NGINX: &str = "etc/reimzul/nginx.conf";

/// A unit of the systemd/ folder, where the administrator's are.
macro_rules! unit {
    ($name:literal) => {
        (
            concat!("etc/systemd/system/", $name),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/", $name)),
        )
    };
}

const EVERYWHERE: &[(&str, &str)] = &[
    ("etc/sysusers.d/reimzul.conf", include_str!("../../systemd/reimzul.sysusers")),
    ("etc/tmpfiles.d/reimzul.conf", include_str!("../../systemd/reimzul.tmpfiles")),
];

fn files(role: HostRole) -> &'static [(&'static str, &'static str)] {
    match role {
        HostRole::Controller => &[
            (CONFIG, include_str!("templates/controller.ini")),
            (STUNNEL, include_str!("templates/stunnel-controller.conf")),
            (NGINX, include_str!("templates/nginx-controller.conf")),
            (
                "etc/systemd/system/beanstalkd.service.d/reimzul.conf",
                include_str!("../../systemd/reimzul-beanstalkd.conf"),
            ),
            unit!("reimzul-nginx.service"),
            unit!("reimzul-stunnel.service"),
            unit!("reimzul-notifier.service"),
            unit!("reimzul.target"),
        ],
        HostRole::Builder => &[
            (CONFIG, include_str!("templates/builder.ini")),
            (STUNNEL, include_str!("templates/stunnel-builder.conf")),
            unit!("reimzul-stunnel.service"),
            unit!("reimzul-worker@.service"),
            unit!("reimzul.target"),
        ],
        HostRole::Bstore => &[
            (CONFIG, include_str!("templates/bstore.ini")),
            (STUNNEL, include_str!("templates/stunnel-bstore.conf")),
            (NGINX, include_str!("templates/nginx-bstore.conf")),
            ("etc/reimzul/rsyncd.conf", include_str!("templates/rsyncd.conf")),
            unit!("reimzul-nginx.service"),
            unit!("reimzul-rsyncd.service"),
            unit!("reimzul-stunnel.service"),
            unit!("reimzul-repogen-worker@.service"),
            unit!("reimzul-signer.service"),
            unit!("reimzul.target"),
        ],
        HostRole::Client => &[(CONFIG, include_str!("templates/client.ini"))],
    }
}

fn compare(path: &Path, text: &str) -> Result<State, FileError> {
    match std::fs::read(path) {
        Ok(found) if found == text.as_bytes() => Ok(State::Same),
        Ok(_) => Ok(State::Differs),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::New),
        Err(error) => Err(FileError::at("read", path)(error)),
    }
}
