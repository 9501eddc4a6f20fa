//! `reimzul init`: the files of a host of a fleet.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Done, Failure, exit, ui};
use crate::config::{self, Config};
use crate::init::ca::{Ca, HOST_DAYS};
use crate::init::{self, HostRole, Hosts, Planned, Settings, State};
use crate::sys::ini;

/// Write the configuration of a host of a fleet
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing that is there and differs is overwritten without --force: it is listed,
nothing is written, and the exit code is 2. A fleet's authority is never
overwritten. docs/deploy.md goes through the whole set-up.

Examples:
  reimzul init controller --controller ctl.example.org --ca
  reimzul init bstore --controller ctl.example.org
  reimzul init builder --controller ctl.example.org --bstore store.example.org
  reimzul init client --controller ctl.example.org --settings client.ini")]
pub struct Init {
    /// What this host is
    role: HostRole,
    /// The controller's name, by which others reach it [default on it: this host's name]
    #[arg(long, value_name = "HOST", value_parser = host, required_if_eq_any([("role", "builder"), ("role", "bstore"), ("role", "client")]))]
    controller: Option<String>,
    /// The bstore's name, by which others reach it
    #[arg(long, value_name = "HOST", value_parser = host, required_if_eq("role", "builder"))]
    bstore: Option<String>,
    /// On a controller: make the fleet's own authority, and this host's certificate
    #[arg(long)]
    ca: bool,
    /// The site's own settings (an INI file, - for stdin), to go into the configuration
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
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
    pub fn run(&self, as_json: bool) -> Done {
        if self.ca && self.role != HostRole::Controller {
            return Err(Failure::Usage("--ca is for the controller: the authority is there".into()));
        }
        let hosts = Hosts {
            controller: self.controller.clone().unwrap_or_else(own_name),
            bstore: self.bstore.clone().unwrap_or_default(),
        };
        let files = init::plan(self.role, &hosts, &self.settings()?, &self.dest)?;
        check(&files)?;
        let mut listed: Vec<(State, &Path)> = files.iter().map(|file| (file.state, &*file.path)).collect();
        let certificates = self.certificates();
        listed.extend(certificates.iter().map(|(state, path)| (*state, path.as_path())));
        let differs = listed.iter().any(|(state, _)| *state == State::Differs);
        let writes = !self.dry_run && (self.force || !differs);
        if writes {
            init::write(&files)?;
            self.certify(&hosts.controller)?;
        }
        if as_json {
            self.print(&listed, writes);
        } else {
            self.tell(&listed, writes, &hosts);
        }
        Ok(if writes || self.dry_run { exit::OK } else { exit::USAGE })
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let Some(file) = &self.settings else { return Ok(Settings::new()) };
        let is_stdin = file == Path::new("-");
        let text = if is_stdin { std::io::read_to_string(std::io::stdin()) } else { ini::read(file) };
        let name = if is_stdin { "standard input".into() } else { file.display().to_string() };
        let text =
            text.map_err(|error| Failure::Usage(format!("cannot read the settings {name}: {error}")))?;
        Ok(config::sections(&text, &name)?)
    }

    fn print(&self, listed: &[(State, &Path)], written: bool) {
        let files: Vec<_> =
            listed.iter().map(|(state, path)| json!({"path": path, "state": state.as_str()})).collect();
        ui::print_json(&json!({"files": files, "written": written, "units": self.role.units(),
            "roles": self.role.roles()}));
    }

    fn tell(&self, listed: &[(State, &Path)], written: bool, hosts: &Hosts) {
        for (state, path) in listed {
            ui::say!("{:<9}  {}", state.as_str(), path.display());
        }
        if !written && !self.dry_run {
            ui::say!("Nothing was written: --force overwrites what differs.");
        }
        if written && self.dest == Path::new("/") {
            self.tell_what_is_next(hosts);
        }
    }

    /// The fleet's authority and this host's certificate, where they are asked for.
    fn certificates(&self) -> Vec<(State, PathBuf)> {
        let paths = [self.dest.join(CA).join("ca.pem"), self.dest.join(TLS).join("host.pem")];
        let asked = paths.into_iter().filter(|_| self.ca);
        asked.map(|path| (if path.exists() { State::Same } else { State::New }, path)).collect()
    }

    /// The authority and the controller's own certificate, where they are not there yet.
    fn certify(&self, controller: &str) -> Result<(), Failure> {
        if !self.ca {
            return Ok(());
        }
        let ca = Ca::create(&self.dest.join(CA), &format!("Reimzul at {controller}"))?;
        let own = self.dest.join(TLS);
        if own.join("host.pem").exists() { Ok(()) } else { Ok(ca.issue_into(&own, controller, HOST_DAYS)?) }
    }

    fn tell_what_is_next(&self, hosts: &Hosts) {
        match self.role.programs() {
            [] => ui::say!("Next, here:"),
            programs => ui::say!("Next, with {} installed:", programs.join(", ")),
        }
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
        if !self.role.units().is_empty() {
            ui::say!("  systemctl enable --now {}", self.role.units().join(" "));
        }
        ui::say!("  runuser -u reimzul -- reimzul check-config --connect {}", self.role.roles().join(" "));
    }
}

/// Whether the configuration that would be written can be used.
fn check(files: &[Planned]) -> Result<(), Failure> {
    for file in files.iter().filter(|file| file.path.ends_with(init::CONFIG)) {
        Config::from_text(&file.text, Some(&file.path), None)?;
    }
    Ok(())
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
