//! The bounds of a piece of work, its time limit and its cancellation, and running sandboxes within them.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::dnf::disk;
use crate::build::engine::{NO_ROOM, diagnose};
use crate::model::{Class, Failure};
use crate::sys::cgroup::Cgroup;
use crate::sys::fs::free_bytes;
use crate::sys::process::{self, End};
use crate::sys::sandbox::{Launcher, Plan, Report};

/// The bounds.
#[derive(Debug, Clone)]
pub struct Work<'a> {
    limit: Duration,
    deadline: Instant,
    pub cancel: &'a CancellationToken,
    /// The control group that it runs in.
    cgroup: Option<&'a Cgroup>,
}

impl<'a> Work<'a> {
    /// Bounds that begin now.
    pub fn within(limit: Duration, cancel: &'a CancellationToken) -> Work<'a> {
        // A limit past the clock's end is none.
        let deadline = Instant::now()
            .checked_add(limit)
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30));
        Work { limit, deadline, cancel, cgroup: None }
    }

    /// The same bounds, within a control group.
    pub fn within_cgroup(self, cgroup: Option<&'a Cgroup>) -> Work<'a> {
        Work { cgroup, ..self }
    }

    /// The same limit under another cancellation.
    pub fn under(&self, cancel: &'a CancellationToken) -> Work<'a> {
        Work { cancel, ..*self }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Carries out a plan. An error says that it was not, or not to its end; how the steps ended is in the report.
pub async fn run_plan(
    launcher: &Launcher,
    plan: Plan,
    scratch: &Path,
    work: &Work<'_>,
    phase: &str,
) -> Result<Report, Failure> {
    let own_log = scratch.join("sandbox.log");
    let report = plan.report.clone();
    let _ = std::fs::remove_file(&report);
    let program = launcher.run(&plan).map_err(|error| disk(&error))?.limited_by(work.cgroup);
    let end = process::run(&program, &own_log, Some(work.left()), work.cancel).await;
    let end = end.map_err(|error| Failure::new(Class::Config, phase, error.to_string()).retried(true))?;
    match (end, Report::read(&report)) {
        (End::TimedOut, _) => Err(Failure::new(
            Class::Timeout,
            phase,
            format!("not done within {} seconds, and ended", work.limit.as_secs_f64()),
        )),
        (End::Cancelled, _) => Err(Failure::new(Class::Killed, phase, "ended from outside")),
        (_, Some(Report { error: Some(error), full, .. })) => {
            let class = if full || error.contains(diagnose::NO_SPACE) { Class::Disk } else { Class::Config };
            Err(Failure::new(class, phase, format!("the sandbox failed: {error}")).retried(true))
        }
        (_, Some(Report { refused, .. })) if !refused.is_empty() => Err(results_refused(&refused)),
        (_, Some(report)) => Ok(report),
        (_, None) if free_bytes(scratch).is_some_and(|free| free < NO_ROOM) => {
            Err(Failure::new(Class::Disk, phase, format!("{}, on the builder", diagnose::NO_SPACE)))
        }
        (end, None) => {
            let said = diagnose::last_said(&diagnose::read_tail(&own_log, 0));
            let said = said.unwrap_or_else(|| "it said nothing".to_owned());
            Err(Failure::new(Class::Killed, phase, format!("the sandbox ended by {end}: {said}")))
        }
    }
}

/// What the build left is nothing that an RPM build leaves.
fn results_refused(refused: &[String]) -> Failure {
    let mut failure = Failure::new(Class::Packaging, "collect", "");
    failure.lines = refused.iter().take(5).map(|line| diagnose::clean(line)).collect();
    failure
}
