//! The whole cold lane: the newest release with all tiers, then a pass of its own for each older release that was selected.
//!
//! A pass begins where a run does: the app is taken down whole and verified empty, the release is deployed, once,
//! tested and probed, and upgraded in place to the commit under test. So the recipe's tests see what they see in the
//! main lane, a `CCCI_STATE_DIR` of this pass alone included, and one that fails says nothing of the other releases.

use super::cold::{Cold, tier_from};
use super::keep;
use super::ready::Ready;
use super::recover::empty;
use super::service_logs;
use super::state::Revision;
use super::step::StepOutcome;
use super::test_run::Tests;
use super::tier_run::TierRun;
use crate::janitor::PendingRequests;
use crate::model::failure::Failure;
use crate::model::record::{Tier, TierName};

/// The lane.
pub(super) async fn lane(ready: &Ready<'_>) -> Result<(), Failure> {
    let run = ready.run;
    ready.deploy_dependencies().await?;
    let releases: Vec<Revision> = ready.fetched.upgrade_from.iter().map(Revision::release).collect();
    let (previous, older) =
        releases.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
    for name in TierName::ALL {
        let tier = if name == TierName::Upgrade { tier_from(name, previous) } else { Tier::not_run(name) };
        run.record().put_tier(tier);
    }
    for release in older {
        run.record().put_tier(tier_from(TierName::Upgrade, Some(release)));
    }
    Box::pin(Cold::new(&Tests::new(ready)).all_tiers(previous)).await?;
    let mut is_kept = false;
    for release in older {
        // Another pass takes down what somebody wants to look at.
        is_kept = is_kept || keep::is_due(ready).await;
        if is_kept {
            let reason = Some(keep::NOT_TRIED.to_owned());
            run.record().put_tier(Tier { reason, ..tier_from(TierName::Upgrade, Some(release)) });
        } else {
            Box::pin(pass(ready, release)).await?;
        }
    }
    if is_kept || keep::is_due(ready).await {
        keep::keep(ready).await;
    }
    Ok(())
}

/// One pass. A red one does not keep the next from running.
async fn pass(ready: &Ready<'_>, release: &Revision) -> Result<(), Failure> {
    let tests = Tests::of_pass(ready, &release.name);
    let phase = format!("upgrade from {}", release.name);
    let mut tier = TierRun::open(&tests, tier_from(TierName::Upgrade, Some(release)), &phase).await;
    let tested = ready.fetched.revision();
    tier.proves(tested.name.clone());
    let end = steps(&tests, &mut tier, release, &tested).await;
    tier.end(end).await.map(drop)
}

async fn steps(
    tests: &Tests<'_>,
    tier: &mut TierRun<'_>,
    release: &Revision,
    tested: &Revision,
) -> Result<StepOutcome, Failure> {
    start_over(tests.ready).await?;
    let mut app = Cold::new(tests);
    tier.enter_stage(TierName::Install, &release.name);
    app.install_steps(tier, release).await?;
    if tier.is_red() {
        return Ok(StepOutcome::Passed);
    }
    tier.enter_stage(TierName::Upgrade, &tested.name);
    app.upgrade_steps(tier, tested).await
}

/// Takes the app under test down whole, so that another release can be deployed in its place.
async fn start_over(ready: &Ready<'_>) -> Result<(), Failure> {
    let (run, app) = (ready.run, ready.run.main_app());
    service_logs::keep(run, service_logs::LIMIT).await;
    for guard in ready.guards.iter().filter(|guard| *guard.domain() == app.domain) {
        // A call of ours may have been killed by its bound.
        let emptied = empty(run, guard, PendingRequests::InFlight, "taken down").await?;
        if let Some(receipt) = &mut run.record().receipt {
            receipt.removed.extend(emptied.removed);
        }
    }
    let (directory, secrets) = (run.directory.clone(), run.secrets_directory(&app));
    let removed = run.context.lifetime.blocking_tasks().run(move || directory.remove(&secrets)).await;
    removed.map_err(|error| Failure::host("can't remove the secrets of the app before").with_source(error))
}
