//! One typed cancellation: whatever ends a run early becomes a [`Cause`], and the first one wins.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Why a run ends before its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGHUP.
    Hup,
    /// The process that this run was started for is gone.
    ParentDied,
    /// The run's deadline passed.
    Deadline,
    /// The program that embeds cc-ci gave up the run.
    Embedder,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Hup => "SIGHUP",
            Self::ParentDied => "death of the parent process",
            Self::Deadline => "deadline",
            Self::Embedder => "the embedding program",
        })
    }
}

/// A cancellation that every wait of a run listens to. Clones share it.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<watch::Sender<Option<Cause>>>);

impl Default for Cancellation {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancellation {
    /// One that has not been cancelled.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Cancels. Returns whether this was the first cause; a later one changes nothing.
    pub fn cancel(&self, cause: Cause) -> bool {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(cause);
            }
            first
        })
    }

    /// The first cause, if there is one yet.
    pub fn cause(&self) -> Option<Cause> {
        *self.0.borrow()
    }

    /// Waits for the first cause. Cancel-safe.
    pub async fn cancelled(&self) -> Cause {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(cause) = *receiver.borrow_and_update() {
                return cause;
            }
            // The sender lives in `self`, so this can't fail while we wait.
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_wins_and_reaches_every_clone() {
        let cancellation = Cancellation::new();
        let waiting = tokio::spawn({
            let clone = cancellation.clone();
            async move { clone.cancelled().await }
        });
        assert!(cancellation.cancel(Cause::Deadline));
        assert!(!cancellation.cancel(Cause::Term));
        assert_eq!(waiting.await.unwrap(), Cause::Deadline);
        assert_eq!(cancellation.cancelled().await, Cause::Deadline);
    }
}
