//! `reimzul override`: a failed build declared settled.

use clap::Args;

use super::{Done, Failure, exit, ui};
use crate::model::{Arch, SrpmName, Target};
use crate::role::Site;

/// Declare the latest build of a source RPM settled: its status becomes Override, with a comment.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  reimzul override -s bash-5.2-1.src.rpm -t c9.x86_64 -a x86_64 -c 'built by hand'")]
pub struct Settle {
    /// The source RPM's name
    #[arg(short, long)]
    srpm: String,
    /// The target, with its arch: mini.x86_64
    #[arg(short, long)]
    target: String,
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
        let document = site.history.settle(&srpm, &target, arch, &self.comment).await?;
        if as_json {
            ui::print_json(&document);
        } else {
            println!("{} is settled: {}", document.event.path(), self.comment);
        }
        Ok(exit::OK)
    }
}
