//! Signals and waits that can't hit a later process with the same pid.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{ProcessIdentity, StatLine};
use crate::sys::system_info::BootId;

/// What ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks it.
    Term,
    /// Ends it.
    Kill,
}

/// A descriptor of one process, alive or not.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// # Errors
    /// `NotFound` when there is no such process.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(not_found)?))
    }

    /// The process of `identity`, and no later one; `None` when it is gone.
    pub(crate) fn of(identity: &ProcessIdentity, now: &BootId) -> io::Result<Option<Self>> {
        if identity.boot_id != *now {
            return Ok(None);
        }
        let opened = Self::open(identity.pid).and_then(|fd| Ok((fd, StatLine::read(identity.pid)?)));
        match opened {
            // The identity is older than the descriptor: when it is there now, it was there then.
            Ok((fd, stat)) => Ok((stat.start_time == identity.start_time).then_some(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// `NotFound` when the process is gone.
    pub(crate) fn send(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        pidfd_send_signal(&self.0, signal).map_err(not_found)
    }

    /// Takes note of its end, if it is a child that has ended: nothing is left of it in the kernel then. Of another process's
    /// child nothing is taken.
    pub(crate) fn reap(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ended = retry_on_intr(|| waitid(WaitId::PidFd(self.0.as_fd()), options)).is_ok();
    }

    /// Whether the process has ended: a zombie has.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn not_found(error: rustix::io::Errno) -> io::Error {
    if error == rustix::io::Errno::SRCH {
        io::Error::new(io::ErrorKind::NotFound, error)
    } else {
        error.into()
    }
}

/// Signals the process of `identity`, and no later one. False when it is gone.
///
/// # Errors
/// When the kernel refuses: another user's process.
pub fn kill_process(identity: &ProcessIdentity, now: &BootId, signal: Signal) -> io::Result<bool> {
    let Some(fd) = PidFd::of(identity, now)? else { return Ok(false) };
    match fd.send(signal) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until the process of `identity` has ended (a zombie has), or `deadline` comes. Returns whether it has.
/// Cancel-safe. Needs a runtime with I/O and time.
///
/// # Errors
/// When the kernel refuses the watch.
pub async fn wait_gone(identity: &ProcessIdentity, now: &BootId, deadline: Instant) -> io::Result<bool> {
    let Some(fd) = PidFd::of(identity, now)? else { return Ok(true) };
    #[expect(
        deprecated,
        reason = "the successor is unsafe because a type's descriptor may change; this one can't"
    )]
    let fd = AsyncFd::with_interest(fd.0, Interest::READABLE)?;
    match tokio::time::timeout_at(deadline.into(), fd.readable()).await {
        Ok(readable) => readable.map(|_| true),
        Err(_) => Ok(PidFd(fd.into_inner()).has_ended()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_wait_sees_the_end_and_a_signal_never_hits_a_successor() {
        let boot = BootId::current().unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id().cast_signed(), boot.clone()).unwrap();
        let successor = ProcessIdentity { start_time: identity.start_time + 1, ..identity.clone() };
        assert!(!kill_process(&successor, &boot, Signal::Kill).unwrap());
        assert!(wait_gone(&successor, &boot, Instant::now()).await.unwrap());
        assert!(!wait_gone(&identity, &boot, Instant::now()).await.unwrap());
        let far = Instant::now() + Duration::from_mins(10);
        let (gone, sent) = tokio::join!(wait_gone(&identity, &boot, far), async {
            kill_process(&identity, &boot, Signal::Term)
        });
        assert!(gone.unwrap() && sent.unwrap());
        child.wait().unwrap();
        assert!(!kill_process(&identity, &boot, Signal::Kill).unwrap());
    }
}
