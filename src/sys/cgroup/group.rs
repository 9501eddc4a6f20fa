//! One build's group: a folder in each hierarchy that serves it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::place::Place;
use super::{CgroupError, Controller, NAME, Version, at};
use crate::model::{Limits, Size};

/// A group, ours until it is dropped. [`crate::sys::process::Program::limited_by`] has programs start in it.
#[derive(Debug)]
pub struct Cgroup {
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    version: Version,
    path: PathBuf,
    controllers: Vec<Controller>,
    /// Who writes "0" to it moves into the group.
    entry: Arc<File>,
    /// Locked as long as the group is in use.
    _lock: File,
}

/// What the processes of a group have used so far, as far as the kernel tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub peak_memory: Option<u64>,
    /// Processes that the kernel killed since there was no memory for them.
    pub killed: u64,
    pub peak_processes: Option<u64>,
    /// Processes that could not be started since there were too many.
    pub refused: u64,
    pub cpu_seconds: Option<f64>,
}

/// How long what was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// The kernel's usual period for a processor's share, in microseconds.
const PERIOD: u64 = 100_000;
/// The least share that the kernel takes, in microseconds of a period.
const LEAST_QUOTA: u64 = 1000;

impl Cgroup {
    pub(super) fn make(places: &[(Controller, &Place)], limits: &Limits) -> Result<Cgroup, CgroupError> {
        let name = format!("{NAME}{}", uuid::Uuid::new_v4().simple());
        // What was made of it is removed by its `Drop` where the rest fails.
        let mut group = Cgroup { folders: Vec::new() };
        for (controller, place) in places {
            let path = place.folder.join(&name);
            match group.folders.iter_mut().find(|folder| folder.path == path) {
                Some(folder) => folder.controllers.push(*controller),
                None => group.folders.push(Folder::make(&path, place.version, *controller)?),
            }
        }
        group.folders.iter().try_for_each(|folder| folder.limit(limits))?;
        Ok(group)
    }

    /// The files that a process writes "0" to in order to enter.
    pub(in crate::sys) fn entries(&self) -> Vec<Arc<File>> {
        self.folders.iter().map(|folder| Arc::clone(&folder.entry)).collect()
    }

    /// What was used so far.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for folder in &self.folders {
            folder.count(&mut usage);
        }
        usage
    }

    /// Ends what is left in it, and removes it.
    pub async fn remove(self) {
        for folder in &self.folders {
            clear_in_time(&folder.path).await;
        }
    }
}

impl Drop for Cgroup {
    /// What is left is swept when a worker starts.
    fn drop(&mut self) {
        for folder in &self.folders {
            let _ = clear(&folder.path);
        }
    }
}

/// [`clear`], again and again until what was killed is gone.
pub async fn clear_in_time(path: &Path) {
    let until = tokio::time::Instant::now() + GONE_WITHIN;
    while let Err(error) = clear(path) {
        if tokio::time::Instant::now() > until {
            return tracing::warn!("the cgroup {} cannot be removed: {error}", path.display());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Kills what is in a group and in those below it, and removes them all.
fn clear(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clear(&entry.path())?;
        }
    }
    // Linux 5.14 has it, in version 2.
    if fs::write(path.join("cgroup.kill"), "1").is_err() {
        kill_all(path);
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn kill_all(path: &Path) {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    // Those of a process namespace that we do not see are 0.
    for process in processes.lines().filter_map(|line| line.parse().ok()).filter(|process| *process > 1) {
        // It may have ended.
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

impl Folder {
    fn make(path: &Path, version: Version, controller: Controller) -> Result<Folder, CgroupError> {
        fs::create_dir(path).map_err(at("make the cgroup", path))?;
        let finish = || -> Result<Folder, CgroupError> {
            let lock = File::open(path).map_err(at("open the cgroup", path))?;
            // Whoever has it sweeps.
            let swept = |error: fs::TryLockError| match error {
                fs::TryLockError::WouldBlock => io::ErrorKind::NotFound.into(),
                fs::TryLockError::Error(error) => error,
            };
            lock.try_lock().map_err(swept).map_err(at("lock the cgroup", path))?;
            let procs = path.join("cgroup.procs");
            let entry = File::options().write(true).open(&procs).map_err(at("open", &procs))?;
            let (controllers, path, entry) = (vec![controller], path.to_owned(), Arc::new(entry));
            Ok(Folder { version, path, controllers, entry, _lock: lock })
        };
        finish().inspect_err(|_| {
            let _ = fs::remove_dir(path);
        })
    }

    fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        if let (true, Some(Size(bytes))) = (self.has(Controller::Memory), limits.memory) {
            self.limit_memory(bytes)?;
        }
        if let (true, Some(most)) = (self.has(Controller::Pids), limits.processes) {
            self.set("pids.max", &most.to_string())?;
        }
        if let (true, Some(cpus)) = (self.has(Controller::Cpu), limits.cpus) {
            self.limit_cpus(cpus)?;
        }
        Ok(())
    }

    /// Memory, and no way around it by swapping.
    fn limit_memory(&self, bytes: u64) -> Result<(), CgroupError> {
        let bytes = bytes.to_string();
        match self.version {
            Version::V2 => {
                self.set("memory.max", &bytes)?;
                self.set_unless_no_swap("memory.swap.max", "0")
            }
            Version::V1 => {
                self.set("memory.limit_in_bytes", &bytes)?;
                if self.path.join("memory.memsw.limit_in_bytes").exists() {
                    // Both together; so it must not be the lower one.
                    return self.set("memory.memsw.limit_in_bytes", &bytes);
                }
                // Where swap is not counted it can at least be shunned.
                self.set_unless_no_swap("memory.swappiness", "0")
            }
        }
    }

    fn limit_cpus(&self, cpus: f64) -> Result<(), CgroupError> {
        // Configured to be positive, and no more than a few thousand.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let quota = ((cpus * PERIOD as f64).round() as u64).max(LEAST_QUOTA);
        match self.version {
            Version::V2 => self.set("cpu.max", &format!("{quota} {PERIOD}")),
            Version::V1 => {
                self.set("cpu.cfs_period_us", &PERIOD.to_string())?;
                self.set("cpu.cfs_quota_us", &quota.to_string())
            }
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        // Without O_CREAT: a file that is not there is told so.
        let write = || io::Write::write_all(&mut File::options().write(true).open(&path)?, value.as_bytes());
        write().map_err(at("set the limit", &path))
    }

    /// Kernels may lack a swap file's setting where there is nothing to swap to.
    fn set_unless_no_swap(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let set = self.set(file, value);
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        if swaps.lines().count() > 1 { set } else { Ok(()) }
    }

    fn count(&self, usage: &mut Usage) {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let number = |file: &str| read(file).trim().parse::<u64>().ok();
        if self.has(Controller::Memory) {
            let (peak, events) = match self.version {
                Version::V2 => ("memory.peak", "memory.events"),
                Version::V1 => ("memory.max_usage_in_bytes", "memory.oom_control"),
            };
            usage.peak_memory = number(peak);
            usage.killed = field(&read(events), "oom_kill").unwrap_or(0);
        }
        if self.has(Controller::Pids) {
            usage.peak_processes = number("pids.peak");
            usage.refused = field(&read("pids.events"), "max").unwrap_or(0);
        }
        if self.has(Controller::Cpuacct) {
            usage.cpu_seconds = match self.version {
                Version::V2 => field(&read("cpu.stat"), "usage_usec").map(|micros| micros as f64 / 1e6),
                Version::V1 => number("cpuacct.usage").map(|nanos| nanos as f64 / 1e9),
            };
        }
    }
}

/// A number from lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
