//! Rolling a warm app back to its baseline: the quick lane's part of the teardown.
//!
//! Whatever ends the body, it is done, once, under the app's lock and within the teardown's budget. It never removes the
//! app.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::{Before, pending_requests_are_done, persistent, remove_added};
use super::held::HeldWarm;
use super::restore::Restore;
use super::state::Run;
use super::step::StepOutcome;
use super::tier_run::TierRun;
use crate::engine::{Resource, ServiceState};
use crate::lifetime::Teardown;
use crate::lock::AppGuard;
use crate::model::cancellation::Cause;
use crate::model::failure::Failure;
use crate::model::record::{Receipt, TierName};

/// How a rollback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RolledBack {
    /// The app is what it was.
    AsBefore,
    /// It is at its baseline, and was something else before.
    AtBaseline,
    /// Nobody knows.
    Unproven,
}

/// Brings the warm app back to what it was, and proves it.
pub(super) async fn roll_back(
    run: &Run<'_>,
    guards: &[AppGuard],
    warm: &HeldWarm,
    in_flight: bool,
    teardown: &Teardown,
    receipt: &mut Receipt,
) -> RolledBack {
    let context = run.context.in_teardown();
    let mut tier = TierRun::without_tests(run, TierName::Rollback, guards).await;
    let mut at_baseline = false;
    let end = {
        let restore = Restore::new(run, &warm.baseline, &context);
        let mut steps = Steps { run, warm, restore, in_flight, at_baseline: &mut at_baseline };
        let work = Box::pin(steps.all(&mut tier, teardown, receipt));
        tokio::time::timeout_at(teardown.until.into(), work).await
    };
    let end = end.unwrap_or_else(|_| {
        context.lifetime.cancellation().cancel(Cause::Deadline);
        Err(Failure::host("the teardown's budget is spent"))
    });
    match tier.end(end).await {
        Ok(true) => {
            receipt.verified.push(warm.baseline.app.domain.clone());
            RolledBack::AsBefore
        }
        Ok(false) => RolledBack::Unproven,
        Err(failure) if at_baseline => {
            run.fail(&failure.chain());
            RolledBack::AtBaseline
        }
        Err(failure) => {
            receipt.failures.push(failure.chain());
            RolledBack::Unproven
        }
    }
}

struct Steps<'r> {
    run: &'r Run<'r>,
    warm: &'r HeldWarm,
    restore: Restore<'r>,
    in_flight: bool,
    /// Set where the app is at its baseline again, and that is not what it was before.
    at_baseline: &'r mut bool,
}

impl Steps<'_> {
    async fn all(
        &mut self,
        tier: &mut TierRun<'_>,
        teardown: &Teardown,
        receipt: &mut Receipt,
    ) -> Result<StepOutcome, Failure> {
        let Some(before) = &self.warm.before else {
            // It was ended while it restored the baseline.
            Box::pin(tier.must("redeploy", async { self.restore.restore().await.map(drop) })).await?;
            return Ok(StepOutcome::Passed);
        };
        pending_requests_are_done(self.run, self.in_flight).await;
        let mut again = false;
        Box::pin(tier.must("redeploy", async {
            self.restore.make_ready().await?;
            again = self.restore.redeploy_or_again(&before.persistent, teardown.until).await?;
            Ok(())
        }))
        .await?;
        tier.must("remove", async {
            let in_flight = self.in_flight || again;
            let app = &self.warm.baseline.app;
            receipt.removed = remove_added(self.run, app, &before.persistent, in_flight).await?;
            Ok(())
        })
        .await?;
        tier.must("as-before", self.is_as_before(before)).await?;
        Ok(StepOutcome::Passed)
    }

    async fn is_as_before(&mut self, before: &Before) -> Result<(), Failure> {
        let domain = &self.warm.baseline.app.domain;
        let now = persistent(self.run, domain).await?;
        let lost: Vec<Resource> =
            before.persistent.iter().filter(|resource| !now.contains(resource)).cloned().collect();
        if !lost.is_empty() {
            return Err(Failure::recipe(format!("the app lost {}", Resource::list(&lost))));
        }
        // What is not the baseline's is gone: the app is what was just deployed and proven, and was something else
        // before.
        let gained: Vec<Resource> =
            now.into_iter().filter(|resource| !before.persistent.contains(resource)).collect();
        let services = self.run.harness.ci_host.engine.services(domain).await?;
        let differs = match compare(&before.services, &services) {
            Err(reason) => reason,
            Ok(()) if gained.is_empty() => return Ok(()),
            Ok(()) => format!("the app gained {}", Resource::list(&gained)),
        };
        *self.at_baseline = true;
        Err(Failure::host(format!(
            "{domain} was not what its .env and recipe say when the run began: they had changed since it was last \
             deployed; it is at its baseline now ({differs})"
        )))
    }
}

/// Every service is there, and made of what it was made of.
fn compare(before: &[ServiceState], now: &[ServiceState]) -> Result<(), String> {
    let specs = |services: &[ServiceState]| -> BTreeMap<String, String> {
        services.iter().map(|service| (service.name.clone(), service.spec.clone())).collect()
    };
    let (before, now) = (specs(before), specs(now));
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).map(String::as_str).collect();
    let differs: Vec<&str> = names.into_iter().filter(|name| before.get(*name) != now.get(*name)).collect();
    if differs.is_empty() {
        Ok(())
    } else {
        Err(format!("not as before the upgrade: {}", differs.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, spec: &str) -> ServiceState {
        ServiceState {
            name: name.into(),
            order: String::new(),
            id: "1".into(),
            created: "1".into(),
            tasks: Vec::new(),
            healthy: true,
            spec: spec.into(),
            version: None,
        }
    }

    #[test]
    fn another_spec_another_service_and_a_missing_one_are_not_as_before() {
        let before = [service("app", "1"), service("db", "1")];
        assert!(compare(&before, &before).is_ok());
        for (now, culprit) in [
            (vec![service("app", "2"), service("db", "1")], "app"),
            (vec![service("app", "1")], "db"),
            (vec![service("app", "1"), service("db", "1"), service("new", "1")], "new"),
        ] {
            let reason = compare(&before, &now).unwrap_err();
            assert!(reason.ends_with(culprit), "{reason}");
        }
    }
}
