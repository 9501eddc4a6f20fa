//! `reimzul run`: roles in the foreground.

use clap::{Args, ValueEnum};

use super::{Done, exit};
use crate::config::Config;
use crate::role::{Role, Site};
use crate::shutdown::Shutdown;

/// Run roles: take jobs from the queue until stopped.
///
/// SIGTERM or Ctrl-C stops taking jobs and finishes those at hand; a second one kills running builds and
/// hands their jobs back. Any number of processes may run any role on one root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reimzul --root ~/farm run all --slots 2
  reimzul run worker
  reimzul run repogen notifier signer")]
pub struct Run {
    /// What to be
    #[arg(required = true, value_name = "ROLE")]
    roles: Vec<RoleName>,
    /// How many builds at a time [default: the configuration's, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// All of the roles below
    All,
    /// Builds
    Worker,
    /// Makes repository metadata
    Repogen,
    /// Tells the history, the log and the signer
    Notifier,
    /// Stages RPMs for signing
    Signer,
}

impl RoleName {
    fn roles(self) -> Vec<Role> {
        match self {
            RoleName::All => Role::ALL.to_vec(),
            RoleName::Worker => vec![Role::Worker],
            RoleName::Repogen => vec![Role::Repogen],
            RoleName::Notifier => vec![Role::Notifier],
            RoleName::Signer => vec![Role::Signer],
        }
    }
}

impl Run {
    pub async fn run(self, mut config: Config) -> Done {
        if let Some(slots) = self.slots {
            config.slots = usize::from(slots);
        }
        let mut roles: Vec<Role> = Vec::new();
        for role in self.roles.into_iter().flat_map(RoleName::roles) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        let site = Site::open(config)?;
        site.check(&roles)?;
        let shutdown = Shutdown::default();
        shutdown.on_signals()?;
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        tracing::info!("running {} on {}", names.join(", "), site.config.layout.root().display());
        site.run_all(&roles, &shutdown).await;
        Ok(exit::OK)
    }
}
