//! What every lifetime can do on top of [`RunLifetime`].

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::command::Stage;
use super::{ChildrenEnded, Command, Ended, Line, RunLifetime, SpawnError, sandbox};
use crate::model::cancellation::Cause;

/// A child brought no end of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// It was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It was to be confined, and its sandbox could not be made.
    #[error("{program} was not started in a sandbox: {why}")]
    Unstarted {
        /// The program.
        program: String,
        /// What was said.
        why: String,
    },
    /// It took too long, and was ended.
    #[error("{program} was ended: it took longer than {limit:?}")]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It was ended: it had more on disk than a sandbox may have.
    #[error("{program} was ended: what it may write to had more than {}", sandbox::BOUND_IN_WORDS)]
    Overfilled {
        /// The program.
        program: String,
    },
    /// The run ended first. The child is left to the end of the children.
    #[error("the wait for {program} was ended by {cause}")]
    Cancelled {
        /// The program.
        program: String,
        /// By what.
        cause: Cause,
    },
}

/// How the body of a scope ended.
#[derive(Debug)]
#[must_use = "a panic of the body is passed on or told"]
pub enum ScopeEnd<T> {
    /// It returned.
    Returned(T),
    /// The lifetime was cancelled: the body was dropped where it waited, or what it returned meanwhile was.
    Cancelled(Cause),
    /// It panicked.
    Panicked(Box<dyn Any + Send>),
}

/// Comfort for every [`RunLifetime`].
pub trait RunLifetimeExt: RunLifetime {
    /// Runs `command` to its end, and gives its lines to `on_line`.
    ///
    /// A child of the body is left as it is when the run is cancelled: this returns at once, and
    /// [`end_children`](RunLifetime::end_children) ends it. A child of the teardown is only bound by `limit`.
    ///
    /// Cancel-safe in that the child is left likewise.
    fn run(
        &self,
        command: Command,
        limit: Duration,
        on_line: &mut (dyn FnMut(&Line) + Send),
    ) -> impl Future<Output = Result<Ended, ChildError>> + Send {
        // Boxed: its buffers would stand in every future that waits for a child.
        Box::pin(async move {
            let program = command.program();
            let (of_body, confined) = (command.stage == Stage::Body, command.sandbox.is_some());
            let cancellation = self.cancellation().clone();
            let cancelled =
                async { if of_body { cancellation.cancelled().await } else { std::future::pending().await } };
            tokio::pin!(cancelled);
            let child = tokio::select! {
                biased;
                cause = &mut cancelled => return Err(ChildError::Cancelled { program, cause }),
                child = self.spawn(command) => child,
            };
            let mut child = child?;
            let mut last = String::new();
            let message = async {
                while let Some(line) = child.next_line().await {
                    if confined {
                        last.clone_from(&line.text);
                    }
                    on_line(&line);
                }
                child.wait().await
            };
            tokio::select! {
                biased;
                cause = &mut cancelled => return Err(ChildError::Cancelled { program, cause }),
                ended = message => {
                    if child.has_overfilled() {
                        return Err(ChildError::Overfilled { program });
                    }
                    if !ended.unstarted {
                        return Ok(ended);
                    }
                    return Err(ChildError::Unstarted { program, why: last });
                }
                () = tokio::time::sleep(limit) => {}
            }
            child.end().await;
            Err(ChildError::TimedOut { program, limit })
        })
    }

    /// Runs `body` until it returns, panics, or the lifetime is cancelled; then always begins teardown and ends
    /// the children, before it returns: so nothing is removed while one of them still works.
    ///
    /// Not cancel-safe: a scope that is dropped leaves the children to whoever drops the lifetime.
    fn scope<T>(&self, body: impl Future<Output = T>) -> impl Future<Output = (ScopeEnd<T>, ChildrenEnded)> {
        async move {
            let mut body = Box::pin(AssertUnwindSafe(body).catch_unwind());
            let end = tokio::select! {
                biased;
                cause = self.cancellation().cancelled() => ScopeEnd::Cancelled(cause),
                end = &mut body => match end {
                    Ok(value) => ScopeEnd::Returned(value),
                    Err(panic) => ScopeEnd::Panicked(panic),
                },
            };
            // The waits of the body end here; a destructor that panics is a panic of the body.
            let end = match catch_unwind(AssertUnwindSafe(move || drop(body))) {
                Ok(()) => end,
                Err(panic) => ScopeEnd::Panicked(panic),
            };
            self.begin_teardown();
            // A wait inside of the body may see the cancellation before we do, and the body return with its error:
            // it was ended all the same.
            let end = match (self.cancellation().cause(), end) {
                (Some(cause), ScopeEnd::Returned(_)) => ScopeEnd::Cancelled(cause),
                (_, end) => end,
            };
            (end, self.end_children().await)
        }
    }
}

impl<L: RunLifetime + ?Sized> RunLifetimeExt for L {}
