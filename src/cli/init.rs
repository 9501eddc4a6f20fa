//! `reimzul init`: the files of a host of a fleet.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Done, Failure, exit, ui};
use crate::init::ca::{Ca, HOST_DAYS};
use crate::init::{self, HostRole, Hosts, State};

/// Write the configuration of a host of a fleet
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing that is there and differs is overwritten without --force: it is listed,
nothing is written, and the exit code is 2. A fleet's authority is never
overwritten. docs/deploy.md goes through the whole set-up.

Examples:
  reimzul init controller --controller ctl.example.org --ca
  reimzul init bstore --controller ctl.example.org
  reimzul init builder --controller ctl.example.org --bstore store.example.org")]
pub struct Init {
    /// What this host is
    role: HostRole,
    /// The controller's name, by which others reach it [default on it: this host's name]
    #[arg(long, value_name = "HOST", value_parser = host, required_if_eq_any([("role", "builder"), ("role", "bstore")]))]
    controller: Option<String>,
    /// The bstore's name, by which others reach it
    #[arg(long, value_name = "HOST", value_parser = host, required_if_eq("role", "builder"))]
    bstore: Option<String>,
    /// On a controller: make the fleet's own authority, and this host's certificate
    #[arg(long)]
    ca: bool,
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

/// Where the fleet's authority is, on the controller.
pub(super) const CA: &str = "etc/reimzul/ca";
/// Where a host's certificate is.
const TLS: &str = "etc/reimzul/tls";

impl Init {
    pub fn run(&self) -> Done {
        if self.ca && self.role != HostRole::Controller {
            return Err(Failure::Usage("--ca is for the controller: the authority is there".into()));
        }
        let hosts = Hosts {
            controller: self.controller.clone().unwrap_or_else(own_name),
            bstore: self.bstore.clone().unwrap_or_default(),
        };
        let files = init::plan(self.role, &hosts, &self.dest)?;
        for file in &files {
            list(file.state, &file.path);
        }
        if self.ca {
            self.list_certificates();
        }
        if self.dry_run {
            return Ok(exit::OK);
        }
        if !self.force && files.iter().any(|file| file.state == State::Differs) {
            ui::say!("Nothing was written: --force overwrites what differs.");
            return Ok(exit::USAGE);
        }
        init::write(&files)?;
        if self.ca {
            self.certify(&hosts.controller)?;
        }
        if self.dest == Path::new("/") {
            self.tell_what_is_next(&hosts);
        }
        Ok(exit::OK)
    }

    fn list_certificates(&self) {
        for path in [self.dest.join(CA).join("ca.pem"), self.dest.join(TLS).join("host.pem")] {
            list(if path.exists() { State::Same } else { State::New }, &path);
        }
    }

    /// The authority and the controller's own certificate, where they are not there yet.
    fn certify(&self, controller: &str) -> Result<(), Failure> {
        let ca = Ca::create(&self.dest.join(CA), &format!("Reimzul at {controller}"))?;
        let own = self.dest.join(TLS);
        if own.join("host.pem").exists() { Ok(()) } else { Ok(ca.issue_into(&own, controller, HOST_DAYS)?) }
    }

    fn tell_what_is_next(&self, hosts: &Hosts) {
        ui::say!("Next, with {} installed:", self.role.programs().join(", "));
        if self.role != HostRole::Controller && !Path::new("/").join(TLS).join("host.pem").exists() {
            ui::say!("  # on {}: a certificate for this host, copied to it", hosts.controller);
            let (me, from) = (own_name(), format!("/{CA}/issued"));
            ui::say!("  reimzul certificate {me}");
            ui::say!("  scp {from}/{me}/*.pem root@{me}:/{TLS}/");
            ui::say!("  # here");
        }
        ui::say!("  systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload");
        if self.role == HostRole::Builder {
            // The overlay engine's user needs them (subuid(5)); mock does not, and they do it no harm.
            ui::say!("  usermod --add-subuids 200000-265535 --add-subgids 200000-265535 reimzul");
        }
        ui::say!("  systemctl enable --now {}", self.role.units().join(" "));
        ui::say!("  runuser -u reimzul -- reimzul check-config --connect {}", self.role.roles().join(" "));
    }
}

fn list(state: State, path: &Path) {
    let said = match state {
        State::New => "new",
        State::Same => "unchanged",
        State::Differs => "differs",
    };
    ui::say!("{said:<9}  {}", path.display());
}

fn own_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned())
}

/// A host's name or IPv4 address, as it can stand in a URL (RFC 1123, section 2.1).
pub(super) fn host(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let plain = text.bytes().all(good) && !text.starts_with(['-', '.']);
    if plain && !text.is_empty() && text.len() <= 253 {
        Ok(text.to_owned())
    } else {
        Err("a host's name has letters, digits, dots and hyphens only".into())
    }
}
