//! A lifetime that takes the process over.
//!
//! The first statement of `main` is [`ProcessMode::take_over`]: before any thread exists, it blocks the signals that
//! end a run, asks for a death signal, and makes the process the subreaper of its descendants. Then
//! [`TakenOver::start`] begins to listen. A signal that comes in between waits.
//!
//! The death signal comes when the parent *thread* that forked us ends, with the parent alive: so it is a signal
//! of its own and only a reason to look; the parent's pidfd decides.
//!
//! # Limitations
//! The process can have one such lifetime; children of [embedded](super::EmbeddedMode) ones beside it are their own. Whoever
//! starts children past all of them finds them ended with the run's.

use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::descendants::PreexistingChildren;
use super::exec;
use super::parent::{DirectParent, ParentWatch, Watched};
use super::supervisor::Supervisor;
use super::watcher::{self, Signals};
use super::{
    BlockingTasks, Bounds, Child, ChildrenEnded, Command, DeadlineHold, RecordDetached, RunLifetime,
    SpawnError, Teardown,
};
use crate::model::cancellation::{Cancellation, Cause};
use crate::model::event::{Event, Reporter};
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;

/// The process can't be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    /// Threads exist: signals that they don't block would end the process.
    #[error("the process has {threads} threads already; it is taken over before the first one starts")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// The parent is init: whoever started this process is dead, or it is a service.
    #[error("the parent is pid 1, so nothing ends this run when its caller dies")]
    NoParent,
    /// `/proc` is not whole.
    #[error(
        "can't read /proc/sys/kernel/random/boot_id, which tells this boot's processes from an earlier one's"
    )]
    NoBootId(#[source] io::Error),
    /// A system call failed.
    #[error("can't {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> TakeOverError {
    move |source| TakeOverError::Io { doing, source: source.into() }
}

/// The process is prepared; nobody listens yet.
#[derive(Debug)]
#[must_use = "signals stay blocked and unheard until the lifetime is started"]
pub struct TakenOver {
    owner: ProcessIdentity,
    parent: DirectParent,
    signals: SignalFd,
    preexisting: PreexistingChildren,
}

/// A lifetime in owning mode. When it is dropped, children that are left are killed.
#[derive(Debug)]
pub struct ProcessMode(Arc<Supervisor>);

impl ProcessMode {
    /// Prepares the process. The first statement of `main`.
    ///
    /// # Errors
    /// When threads exist, or the kernel refuses.
    pub fn take_over() -> Result<TakenOver, TakeOverError> {
        // Read before the death signal is asked for: it counts only from then on.
        let parent = DirectParent::open().map_err(failed("watch the parent"))?;
        let threads = fs::read_dir("/proc/self/task").map_err(failed("count threads"))?.count();
        if threads != 1 {
            return Err(TakeOverError::Threads { threads });
        }
        let boot = BootId::current().map_err(TakeOverError::NoBootId)?;
        let owner = ProcessIdentity::current(boot).map_err(failed("read the start time"))?;
        let death = watcher::parent_death_signal();
        let set = exec::signal_set(&watcher::run_signals());
        set.thread_block().map_err(failed("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(failed("listen to signals"))?;
        exec::default_sigchld().map_err(failed("see children end"))?;
        exec::set_parent_death_signal(death).map_err(failed("ask for a death signal"))?;
        let preexisting = PreexistingChildren::now(&owner);
        nix::sys::prctl::set_child_subreaper(true).map_err(failed("become the subreaper"))?;
        Ok(TakenOver { owner, parent, signals, preexisting })
    }
}

impl TakenOver {
    /// The process that will own the run.
    pub fn owner(&self) -> &ProcessIdentity {
        &self.owner
    }

    /// Gives the process back: signals end it as they end any other. For what holds nothing, and owns nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn give_back(self) -> io::Result<()> {
        Ok(exec::signal_set(&watcher::run_signals()).thread_unblock()?)
    }

    /// Starts the clock, and listens. A parent that is dead by now is a cancellation, told at once.
    ///
    /// # Errors
    /// When the parent is init of the initial pid namespace and `parent` doesn't say what to watch, or the kernel
    /// refuses.
    pub fn start(
        self,
        parent: ParentWatch,
        bounds: Bounds,
        reporter: Arc<dyn Reporter>,
    ) -> Result<ProcessMode, TakeOverError> {
        let Self { owner, parent: direct, signals, preexisting } = self;
        let watched =
            direct.resolve(parent).map_err(failed("watch the parent"))?.ok_or(TakeOverError::NoParent)?;
        if let Watched::Nobody { reason: Some(reason) } = watched {
            let text = format!("no parent is watched: {reason}");
            reporter.report(&Event::Note { text });
        }
        let supervisor =
            Supervisor::new(owner, bounds.deadline, bounds.teardown, reporter, Some(preexisting))
                .map_err(failed("watch over the run"))?;
        let owning = ProcessMode(Arc::new(supervisor));
        // The parent may have died before the death signal was asked for.
        if watched.is_dead() {
            owning.0.cancel(Cause::ParentDied);
        }
        watcher::start(Arc::clone(&owning.0), Some(Signals { signals, parent: watched }))
            .map_err(failed("watch over the run"))?;
        Ok(owning)
    }
}

impl fmt::Display for ProcessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lifetime that owns {}", self.0.owner)
    }
}

impl Drop for ProcessMode {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

super::delegate_to_supervisor!(ProcessMode);
