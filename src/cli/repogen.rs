//! `reimzul repogen`: new metadata for a target.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::watch::Board;
use super::{Done, Failure, completions, exit, ui};
use crate::metadata::Verified;
use crate::model::Target;
use crate::repo;
use crate::role::Site;

/// Ask for new metadata of a target's repository
#[derive(Debug, Args)]
#[command(after_help = "\
A running repogen makes it. Needed only after changes by hand: builds ask for it
themselves.

With --verify nothing is asked for: this command itself, on the machine that has
the repository, reads every RPM of it, compares the metadata with what
createrepo_c says, and makes it anew where they differ. Where the built-in
engine is wrong even then, createrepo_c makes it, then and from then on.

Examples:
  reimzul repogen mini.x86_64
  reimzul repogen --verify mini.x86_64")]
pub struct Repogen {
    /// Compare the metadata with createrepo_c's, and repair it
    #[arg(long)]
    verify: bool,
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
        let has_repository = layout.repository(&target, false).exists();
        if !has_repository && (self.verify || !layout.target_file(&target).exists()) {
            let neither =
                if self.verify { "no repository" } else { "neither a repository nor a target file" };
            return Err(Failure::Usage(format!(
                "target {target} has {neither} here (give it with its arch: mini.x86_64)"
            )));
        }
        if self.verify {
            return verify(site, &target, as_json).await;
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

async fn verify(site: &Site, target: &Target, as_json: bool) -> Done {
    let busy = Board::new(as_json).busy_if_long(&format!("comparing the metadata of {target}"));
    let verified = site.repogen().verify(target).await;
    drop(busy);
    let verified = verified.map_err(|error| Failure::System(error.to_string()))?;
    let Verified { state, packages, found, repaired, wrong_anew, left } = &verified;
    if as_json {
        let lines = |list: &[crate::metadata::Difference]| -> Vec<String> {
            list.iter().map(ToString::to_string).collect()
        };
        ui::print_json(&json!({
            "target": target, "state": state, "packages": packages, "differences": lines(found),
            "repaired_by": repaired, "wrong_anew": lines(wrong_anew), "left": lines(left),
        }));
    } else {
        tell(target, &verified);
    }
    Ok(if left.is_empty() { exit::OK } else { exit::FAILED })
}

fn tell(target: &Target, verified: &Verified) {
    let Verified { packages, found, repaired, wrong_anew, left, .. } = verified;
    for difference in found {
        ui::note(&difference.to_string());
    }
    for difference in wrong_anew {
        ui::note(&format!("even when the built-in engine makes it anew: {difference}"));
    }
    if !wrong_anew.is_empty() {
        ui::note(&format!(
            "the built-in engine is wrong about {target}: please report that; until there is another version of this \
             program createrepo_c makes its metadata"
        ));
    }
    let rpms = ui::count(*packages, "RPM");
    match (repaired, left.as_slice()) {
        (None, _) => ui::done(&format!("{target}: {rpms}, as createrepo_c describes them")),
        (Some(state), []) => {
            ui::done(&format!(
                "{target}: made anew as state {state}; {rpms}, as createrepo_c describes them"
            ));
        }
        (Some(state), left) => ui::note(&format!(
            "{target}: made anew by createrepo_c as state {state}, and {} left all the same: report that",
            ui::count(left.len(), "difference")
        )),
    }
}
