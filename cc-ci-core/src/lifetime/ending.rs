//! The end of the children: TERM, grace, KILL, and whoever escaped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::ChildrenEnded;
use super::supervisor::Supervisor;
use super::sweep::{self, Found};
use crate::sys::process::wait_gone;

/// How long the kernel may take to end what was killed, before it is told as left.
const KILL_BOUND: Duration = Duration::from_secs(10);

impl Supervisor {
    pub(super) async fn end_children(self: &Arc<Self>) -> ChildrenEnded {
        let _one_at_a_time = self.ending.lock().await;
        self.close_admission();
        let mut ended = self.end_groups().await;
        self.end_escaped(&mut ended).await;
        // Blocking tasks are ours and look at the cancellation; still, no teardown waits longer than its budget for one.
        self.within_budget(self.blocking_tasks.idle()).await;
        ended.by_force = ended.escaped > 0 || self.children.any_by_force();
        ended.left_in_group = self.children.any_left_in_group();
        ended.tasks_left = self.blocking_tasks.running();
        ended
    }

    /// Waits for `what`, but not past the teardown's budget, where one runs.
    async fn within_budget(&self, what: impl Future<Output = ()>) {
        match self.teardown() {
            Some(teardown) => {
                let _spent = timeout_at(teardown.until.into(), what).await.is_err();
            }
            None => what.await,
        }
    }

    /// Until when to wait for what was killed: for a moment at least, whatever is left of the budget.
    fn kill_bound(&self) -> Instant {
        let left = self.teardown().map_or(KILL_BOUND, |teardown| teardown.remaining());
        Instant::now() + left.clamp(Duration::from_secs(1), KILL_BOUND)
    }

    async fn end_groups(&self) -> ChildrenEnded {
        // Who is on the way in must not make the others wait.
        let mut groups = self.children.ask_all();
        self.within_budget(self.all_started()).await;
        groups += self.children.ask_all();
        let signalled_after = self.since_cancellation();
        let signalled = Instant::now();
        let graces: BTreeSet<Duration> = self.children.graces().into_iter().collect();
        for grace in graces {
            let until = crate::sys::after(signalled, grace);
            let until = self.teardown().map_or(until, |teardown| teardown.until.min(until));
            if timeout_at(until.into(), self.children.all_reaped()).await.is_ok() {
                break;
            }
            self.children.kill_all(grace);
        }
        let _late = timeout_at(self.kill_bound().into(), self.children.all_reaped()).await.is_err();
        ChildrenEnded { groups, signalled_after, left: self.children.pids(), ..ChildrenEnded::default() }
    }

    /// Looks, kills and waits until two looks in a row found nobody: one look can miss who forks beside it. Where the kernel
    /// says that nobody is there to fork, one is enough.
    async fn end_escaped(self: &Arc<Self>, ended: &mut ChildrenEnded) {
        let until = self.kill_bound();
        let mut escaped = BTreeSet::new();
        let mut clean = 0;
        while clean < 2 {
            let supervisor = Arc::clone(self);
            let looked = tokio::task::spawn_blocking(move || sweep::find(&supervisor)).await;
            let Ok(Ok(Found { escaped: killed, dying, is_alone })) = looked else {
                tracing::warn!("can't look for escaped children");
                ended.search_failed = true;
                return;
            };
            escaped.extend(killed.iter().map(|process| (process.pid, process.start_time)));
            ended.escaped = escaped.len();
            clean = match killed.is_empty() && dying.is_empty() {
                true if is_alone => return,
                true => clean + 1,
                false => 0,
            };
            for process in killed.iter().chain(&dying) {
                // Where it can't be watched, the next look sees whether it is there.
                let _unwatched = wait_gone(process, &self.owner.boot_id, until).await.is_err();
            }
            if clean == 0 && Instant::now() >= until {
                let left = killed.iter().chain(&dying).filter(|left| left.is_alive(&self.owner.boot_id));
                ended.left.extend(left.map(|process| process.pid));
                return;
            }
        }
    }
}
