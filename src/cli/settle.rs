//! `reimzul override`: a failed build declared settled.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{Done, Failure, completions, exit, ui};
use crate::model::{Arch, SrpmName, Target};
use crate::role::Site;

/// Declare a failed build settled
#[derive(Debug, Args)]
#[command(
    override_usage = "reimzul override -s <SRPM> -t <TARGET> -a <ARCH> -c <COMMENT>",
    after_help = "\
The status of the latest build of the source RPM becomes Override, so that
`reimzul query -s Failed` no longer shows it. Nothing is built or removed.

Example:
  reimzul override -s bash-5.2-1.src.rpm -t c9.x86_64 -a x86_64 -c 'by hand'"
)]
pub struct Settle {
    /// The source RPM's name: bash-5.2-1.src.rpm
    #[arg(short, long)]
    srpm: String,
    /// The target, with its arch: mini.x86_64
    #[arg(short, long, add = ArgValueCandidates::new(completions::targets))]
    target: String,
    /// The arch it was built for
    #[arg(short, long, add = ArgValueCandidates::new(completions::arches))]
    arch: String,
    /// Why, in one line
    #[arg(short, long)]
    comment: String,
}

impl Settle {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let usage = |error: &dyn std::error::Error| Failure::Usage(error.to_string());
        let srpm: SrpmName = self.srpm.parse().map_err(|error| usage(&error))?;
        let target: Target = self.target.parse().map_err(|error| usage(&error))?;
        let arch: Arch = self.arch.parse().map_err(|error| usage(&error))?;
        if self.comment.chars().any(char::is_control) {
            return Err(Failure::Usage("the comment must be one line, without control characters".into()));
        }
        let document = site.history.settle(&srpm, &target, arch, &self.comment).await?;
        if as_json {
            ui::print_json(&document);
        } else {
            ui::done(&format!("{} is settled: {}", document.event.path(), self.comment));
        }
        Ok(exit::OK)
    }
}
