//! The terminal of a command that has a process group of its own: handed over, handed back, stopped and continued, as a
//! shell expects it of a job.
//!
//! The terminal belongs to one group, the foreground group, and stops others that read it. The child takes it before it
//! executes ([`Stdin::Terminal`](cc_ci_core::lifetime::Stdin::Terminal)); what comes after that is here. When the child
//! is stopped (^Z), so is this process, for the shell above waits for this one; when the shell continues it, it
//! continues the child. The approach is sudo's.

use std::convert::Infallible;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{SignalKind, signal};

/// Follows the stops of the child `pid`, which leads a group, for as long as it is polled, by the process's main thread.
///
/// # Errors
/// When signals can't be listened to.
pub async fn follow(pid: i32) -> io::Result<Infallible> {
    let child = Pid::from_raw(pid);
    let mut changed = signal(SignalKind::child())?;
    let mut continued = signal(SignalKind::from_raw(Signal::SIGCONT as i32))?;
    loop {
        // It may have stopped before anybody listened.
        if has_stopped(child) {
            take_back(Some(pid));
            // With the rest of a pipeline. It is delivered before the call returns, since this is polled by the main
            // thread; where no shell is there to continue it, the kernel stops nothing.
            let _refused = killpg(getpgrp(), Signal::SIGTSTP).is_err();
            // In the background it would only be stopped again by what stopped it.
            if hand_over(child) {
                go_on(child);
            }
        }
        tokio::select! {
            _ = changed.recv() => {}
            _ = continued.recv() => {
                hand_over(child);
                go_on(child);
            }
        }
    }
}

/// Takes the terminal back where the child `pid` has it, or a group of which no process is left, as that of a child that
/// could not execute. Somebody else's stays theirs; where the standard input is no terminal there is nothing to take.
pub fn take_back(pid: Option<i32>) {
    if let Ok(foreground) = tcgetpgrp(io::stdin())
        && (Some(foreground.as_raw()) == pid || killpg(foreground, None) == Err(Errno::ESRCH))
    {
        set(getpgrp());
    }
}

/// Gives the terminal to the child if it is ours.
fn hand_over(child: Pid) -> bool {
    let ours = tcgetpgrp(io::stdin()) == Ok(getpgrp());
    if ours {
        set(child);
    }
    ours
}

fn go_on(child: Pid) {
    let _gone = killpg(child, Signal::SIGCONT).is_err();
}

/// Whether the child was stopped since the last look.
fn has_stopped(child: Pid) -> bool {
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    matches!(waitid(Id::Pid(child), look), Ok(WaitStatus::Stopped(..)))
}

/// A group in the background that does this is stopped, unless it blocks the signal.
fn set(group: Pid) {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    let Ok(before) = stop.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK) else { return };
    // A terminal that is gone belongs to nobody.
    let _gone = tcsetpgrp(io::stdin(), group).is_err();
    let _refused = before.thread_set_mask().is_err();
}
