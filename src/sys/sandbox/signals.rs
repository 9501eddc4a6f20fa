//! Who ended a step by a signal: the build itself, or somebody outside.
//!
//! A signal's sender cannot be asked for afterwards where the signal is SIGKILL. So a seccomp filter has the kernel
//! tell init of every kill(2) inside of the sandbox that could end a step, before it is carried out, and init lets
//! all of them pass (seccomp_unotify(2)). What ends a step unannounced came from outside: from the kernel for want
//! of memory, or from somebody on the builder. Where a kernel or a container forbids such filters, nothing is known,
//! and nothing else changes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_ulong};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// Signals that end a program that does not expect them.
const ENDING: [c_int; 5] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGKILL, libc::SIGTERM];

/// SECCOMP_USER_NOTIF_FLAG_CONTINUE, as wide as the reply has it.
const CONTINUE: u32 = 1;

/// Operations of the filter's machine (linux/bpf_common.h): load a word; compare it with a constant; return one.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// kill(2), by architecture as the filter sees it (linux/audit.h): a 64-bit kernel runs 32-bit programs, too.
#[cfg(target_arch = "x86_64")]
const KILL: [(u32, u32); 2] = [(0xC000_003E, 62), (0x4000_0003, 37)];
#[cfg(target_arch = "aarch64")]
const KILL: [(u32, u32); 2] = [(0xC000_00B7, 129), (0x4000_0028, 37)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const KILL: [(u32, u32); 0] = [];

nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(respond, b'!', 1, libc::seccomp_notif_resp);

/// What the processes of a step sent one another.
#[derive(Debug, Default)]
pub struct Sent {
    /// The last signal that reached the step's own program, and the name of who sent it.
    to_step: Option<(c_int, String)>,
    /// Somebody was sent SIGKILL.
    killed: bool,
}

impl Sent {
    /// Who of the step's own processes ended it, if its status says that it was ended by a signal.
    pub fn ended_by(&self, status: i32) -> Option<String> {
        self.to_step.as_ref().filter(|(signal, _)| 128 + signal == status).map(|(_, name)| name.clone())
    }

    pub fn killed(&self) -> bool {
        self.killed
    }
}

/// Starts something in a thread of its own, whose filter it inherits. None where there can be no filter.
pub fn watched<T: Send>(start: impl FnOnce() -> T + Send) -> (T, Option<OwnedFd>) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let listener = install().ok();
            (start(), listener)
        });
        thread.join().expect("starting a program does not panic")
    })
}

/// Answers the kernel until `end` is closed at its other side, and notes what was sent.
pub fn listen(listener: &OwnedFd, end: &impl AsFd, step: Pid, sent: &Mutex<Sent>) {
    loop {
        let mut both =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        match poll(&mut both, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let has = |fd: &PollFd<'_>, flag| fd.revents().is_some_and(|events| events.contains(flag));
        if has(&both[0], PollFlags::POLLIN) {
            answer(listener, step, sent);
        } else if has(&both[1], PollFlags::POLLHUP) || has(&both[0], PollFlags::POLLHUP) {
            return;
        }
    }
}

fn answer(listener: &OwnedFd, step: Pid, sent: &Mutex<Sent>) {
    // SAFETY: all-zero is valid, and what the kernel asks for.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is a listener's, and the kernel fills the struct of its own definition.
    if unsafe { receive(listener.as_raw_fd(), &raw mut asked) }.is_err() {
        // It was killed while it waited.
        return;
    }
    note(&asked, step, sent);
    // SAFETY: all-zero is valid.
    let mut reply: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
    reply.id = asked.id;
    reply.flags = CONTINUE;
    // SAFETY: as above. An error says that nobody waits for the answer any more.
    let _ = unsafe { respond(listener.as_raw_fd(), &raw mut reply) };
}

fn note(asked: &libc::seccomp_notif, step: Pid, sent: &Mutex<Sent>) {
    // Arguments are 64 bits wide, and these are ints.
    let int = |argument: u64| {
        let [a, b, c, d, ..] = argument.to_le_bytes();
        c_int::from_le_bytes([a, b, c, d])
    };
    let (target, signal) = (int(asked.data.args[0]), int(asked.data.args[1]));
    let sender = Pid::from_raw(asked.pid.cast_signed());
    let own_group = || nix::unistd::getpgid(Some(sender)) == Ok(step);
    let reached =
        target == step.as_raw() || target == -1 || target == -step.as_raw() || (target == 0 && own_group());
    let Ok(mut sent) = sent.lock() else { return };
    sent.killed |= signal == libc::SIGKILL;
    if reached {
        let name = std::fs::read_to_string(format!("/proc/{sender}/comm")).unwrap_or_default();
        sent.to_step = Some((signal, name.trim_end().to_owned()));
    }
}

/// Installs the filter for this thread and what it starts.
fn install() -> io::Result<OwnedFd> {
    let filter = filter();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or_default(),
        filter: filter.as_ptr().cast_mut(),
    };
    // The second: no protection from speculation, which would slow a whole build down, and guards nothing here.
    let flags: c_ulong = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let set = |flags: c_ulong| {
        // SAFETY: the program outlives the call, which copies it.
        let fd = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        c_int::try_from(fd).ok().filter(|fd| *fd >= 0)
    };
    // So that kill(2) is not interrupted while init looks; kernels before 5.19 do not know it.
    let fd = set(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).or_else(|| set(flags));
    // SAFETY: the descriptor is new, and nobody else's.
    fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).ok_or_else(io::Error::last_os_error)
}

/// Asks about kill(2) with one of the signals, and allows all else (bpf(4), struct seccomp_data).
fn filter() -> Vec<libc::sock_filter> {
    let (number_at, arch_at) = (0, 4);
    // The low half of the second argument, on little-endian machines.
    let signal_at = 24;
    let op = |code: u16, k: u32, jt: u8, jf: u8| libc::sock_filter { code, jt, jf, k };
    let signals = u8::try_from(ENDING.len()).unwrap_or_default();
    let mut program = Vec::new();
    for (arch, number) in KILL {
        // Another architecture or call: past this block.
        program.extend([op(LOAD, arch_at, 0, 0), op(EQUAL, arch, 0, signals + 5)]);
        program.extend([op(LOAD, number_at, 0, 0), op(EQUAL, number, 0, signals + 3)]);
        program.push(op(LOAD, signal_at, 0, 0));
        for (signal, left) in ENDING.iter().zip((1..=signals).rev()) {
            program.push(op(EQUAL, signal.cast_unsigned(), left, 0));
        }
        program.push(op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
        program.push(op(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0));
    }
    program.push(op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    program
}
