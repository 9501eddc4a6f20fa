//! `reimzul protect`: builds that are never pruned.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::login::login_name;
use super::{Done, Failure, completions, exit, named, ui};
use crate::model::BuildPath;
use crate::model::record::{FILE, PROTECTED};
use crate::role::Site;
use crate::sys::fs;

/// Keep builds from being pruned
#[derive(Debug, Args)]
#[command(after_help = "\
Runs where the repositories are. A protected build has a file `protected` in its
folder, which says who did it and when.

Examples:
  reimzul protect mini.x86_64/hello/20261123204406
  reimzul protect --off mini.x86_64/hello/20261123204406")]
pub struct Protect {
    /// The builds' paths, ids or any unambiguous parts of their paths
    #[arg(required = true, value_name = "BUILD", add = ArgValueCandidates::new(completions::builds))]
    builds: Vec<String>,
    /// Protect them no longer
    #[arg(long)]
    off: bool,
}

impl Protect {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let mut folders = Vec::new();
        // All are looked up before the first is changed.
        for name in &self.builds {
            let path = self.find(site, name).await?;
            let places = [false, true].map(|scratch| site.config.layout.build(&path, scratch));
            let folder = places.into_iter().find(|place| place.join(FILE).exists());
            let missing = || Failure::Usage(format!("{path} has no finished build in this root's bstore"));
            folders.push((folder.ok_or_else(missing)?, path));
        }
        for (folder, _) in &folders {
            let mark = folder.join(PROTECTED);
            if self.off {
                fs::remove_file(&mark)?;
            } else {
                let text = format!("by {}, {}\n", login_name(), jiff::Timestamp::now());
                fs::write_whole(&mark, text.as_bytes())?;
            }
        }
        let paths: Vec<String> = folders.iter().map(|(_, path)| path.to_string()).collect();
        if as_json {
            ui::print_json(&json!({"protected": !self.off, "builds": paths}));
        } else {
            let now = if self.off { "protected no longer" } else { "protected" };
            for path in &paths {
                ui::done(&format!("{path} is {now}"));
            }
        }
        Ok(exit::OK)
    }

    /// A bstore need not have the history: there a build is known by its path.
    async fn find(&self, site: &Site, name: &str) -> Result<BuildPath, Failure> {
        match name.trim_end_matches('/').parse() {
            Ok(path) => Ok(path),
            Err(_) => named::find(site, name).await.map(|named| named.path),
        }
    }
}
