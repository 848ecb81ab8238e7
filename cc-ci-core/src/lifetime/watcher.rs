//! The thread that watches over one lifetime.
//!
//! It waits for the deadline, for the exits of children, and in owning mode for signals and the parent's death,
//! and depends on no runtime: a blocked or ended runtime delays neither a cancellation nor a reaping.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;

use super::parent::Watched;
use super::supervisor::Supervisor;
use crate::model::cancellation::Cause;
use crate::model::event::Event;

/// Tokens of descriptors that are no child's pidfd: no pid is as large.
const EVENT_FD: u64 = u64::MAX;
const SIGNALS: u64 = u64::MAX - 1;
const PARENT: u64 = u64::MAX - 2;

/// What only an owning lifetime listens to.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) signals: SignalFd,
    pub(super) parent: Watched,
}

/// Not TERM: a TERM from a living parent is always obeyed. Not a lock wait's signal either.
pub(super) fn parent_death_signal() -> i32 {
    libc::SIGRTMIN() + 7
}

/// What is read through the signalfd, and blocked everywhere else.
pub(super) fn run_signals() -> [i32; 5] {
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, parent_death_signal()]
}

/// Starts the thread.
///
/// # Errors
/// When the kernel has no thread or descriptor left.
pub(super) fn start(supervisor: Arc<Supervisor>, signals: Option<Signals>) -> io::Result<()> {
    listen(&supervisor, &supervisor.event_fd, EVENT_FD)?;
    if let Some(signals) = &signals {
        listen(&supervisor, &signals.signals, SIGNALS)?;
        if let Some(parent) = signals.parent.descriptor() {
            listen(&supervisor, parent, PARENT)?;
        }
    }
    std::thread::Builder::new().name("cc-ci-lifetime".into()).spawn(move || {
        // The host's signal handlers have no business here.
        let _refused = SigSet::all().thread_block().is_err();
        watch(&supervisor, signals.as_ref());
    })?;
    Ok(())
}

fn listen(supervisor: &Supervisor, to: impl AsFd, token: u64) -> io::Result<()> {
    Ok(supervisor.children.exits.add(to, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
}

fn watch(supervisor: &Supervisor, signals: Option<&Signals>) {
    let mut events = [EpollEvent::empty(); 32];
    loop {
        if supervisor.is_abandoned() {
            supervisor.children.kill_all(Duration::MAX);
            if supervisor.nothing_starts() && supervisor.children.pids().is_empty() {
                return;
            }
        }
        let timeout = match supervisor.clock.remaining() {
            Some(left) if left.is_zero() => {
                supervisor.clock.stop();
                supervisor.cancel(Cause::Deadline);
                continue;
            }
            // Rounded up, so that it is over when we wake; cut where epoll can't count that far.
            Some(left) => EpollTimeout::try_from(left.saturating_add(Duration::from_millis(1)))
                .unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        };
        let ready = match supervisor.children.exits.wait(&mut events, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            // The descriptors are ours and open: nothing else can be wrong with them.
            Err(error) => {
                tracing::warn!(%error, "can't watch over the run any longer");
                return;
            }
        };
        for event in &events[..ready] {
            match (event.data(), signals) {
                (EVENT_FD, _) => supervisor.event_fd.clear(),
                (SIGNALS, Some(signals)) => take_signals(supervisor, signals),
                (PARENT, Some(signals)) => {
                    supervisor.cancel(Cause::ParentDied);
                    if let Some(parent) = signals.parent.descriptor() {
                        // It stays readable, and has nothing more to say.
                        let _absent = supervisor.children.exits.delete(parent).is_err();
                    }
                }
                (pid, _) => {
                    if let Ok(pid) = i32::try_from(pid) {
                        supervisor.children.reap(pid);
                    }
                }
            }
        }
    }
}

fn take_signals(supervisor: &Supervisor, Signals { signals, parent }: &Signals) {
    while let Ok(Some(signal)) = signals.read_signal() {
        let (name, cause) = match signal.ssi_signo.cast_signed() {
            libc::SIGTERM => ("SIGTERM", Cause::Term),
            libc::SIGINT => ("SIGINT", Cause::Int),
            libc::SIGHUP => ("SIGHUP", Cause::Hup),
            libc::SIGUSR1 => {
                tell_state(supervisor);
                continue;
            }
            // The death signal: a thread of the parent ended, or all of it.
            _ => {
                if parent.is_dead() {
                    supervisor.cancel(Cause::ParentDied);
                }
                continue;
            }
        };
        if !supervisor.cancel(cause) {
            supervisor.reporter.report(&Event::SignalSwallowed { signal: name.to_owned() });
        }
    }
}

/// A running process can be asked what it does.
fn tell_state(supervisor: &Supervisor) {
    let mut children = supervisor.children.describe();
    if !supervisor.nothing_starts() {
        children.push("a child is being started".to_owned());
    }
    supervisor.reporter.report(&Event::Asked { children });
}
