//! The thread that watches over one lifetime.
//!
//! It waits for the deadline, for the exits of children, and in owning mode for signals and the parent's death,
//! and depends on no runtime: a blocked or ended runtime delays neither a cancellation nor a reaping.

use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};

use super::life::Life;
use crate::cancellation::Cause;

/// Tokens of descriptors that are no child's pidfd: no pid is as large.
const WAKE: u64 = u64::MAX;

/// Starts the thread.
///
/// # Errors
/// When the kernel has no thread or descriptor left.
pub(super) fn start(life: Arc<Life>) -> io::Result<()> {
    life.children.exits.add(&life.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
    std::thread::Builder::new().name("cc-ci-lifetime".into()).spawn(move || {
        // The host's signal handlers have no business here.
        let _refused = SigSet::all().thread_block().is_err();
        watch(&life);
    })?;
    Ok(())
}

fn watch(life: &Life) {
    let mut events = [EpollEvent::empty(); 32];
    loop {
        if life.is_abandoned() {
            life.children.signal_all(|_| Some(Signal::SIGKILL));
            if life.nothing_starts() && life.children.pids().is_empty() {
                return;
            }
        }
        let timeout = match life.clock.remaining() {
            Some(left) if left.is_zero() => {
                life.clock.stop();
                life.cancel(Cause::Deadline);
                continue;
            }
            // Rounded up, so that it is over when we wake; cut where epoll can't count that far.
            Some(left) => EpollTimeout::try_from(left + std::time::Duration::from_millis(1))
                .unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        };
        let ready = match life.children.exits.wait(&mut events, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            // The descriptors are ours and open: nothing else can be wrong with them.
            Err(error) => {
                tracing::warn!(%error, "can't watch over the run any longer");
                return;
            }
        };
        for event in &events[..ready] {
            match event.data() {
                WAKE => life.wake.clear(),
                pid => {
                    if let Ok(pid) = i32::try_from(pid) {
                        life.children.reap(pid);
                    }
                }
            }
        }
    }
}
