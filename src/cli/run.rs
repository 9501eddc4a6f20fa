//! `reimzul run`: roles in the foreground.

use clap::{Args, ValueEnum};

use super::{Done, exit, named, ui};
use crate::config::Config;
use crate::role::{Role, Site, running};
use crate::shutdown::Shutdown;

/// Run roles: take jobs from the queue until stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Roles:
  all       all of the roles below that are configured
  worker    builds
  repogen   makes repository metadata
  notifier  tells of results: the history, the log, the signer, people by mail
            and MQTT
  signer    stages RPMs for signing, or signs and publishes them
  irc       posts results on IRC
  mqtt-sub  takes requests for builds in, by MQTT

Runs in the foreground and logs to stderr. SIGTERM or Ctrl-C stops taking jobs,
finishes those at hand and exits with 0; a second one kills running builds and
hands their jobs back to the queue. Any number of processes, each with any
roles, may run on one root.

Examples:
  reimzul --root ~/farm run all --slots 2
  reimzul run worker
  reimzul run repogen notifier signer")]
pub struct Run {
    /// What to be (see below)
    #[arg(required = true, value_name = "ROLE", hide_possible_values = true)]
    roles: Vec<RoleName>,
    /// How many builds at a time [default: the configuration's, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    All,
    Worker,
    Repogen,
    Notifier,
    Signer,
    Irc,
    MqttSub,
}

impl RoleName {
    /// What is meant, each role once, in the order named.
    pub(super) fn all_of(names: &[RoleName], config: &Config) -> Vec<Role> {
        let mut roles: Vec<Role> = Vec::new();
        for role in names.iter().flat_map(|name| name.roles(config)) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        roles
    }

    fn roles(self, config: &Config) -> Vec<Role> {
        match self {
            RoleName::All => Role::all(config),
            RoleName::Worker => vec![Role::Worker],
            RoleName::Repogen => vec![Role::Repogen],
            RoleName::Notifier => vec![Role::Notifier],
            RoleName::Signer => vec![Role::Signer],
            RoleName::Irc => vec![Role::Irc],
            RoleName::MqttSub => vec![Role::MqttSub],
        }
    }
}

impl Run {
    pub async fn run(self, mut config: Config) -> Done {
        if let Some(slots) = self.slots {
            config.slots = usize::from(slots);
        }
        let roles = RoleName::all_of(&self.roles, &config);
        let site = Site::open(config)?;
        site.check(&roles)?;
        let shutdown = Shutdown::default();
        shutdown.on_signals()?;
        tokio::spawn(tell_what_is_waited_for(site.clone(), shutdown.clone()));
        tracing::info!("{} on {}", running(&roles), site.config.layout.root().display());
        site.run_all(&roles, &shutdown).await?;
        Ok(exit::OK)
    }
}

/// Who presses Ctrl-C wants to know how long it will take.
async fn tell_what_is_waited_for(site: Site, shutdown: Shutdown) {
    shutdown.stop().cancelled().await;
    let held = site.queue.held().await.unwrap_or_default();
    let builds: Vec<String> = held.iter().filter_map(named::build_of).map(|(_, path)| path.label()).collect();
    if !builds.is_empty() && !shutdown.kill().is_cancelled() {
        tracing::info!(
            "waiting for {} to be built: {}",
            ui::count(builds.len(), "package"),
            builds.join(", ")
        );
    }
}
