//! Running the steps, as the init of a process namespace: one after the other, each with its output in its log,
//! and with no process left from one to the next.

use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sys::log::shorten;

use super::{BUILD_ID, Failing, OwnSignals, Plan, Report, Step, StepReport, signals};

/// The logs on the host, opened before it is out of sight.
pub struct Logs {
    state: Option<File>,
    /// One per step.
    steps: Vec<File>,
    limit: u64,
}

impl Logs {
    /// A step's log is kept to `limit` bytes.
    pub fn open(plan: &Plan, limit: u64) -> io::Result<Logs> {
        let append = |path: &std::path::PathBuf| File::options().create(true).append(true).open(path);
        // Not to append, since its middle may have to go.
        let log =
            |step: &Step| File::options().create(true).truncate(false).read(true).write(true).open(&step.log);
        Ok(Logs {
            state: plan.state_log.as_ref().map(append).transpose()?,
            steps: plan.steps.iter().map(log).collect::<io::Result<_>>()?,
            limit,
        })
    }

    fn say(&mut self, what: &str, step: &Step) {
        if let (Some(state), false) = (&mut self.state, step.label.is_empty()) {
            // A full disk shows where it matters, in the step's own log.
            let _ = state.write_all(state_line(what, &step.label).as_bytes());
        }
    }
}

/// A line as mock writes it to state.log, in UTC.
pub fn state_line(what: &str, label: &str) -> String {
    let now = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now());
    format!("{},{:03} - {what}: {label}\n", now.strftime("%Y-%m-%d %H:%M:%S"), now.millisecond())
}

/// Runs the plan's steps until one fails.
pub fn run_steps(plan: &Plan, mut logs: Logs, report: &mut Report) -> io::Result<()> {
    let files = std::mem::take(&mut logs.steps);
    for (step, log) in plan.steps.iter().zip(files) {
        logs.say("Start", step);
        let (done, full) = run_step(step, log, logs.limit)?;
        report.full |= full;
        if !done.retracted {
            logs.say("Finish", step);
        }
        let ended = done.status != 0 && !done.accepted;
        report.steps.push(done);
        if ended {
            break;
        }
    }
    Ok(())
}

fn run_step(step: &Step, mut log: File, limit: u64) -> io::Result<(StepReport, bool)> {
    let started = Instant::now();
    let length = log.seek(SeekFrom::End(0))?;
    let (reader, writer) = io::pipe()?;
    if step.as_user {
        // Else the user could not open /dev/stdout.
        std::os::unix::fs::fchown(&writer, Some(BUILD_ID), Some(BUILD_ID))?;
    }
    let mut command = command(step);
    command.stdout(writer.try_clone()?).stderr(writer);
    // The command holds ends of the pipe, too, and must be gone with them.
    let start = move || {
        let mut command = command;
        command.spawn()
    };
    let (spawned, listener) = if step.as_user { signals::watched(start) } else { (start(), None) };
    let child = match spawned {
        Ok(child) => Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()),
        Err(error) => {
            writeln!(log, "cannot run {}: {error}", step.argv[0])?;
            return Ok((StepReport { status: 127, ..StepReport::default() }, false));
        }
    };
    let mut pump = Pump::new(log, length, limit, started);
    let sent = Mutex::new(signals::Sent::default());
    let (running, end) = io::pipe()?;
    let (status, pump) = std::thread::scope(|scope| {
        if let Some(listener) = &listener {
            scope.spawn(|| signals::listen(listener, &running, child, &sent));
        }
        let pumping = scope.spawn(move || {
            pump.copy(reader);
            pump
        });
        let status = wait_for(child);
        kill_the_rest();
        drop(end);
        (status, pumping.join())
    });
    let sent = sent.into_inner().unwrap_or_default();
    let pump = pump.map_err(|_| io::Error::other("writing a log failed"))?;
    let retracted = step.failing == Failing::Probe
        && status != 0
        && (pump.parts.is_empty() || status == BUILDREQUIRES_MISSING);
    let accepted = match step.failing {
        Failing::Ignored => true,
        Failing::Accepts(failure) => status == failure,
        Failing::Ends | Failing::Probe => false,
    };
    // One whose middle went has no place to go back to.
    if retracted && !pump.shortened {
        pump.log.set_len(length)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let own = OwnSignals { ended_by: sent.ended_by(status), killed: sent.killed() };
    Ok((StepReport { status, seconds, parts: pump.parts, accepted, retracted, own }, pump.full))
}

