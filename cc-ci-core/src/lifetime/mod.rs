//! A run's life: whatever ends it goes through one teardown, once (I3, I8).
//!
//! A [`RunLifetime`] turns everything that ends a run into one [`Cancellation`], starts every child of the run so
//! that it can't outlive it, and ends them all before anything is removed: an abra that still deploys would
//! recreate what was removed.
//!
//! # Limitations
//! A program that gains privileges when it executes (set-user-id) loses its death signal: when this process is
//! killed, such a child is left to whoever recovers the domain. A grandchild never has one.

mod blocking_tasks;
mod child;
mod children;
mod command;
#[cfg(feature = "conformance")]
#[expect(clippy::disallowed_methods, reason = "the cases make what they look at")]
pub mod conformance;
#[cfg(test)]
mod conformance_tests;
mod deadline;
mod descendants;
mod detached;
mod embedded_mode;
mod ended;
mod ending;
mod event_fd;
mod exec;
mod ext;
mod in_teardown;
mod output;
mod parent;
mod process_mode;
mod sandbox;
mod spawner;
mod supervisor;
mod sweep;
mod watcher;

use std::fmt;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::errno::Errno;

use crate::model::cancellation::Cancellation;
use crate::sys::process::ProcessIdentity;

pub use blocking_tasks::BlockingTasks;
pub use child::Child;
pub use command::{Command, Output, Stage, Stdin};
pub use deadline::DeadlineHold;
pub use embedded_mode::{Bounds, EmbeddedMode};
pub use ended::Ended;
pub use ext::{ChildError, RunLifetimeExt, ScopeEnd};
pub use in_teardown::InTeardown;
pub use output::{Line, Stream};
pub use parent::ParentWatch;
pub use process_mode::{ProcessMode, TakeOverError, TakenOver};
pub use sandbox::{Confinement, NoConfinement, Sandbox, TRUSTED, User};

/// One run's life, and its children's.
#[async_trait]
pub trait RunLifetime: fmt::Debug + fmt::Display + Send + Sync {
    /// What ends the run early. Every wait listens to it.
    fn cancellation(&self) -> &Cancellation;

    /// The process that owns the run: the one that markers name.
    fn owner(&self) -> &ProcessIdentity;

    /// Stops the deadline's clock until the hold is dropped: a run that waits for its lock does not age.
    fn hold_deadline(&self) -> DeadlineHold;

    /// What is left until the deadline; `None` where there is none, and while its clock stands still.
    fn deadline_remaining(&self) -> Option<Duration>;

    /// Begins teardown; idempotent. From now on signals are logged and swallowed, the deadline no longer fires,
    /// children of [`Stage::Body`] are refused, and the teardown budget runs from the first call.
    fn begin_teardown(&self) -> Teardown;

    /// The teardown, once it has begun. A lifetime is one run's: from then on it starts nothing of another's.
    fn teardown(&self) -> Option<Teardown>;

    /// Sends a word to `to` whenever the lifetime is cancelled or its teardown begins from now on, for who waits for either
    /// on a thread of its own. What it became is asked of the lifetime.
    fn tell_turns(&self, to: mpsc::Sender<()>);

    /// The run's blocking work.
    fn blocking_tasks(&self) -> &BlockingTasks;

    /// Starts a child in its own process group, with an empty signal mask, default dispositions, no inherited
    /// descriptor, and nothing of the caller's environment. It dies with this process.
    ///
    /// A child whose handle is dropped goes on until [`end_children`](Self::end_children). Cancel-safe: a child
    /// that nobody waits for any more when it has started is killed.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O, where the output is captured.
    async fn spawn(&self, command: Command) -> Result<Child, SpawnError>;

    /// Starts a process that outlives the run on purpose: detached, in its own session, not our child and without
    /// a death signal. `record` is called with its identity *before* it executes its program: when it fails, or
    /// when this process dies first, the program is never executed.
    async fn spawn_detached(
        &self,
        command: Command,
        record: RecordDetached,
    ) -> Result<ProcessIdentity, SpawnError>;

    /// Ends every child that is left, escaped descendants too: TERM, grace, KILL. Returns when all are gone and
    /// reaped, and every blocking task has returned.
    async fn end_children(&self) -> ChildrenEnded;
}

/// Records a detached process before it executes its program.
pub type RecordDetached = Box<dyn FnOnce(&ProcessIdentity) -> io::Result<()> + Send>;

/// The teardown's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Teardown {
    /// When the first `begin_teardown` came.
    pub began: Instant,
    /// When the budget is spent.
    pub until: Instant,
}

