//! `reimzul sign`: a signed repository that follows what was built.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::{Done, Failure, completions, exit, ui};
use crate::model::Target;
use crate::role::Site;
use crate::sign;

/// Have a target's signed repository follow what was built
#[derive(Debug, Args)]
#[command(after_help = "\
Running signers do it: what the signed repository lacks is signed, and what is
no longer in the repository of built packages leaves it. Needed when signing was
switched on after packages had been built, or when a signature was refused and
its cause is removed: builds ask for signatures themselves. See docs/signing.md.

Example:
  reimzul sign mini.x86_64")]
pub struct Sign {
    /// The target, with its arch: mini.x86_64
    #[arg(add = ArgValueCandidates::new(completions::targets))]
    target: String,
}

impl Sign {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let target: Target = self
            .target
            .parse()
            .map_err(|error: crate::model::name::BadName| Failure::Usage(error.to_string()))?;
        if !site.config.signing.of(&target).publishes() {
            return Err(Failure::Usage(format!(
                "target {target} has no key in this host's configuration: its packages are staged only; see [sign]"
            )));
        }
        let ids = site.queue.put(vec![sign::request_follow(&target)]).await?;
        if as_json {
            ui::print_json(&json!({"target": target, "job_id": ids.first()}));
        } else {
            ui::done(&format!("queued: what {target} lacks is signed"));
        }
        Ok(exit::OK)
    }
}
