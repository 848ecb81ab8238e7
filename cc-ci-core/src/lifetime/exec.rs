//! What happens between fork and exec, and the few system calls around signals that no safe wrapper covers.
//!
//! All `unsafe` of the library is here. Between fork and exec only async-signal-safe calls are made: no
//! allocation, no lock, no Rust error with a payload.
#![expect(unsafe_code, reason = "pre_exec and real-time signals have no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::SigSet;

/// Prepares `command` to die with this process, in a group of its own, with nothing inherited. With `terminal` its
/// group takes the place of ours on the terminal that is its standard input.
pub(super) fn supervised(command: &mut Command, terminal: bool) {
    let (owner, group) = (nix::unistd::getpid().as_raw(), nix::unistd::getpgrp().as_raw());
    command.process_group(0);
    let before_exec = move || {
        if terminal {
            // Before the mask is emptied: the spawner blocks TTOU, with which a background group would be stopped here.
            // A terminal that is gone, or another group's, leaves the child in the background.
            // SAFETY: plain system calls on integers.
            unsafe {
                if libc::tcgetpgrp(0) == group {
                    libc::tcsetpgrp(0, libc::getpid());
                }
            }
        }
        clean_signals()?;
        // SAFETY: plain system calls on integers.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The death signal only counts from now on: an owner that died before it is seen here.
            if libc::getppid() != owner {
                libc::_exit(127);
            }
        }
        no_inherited_descriptors()
    };
    // SAFETY: the closure makes async-signal-safe calls only.
    unsafe { command.pre_exec(before_exec) };
}

/// The pipes between a detached process and the one that records it.
pub(super) struct Handshake {
    /// The process writes its pid here.
    pub(super) report: OwnedFd,
    /// It executes its program when a byte comes from here, and exits at the end of file.
    pub(super) go: OwnedFd,
    /// The other end of `go`, as a number: the process closes its copy, else it would wait for itself.
    pub(super) go_writer: RawFd,
}

/// Prepares `command` to leave this process: a second fork, a session of its own, no death signal. It waits for
/// the word of `handshake` before it executes its program.
pub(super) fn detached(command: &mut Command, handshake: Handshake) {
    let before_exec = move || {
        clean_signals()?;
        // SAFETY: `fork` is called in a process with one thread, the forked one; the rest are plain system calls
        // on integers and on buffers of this frame.
        unsafe {
            match check(libc::fork())? {
                0 => {}
                _ => libc::_exit(0),
            }
            check(libc::setsid())?;
            libc::close(handshake.go_writer);
            let pid = libc::getpid().to_ne_bytes();
            if libc::write(handshake.report.as_raw_fd(), pid.as_ptr().cast(), pid.len())
                != pid.len().cast_signed()
            {
                libc::_exit(127);
            }
            let mut word = [0u8; 1];
            let came = loop {
                let came = libc::read(handshake.go.as_raw_fd(), word.as_mut_ptr().cast(), 1);
                if came != -1 || *libc::__errno_location() != libc::EINTR {
                    break came;
                }
            };
            if came != 1 {
                libc::_exit(127);
            }
        }
        no_inherited_descriptors()
    };
    // SAFETY: the closure makes async-signal-safe calls only.
    unsafe { command.pre_exec(before_exec) };
}

/// A set of signals, real-time ones too.
pub(super) fn signal_set(signals: &[i32]) -> SigSet {
    // SAFETY: sigemptyset initialises the set before anything reads it; sigaddset refuses numbers that are no
    // signals and then changes nothing.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        SigSet::from_sigset_t_unchecked(set)
    }
}

/// Asks for `signal` when the parent's thread that started us ends; 0 asks for none.
pub(super) fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    // SAFETY: a system call on integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// Undoes an ignored SIGCHLD that came with exec: children would vanish unwaited, and their ids with them.
pub(super) fn default_sigchld() -> io::Result<()> {
    // SAFETY: the default action replaces whatever was there; no handler of ours is involved.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Default dispositions and an empty mask: both survive exec, and `sleep` would ignore TERM.
fn clean_signals() -> io::Result<()> {
    // The kernel's own structure in its default: no handler, no flags, no mask; with room to spare.
    let default = [0u64; 8];
    // SAFETY: async-signal-safe calls. Past libc, whose wrapper refuses the two signals that it keeps for itself,
    // and they may come ignored from outside as well. KILL and STOP are refused, harmlessly.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size_of::<u64>());
        }
        let mut empty = std::mem::zeroed();
        libc::sigemptyset(&raw mut empty);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut())).map(drop)
    }
}

/// Marks everything but the standard streams close-on-exec, whoever opened it.
fn no_inherited_descriptors() -> io::Result<()> {
    // SAFETY: a system call on integers; it closes nothing yet, so no owner loses its descriptor.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
