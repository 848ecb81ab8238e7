//! The end of the children: TERM, grace, KILL, and whoever escaped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::time::{timeout, timeout_at};

use super::life::Life;
use super::{ChildrenEnded, Command, RecordDetached, SpawnError};
use crate::process::ProcessIdentity;

/// How long the kernel may take to end what was killed, before it is told as left.
const KILL_BOUND: Duration = Duration::from_secs(10);

impl Life {
    pub(super) async fn end_children(self: &Arc<Self>) -> ChildrenEnded {
        self.close_door().await;
        let gentle = |grace: Duration| if grace.is_zero() { Signal::SIGKILL } else { Signal::SIGTERM };
        let mut ended = ChildrenEnded {
            groups: self.children.signal_all(|grace| Some(gentle(grace))),
            ..ChildrenEnded::default()
        };
        ended.signalled_after = self.since_cancellation();
        let signalled = Instant::now();
        let mut graces = self.children.graces();
        graces.sort_unstable();
        graces.dedup();
        for grace in graces {
            let until =
                self.teardown().map_or(signalled + grace, |teardown| teardown.until.min(signalled + grace));
            if timeout_at(until.into(), self.children.all_reaped()).await.is_ok() {
                break;
            }
            self.children.signal_all(|of_child| (of_child <= grace).then_some(Signal::SIGKILL));
        }
        let _late = timeout(KILL_BOUND, self.children.all_reaped()).await.is_err();
        ended.left = self.children.pids();
        self.jobs.idle().await;
        ended
    }

    pub(super) async fn spawn_detached(
        self: &Arc<Self>,
        command: Command,
        _record: RecordDetached,
    ) -> Result<ProcessIdentity, SpawnError> {
        let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
        Err(SpawnError::Io { program: command.program(), source })
    }
}
