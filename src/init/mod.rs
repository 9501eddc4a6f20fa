//! The files of a host's role in a fleet: what `reimzul init` writes.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::fs::{self, FileError};

/// What a host is in a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HostRole {
    Controller,
    Builder,
    Bstore,
}

/// How a file to be written compares with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    New,
    Same,
    Differs,
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

const CONFIG: &str = "etc/reimzul/reimzul.ini";
const STUNNEL: &str = "etc/stunnel/reimzul.conf";
const NGINX: &str = "etc/nginx/conf.d/reimzul.conf";

/// The files of `role`, below `dest`, compared with what is there.
pub fn plan(role: HostRole, hosts: &Hosts, dest: &Path) -> Result<Vec<Planned>, FileError> {
    let fill =
        |text: &str| text.replace("@CONTROLLER@", &hosts.controller).replace("@BSTORE@", &hosts.bstore);
    let planned = |&(name, template): &(&str, &str)| {
        let (path, text) = (dest.join(name), fill(template));
        Ok(Planned { state: compare(&path, &text)?, path, text })
    };
    templates(role).iter().map(planned).collect()
}

/// Writes what is not there yet or differs, each file whole or not at all.
pub fn write(files: &[Planned]) -> Result<(), FileError> {
    for file in files.iter().filter(|file| file.state != State::Same) {
        if let Some(folder) = file.path.parent() {
            fs::make_dir(folder)?;
        }
        fs::write_whole(&file.path, file.text.as_bytes())?;
    }
    Ok(())
}

fn templates(role: HostRole) -> &'static [(&'static str, &'static str)] {
    match role {
        HostRole::Controller => &[
            (CONFIG, include_str!("templates/controller.ini")),
            (STUNNEL, include_str!("templates/stunnel-controller.conf")),
            (NGINX, include_str!("templates/nginx-controller.conf")),
        ],
        HostRole::Builder => &[(CONFIG, include_str!("templates/builder.ini"))],
        HostRole::Bstore => &[
            (CONFIG, include_str!("templates/bstore.ini")),
            (STUNNEL, include_str!("templates/stunnel-bstore.conf")),
            ("etc/reimzul/rsyncd.conf", include_str!("templates/rsyncd.conf")),
            (NGINX, include_str!("templates/nginx-bstore.conf")),
        ],
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
