//! `reimzul init`: the files of a host of a fleet.

use std::path::PathBuf;

use clap::Args;

use super::{Done, exit, ui};
use crate::init::{self, HostRole, Hosts, State};

/// Write the configuration of a host of a fleet
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing that is there and differs is overwritten without --force: it is listed,
nothing is written, and the exit code is 2. Certificates are not made: put them
into /etc/reimzul/tls/ as ca.pem, host.pem and host.key.

Examples:
  reimzul init controller --dry-run
  reimzul init builder --controller ctl.example.org --bstore store.example.org")]
pub struct Init {
    /// What this host is
    role: HostRole,
    /// The controller's name, as in its certificate
    #[arg(long, value_name = "HOST", value_parser = host, required_if_eq_any([("role", "builder"), ("role", "bstore")]))]
    controller: Option<String>,
    /// The bstore's name, as in its certificate
    #[arg(long, value_name = "HOST", value_parser = host, required_if_eq("role", "builder"))]
    bstore: Option<String>,
    /// Write below this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    dest: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
    /// Only list what would be written
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    pub fn run(&self) -> Done {
        let hosts = Hosts {
            controller: self.controller.clone().unwrap_or_default(),
            bstore: self.bstore.clone().unwrap_or_default(),
        };
        let files = init::plan(self.role, &hosts, &self.dest)?;
        for file in &files {
            let said = match file.state {
                State::New => "new",
                State::Same => "unchanged",
                State::Differs => "differs",
            };
            ui::say!("{said:<9}  {}", file.path.display());
        }
        if self.dry_run {
            return Ok(exit::OK);
        }
        if !self.force && files.iter().any(|file| file.state == State::Differs) {
            ui::say!("Nothing was written: --force overwrites what differs.");
            return Ok(exit::USAGE);
        }
        init::write(&files)?;
        Ok(exit::OK)
    }
}

/// A host's name or IPv4 address, as it can stand in a URL (RFC 1123, section 2.1).
fn host(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("a host's name has letters, digits, dots and hyphens only".into())
    }
}
