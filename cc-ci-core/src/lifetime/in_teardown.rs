//! A lifetime as a teardown sees it, where taking something down means to work: to deploy what was there before.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;

use super::{
    BlockingTasks, Child, ChildrenEnded, Command, DeadlineHold, RecordDetached, RunLifetime, SpawnError,
    Stage, Teardown,
};
use crate::model::cancellation::Cancellation;
use crate::sys::process::ProcessIdentity;

/// Starts every child as one of the teardown, and is not ended by what ended the run: only by its own
/// [`cancellation`](RunLifetime::cancellation), which whoever watches the teardown's budget cancels.
#[derive(Debug)]
pub struct InTeardown {
    inner: Arc<dyn RunLifetime>,
    cancellation: Cancellation,
}

impl InTeardown {
    /// The teardown of `inner`.
    pub fn new(inner: Arc<dyn RunLifetime>) -> Self {
        Self { inner, cancellation: Cancellation::new() }
    }
}

impl fmt::Display for InTeardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "teardown of {}", self.inner)
    }
}

#[async_trait]
impl RunLifetime for InTeardown {
    fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    fn owner(&self) -> &ProcessIdentity {
        self.inner.owner()
    }

    fn hold_deadline(&self) -> DeadlineHold {
        self.inner.hold_deadline()
    }

    fn deadline_remaining(&self) -> Option<Duration> {
        self.inner.deadline_remaining()
    }

    fn begin_teardown(&self) -> Teardown {
        self.inner.begin_teardown()
    }

    fn teardown(&self) -> Option<Teardown> {
        self.inner.teardown()
    }

    fn tell_turns(&self, to: mpsc::Sender<()>) {
        self.inner.tell_turns(to);
    }

    fn blocking_tasks(&self) -> &BlockingTasks {
        self.inner.blocking_tasks()
    }

    async fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        self.inner.spawn(command.stage(Stage::Teardown)).await
    }

    async fn spawn_detached(
        &self,
        command: Command,
        record: RecordDetached,
    ) -> Result<ProcessIdentity, SpawnError> {
        self.inner.spawn_detached(command.stage(Stage::Teardown), record).await
    }

    async fn end_children(&self) -> ChildrenEnded {
        self.inner.end_children().await
    }
}
