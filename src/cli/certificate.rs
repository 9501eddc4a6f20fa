//! `reimzul certificate`: certificates for the hosts of a fleet, by its own authority.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Done, exit, init, ui};
use crate::init::ca::{Ca, HOST_DAYS, Renew};

/// Make certificates for hosts, by the fleet's own authority
#[derive(Debug, Args)]
#[command(after_help = "\
For the controller's administrator, where `reimzul init controller --ca` has
made the authority. What it prints is a folder for each host: ca.pem and
host.pem, a certificate with its key. Both go to /etc/reimzul/tls/ there.

Examples:
  reimzul certificate store.example.org build1.example.org
  reimzul certificate build1.example.org --renew
  reimzul certificate build1.example.org --renew-before 30")]
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
    /// The same, only where it ends within so many days, and keep others
    #[arg(long, value_name = "N", conflicts_with = "renew")]
    renew_before: Option<u32>,
    /// The authority's folder
    #[arg(long, value_name = "DIR", default_value_os_t = PathBuf::from("/").join(init::CA))]
    ca: PathBuf,
}

impl Certificate {
    pub fn run(&self, as_json: bool) -> Done {
        let ca = Ca::open(&self.ca)?;
        let renew = match self.renew_before {
            Some(days) => Renew::EndingWithin(days),
            None if self.renew => Renew::Always,
            None => Renew::Never,
        };
        let mut all = Vec::new();
        for host in &self.hosts {
            let issued = ca.issue(host, self.days, renew)?;
            if !as_json {
                ui::say!("{}", issued.folder.display());
            }
            all.push(json!({"host": host, "folder": issued.folder, "new": issued.is_new}));
        }
        if as_json {
            ui::print_json(&json!(all));
        }
        Ok(exit::OK)
    }
}