impl Teardown {
    /// What is left of the budget.
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What [`RunLifetime::end_children`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildrenEnded {
    /// Process groups that were still there. A child whose start was given up is ended with its start, and is not
    /// counted.
    pub groups: usize,
    /// Descendants that had escaped from their group.
    pub escaped: usize,
    /// Whether any child, now or earlier, came to no end of its own: it was signalled, by us or by somebody else,
    /// or left processes behind that were. What such a client had just ordered may still be carried out.
    pub by_force: bool,
    /// Whether a child that came to its end had left others in its process group: they were killed with it.
    pub left_in_group: bool,
    /// Pids that were still there when the bound of the sweep was reached: never dropped silently.
    pub left: Vec<i32>,
    /// Whether `/proc` could not be read, so that somebody may be there whom nobody saw.
    pub search_failed: bool,
    /// Blocking jobs that had not returned when the teardown's budget was spent.
    pub tasks_left: usize,
    /// How long after the cancellation, where there was one, every group had been signalled.
    pub signalled_after: Option<Duration>,
}

impl ChildrenEnded {
    /// Returns whether something of the run's is still at work: it would make again what is removed.
    pub fn is_at_work(&self) -> bool {
        !self.left.is_empty() || self.tasks_left > 0 || self.search_failed
    }
}

/// A child could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Teardown has begun: the body starts nothing any more.
    #[error("{program} was not started: teardown has begun")]
    TearingDown {
        /// The program.
        program: String,
    },
    /// The kernel refused.
    #[error("can't start {program}")]
    Io {
        /// The program.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl SpawnError {
    /// Whether the command itself is why it was not started: what it is, or names as its interpreter, can't be executed, or it is
    /// given more than the kernel takes. All else, such as no memory for one more process, is the host's.
    pub fn is_of_command(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        // Something in it has a NUL.
        let is_invalid = source.kind() == io::ErrorKind::InvalidInput && source.raw_os_error().is_none();
        is_invalid
            || source.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
                matches!(
                    errno,
                    Errno::ENOENT
                        | Errno::EACCES
                        | Errno::ENOEXEC
                        | Errno::ELIBBAD
                        | Errno::ELOOP
                        | Errno::E2BIG
                        | Errno::ENOTDIR
                        | Errno::EISDIR
                        | Errno::ENAMETOOLONG
                        | Errno::ETXTBSY
                )
            })
    }
}

/// Both modes share one implementation.
macro_rules! delegate_to_supervisor {
    ($mode:ty) => {
        #[async_trait]
        impl RunLifetime for $mode {
            fn cancellation(&self) -> &Cancellation {
                &self.0.cancellation
            }
            fn owner(&self) -> &ProcessIdentity {
                &self.0.owner
            }
            fn hold_deadline(&self) -> DeadlineHold {
                DeadlineHold::new(Arc::clone(&self.0.clock))
            }
            fn deadline_remaining(&self) -> Option<std::time::Duration> {
                self.0.clock.remaining()
            }
            fn begin_teardown(&self) -> Teardown {
                self.0.begin_teardown()
            }
            fn teardown(&self) -> Option<Teardown> {
                self.0.teardown()
            }
            fn tell_turns(&self, to: std::sync::mpsc::Sender<()>) {
                self.0.tell_turns(to);
            }
            fn blocking_tasks(&self) -> &BlockingTasks {
                &self.0.blocking_tasks
            }
            async fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
                self.0.spawn(command).await
            }
            async fn spawn_detached(
                &self,
                command: Command,
                record: RecordDetached,
            ) -> Result<ProcessIdentity, SpawnError> {
                self.0.spawn_detached(command, record).await
            }
            async fn end_children(&self) -> ChildrenEnded {
                self.0.end_children().await
            }
        }
    };
}
use delegate_to_supervisor;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_executed_is_told_from_a_host_that_starts_nothing() {
        let refused = |source: io::Error| SpawnError::Io { program: "x".into(), source };
        for errno in
            [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC, Errno::ELOOP, Errno::E2BIG, Errno::ENOTDIR]
        {
            assert!(refused(errno.into()).is_of_command(), "{errno}");
        }
        for errno in [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::EIO, Errno::EINVAL] {
            assert!(!refused(errno.into()).is_of_command(), "{errno}");
        }
        let nul = std::process::Command::new("a\0b").spawn().unwrap_err();
        assert!(refused(nul).is_of_command());
        assert!(!SpawnError::TearingDown { program: "x".into() }.is_of_command());
    }
}
