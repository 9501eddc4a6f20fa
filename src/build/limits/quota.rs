//! One build's limits at work: watching, and saying which of them it met.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::build::engine::diagnose::{clean, read_tail};
use crate::model::{Class, Failure, Limits, Resources, Size};
use crate::sys::cgroup::{Cgroup, Usage};
use crate::sys::fs::free_bytes;
use crate::sys::process;
use crate::sys::sandbox::Launcher;

/// How often it is asked whether a build may have grown too large.
const LOOK: Duration = Duration::from_millis(200);
/// How long its folders go unmeasured at most; longer where measuring takes a hundredth of that.
const UNMEASURED: Duration = Duration::from_secs(15);
/// A build that was refused processes in this many seconds on end will not get on by trying again.
const REFUSALS: u32 = 5;
const MOST_LINES: usize = 5;

/// What one build may use, and what it did.
#[derive(Debug)]
pub struct Quota {
    limits: Limits,
    cgroup: Option<Cgroup>,
    launcher: Launcher,
    /// Ends the build.
    end: CancellationToken,
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    folders: Vec<PathBuf>,
    used: u64,
    peak: u64,
}

impl Quota {
    /// `end` is cancelled when the build has to end.
    pub fn new(limits: Limits, cgroup: Option<Cgroup>, end: CancellationToken) -> Quota {
        Quota { limits, cgroup, launcher: Launcher::of_this_program(), end, disk: Mutex::default() }
    }

    /// The group that everything the build starts must run in.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    pub fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Counts what is in a folder, as long as that is there.
    pub fn occupies(&self, folder: &Path) {
        self.disk().folders.push(folder.to_owned());
    }

    /// Measures the folders, if their size is limited. To be called before one of them is removed.
    pub async fn measure(&self) {
        if self.limits.disk.is_none() {
            return;
        }
        let folders: Vec<PathBuf> =
            self.disk().folders.iter().filter(|path| path.exists()).cloned().collect();
        let said = match process::output(&self.launcher.measure(&folders)).await {
            Ok(output) => output,
            Err(error) => return tracing::warn!("a build's size is not known: {error}"),
        };
        // What is removed meanwhile makes it fail, and the total counts all the same.
        if let Some(bytes) = total(&said.stdout) {
            self.disk().measured(bytes);
        } else {
            tracing::warn!("du does not tell a build's size: {}", said.stderr.trim_end());
        }
    }

    /// Ends the build when its folders have grown too large, or when it only tries to start processes that it may
    /// not start.
    pub async fn watch(&self) -> Infallible {
        tokio::join!(self.watch_disk(), self.watch_processes());
        std::future::pending().await
    }

    async fn watch_disk(&self) {
        let Some(Size(most)) = self.limits.disk else { return };
        let mut measured: Option<(Instant, Duration, (usize, u64))> = None;
        while !self.is_too_large() {
            // Unless the file systems lost as much room as the build has left, it cannot have outgrown its limit. But
            // somebody else may have made room meanwhile, so now and then it is measured all the same.
            let (folders, free) = self.free();
            let due = measured.is_none_or(|(when, took, (folders_then, then))| {
                let grown = then.saturating_sub(free);
                folders != folders_then
                    || grown >= most.saturating_sub(self.disk().used)
                    || when.elapsed() > UNMEASURED.max(took * 100)
            });
            if due {
                let begun = Instant::now();
                self.measure().await;
                measured = Some((Instant::now(), begun.elapsed(), (folders, free)));
            }
            // Where measuring takes long, it must not be all that is done.
            let took = measured.map_or(Duration::ZERO, |(_, took, _)| took);
            tokio::time::sleep(LOOK.max(took * 2)).await;
        }
        self.end.cancel();
    }

    async fn watch_processes(&self) {
        let (Some(cgroup), Some(_)) = (&self.cgroup, self.limits.processes) else { return };
        let (mut refused, mut in_a_row) = (0, 0);
        while in_a_row < REFUSALS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = cgroup.usage().refused;
            in_a_row = if now > refused { in_a_row + 1 } else { 0 };
            refused = now;
        }
        self.end.cancel();
    }

    /// Of how many folders, and how many bytes of room there are where they are.
    fn free(&self) -> (usize, u64) {
        let disk = self.disk();
        let free = disk.folders.iter().filter_map(|folder| free_bytes(folder));
        (disk.folders.len(), free.fold(0, u64::saturating_add))
    }

    fn is_too_large(&self) -> bool {
        self.limits.disk.is_some_and(|Size(most)| self.disk().peak > most)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result, in the light of the limits that were met.
    pub fn judge(&self, result: Result<(), Failure>, resultdir: &Path) -> Result<(), Failure> {
        let usage = self.cgroup.as_ref().map(Cgroup::usage).unwrap_or_default();
        match result {
            Ok(()) if !self.is_too_large() => Ok(()),
            // That the disk is full is the builder's fault, and explains more than what came of it.
            Err(failure) if failure.class == Class::Disk => Err(failure),
            result => match self.met(&usage) {
                Some(met) => Err(met.explains(result.err(), resultdir)),
                None => result,
            },
        }
    }

    fn met(&self, usage: &Usage) -> Option<Met> {
        if let (Some(most), true) = (self.limits.disk, self.is_too_large()) {
            let peak = Size(self.disk().peak);
            let said = format!("the build folder grew over {most} ([worker] disk): {peak} were in use");
            return Some(Met { said, marks: &["No space left", "Disk quota exceeded"] });
        }
        if let (Some(most), 1..) = (self.limits.memory, usage.killed) {
            let peak = usage
                .peak_memory
                .map_or_else(String::new, |peak| format!("; at most {} were in use", Size(peak)));
            let said = format!(
                "it needed more than {most} of memory ([worker] memory): the kernel killed {}{peak}",
                counted(usage.killed, "of its processes")
            );
            return Some(Met { said, marks: &["Killed", "signal 9", "SIGKILL", "out of memory"] });
        }
        if let (Some(most), 1..) = (self.limits.processes, usage.refused) {
            let peak =
                usage.peak_processes.map_or_else(String::new, |peak| format!("; at most {peak} ran at once"));
            let said = format!(
                "it wanted more than {most} processes at once ([worker] processes): {} refused{peak}",
                counted(usage.refused, "were")
            );
            let marks = &["Resource temporarily unavailable", "annot fork", "ork failed", "ork: "];
            return Some(Met { said, marks });
        }
        None
    }

    /// What was used.
    pub fn resources(&self) -> Resources {
        let usage = self.cgroup.as_ref().map(Cgroup::usage).unwrap_or_default();
        Resources {
            peak_memory: usage.peak_memory,
            cpu_seconds: usage.cpu_seconds.map(|seconds| (seconds * 1000.0).round() / 1000.0),
            peak_disk: self.limits.disk.map(|_| self.disk().peak),
        }
    }

    /// Ends whatever is left of the build.
    pub async fn close(self) {
        if let Some(cgroup) = self.cgroup {
            cgroup.remove().await;
        }
    }
}

