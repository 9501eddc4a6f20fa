//! Control groups: how a build is kept from using more than its share of memory, processes and processors.
//!
//! A machine has version 1 (a hierarchy per controller or pair of them), version 2 (one hierarchy) or both, with
//! each controller in one of them; whichever has a controller serves. Groups are made below our own, which is where
//! whoever started us lets us make some: cgroups(7), and the kernel's `admin-guide/cgroup-v1/` and
//! `admin-guide/cgroup-v2.rst`. A group is locked (flock(2) on its folder) by who made it, so that what a dead
//! worker left is told from what is in use.

mod group;
mod place;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use group::{Cgroup, Usage};

use self::place::Place;
use crate::model::Limits;

/// What the kernel limits, or counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Pids,
    Cpu,
    /// Counts processors' time. Version 2 does so without a controller.
    Cpuacct,
}

impl Controller {
    pub const ALL: [Controller; 4] =
        [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Cpuacct];

    fn as_str(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A group that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Unusable(String),
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::File { what, path, source }
}

/// What this machine and our place on it offer.
#[derive(Debug, Clone)]
pub struct Cgroups {
    /// Per controller: where groups are made, or why there is no such place.
    places: Vec<(Controller, Result<Place, String>)>,
}

/// What a group's name begins with.
const NAME: &str = "reimzul-build-";
/// In version 2 a group with groups below it has no processes of its own: we move into this one.
const LEAF: &str = "reimzul-worker";

/// A worker that starts at the same moment may sweep a group that is made and not yet locked.
const TRIES: usize = 5;

impl Cgroups {
    /// What this process may use. Nothing is changed by looking.
    pub fn find() -> Cgroups {
        Cgroups::read(Path::new("/proc/self"))
    }

    /// The same, from a process's folder in /proc.
    pub fn read(process: &Path) -> Cgroups {
        let read = |name: &str| std::fs::read_to_string(process.join(name)).unwrap_or_default();
        let (mounts, own) = (place::mounts(&read("mountinfo")), place::memberships(&read("cgroup")));
        let find = |controller| (controller, place::find(controller, &mounts, &own));
        Cgroups { places: Controller::ALL.map(find).to_vec() }
    }

    /// Where groups with this controller are made; or why none can be.
    pub fn place(&self, controller: Controller) -> Result<&Path, &str> {
        let (_, place) =
            self.places.iter().find(|(offered, _)| *offered == controller).ok_or("not looked for")?;
        place.as_ref().map(|place| place.folder.as_path()).map_err(String::as_str)
    }

    /// Makes groups possible: in version 2 we, and who else is in our group, have to leave it for one below it.
    pub fn prepare(&self) -> Result<(), CgroupError> {
        let v2 = |(controller, place): &(Controller, Result<Place, String>)| {
            let place = place.as_ref().ok().filter(|place| place.version == Version::V2)?;
            Some((*controller, place.folder.clone()))
        };
        let (controllers, folders): (Vec<Controller>, Vec<PathBuf>) =
            self.places.iter().filter_map(v2).unzip();
        let wanted: Vec<&str> =
            controllers.iter().filter(|it| **it != Controller::Cpuacct).map(|it| it.as_str()).collect();
        match folders.first() {
            Some(folder) if !wanted.is_empty() => place::enable(folder, &wanted),
            _ => Ok(()),
        }
    }

    /// Makes a group with these limits.
    pub fn make(&self, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let places: Vec<(Controller, &Place)> = self
            .places
            .iter()
            .filter_map(|(controller, place)| Some((*controller, place.as_ref().ok()?)))
            .collect();
        if places.is_empty() {
            let why = self.places.iter().find_map(|(_, place)| place.as_ref().err().cloned());
            return Err(CgroupError::Unusable(why.unwrap_or_default()));
        }
        let mut last = Cgroup::make(&places, limits);
        for _ in 1..TRIES {
            match &last {
                Err(CgroupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    last = Cgroup::make(&places, limits);
                }
                _ => break,
            }
        }
        last
    }

    /// Ends what is left of dead workers' builds, and removes their groups.
    pub async fn sweep(&self) {
        for place in self.places.iter().filter_map(|(_, place)| place.as_ref().ok()) {
            for entry in std::fs::read_dir(&place.folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if !entry.file_name().to_string_lossy().starts_with(NAME) {
                    continue;
                }
                let Ok(folder) = File::open(&path) else { continue };
                if folder.try_lock().is_ok() {
                    group::clear_in_time(&path).await;
                }
            }
        }
    }
}
