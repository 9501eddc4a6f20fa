//! `reimzul submit`: a source RPM into the queue.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::login::login_name;
use super::watch::{self, Board, Watched};
use super::{Done, Failure, after, completions, exit, ui};
use crate::config::Config;
use crate::model::{Arch, Disttag, Target};
use crate::queue::WAITING;
use crate::role::Site;
use crate::submit::{self, Request};

/// Queue a source RPM for a build
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the build's path, by which the other commands know it; with --quiet
nothing else. The submitter is the login name. With --wait the exit code is the
build's: 0 built, 1 failed; Ctrl-C stops waiting, and the build goes on.
With --after it waits for other builds, and is reported as Failed once one of
them has failed.

Examples:
  reimzul submit -s bash-5.2-1.src.rpm -a x86_64 -t c9 -d .el9
  reimzul submit -s ./hello-2.10-1.src.rpm -t mini --scratch --wait
  build=$(reimzul submit -q -s libgreet-1-1.src.rpm -t mini)
  reimzul submit -s greet-1-1.src.rpm -t mini --after $build")]
pub struct Submit {
    /// The source RPM: a name in incoming/, or a path to copy there
    #[arg(short, long, value_name = "SRPM")]
    srpm: PathBuf,
    #[command(flatten)]
    what: What,
    /// Be mailed of the scratch build's result, where the site does that
    #[arg(long, requires = "scratch")]
    mail: bool,
    /// Ahead of all that were submitted without
    #[arg(long)]
    now: bool,
    /// Wait for the result
    #[arg(long)]
    wait: bool,
    /// Begin it only once these builds are in their repositories, however each
    /// is named: its path, its stamp, any unambiguous part
    #[arg(long, value_name = "BUILD", num_args = 1.., add = ArgValueCandidates::new(completions::builds))]
    after: Vec<String>,
}

/// What to build for; the same for `submit` and `build`.
#[derive(Debug, Clone, Args)]
pub struct What {
    /// The arch to build for [default: this machine's]
    #[arg(short, long, add = ArgValueCandidates::new(completions::arches))]
    pub arch: Option<String>,
    /// The target to build against and into, without arch: mini
    #[arg(short, long, add = ArgValueCandidates::new(completions::bare_targets))]
    pub target: String,
    /// The value of %dist, such as .el9 [default: the target's]
    #[arg(short, long, value_name = "DISTTAG", default_value = "", hide_default_value = true)]
    pub disttag: String,
    /// Only try it: into no repository, not signed
    #[arg(long)]
    pub scratch: bool,
}

impl What {
    pub fn request(&self, srpm: PathBuf, now: bool) -> Result<Request, Failure> {
        let usage = |error: &dyn std::error::Error| Failure::Usage(error.to_string());
        let arch = match &self.arch {
            Some(arch) => arch.clone(),
            None => Arch::of_this_machine()
                .ok_or_else(|| Failure::Usage("this machine's arch has no tube: give one with -a".into()))?
                .to_string(),
        };
        Ok(Request {
            srpm,
            arch,
            target: self.target.parse::<Target>().map_err(|error| usage(&error))?,
            disttag: self.disttag.parse::<Disttag>().map_err(|error| usage(&error))?,
            scratch: self.scratch,
            mail: false,
            now,
            submitter: login_name(),
        })
    }
}

impl Submit {
    pub async fn run(self, config: Config, as_json: bool) -> Done {
        let request = Request { mail: self.mail, ..self.what.request(self.srpm, self.now)? };
        let busy = Board::new(as_json).busy_if_long("reading the source RPM");
        let accepted = submit::accept(&config.layout, &request)?;
        // A request that is refused makes no root.
        let site = &Site::open(config)?;
        let after = after::predecessors(site, &self.after).await?;
        accepted.keep(&site.config.layout)?;
        let submitted = submit::enqueue(&site.queue, &site.stamps, &accepted.following(after)).await?;
        after::check_again(site, &submitted).await?;
        drop(busy);
        match (as_json, ui::is_quiet()) {
            (true, _) => {}
            (false, true) => ui::say!("{}", submitted.path),
            (false, false) => {
                ui::say!("queued {} (job {})", submitted.path, submitted.job_id);
                for predecessor in &submitted.job.after {
                    ui::say!("  after {}", predecessor.build);
                }
                warn_if_nobody_listens(site, &submitted).await?;
            }
        }
        if !self.wait {
            if as_json {
                ui::print_json(
                    &json!({"build": submitted.path.to_string(), "job_id": submitted.job_id, "job": submitted.job}),
                );
            }
            return Ok(exit::OK);
        }
        let mut builds = vec![Watched::new(&submitted, site.config.scratch_in_repo)];
        tokio::select! {
            done = watch::until_done(site, &mut builds, as_json) => done?,
            signal = tokio::signal::ctrl_c() => {
                signal?;
                let follow = ui::ours(&format!("logs -f {}", submitted.path));
                ui::note(&format!("stopped waiting; the build goes on: {follow}"));
                return Ok(exit::STOPPED);
            }
        }
        watch::report(site, &builds, as_json);
        Ok(if builds.iter().all(Watched::succeeded) { exit::OK } else { exit::FAILED })
    }
}

async fn warn_if_nobody_listens(site: &Site, submitted: &submit::Submitted) -> Result<(), Failure> {
    let arch = submitted.job.arch;
    let stats = site.queue.stats().await?;
    let is_watched = |tube: &str| stats.iter().any(|stats| stats.tube == tube && stats.watching > 0);
    if !submitted.job.after.is_empty() && !is_watched(WAITING) {
        let start = ui::ours("run repogen");
        ui::note(&format!("warning: no repogen runs right now, which would have it begun (`{start}`)"));
    }
    if !is_watched(arch.tube()) {
        let start = ui::ours("run worker");
        ui::note(&format!("warning: no worker for {arch} runs right now; the job waits for one (`{start}`)"));
    }
    Ok(())
}
