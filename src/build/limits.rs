//! What a build may use: a control group and a measured folder per build, whichever engine builds.
//!
//! Limits that are configured and cannot be enforced here keep a worker from starting. Where none are configured, a
//! group is still made if that is possible, for what it counts.

mod quota;

use tokio_util::sync::CancellationToken;

use super::engine::check::{Finding, bad, good};
use super::engine::{Engine, Outcome, Request};
use crate::config::Config;
use crate::model::{Class, Failure, Limits, Resources};
use crate::sys::cgroup::{CgroupError, Cgroups, Controller};
use crate::sys::process::on_path;
pub use quota::Quota;

/// A limit that nothing here can enforce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "[worker] {key} = {value} cannot be enforced here: {reason}. Without that key builds have no such limit"
)]
pub struct Unenforceable {
    key: &'static str,
    value: String,
    reason: String,
}

/// Enforces a worker's limits.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    /// None where no group can be made and no limit needs one.
    cgroups: Option<Cgroups>,
}

impl Guard {
    /// Fails where a limit is configured that cannot be enforced.
    pub fn of(config: &Config) -> Result<Guard, Unenforceable> {
        let (limits, cgroups) = (config.limits, Cgroups::find());
        let wanted = wanted(&limits);
        for limit in &wanted {
            limit.enforcer(&cgroups)?;
        }
        let needed = wanted.iter().find(|limit| limit.controller.is_some());
        let ready = cgroups.prepare();
        let cgroups = match (ready, needed) {
            (Err(error), Some(limit)) => return Err(limit.unenforceable(error.to_string())),
            (Ok(()), _) => Some(cgroups),
            (Err(error), None) => {
                tracing::debug!("what builds use is not counted: {error}");
                None
            }
        };
        Ok(Guard { limits, cgroups })
    }

    /// Ends what dead workers' builds left running.
    pub async fn sweep(&self) {
        if let Some(cgroups) = &self.cgroups {
            cgroups.sweep().await;
        }
    }

    /// Has the engine build within the limits, and says what that took. A build that failed and had met a limit has
    /// class `limit`; one that succeeded in spite of it is a success, unless its folder is too large.
    pub async fn build(
        &self,
        engine: &Engine,
        request: Request<'_>,
        cancel: &CancellationToken,
    ) -> (Outcome, Resources) {
        let quota = match self.quota(engine, cancel) {
            Ok(quota) => quota,
            Err(error) => return (impossible(&error), Resources::default()),
        };
        quota.occupies(request.resultdir);
        let limited = Request { quota: Some(&quota), ..request };
        let mut outcome = tokio::select! {
            outcome = engine.build(limited, quota.end()) => outcome,
            never = quota.watch() => match never {},
        };
        // What somebody else has ended did not fail by a limit.
        if !cancel.is_cancelled() {
            outcome.result = quota.judge(outcome.result, request.resultdir);
        }
        let resources = quota.resources();
        quota.close().await;
        (outcome, resources)
    }

    fn quota(&self, engine: &Engine, cancel: &CancellationToken) -> Result<Quota, CgroupError> {
        let needed = wanted(&self.limits).iter().any(|limit| limit.controller.is_some());
        // For the sake of counting alone mock need not run otherwise than it would.
        let cgroups = self.cgroups.as_ref().filter(|_| needed || matches!(engine, Engine::Overlay(_)));
        let cgroup = match cgroups.map(|cgroups| cgroups.make(&self.limits)).transpose() {
            Err(error) if needed => return Err(error),
            Err(error) => {
                tracing::debug!("what a build uses is not counted: {error}");
                None
            }
            Ok(cgroup) => cgroup,
        };
        Ok(Quota::new(self.limits, cgroup, cancel.child_token()))
    }
}

fn impossible(error: &CgroupError) -> Outcome {
    let why = format!("the build cannot be kept within its limits: {error}");
    Outcome {
        result: Err(Failure::new(Class::Config, "limits", why).retried(true)),
        durations: std::collections::BTreeMap::new(),
        buildroot: Vec::new(),
        repositories: Vec::new(),
    }
}

/// A limit that is configured.
struct Wanted {
    key: &'static str,
    value: String,
    /// None: by measuring.
    controller: Option<Controller>,
}

fn wanted(limits: &Limits) -> Vec<Wanted> {
    let wanted = |key, value: Option<String>, controller| Some(Wanted { key, value: value?, controller });
    [
        wanted("memory", limits.memory.map(|size| size.to_string()), Some(Controller::Memory)),
        wanted("processes", limits.processes.map(|count| count.to_string()), Some(Controller::Pids)),
        wanted("cpus", limits.cpus.map(|count| count.to_string()), Some(Controller::Cpu)),
        wanted("disk", limits.disk.map(|size| size.to_string()), None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Wanted {
    /// What enforces it, in a phrase.
    fn enforcer(&self, cgroups: &Cgroups) -> Result<String, Unenforceable> {
        match self.controller {
            None if on_path("du") => Ok("by measuring its folder".into()),
            None => Err(self.unenforceable("the program du is missing: install coreutils".into())),
            Some(controller) => match cgroups.place(controller) {
                Ok(folder) => Ok(format!("by a cgroup in {}", folder.display())),
                Err(reason) => Err(self.unenforceable(reason.to_owned())),
            },
        }
    }

    fn unenforceable(&self, reason: String) -> Unenforceable {
        Unenforceable { key: self.key, value: self.value.clone(), reason }
    }
}

/// What enforces each limit here, or that nothing does: for `check-config`.
pub fn check(limits: &Limits) -> Vec<Finding> {
    let cgroups = Cgroups::find();
    let finding = |limit: &Wanted| match limit.enforcer(&cgroups) {
        Ok(enforcer) => good(format!("{} per build: {}, {enforcer}", limit.key, limit.value)),
        Err(unenforceable) => bad(unenforceable.to_string()),
    };
    wanted(limits).iter().map(finding).collect()
}
