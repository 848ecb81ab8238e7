//! A lifetime inside somebody else's process.
//!
//! No signal, subreaper or death signal of the process is touched; only children get a death signal. Several
//! may live in one process. The embedding program cancels by itself, and a deadline can.
//!
//! # Limitations
//! A descendant that left its group with `setsid` is found by its marker only: one that also stripped its
//! environment stays. A host that ignores SIGCHLD or waits for every child takes the children's status away:
//! they then end with an unknown one. When the process is killed, what is left is the janitor's.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::supervisor::Supervisor;
use super::{
    BlockingTasks, Child, ChildrenEnded, Command, DeadlineHold, RecordDetached, RunLifetime, SpawnError,
    Teardown, watcher,
};
use crate::model::cancellation::{Cancellation, Cause};
use crate::model::event::Reporter;
use crate::sys::process::ProcessIdentity;
use crate::sys::system_info::BootId;

/// The bounds of a lifetime.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long the body may take; `None`: as long as it likes.
    pub deadline: Option<Duration>,
    /// How long teardown may take.
    pub teardown: Duration,
}

impl Default for Bounds {
    /// An hour, and ten minutes for teardown.
    fn default() -> Self {
        Self { deadline: Some(Duration::from_hours(1)), teardown: Duration::from_mins(10) }
    }
}

/// A lifetime in embedded mode. When it is dropped, children that are left are killed.
#[derive(Debug)]
pub struct EmbeddedMode(Arc<Supervisor>);

impl EmbeddedMode {
    /// Starts the clock.
    ///
    /// # Errors
    /// When `/proc` can't be read, or the kernel has no thread or descriptor left.
    pub fn new(bounds: Bounds, reporter: Arc<dyn Reporter>) -> io::Result<Self> {
        let owner = ProcessIdentity::current(BootId::current()?)?;
        let supervisor = Arc::new(Supervisor::new(owner, bounds.deadline, bounds.teardown, reporter, None)?);
        watcher::start(Arc::clone(&supervisor), None)?;
        Ok(Self(supervisor))
    }

    /// Gives the run up. Returns whether this was the first cause.
    pub fn cancel(&self) -> bool {
        self.0.cancel(Cause::Embedder)
    }
}

impl fmt::Display for EmbeddedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "embedded lifetime in {}", self.0.owner)
    }
}

impl Drop for EmbeddedMode {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

super::delegate_to_supervisor!(EmbeddedMode);

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