fn command(step: &Step) -> Command {
    let mut command = Command::new(&step.argv[0]);
    command.args(&step.argv[1..]).env_clear().envs(step.env.iter().cloned()).stdin(Stdio::null());
    if step.as_user {
        // Supplementary groups go with the first of these.
        command.uid(BUILD_ID).gid(BUILD_ID).current_dir(super::BUILD_HOME);
    } else {
        command.current_dir("/");
    }
    // SAFETY: setsid and signal resets are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    command
}

/// Waits for `child`, reaping the orphans that become init's in the meantime.
fn wait_for(child: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => return status,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return 128 + signal as i32,
            Err(Errno::ECHILD) => return 255,
            _ => {}
        }
    }
}

/// Kills and reaps whatever the step left running.
fn kill_the_rest() {
    // To init, -1 is every other process of its namespace. None left is what we want.
    while kill(Pid::from_raw(-1), Signal::SIGKILL).is_ok() {
        while waitpid(None, None).is_ok() {}
    }
}

/// Copies a step's output to its log as it comes, and notes when which part of the spec began.
struct Pump {
    log: File,
    length: u64,
    limit: u64,
    shortened: bool,
    started: Instant,
    parts: Vec<(String, f64)>,
    line: Vec<u8>,
    full: bool,
}

/// rpmbuild's status when %generate_buildrequires asks for packages that are not installed.
const BUILDREQUIRES_MISSING: i32 = 11;

/// What rpmbuild prints before it runs a part of a spec: `Executing(%build): /bin/sh -e /var/tmp/rpm-tmp.x`.
const MARK: &[u8] = b"Executing(%";
/// What it prints when it begins to make packages, once for each.
const PACKING: &[u8] = b"Processing files: ";
const LONGEST_MARK: usize = 64;

impl Pump {
    fn new(log: File, length: u64, limit: u64, started: Instant) -> Pump {
        Pump {
            log,
            length,
            limit,
            shortened: false,
            started,
            parts: Vec::new(),
            line: Vec::new(),
            full: false,
        }
    }

    fn copy(&mut self, mut from: PipeReader) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    if let Err(error) = self.write(&buffer[..read]) {
                        // Read on: a program that nobody listens to would hang.
                        self.full |= error.kind() == io::ErrorKind::StorageFull;
                    }
                    self.look_for_marks(&buffer[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.write_all(bytes)?;
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            self.length = shorten(&self.log, self.limit)?;
            self.log.seek(SeekFrom::Start(self.length))?;
            self.shortened = true;
        }
        Ok(())
    }

    fn look_for_marks(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_MARK.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let part = part_of(&self.line);
                // Packages follow one another; the phase began with the first.
                if let Some(part) = part.filter(|part| self.parts.last().is_none_or(|(last, _)| last != part))
                {
                    self.parts.push((part, self.started.elapsed().as_secs_f64()));
                }
                self.line.clear();
            }
        }
    }
}

fn part_of(line: &[u8]) -> Option<String> {
    if line.starts_with(PACKING) {
        return Some("package".into());
    }
    let rest = line.strip_prefix(MARK)?;
    let end = rest.iter().position(|byte| *byte == b')')?;
    let name = std::str::from_utf8(&rest[..end]).ok()?;
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_noticed_however_the_output_is_cut_into_reads() {
        let output = b"x Executing(%no): y\nExecuting(%prep): /bin/sh\nmore\nExecuting(%build): /bin/sh\n";
        for size in [1, 7, 1000] {
            let mut pump = Pump::new(tempfile::tempfile().unwrap(), 0, 1 << 20, Instant::now());
            output.chunks(size).for_each(|piece| pump.look_for_marks(piece));
            let parts: Vec<_> = pump.parts.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(parts, ["prep", "build"], "in pieces of {size}");
        }
        assert_eq!(part_of(b"Executing(%../../x): "), None);
    }

    #[test]
    fn a_state_line_looks_like_mocks() {
        let line = state_line("Start", "rpmbuild hello-1-1.src.rpm");
        assert!(line.ends_with(" - Start: rpmbuild hello-1-1.src.rpm\n"), "{line}");
        assert_eq!(line.find(" - "), Some("2026-11-23 21:00:00,123".len()), "{line}");
    }
}
