//! Fetched → locked: the locks of all the run's domains.

use std::time::Instant;

use super::state::Run;
use crate::lock::{AppGuard, Wait};
use crate::model::failure::Failure;
use crate::names::Domain;

/// Takes the locks of all domains, in their order, so that two runs never wait for each other, and keeps them in `held`,
/// which outlives the body. Nothing is deployed before all are held, so a wait that ends early gives back what it has.
pub(super) async fn acquire<'l>(
    run: &Run<'_>,
    held: &'l mut Vec<AppGuard>,
) -> Result<&'l [AppGuard], Failure> {
    let lifetime = &run.harness.lifetime;
    let _clock_stands_still = lifetime.hold_deadline();
    let began = Instant::now();
    let until = crate::sys::after(began, run.harness.settings.lock_timeout);
    let domains = run.record().domains.clone();
    let mut guards = Vec::new();
    for domain in &domains {
        let wait = Wait::Until(until.saturating_duration_since(Instant::now()));
        let (locks, reporter) = (&run.ci_host.locks, run.context.reporter.as_ref());
        guards.push(locks.acquire(domain, wait, lifetime.cancellation(), reporter).await?);
    }
    *held = guards;
    run.owners.add(held.iter());
    {
        let mut record = run.record();
        record.lock_waited_seconds = began.elapsed().as_secs_f64();
        record.owned = true;
    }
    // Written before the locks are checked, and others' are read after: of two that took different files for one
    // domain, one at least sees the other.
    run.write_record().await?;
    run.owners.check_all()?;
    refuse_live_owners(run, &domains).await?;
    Ok(held)
}

/// A run may work on the domain though its lock file was removed: what this run would tear down is the other one's.
async fn refuse_live_owners(run: &Run<'_>, domains: &[Domain]) -> Result<(), Failure> {
    let domains: Vec<&Domain> = domains.iter().collect();
    let live = run.ci_host.live_owners(&domains, Some(&run.context.run_id)).await?;
    let Some((domain, other)) = live.first() else { return Ok(()) };
    let text = format!(
        "run {} (pid {}) still works on {domain}, though its lock file was removed or replaced",
        other.id, other.owner.pid
    );
    run.owners.give_up(domain, &text);
    let hint = format!("wait until it has ended, or end it: kill {}; then try again", other.owner.pid);
    Err(Failure::host(text).with_hint(hint))
}
