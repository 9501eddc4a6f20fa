//! `reimzul certificate`: certificates for the hosts of a fleet, by its own authority.

use std::path::PathBuf;

use clap::Args;

use super::{Done, exit, init, ui};
use crate::init::ca::{Ca, HOST_DAYS};

/// Make certificates for hosts, by the fleet's own authority
#[derive(Debug, Args)]
#[command(after_help = "\
For the controller's administrator, where `reimzul init controller --ca` has
made the authority. What it prints is a folder for each host: ca.pem and
host.pem, a certificate with its key. Both go to /etc/reimzul/tls/ there.

Examples:
  reimzul certificate store.example.org build1.example.org
  reimzul certificate build1.example.org --renew")]
pub struct Certificate {
    /// The names by which others reach the hosts
    #[arg(required = true, value_name = "HOST", value_parser = init::host)]
    hosts: Vec<String>,
    /// How long they are valid, in days
    #[arg(long, value_name = "N", default_value_t = HOST_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Make a new certificate where there is one
    #[arg(long)]
    renew: bool,
    /// The authority's folder
    #[arg(long, value_name = "DIR", default_value_os_t = PathBuf::from("/").join(init::CA))]
    ca: PathBuf,
}

impl Certificate {
    pub fn run(&self) -> Done {
        let ca = Ca::open(&self.ca)?;
        for host in &self.hosts {
            ui::say!("{}", ca.issue(host, self.days, self.renew)?.display());
        }
        Ok(exit::OK)
    }
}
