//! The quick lane: the recipe's warm app is upgraded in place to the commit under test, tested, and rolled back.
//!
//! Confidence is lower than the cold lane's: nothing is installed, backed up or restored, and what an upgrade does to
//! the data stays. The rollback is this lane's teardown.

use std::collections::BTreeMap;

use super::baseline::Baseline;
use super::checks;
use super::diff::Before;
use super::ready::Ready;
use super::recipe;
use super::restore::set_dirty;
use super::step::StepOutcome;
use super::test_run::Tests;
use super::tier_run::TierRun;
use crate::engine::{App, ServiceState};
use crate::model::failure::Failure;
use crate::model::record::{Receipt, Tier, TierName};

/// The lane's body. The app is its own and serves its baseline; what it is like goes to `before`.
pub(super) async fn lane(
    ready: &Ready<'_>,
    baseline: &Baseline,
    before: &mut Option<Before>,
) -> Result<(), Failure> {
    let run = ready.run;
    let app = run.main_app();
    let tests = Tests::new(ready);
    for name in TierName::QUICK {
        run.record().put_tier(Tier::not_run(name));
    }
    skip(&tests, TierName::Install, "the quick lane upgrades the warm app, and installs none").await?;
    let before = &*before.insert(Before::take(run, &app.domain).await?);
    // Before anything is changed: whoever finds this run dead must know what it had not added.
    {
        let mut record = run.record();
        record.receipt.get_or_insert_with(Receipt::default).before.clone_from(&before.persistent);
    }
    run.write_record().await?;
    baseline.copy_env(run, &app.env_file).await.map_err(Failure::not_the_recipes)?;
    let last = before.services.clone();
    let mut quick = Quick { tests: &tests, app, first: &before.services, last };
    if let Some(version) = baseline.version_under_test(ready.fetched) {
        let why = format!("the commit under test is the baseline, {version}");
        skip(&tests, TierName::Upgrade, &why).await?;
        let (directory, secrets) = (run.directory.clone(), run.secrets_directory(&quick.app));
        let made = run.context.lifetime.blocking_tasks().run(move || directory.make_private(&secrets)).await;
        made.map_err(|error| Failure::host("can't make the tests' directory of secrets").with_source(error))?;
    } else {
        let mut tier = TierRun::begin(&tests, TierName::Upgrade).await;
        tier.proves(ready.fetched.revision().name);
        let end = quick.upgrade(&mut tier).await;
        if !tier.end(end).await? {
            return Ok(());
        }
    }
    for name in [TierName::Backup, TierName::Restore] {
        skip(&tests, name, "the quick lane changes nothing of the warm app's data on purpose").await?;
    }
    let mut tier = TierRun::begin(&tests, TierName::Custom).await;
    let end = quick.custom(&mut tier).await;
    tier.end(end).await.map(drop)
}

async fn skip(tests: &Tests<'_>, name: TierName, why: &str) -> Result<(), Failure> {
    TierRun::begin(tests, name).await.end(Ok(StepOutcome::skipped(why))).await.map(drop)
}

/// The app under test, from tier to tier.
struct Quick<'r> {
    tests: &'r Tests<'r>,
    app: App,
    /// The services before the upgrade.
    first: &'r [ServiceState],
    /// The services right after it; before where there is none.
    last: Vec<ServiceState>,
}

impl Quick<'_> {
    async fn services(&self) -> Result<Vec<ServiceState>, Failure> {
        self.tests.ready.run.harness.ci_host.engine.services(&self.app.domain).await
    }

    async fn upgrade(&mut self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        let ready = self.tests.ready;
        // What would touch what is not the app's own is red before the app is touched.
        tier.must("check", async {
            recipe::add_new_variables(ready.run, &self.app).await?;
            recipe::check(ready.run, &self.app).await
        })
        .await?;
        let tested = ready.fetched.revision();
        set_dirty(ready.run, true).await?;
        tier.must("upgrade", async {
            ready.upgrade(&self.app, &tested).await?;
            self.last = self.services().await?;
            Ok(())
        })
        .await?;
        tier.check("serving", checks::serving(ready.run, &self.app)).await?;
        tier.check("healthy", async { checks::healthy(&self.services().await?) }).await?;
        // The recipe's own upgrade tests compare with what its install tests wrote, and none was installed here.
        let end = self.check_unchanged(tier).await?;
        // What install steps would set is not known here.
        if self.tests.scripts().install_steps.is_empty() {
            let set_by_steps = BTreeMap::new();
            let judged = recipe::check_fresh(ready.run, &self.app, &set_by_steps);
            tier.check("fresh-install", judged).await?;
        }
        Ok(end)
    }

    async fn custom(&mut self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        if tier.has_scripts() {
            // A test may change the app that nothing was upgraded of, too.
            set_dirty(self.tests.ready.run, true).await?;
        }
        let end = tier.scripts().await?;
        self.check_unchanged(tier).await?;
        Ok(end.into())
    }

    /// Nothing restarted since the upgrade, and nothing was made anew by it.
    async fn check_unchanged(&self, tier: &mut TierRun<'_>) -> Result<StepOutcome, Failure> {
        tier.check("no-restart", async { checks::no_restart(&self.last, &self.services().await?) }).await?;
        tier.check("in-place", async { checks::in_place(self.first, &self.services().await?) }).await?;
        Ok(StepOutcome::Passed)
    }
}
