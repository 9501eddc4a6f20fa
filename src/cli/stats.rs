//! `reimzul stats`: what waits, what runs, what is stuck.

use clap::Args;
use serde_json::json;

use super::{Done, exit, ui};
use crate::model::text::plain;
use crate::queue::{Entry, State};
use crate::role::Site;

/// Show what waits, runs and is stuck
#[derive(Debug, Args)]
#[command(after_help = "\
Shows how many jobs of each tube are ready, reserved (being worked on), delayed
(tried again later) or buried (until somebody kicks them), how many processes
watch the tube, why jobs are stuck, and what could not be told to whom.

Examples:
  reimzul stats
  reimzul stats --json | jq '.tubes[] | select(.buried > 0)'")]
pub struct Stats {}

impl Stats {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let tubes = site.queue.stats().await?;
        let jobs = site.queue.list(None).await?;
        let outbox = site.outbox.waiting().await?;
        let stuck: Vec<&Entry> =
            jobs.iter().filter(|job| job.state == State::Buried || job.reason.is_some()).collect();
        if as_json {
            let outbox: Vec<_> = outbox
                .iter()
                .map(|(sink, waiting, reason)| json!({"sink": sink, "waiting": waiting, "reason": reason}))
                .collect();
            ui::print_json(&json!({"tubes": tubes, "jobs": jobs, "undelivered": outbox}));
            return Ok(exit::OK);
        }
        let mut table = ui::table(&["tube", "ready", "reserved", "delayed", "buried", "watching"]);
        for tube in &tubes {
            table.add_row([
                plain(&tube.tube),
                tube.ready.to_string(),
                tube.reserved.to_string(),
                tube.delayed.to_string(),
                tube.buried.to_string(),
                tube.watching.to_string(),
            ]);
        }
        if tubes.is_empty() {
            ui::say!("nothing waits, and no role runs");
        } else {
            ui::print(&table);
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
        for (sink, waiting, reason) in outbox {
            ui::say!();
            ui::say!(
                "{sink}: {waiting} undelivered{}",
                reason.map(|reason| format!(", since {}", plain(&reason))).unwrap_or_default()
            );
        }
        Ok(exit::OK)
    }
}
