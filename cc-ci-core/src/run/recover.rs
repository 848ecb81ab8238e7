//! Locked → empty: what crashed runs left is removed, of one's own domains first.

use std::time::{Duration, Instant};

use super::state::Run;
use crate::engine::{Kind, Resource};
use crate::janitor::{HostJanitor, Janitor as _, Pass, PendingRequests, Reaped, reap};
use crate::lock::AppGuard;
use crate::model::failure::Failure;
use crate::model::record::Receipt;

/// What emptying one domain may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Makes the run's own domains empty (I4), whatever a dead owner left.
pub(super) async fn recover(run: &Run<'_>, guards: &[AppGuard]) -> Result<(), Failure> {
    let mut receipt = Receipt::default();
    for guard in guards {
        let reaped = empty(run, guard, PendingRequests::Unknown, "recovered").await?;
        if !reaped.removed.is_empty() {
            let (domain, removed) = (guard.domain(), Resource::brief(&reaped.removed));
            run.note(format!("{domain}: a dead run had left {removed}; removed"));
        }
        receipt.recovered.extend(reaped.removed);
    }
    run.record().receipt = Some(receipt);
    Ok(())
}

/// Makes a domain of the run empty, and verifies it.
pub(super) async fn empty(
    run: &Run<'_>,
    guard: &AppGuard,
    pending: PendingRequests,
    done: &str,
) -> Result<Reaped, Failure> {
    let reaped = reap(&run.harness.ci_host, guard, Some(&run.context.run_id), pending, LIMIT).await?;
    if let Some(lost) = reaped.lost {
        return Err(lost.into());
    }
    if reaped.left.is_empty() {
        return Ok(reaped);
    }
    let (domain, left) = (guard.domain(), Resource::brief(&reaped.left));
    let why = reaped.failures.join("; ");
    let failure = Failure::host(format!("{domain} could not be {done}; left: {left}; {why}"));
    Err(match reaped.left.iter().find(|resource| resource.kind == Kind::UnseenNode) {
        Some(Resource { name: node, .. }) => failure.with_hint(format!(
            "bring the node {node} back; or, where it left the Swarm for good: cc-ci janitor --forget-node {node}"
        )),
        None => failure,
    })
}

/// A janitor's pass over everybody else's leftovers. Its failure is a warning.
pub(super) async fn sweep_others(run: &Run<'_>) {
    let janitor = HostJanitor::new(run.ci_host.clone(), run.harness.lifetime.clone());
    let pass = Pass {
        dry_run: false,
        own: run.record().domains.clone(),
        own_run: Some(run.context.run_id.clone()),
        budget: run.harness.settings.janitor_budget,
        cancellation: run.harness.lifetime.cancellation().clone(),
        retry: Vec::new(),
    };
    let until = crate::sys::after(Instant::now(), pass.budget);
    match janitor.pass(&pass).await {
        Ok(report) => {
            for finding in report.findings.iter().filter(|finding| finding.is_worth_a_line()) {
                run.note(format!("janitor: {finding}"));
            }
            for warning in report.warnings.iter().chain(&report.in_the_way) {
                run.warn(&format!("janitor: {warning}"));
            }
        }
        Err(failure) => run.warn(&format!("janitor: {}", failure.chain())),
    }
    // One budget for both.
    let pass = Pass { budget: until.saturating_duration_since(Instant::now()), ..pass };
    for warning in janitor.prune(run.harness.settings.keep_runs, &pass).await {
        run.warn(&warning);
    }
}
