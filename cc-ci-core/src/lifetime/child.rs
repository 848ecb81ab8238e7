//! A started child: its output, its end.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::children::Children;
use super::ended::Ended;
use super::output::{Line, Lines};
use super::sandbox::{DiskWatch, Forwards};

/// A started child. Dropping it closes our end of its output, and leaves the child to
/// [`end_children`](super::RunLifetime::end_children).
#[derive(Debug)]
pub struct Child {
    pid: i32,
    grace: Duration,
    children: Arc<Children>,
    ended: watch::Receiver<Option<Ended>>,
    lines: Lines,
    /// What its sandbox reaches, for as long as somebody has the child.
    _forwards: Forwards,
    /// Where it is confined.
    disk: Option<DiskWatch>,
}

impl Child {
    pub(super) fn new(
        pid: i32,
        grace: Duration,
        children: Arc<Children>,
        ended: watch::Receiver<Option<Ended>>,
        lines: Lines,
        forwards: Forwards,
        disk: Option<DiskWatch>,
    ) -> Self {
        Self { pid, grace, children, ended, lines, _forwards: forwards, disk }
    }

    /// Whether it was ended because its sandbox had more on disk than one may have.
    pub fn has_overfilled(&self) -> bool {
        self.disk.as_ref().is_some_and(DiskWatch::is_over)
    }

    /// Its pid, and its group's id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The next line of its output, `None` at the end. What its leader wrote before it exited is told whole, up
    /// to the bound; what escaped from the group can't keep the end from coming. Cancel-safe.
    pub async fn next_line(&mut self) -> Option<Line> {
        loop {
            if self.has_ended() {
                return self.lines.rest();
            }
            tokio::select! {
                line = self.lines.next() => match line {
                    Some(line) => return Some(line),
                    // Both streams are closed; the child may go on without them.
                    None => self.wait_for_end().await,
                },
                () = Self::end_of(&mut self.ended) => {}
            }
        }
    }

    /// The next line of its output that is there now: it waits for none, and needs no runtime.
    pub fn next_line_now(&mut self) -> Option<Line> {
        if self.has_ended() { self.lines.rest() } else { self.lines.now() }
    }

    /// Waits for its end. Output that nobody read by then is dropped: a full pipe never stops a child that is
    /// waited for. Cancel-safe.
    pub async fn wait(&mut self) -> Ended {
        loop {
            if let Some(ended) = *self.ended.borrow() {
                return ended;
            }
            tokio::select! {
                line = self.lines.next() => if line.is_none() { self.wait_for_end().await },
                () = Self::end_of(&mut self.ended) => {}
            }
        }
    }

    /// Ends it and its group: TERM, its grace, KILL. Cancel-safe: what was sent was sent.
    pub async fn end(&mut self) -> Ended {
        if !self.grace.is_zero() && self.children.signal(self.pid, Signal::SIGTERM) {
            let grace = self.grace;
            if let Ok(ended) = tokio::time::timeout(grace, self.wait()).await {
                return ended;
            }
        }
        self.children.signal(self.pid, Signal::SIGKILL);
        self.wait().await
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    async fn wait_for_end(&mut self) {
        Self::end_of(&mut self.ended).await;
    }

    async fn end_of(ended: &mut watch::Receiver<Option<Ended>>) {
        if ended.wait_for(Option::is_some).await.is_err() {
            // The sender goes only after it told the end; without an end there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}
