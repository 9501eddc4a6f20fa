//! `reimzul prune`: what is old goes, by the policy of [prune] and [keep].

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::watch::Board;
use super::{Done, Failure, completions, exit, ui};
use crate::model::text::plain;
use crate::model::{Size, Target};
use crate::queue::QueueError;
use crate::repo::prune::{self, Item, What};
use crate::role::Site;
use crate::sign;

/// Show what is old enough to go; with --run, delete it
#[derive(Debug, Args)]
#[command(after_help = "\
Runs where the repositories are. Sections [prune] and [keep] of the configuration
say what stays: the newest versions of each package, what is young; and always
what `reimzul protect` protects and what waiting builds follow. RPMs go in two
steps: a build leaves the repository, and its files are deleted by a later run,
after the grace time. Logs stay longer. Running signers have the signed
repositories follow.

What is done:
  unlist   a build's RPMs leave the repository; deleted later
  grace    they have left it, not long enough ago; nothing is done yet
  rpms     they have left it long enough ago and are deleted
  relist   they were to go, and are listed again
  logs     all that is left of a build is deleted: logs, build.json
  scratch  a scratch build is deleted
  source   a source RPM that no job needs is deleted from incoming/
  upload, results   what was left there is deleted

Examples:
  reimzul prune
  reimzul prune --run -q
  reimzul prune -t c7.u.x86_64 --json | jq '.bytes'")]
pub struct Prune {
    /// Do it
    #[arg(long)]
    run: bool,
    /// Only builds for this target, given with its arch: mini.x86_64
    #[arg(short, long, value_name = "TARGET", add = ArgValueCandidates::new(completions::targets))]
    target: Vec<String>,
}

impl Prune {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let targets: Result<Vec<Target>, _> = self.target.iter().map(|target| target.parse()).collect();
        let targets = targets.map_err(|error| Failure::Usage(error.to_string()))?;
        let board = Board::new(as_json);
        let busy = board.busy_if_long("looking at what there is");
        let pruner = site.pruner();
        let plan = pruner.plan(&targets).await?;
        drop(busy);
        let done = if self.run {
            let _busy = board.busy_if_long("pruning");
            let targets = plan.targets.clone();
            let done = pruner.carry_out(plan).await;
            have_signed_ones_follow(site, &targets).await?;
            done
        } else {
            plan.items.iter().cloned().map(|item| prune::Done { item, error: None }).collect()
        };
        let failed = done.iter().filter(|one| one.error.is_some()).count();
        if as_json {
            let bytes = freed(&done);
            ui::print_json(&json!({"run": self.run, "bytes": bytes, "items": done}));
        } else {
            show(&done, self.run);
        }
        Ok(if failed > 0 { exit::SYSTEM } else { exit::OK })
    }
}

/// Signed repositories lose what these targets have lost; whatever that was, since a run before may have been ended
/// before it came to this.
async fn have_signed_ones_follow(site: &Site, targets: &[Target]) -> Result<(), QueueError> {
    let signed = targets.iter().filter(|target| site.config.signing.of(target).publishes());
    site.queue.put(signed.map(sign::request_follow).collect()).await.map(drop)
}

/// Bytes that are free now, or would be.
fn freed(done: &[prune::Done]) -> u64 {
    let stays = |item: &Item| matches!(item.what, What::Unlist | What::Grace | What::Relist);
    done.iter().filter(|one| one.error.is_none() && !stays(&one.item)).map(|one| one.item.bytes).sum()
}

fn show(done: &[prune::Done], run: bool) {
    if done.is_empty() {
        ui::done("nothing is old enough to go");
        return;
    }
    let mut table = ui::table(&["what", "build or file", "age", "size"]);
    for prune::Done { item, .. } in done {
        let age = format!("{} days", item.days);
        table.add_row([word(item.what).to_owned(), plain(&item.name), age, Size(item.bytes).to_string()]);
    }
    ui::print(&table);
    for one in done {
        if let Some(error) = &one.error {
            ui::tell!("{} ({}) was not done: {}", plain(&one.item.name), word(one.item.what), plain(error));
        }
    }
    ui::done("");
    for line in sums(done, run) {
        ui::done(&line);
    }
}

fn sums(done: &[prune::Done], run: bool) -> Vec<String> {
    let mut sums: BTreeMap<What, (usize, u64)> = BTreeMap::new();
    for one in done.iter().filter(|one| one.error.is_none()) {
        let sum = sums.entry(one.item.what).or_default();
        *sum = (sum.0 + 1, sum.1 + one.item.bytes);
    }
    let of = |what| sums.get(&what).copied().unwrap_or_default();
    let (unlisted, later) = of(What::Unlist);
    let (in_grace, soon) = of(What::Grace);
    let mut lines = Vec::new();
    let freed = Size(freed(done));
    lines.push(if run { format!("{freed} freed") } else { format!("{freed} would be freed") });
    if unlisted > 0 {
        let leave = if run { "left" } else { "would leave" };
        let builds = ui::count(unlisted, "build");
        lines.push(format!("{builds} {leave} the repository; {} is freed by a later run", Size(later)));
    }
    if in_grace > 0 {
        let builds = ui::count(in_grace, "build");
        lines.push(format!("{builds} in the grace time; {} is freed by a later run", Size(soon)));
    }
    if !run {
        lines.push(format!("nothing was done: `{}` does it", ui::ours("prune --run")));
    }
    lines
}

fn word(what: What) -> &'static str {
    match what {
        What::Unlist => "unlist",
        What::Grace => "grace",
        What::Rpms => "rpms",
        What::Relist => "relist",
        What::Logs => "logs",
        What::Scratch => "scratch",
        What::Source => "source",
        What::Upload => "upload",
        What::Results => "results",
    }
}
