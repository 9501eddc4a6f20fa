//! `reimzul stats`: who builds, what waits, what runs, what is stuck.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::{Done, exit, ui};
use crate::model::builder::{Excluded, LeftOut};
use crate::model::text::plain;
use crate::model::{Builder, Target, builder};
use crate::notify::Undelivered;
use crate::queue::{Entry, State, TubeStats, WAITING};
use crate::role::Site;

/// Show builders, and what waits, runs and is stuck
#[derive(Debug, Args)]
#[command(after_help = "\
Shows the builders and what they are at; how much room is left where the
repositories are, and which RPMs they leave out; how many jobs of each tube are
ready, reserved (being worked on), delayed (tried again later) or buried (until
somebody kicks them), and how many processes watch the tube; why jobs are stuck;
what could not be told to whom.

Examples:
  reimzul stats
  reimzul stats --json | jq '.tubes[] | select(.buried > 0)'
  reimzul stats --json | jq '.builders[] | select(.takes_jobs | not)'")]
pub struct Stats {}

impl Stats {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let tubes = site.queue.stats().await?;
        let jobs = site.queue.list(None).await?;
        let outbox = site.outbox.waiting().await?;
        let signs = site.history.builders().await?;
        let (stores, builders): (Vec<_>, Vec<_>) = signs.into_iter().partition(Builder::is_store);
        // Those that follow other builds have a reason too, and are not stuck.
        let is_stuck =
            |job: &&Entry| job.state == State::Buried || (job.reason.is_some() && job.tube != WAITING);
        let stuck: Vec<&Entry> = jobs.iter().filter(is_stuck).collect();
        let following = jobs.iter().filter(|job| job.tube == WAITING && job.state != State::Buried).count();
        if as_json {
            ui::print_json(
                &json!({"builders": builders, "stores": stores, "tubes": tubes, "jobs": jobs, "undelivered": outbox}),
            );
            return Ok(exit::OK);
        }
        if !builders.is_empty() {
            show_builders(&builders);
            ui::say!();
        }
        if !stores.is_empty() {
            show_stores(&stores);
            show_left_out(&stores);
            ui::say!();
        }
        show_tubes(&tubes);
        if following > 0 {
            let wait = if following == 1 { "waits" } else { "wait" };
            let list = ui::ours("query -s waiting");
            ui::say!();
            ui::say!("{} {wait} for others (`{list}`)", ui::count(following, "build"));
        }
        for job in stuck {
            ui::say!();
            ui::say!(
                "job {} of {} is {}: {}",
                job.id,
                plain(&job.tube),
                job.state.as_str(),
                plain(job.reason.as_deref().unwrap_or("no reason"))
            );
            if job.state == State::Buried {
                ui::say!("  {}", ui::ours(&format!("kick {}", job.id)));
            }
        }
        for undelivered in &outbox {
            show_undelivered(undelivered);
        }
        Ok(exit::OK)
    }
}

fn show_undelivered(undelivered: &Undelivered) {
    let Undelivered { sink, waiting, buried, reason } = undelivered;
    let since = reason.as_ref().map(|reason| format!(", since {}", plain(reason))).unwrap_or_default();
    ui::say!();
    if *waiting > 0 {
        ui::say!("{sink}: {waiting} undelivered{since}");
    }
    if *buried > 0 {
        ui::say!("{sink}: {buried} buried{since}");
        ui::say!("  {}", ui::ours(&format!("kick --sink {sink}")));
    }
}

fn show_tubes(tubes: &[TubeStats]) {
    if tubes.is_empty() {
        ui::say!("nothing waits, and no role runs");
        return;
    }
    let mut table = ui::table(&["tube", "ready", "reserved", "delayed", "buried", "watching"]);
    for tube in tubes {
        table.add_row([
            plain(&tube.tube),
            tube.ready.to_string(),
            tube.reserved.to_string(),
            tube.delayed.to_string(),
            tube.buried.to_string(),
            tube.watching.to_string(),
        ]);
    }
    ui::print(&table);
}

fn show_builders(builders: &[Builder]) {
    let now = jiff::Timestamp::now().as_second();
    let mut table = ui::table(&["builder", "arch", "slots", "busy", "load", "free", "heard of"]);
    for builder in builders {
        table.add_row([
            plain(&builder.builder),
            builder.arch.to_string(),
            builder.slots.to_string(),
            builder.running.len().to_string(),
            format!("{:.2}", builder.load),
            builder.free.to_string(),
            format!("{} ago", duration((now - builder.time).max(0))),
        ]);
    }
    ui::print(&table);
    for name in builder::shared_names(builders, now) {
        ui::say!("{}", plain(&builder::told_of_shared(name)));
    }
    for builder in builders {
        if let Some(said) = remark(builder, now) {
            ui::say!("{} {}", plain(&builder.builder), plain(&said));
        } else {
            for path in &builder.running {
                ui::say!("{} builds {}", plain(&builder.builder), plain(path));
            }
        }
    }
}

fn show_stores(stores: &[Builder]) {
    let now = jiff::Timestamp::now().as_second();
    let mut table = ui::table(&["store", "free", "heard of"]);
    for store in stores {
        let heard = format!("{} ago", duration((now - store.time).max(0)));
        table.add_row([plain(&store.builder), store.free.to_string(), heard]);
    }
    ui::print(&table);
    for (store, silence) in stores.iter().filter_map(|store| Some((store, store.silent_for(now)?))) {
        ui::say!("{} was not heard of for {}", plain(&store.builder), duration(silence));
    }
}

/// Of what repositories leave out, so many files are shown.
const SHOWN: usize = 3;

/// Each repogen of a store tells the same.
fn show_left_out(stores: &[Builder]) {
    let by_target: BTreeMap<&Target, &LeftOut> =
        stores.iter().flat_map(|store| &store.left_out).map(|one| (&one.target, one)).collect();
    for LeftOut { target, count, files } in by_target.into_values() {
        ui::say!("the repository of {target} leaves out {}:", ui::count(*count, "RPM"));
        for Excluded { file, reason } in files.iter().take(SHOWN) {
            ui::say!("  {}", plain(&format!("{}: {reason}", file.display())));
        }
        if *count > SHOWN {
            ui::say!("  … all of them are in bstore/cache/{target}/excluded.json");
        }
    }
}

/// What is unusual about a builder.
fn remark(builder: &Builder, now: i64) -> Option<String> {
    if let Some(silence) = builder.silent_for(now) {
        let last = builder.running.join(", ");
        let last = if last.is_empty() { String::new() } else { format!("; then it built {last}") };
        return Some(format!("was not heard of for {}{last}", duration(silence)));
    }
    let why = builder.why_not.as_deref()?;
    let busy = builder.running.join(", ");
    let busy = if busy.is_empty() { String::new() } else { format!("; it still builds {busy}") };
    Some(format!("takes no jobs: {why}{busy}"))
}

fn duration(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}
