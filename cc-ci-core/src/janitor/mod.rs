//! Finds what dead runs left and removes it, and nothing else (I4, I5).
//!
//! Candidates come from every source there is; they are hints only. Whether a run is dead is asked of the
//! kernel, by taking its domain's lock; what is there is read again under that lock. Any number of janitors may
//! run at once, and beside runs. None ever waits for a lock.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod debt_tests;
mod forget;
mod killed;
mod pass;
mod quarantine;
mod reap;
#[cfg(test)]
mod reap_tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::Resource;
use crate::lock::Holder;
use crate::model::cancellation::Cancellation;
use crate::model::failure::Failure;
use crate::names::{Domain, RunId};

pub use forget::forget_node;
pub use pass::HostJanitor;
pub use reap::{Orphans, PendingRequests, Reaped, end_orphans, reap};
pub(crate) use reap::{inspect, remove_groups};

/// Removes what dead runs left behind.
#[async_trait]
pub trait Janitor: fmt::Debug + fmt::Display + Send + Sync {
    /// One pass over every run app that leaves a trace. The passes of one host may overlap.
    ///
    /// Cancelled or out of budget, it finishes the domains that it holds and leaves the others; a dropped pass
    /// does the same, and [`BlockingTasks::idle`](crate::lifetime::BlockingTasks::idle) waits for it.
    async fn pass(&self, pass: &Pass) -> Result<Report, Failure>;
}

/// What a pass may do.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Only say what would be done; takes no lock.
    pub dry_run: bool,
    /// Domains of the caller's own run: left without even a probe.
    pub own: Vec<Domain>,
    /// The caller's own run, whose tree is no residue.
    pub own_run: Option<RunId>,
    /// No further domain is begun after so long.
    pub budget: Duration,
    /// Nor after this.
    pub cancellation: Cancellation,
    /// Domains that are tried though they are in quarantine.
    pub retry: Vec<Domain>,
}

impl Pass {
    /// A pass by hand or from a timer: it does everything, and takes 10 minutes at the most.
    pub fn by_hand(cancellation: Cancellation) -> Self {
        Self {
            dry_run: false,
            own: Vec::new(),
            own_run: None,
            budget: Duration::from_mins(10),
            cancellation,
            retry: Vec::new(),
        }
    }
}

/// What a pass found and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// One entry a candidate, in order of domains.
    pub findings: Vec<Finding>,
    /// What could not be asked. The pass went on without it.
    pub warnings: Vec<String>,
    /// What is no app's, stands in the place of something of the engine's, and was left there.
    pub in_the_way: Vec<String>,
    /// The images that runs had pulled, that nobody used any more, and that are gone now.
    pub images: Vec<String>,
}

impl Report {
    /// Whether all that is left is what nodes may have that can't be seen, and what says so.
    pub fn leaves_only_debts(&self) -> bool {
        let mut left = self.findings.iter().filter(|finding| is_left(finding.decision)).peekable();
        self.in_the_way.is_empty()
            && left.peek().is_some()
            && left.all(|finding| finding.decision == Decision::Failed && Resource::only_owed(&finding.left))
    }

    /// Whether something is left that no living run owns.
    pub fn leaves_residue(&self) -> bool {
        !self.in_the_way.is_empty() || self.findings.iter().any(|finding| is_left(finding.decision))
    }
}

fn is_left(decision: Decision) -> bool {
    matches!(decision, Decision::Failed | Decision::NotReached | Decision::WouldReap | Decision::Quarantined)
}

/// One candidate, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Finding {
    /// The run app.
    pub domain: Domain,
    /// What was decided, and done.
    pub decision: Decision,
    /// What was removed, or would be.
    pub removed: Vec<Resource>,
    /// What is still there.
    pub left: Vec<Resource>,
    /// Who owns it, of a live one.
    pub holder: Option<Holder>,
    /// What went wrong, or is worth knowing.
    pub detail: Vec<String>,
}

impl Finding {
    /// Whether it says more than that all is as it should be.
    pub fn is_worth_a_line(&self) -> bool {
        !self.detail.is_empty()
            || !matches!(self.decision, Decision::Live | Decision::Own | Decision::StaleLock)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.domain, self.decision)?;
        for (what, residue) in [("", &self.removed), ("left: ", &self.left)] {
            if !residue.is_empty() {
                write!(f, ": {what}{}", Resource::brief(residue))?;
            }
        }
        self.detail.iter().try_for_each(|line| write!(f, "; {line}"))
    }
}

/// The rows of the janitor's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decision {
    /// An orphan: everything was removed, verified, and its lock file with it.
    Reaped,
    /// Nothing but a free lock file, which is gone.
    StaleLock,
    /// A live concurrent run, left alone.
    Live,
    /// The caller's own, not even probed.
    Own,
    /// Something could not be removed; the lock file stays.
    Failed,
    /// Passes before could not reap it, and it is not tried again yet.
    Quarantined,
    /// The budget or the pass ended before.
    NotReached,
    /// Dry run: an orphan.
    WouldReap,
    /// Dry run: a free lock file.
    WouldRemoveLock,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reaped => "orphan, reaped",
            Self::StaleLock => "stale lock file, removed",
            Self::Live => "live concurrent run, leaving it",
            Self::Own => "this run's own, leaving it",
            Self::Failed => "could not be reaped",
            Self::Quarantined => "in quarantine",
            Self::NotReached => "not reached",
            Self::WouldReap => "orphan, would be reaped",
            Self::WouldRemoveLock => "stale lock file, would be removed",
        })
    }
}

fn finding(domain: &Domain, decision: Decision) -> Finding {
    Finding {
        domain: domain.clone(),
        decision,
        removed: Vec::new(),
        left: Vec::new(),
        holder: None,
        detail: Vec::new(),
    }
}
