//! `reimzul repogen`: new metadata for a target.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::{Done, Failure, completions, exit, ui};
use crate::model::Target;
use crate::repo;
use crate::role::Site;

/// Ask for new metadata of a target's repository
#[derive(Debug, Args)]
#[command(after_help = "\
A running repogen makes it. Needed only after changes by hand: builds ask for it
themselves.

Example:
  reimzul repogen mini.x86_64")]
pub struct Repogen {
    /// The target, with its arch: mini.x86_64
    #[arg(add = ArgValueCandidates::new(completions::targets))]
    target: String,
}

impl Repogen {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let target: Target = self
            .target
            .parse()
            .map_err(|error: crate::model::name::BadName| Failure::Usage(error.to_string()))?;
        let layout = &site.config.layout;
        if !layout.repository(&target, false).exists() && !layout.target_file(&target).exists() {
            return Err(Failure::Usage(format!(
                "target {target} has neither a repository nor a target file here (give it with its arch: mini.x86_64)"
            )));
        }
        let ids = site.queue.put(vec![repo::request(&target)]).await?;
        if as_json {
            ui::print_json(&json!({"target": target, "job_id": ids.first()}));
        } else {
            ui::done(&format!("queued metadata of {target}"));
        }
        Ok(exit::OK)
    }
}
