//! `reimzul override`: a failed build declared settled.

use clap::Args;

use super::{Done, Failure, exit, ui};
use crate::model::{Arch, SrpmName, Target};
use crate::role::Site;

/// Declare a failed build settled.
///
/// The status of the latest build of a source RPM becomes Override, with a comment.
#[derive(Debug, Args)]
#[command(
    override_usage = "reimzul override -s <SRPM> -t <TARGET> -a <ARCH> -c <COMMENT>",
    after_help = "Example:
  reimzul override -s bash-5.2-1.src.rpm -t c9.x86_64 -a x86_64 -c 'by hand'"
)]
pub struct Settle {
    /// The source RPM's name
    #[arg(short, long)]
    srpm: String,
    /// The target, with its arch: mini.x86_64
    #[arg(short, long)]
    target: String,
    /// The arch it was built for
    #[arg(short, long)]
    arch: String,
    /// Why
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
            ui::say!("{} is settled: {}", document.event.path(), self.comment);
        }
        Ok(exit::OK)
    }
}
