//! `reimzul check-config`: is the configuration right, and does this machine have what it needs?

mod connections;

use clap::Args;
use serde_json::json;

use super::run::RoleName;
use super::{Done, exit, ui};
use crate::build::engine::check::{self, Finding};
use crate::build::engine::mock::{self, Mock};
use crate::build::engine::overlay::Overlay;
use crate::build::limits;
use crate::config::{Config, EngineChoice, HistoryPlace, QueuePlace};
use crate::history::History;
use crate::queue::Queue;
use crate::role::{self, Role};
use crate::sign;
use crate::sys::nfs;
use crate::sys::process::on_path;
use crate::sys::tls::{self, Tls};

/// Check the configuration and what this machine needs for it
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 3 if the configuration is wrong or something is missing.
Roles are those of `reimzul run`.

Examples:
  reimzul check-config
  reimzul check-config --connect repogen signer
  reimzul check-config --connect
  reimzul --config ./reimzul.ini check-config")]
pub struct CheckConfig {
    /// Try every connection to other machines that the configuration names, too
    #[arg(long)]
    connect: bool,
    /// What this machine is to be [default: all]
    #[arg(value_name = "ROLE", hide_possible_values = true)]
    roles: Vec<RoleName>,
}

impl CheckConfig {
    pub async fn run(self, config: &Config, as_json: bool) -> Done {
        let file = config
            .file
            .as_ref()
            .map_or_else(|| "none: the defaults".into(), |file| file.display().to_string());
        let (engine, why) = role::chosen_engine(config);
        let roles =
            if self.roles.is_empty() { Role::all(config) } else { RoleName::all_of(&self.roles, config) };
        let builds = roles.contains(&Role::Worker);
        let mut checks = match engine {
            _ if !builds => Vec::new(),
            EngineChoice::Mock => {
                Mock::new(config.layout.clone(), mock::Settings::new(config.mock.clone())).check().await
            }
            EngineChoice::Auto | EngineChoice::Overlay => Overlay::new(config.layout.clone()).check().await,
            EngineChoice::Null => Vec::new(),
        };
        if builds {
            checks.extend(limits::check(&config.limits));
        }
        if roles.contains(&Role::Repogen) {
            checks.push(repository_program());
            checks.extend(repository_locks(config));
        }
        if roles.contains(&Role::Signer) {
            let said = sign::check(config).await.into_iter();
            checks.extend(said.map(|said| said.map_or_else(check::bad, check::good)));
        }
        if roles.contains(&Role::MqttSub) {
            checks.extend(requests(config));
        }
        checks.extend(self.queue(config).await);
        checks.extend(self.history(config).await);
        if self.connect {
            checks.extend(connections::of_roles(config, engine, &roles).await);
            // Still good, so no reason to fail.
            checks.extend(tls::warnings().into_iter().map(|text| check::good(format!("soon: {text}"))));
        }
        let good = checks.iter().all(|check| check.ok);
        if as_json {
            let checks: Vec<_> =
                checks.iter().map(|check| json!({"good": check.ok, "said": check.text})).collect();
            ui::print_json(&json!({"file": file, "root": config.layout.root(), "engine": engine.as_str(),
                "engine_why": why,
                "slots": config.slots, "checks": checks}));
        } else {
            ui::say!("configuration  {file}");
            ui::say!("root           {}", config.layout.root().display());
            ui::say!("engine         {} ({why}), {} at a time", engine.as_str(), config.slots);
            ui::say!("log file       {}", config.logfile.display());
            let (yes, no) = (console::Style::new().green(), console::Style::new().red().bold());
            for check in &checks {
                let mark = if check.ok { yes.apply_to("ok") } else { no.apply_to("WRONG") };
                ui::say!("{mark:<13}  {}", check.text);
            }
        }
        Ok(if good { exit::OK } else { exit::CONFIG })
    }

    /// Whether the history can be used, if it is on another machine. Its URL and files are looked at in any case.
    async fn history(&self, config: &Config) -> Option<Finding> {
        if !matches!(config.history, HistoryPlace::Mongodb(_)) {
            return None;
        }
        let history = match History::open(config) {
            Ok(history) if self.connect => history.check().await,
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        Some(match history {
            Ok(what) => Finding { ok: true, text: format!("history: {what}") },
            Err(error) => Finding { ok: false, text: error.to_string() },
        })
    }

    /// Whether the queue answers, if it is on another machine.
    async fn queue(&self, config: &Config) -> Option<Finding> {
        if config.queue == QueuePlace::Root {
            return None;
        }
        let said = match Queue::open(config) {
            Ok(queue) if self.connect => queue.check().await,
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        Some(match said {
            Ok(text) => check::good(format!("queue: {text}")),
            Err(error) => check::bad(error.to_string()),
        })
    }
}

/// What taking requests in needs.
fn requests(config: &Config) -> Vec<Finding> {
    let program = |name: &str, package: &str| {
        if on_path(name) {
            check::good(format!("{name}, which requests from git need, is installed"))
        } else {
            check::bad(format!(
                "the program {name} is missing, which requests from git need: install {package}"
            ))
        }
    };
    let mut findings = vec![program("git", "git"), program("rpmbuild", "rpm (Debian) or rpm-build")];
    if config.scm.is_none() {
        findings.push(check::bad("requests: set git_url in section [scm]"));
    }
    if let Some(helper) = config.scm.as_ref().and_then(|scm| scm.disttag_command.first())
        && !on_path(helper)
    {
        findings.push(check::bad(format!(
            "requests: there is no program {helper}, which disttag_command in section [scm] names"
        )));
    }
    findings.push(match &config.mqtt {
        None => check::bad("requests: set host in section [mqtt]"),
        Some(broker) => match Tls::open(&broker.tls) {
            Ok(_) => check::good(format!("requests: by the broker {}", broker.address)),
            Err(error) => check::bad(format!("requests: {error}")),
        },
    });
    if config.policy.rules.is_empty() {
        findings.push(check::bad("requests: section [policy] has no rule in allow, so that all are refused"));
    }
    findings
}

fn repository_program() -> Finding {
    if on_path("createrepo_c") {
        check::good("createrepo_c, which makes or verifies metadata, is installed")
    } else {
        check::bad(
            "the program createrepo_c is missing: install the package createrepo-c (Debian) or createrepo_c",
        )
    }
}

/// Right as long as no other host makes metadata there, so no reason to fail.
fn repository_locks(config: &Config) -> Option<Finding> {
    let bstore = config.layout.bstore();
    let option = nfs::keeps_locks_to_itself(&bstore)?;
    Some(check::good(format!(
        "look at this: {} is on NFS with {option}, so that locks on it hold on this host alone: run no repogen for it on \
         another, or mount it without that option",
        bstore.display()
    )))
}
