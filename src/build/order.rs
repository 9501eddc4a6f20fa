//! What one job orders: a build for the arch asked, along with it one for the companion arch where the target has
//! a configuration for that, and, of a kernel, one for noarch after those.

use crate::model::job::Stamp;
use crate::model::{Arch, Attempt, BuildJob, BuildPath, Event, Failure, Status};

use super::engine::Engine;
use crate::queue::Job;

/// Packages whose spec makes its noarch packages only when built for noarch.
const WITH_NOARCH: [&str; 2] = ["kernel", "kernel-plus"];

/// One build of an order.
#[derive(Debug)]
pub struct Task {
    /// The job as it would read if it asked for this build alone.
    pub job: BuildJob,
    pub stamp: Stamp,
    pub path: BuildPath,
    pub attempt: Attempt,
    /// All arches of the order; none where it is this one alone.
    arches: Vec<Arch>,
}

impl Task {
    pub fn event(&self, builder: &str, status: Status, failure: Option<Failure>) -> Event {
        let event = Event::of(&self.job, &self.stamp, builder, status, failure);
        Event { arches: self.arches.clone(), ..event }
    }
}

/// The builds of a job, in the order they are begun in.
#[derive(Debug)]
pub struct Order {
    /// These at the same time; the arch asked for comes first.
    pub together: Vec<Task>,
    pub after: Option<Task>,
}

impl Order {
    pub fn of(job: &BuildJob, stamp: &Stamp, delivered: &Job, engine: &Engine) -> Order {
        let companion = job.arch.companion().filter(|arch| engine.knows(&job.target, *arch));
        let has_noarch = job.arch != Arch::Noarch && WITH_NOARCH.contains(&stamp.pkgname.as_str());
        let noarch = Some(Arch::Noarch).filter(|arch| has_noarch && engine.knows(&job.target, *arch));
        let mut arches: Vec<Arch> = [Some(job.arch), companion, noarch].into_iter().flatten().collect();
        if arches.len() == 1 {
            arches.clear();
        }
        let task = |arch: Arch| Task {
            job: BuildJob { arch, ..job.clone() },
            stamp: stamp.clone(),
            path: BuildPath {
                target: job.target.clone(),
                pkgname: stamp.pkgname.clone(),
                timestamp: stamp.timestamp,
                evr: stamp.evr.clone(),
                arch,
            },
            attempt: Attempt(format!("{}-{}", delivered.id, delivered.mark)),
            arches: arches.clone(),
        };
        Order {
            together: [Some(job.arch), companion].into_iter().flatten().map(task).collect(),
            after: noarch.map(task),
        }
    }
}