impl Disk {
    fn measured(&mut self, bytes: u64) {
        self.used = bytes;
        self.peak = self.peak.max(bytes);
    }
}

/// The last line of du(1) with --total: `123\ttotal`.
fn total(output: &str) -> Option<u64> {
    output.lines().last()?.split('\t').next()?.parse().ok()
}

fn counted(count: u64, what: &str) -> String {
    match (count, what) {
        (1, "were") => "1 was".into(),
        _ => format!("{count} {what}"),
    }
}

/// A limit that was met.
struct Met {
    said: String,
    /// What log lines say that come of it.
    marks: &'static [&'static str],
}

impl Met {
    /// The failure as one of this limit, with the line of the log that shows it first, and what else was said.
    fn explains(self, failure: Option<Failure>, resultdir: &Path) -> Failure {
        let failure = failure
            .unwrap_or_else(|| Failure { lines: Vec::new(), ..Failure::new(Class::Limit, "build", "") });
        let log = failure.log.clone().unwrap_or_else(|| "build.log".into());
        let tail = read_tail(&resultdir.join(&log), 0);
        let telling = tail.lines().rev().find(|line| self.marks.iter().any(|mark| line.contains(mark)));
        let mut lines = vec![self.said];
        for line in telling.map(clean).into_iter().chain(failure.lines) {
            // That it was ended from outside is what the first line explains.
            if lines.len() < MOST_LINES && !lines.contains(&line) && line != ENDED {
                lines.push(line);
            }
        }
        Failure { class: Class::Limit, phase: failure.phase, lines, log: Some(log), retry: false }
    }
}

/// What engines say of a build that was cancelled.
const ENDED: &str = "ended from outside";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_the_last_line() {
        assert_eq!(total("4096\t/a\n8192\t/b\n12288\ttotal\n"), Some(12288));
        assert_eq!(total(""), None);
        assert_eq!(total("du: nonsense"), None);
    }

    #[test]
    fn a_failure_by_a_limit_says_which_and_keeps_what_the_log_tells() {
        let dir = tempfile::tempdir().unwrap();
        let log =
            "gcc -c a.c\ngcc: fatal error: Killed signal terminated program cc1\nmake: *** [a.o] Error 1\n";
        std::fs::write(dir.path().join("build.log"), log).unwrap();
        let limits = Limits { memory: Some(Size(300 << 20)), processes: Some(9), ..Limits::default() };
        let quota = Quota::new(limits, None, CancellationToken::new());
        let usage = Usage { killed: 1, peak_memory: Some(300 << 20), refused: 7, ..Usage::default() };
        let failure =
            Failure::from_log(Class::Killed, "build", "build.log", vec!["make: *** [a.o] Error 1".into()]);
        let met = quota.met(&usage).unwrap().explains(Some(failure), dir.path());
        assert_eq!((met.class, met.phase.as_str(), met.retry), (Class::Limit, "build", false));
        assert_eq!(
            met.lines,
            [
                "it needed more than 300 MiB of memory ([worker] memory): the kernel killed 1 of its processes; at \
                 most 300 MiB were in use",
                "gcc: fatal error: Killed signal terminated program cc1",
                "make: *** [a.o] Error 1"
            ]
        );
        assert!(quota.met(&Usage::default()).is_none(), "nothing was met");
    }

    #[tokio::test]
    async fn folders_are_measured_together_and_what_is_gone_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { disk: Some(Size(1 << 20)), ..Limits::default() };
        let quota = Quota::new(limits, None, CancellationToken::new());
        for name in ["one", "two"] {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("file"), vec![1; 600 << 10]).unwrap();
            std::fs::hard_link(folder.join("file"), folder.join("link")).unwrap();
            std::os::unix::fs::symlink("/usr", folder.join("usr")).unwrap();
            quota.occupies(&folder);
        }
        quota.measure().await;
        assert!(quota.is_too_large());
        let met = quota.judge(Ok(()), dir.path()).unwrap_err();
        assert!(
            met.lines[0].starts_with("the build folder grew over 1 MiB ([worker] disk): 1.2 MiB"),
            "{met}"
        );
        std::fs::remove_dir_all(dir.path().join("two")).unwrap();
        quota.measure().await;
        let disk = quota.disk();
        assert!(disk.used < 700 << 10 && disk.peak > 1200 << 10, "{disk:?}");
    }
}
