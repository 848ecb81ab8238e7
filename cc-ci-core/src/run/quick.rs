//! The quick lane: the recipe's warm app is upgraded in place to the commit under test, tested, and rolled back.
//!
//! Confidence is lower than the cold lane's: nothing is installed, backed up or restored, and what an upgrade does to
//! the data stays. The rollback is this lane's teardown: whatever ends the body, it is done, once, under the app's lock
//! and within the teardown's budget. It never removes the app.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Failure;
use super::checks;
use super::conclude::write_record;
use super::drive::Running;
use super::scripts::Scripts;
use super::tiers::{Halt, OpenTier, StepError};
use crate::engine::{App, EngineError, Kind, Residue, ServiceState, Session};
use crate::lifetime::ChildrenEnded;
use crate::model::cancellation::Cause;
use crate::model::exit::Exit;
use crate::model::record::{Receipt, Status, Tier, TierName};

/// Removing the run's tree must still be possible when the budget is spent.
pub(super) const LAST_WORK: Duration = Duration::from_secs(5);

/// The lane's body. The app is its own and serves its canonical version.
pub(super) async fn lane(run: &Running<'_>) -> Result<(), Failure> {
    let app = run.main_app();
    let scripts = run.snapshot_scripts().await?;
    for name in TierName::QUICK {
        run.record().put_tier(Tier::not_run(name));
    }
    skip(run, &scripts, TierName::Install, "the quick lane upgrades the warm app, and installs none")?;
    let before = run.note_before(&app.domain).await?;
    // Before anything is changed: whoever finds this run dead must know what it had not added.
    {
        let mut record = run.record();
        record.receipt.get_or_insert_with(Receipt::default).before.clone_from(&before.lasting);
    }
    write_record(&run.directory, &run.record(), &run.session.redactor)?;
    run.copy_env(&app.env_file).map_err(|error| match error {
        StepError::Broken(failure) => failure,
        StepError::Failed(reason) | StepError::Skipped(reason) => Failure::host(reason),
    })?;
    let mut quick = Quick { run, app, first: &before.services, last: before.services.clone() };
    if let Some(version) = run.canonical_under_test()? {
        let why = format!("the commit under test is the canonical version, {version}");
        skip(run, &scripts, TierName::Upgrade, &why)?;
        run.directory
            .make_private(&run.secrets_directory(&quick.app))
            .map_err(|error| Failure::host(format!("can't make the tests' directory of secrets: {error}")))?;
    } else {
        let mut tier = OpenTier::begin(run, &scripts, TierName::Upgrade);
        tier.proves(run.tested()?.name);
        let end = quick.upgrade(&mut tier).await;
        if !tier.end(end)? {
            return Ok(());
        }
    }
    for name in [TierName::Backup, TierName::Restore] {
        skip(run, &scripts, name, "the quick lane changes nothing of the warm app's data on purpose")?;
    }
    let mut tier = OpenTier::begin(run, &scripts, TierName::Custom);
    let end = quick.custom(&mut tier).await;
    tier.end(end).map(drop)
}

fn skip(run: &Running<'_>, scripts: &Scripts, name: TierName, why: &str) -> Result<(), Failure> {
    OpenTier::begin(run, scripts, name).end(Err(Halt::Skipped(why.to_owned()))).map(drop)
}

/// The app under test, from tier to tier.
struct Quick<'r> {
    run: &'r Running<'r>,
    app: App,
    /// The services before the upgrade.
    first: &'r [ServiceState],
    /// The services right after it; before where there is none.
    last: Vec<ServiceState>,
}

impl Quick<'_> {
    async fn services(&self) -> Result<Vec<ServiceState>, EngineError> {
        self.run.harness.site.engine.services(&self.app.domain).await
    }

    async fn upgrade(&mut self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        let (run, app) = (self.run, self.app.clone());
        // What would touch what is not the app's own is red before the app is touched.
        tier.must("check", async {
            run.add_new_variables(&app).await?;
            run.check_recipe(&app).await
        })
        .await?;
        let tested = run.tested().map_err(Halt::Run)?;
        run.touch(true).map_err(Halt::Run)?;
        tier.must("upgrade", async {
            run.upgrade_in_place(&app, &tested).await?;
            self.last = self.services().await?;
            Ok(())
        })
        .await?;
        tier.check("serving", checks::serving(&run.harness, &app)).await?;
        tier.check("healthy", async { checks::healthy(&self.services().await?) }).await?;
        // The recipe's own upgrade tests compare with what its install tests wrote, and none was installed here.
        self.unchanged(tier).await
    }

    async fn custom(&mut self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        let none = !tier.has_scripts();
        if !none {
            // A test may change the app that nothing was upgraded of, too.
            self.run.touch(true).map_err(Halt::Run)?;
        }
        tier.scripts().await?;
        self.unchanged(tier).await?;
        if none {
            Err(Halt::Skipped("neither the operator nor the recipe has custom tests".to_owned()))
        } else {
            Ok(())
        }
    }

    /// Nothing restarted since the upgrade, and nothing was made anew by it.
    async fn unchanged(&self, tier: &mut OpenTier<'_>) -> Result<(), Halt> {
        tier.check("no-restart", async { checks::no_restart(&self.last, &self.services().await?) }).await?;
        tier.check("in-place", async { checks::in_place(self.first, &self.services().await?) }).await
    }
}

impl Running<'_> {
    /// Brings the warm app back to what it was, where this run may have touched it, and proves it. What can't be
    /// proven keeps the run's tree: it tells the next `cc-ci warm reconcile`, or quick run, what to finish; what helps
    /// then comes with it.
    pub(super) async fn roll_back(&self, ended: &ChildrenEnded, dropped: bool) -> (Exit, Option<String>) {
        let teardown = self.harness.lifetime.begin_teardown();
        self.enter("rollback");
        let domain = self.record().domain.clone();
        let mut receipt = self.record().receipt.clone().unwrap_or_default();
        receipt.left.extend(ended.left.iter().map(|pid| Residue::new(Kind::Process, format!("pid {pid}"))));
        let at_work = !ended.left.is_empty() || ended.jobs_left > 0;
        let (mut done, mut another) = (!at_work, false);
        if at_work {
            receipt
                .failures
                .push("the run's own work did not end in time, so nothing was rolled back".to_owned());
        } else if self.record().touched {
            let session = self.session.in_teardown();
            let (scripts, in_flight) = (Scripts::default(), dropped || ended.by_force);
            let mut tier = OpenTier::begin(self, &scripts, TierName::Rollback);
            let work = self.rollback_steps(&mut tier, &session, in_flight, &mut receipt, &mut another);
            let end = tokio::time::timeout_at(teardown.until.into(), work).await;
            let end = end.unwrap_or_else(|_| {
                session.lifetime.cancellation().cancel(Cause::Deadline);
                Err(Halt::Run(Failure::host("the teardown's budget is spent")))
            });
            done = match tier.end(end) {
                Ok(passed) => {
                    receipt.verified.extend(passed.then(|| domain.clone()));
                    passed
                }
                Err(failure) if another => {
                    let message = self.session.redactor.redact(&failure.message);
                    self.record().errors.push(message);
                    true
                }
                Err(failure) => {
                    receipt.failures.push(failure.message);
                    false
                }
            };
            if done {
                // Its record is written with the result.
                self.record().touched = false;
            }
        } else if let Some(tier) = self.record().tier_mut(TierName::Rollback) {
            tier.status = Status::Skipped;
            tier.reason = Some("the app was not touched".to_owned());
        }
        let orphans = self.harness.lifetime.end_children().await.left;
        let orphans = orphans.iter().filter(|pid| !ended.left.contains(pid));
        receipt.left.extend(orphans.map(|pid| Residue::new(Kind::Process, format!("pid {pid}"))));
        if done {
            let directory = self.directory.clone();
            let removal = self.harness.lifetime.jobs().run(move || directory.remove_tree());
            match tokio::time::timeout(teardown.remaining().max(LAST_WORK), removal).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => receipt.failures.push(crate::model::error_chain(&error)),
                Err(_) => receipt.failures.push("removing the run's tree took too long".to_owned()),
            }
            let tree = self.directory.leftover();
            receipt
                .left
                .extend(tree.iter().map(|path| Residue::new(Kind::RunTree, path.display().to_string())));
        } else {
            receipt.failures.push(format!(
                "{domain} may not be as it was: bring it back with `cc-ci warm reconcile {domain}`"
            ));
        }
        let exit = match (done && receipt.left.is_empty(), another) {
            (true, false) => Exit::Green,
            (true, true) => Exit::Harness,
            (false, _) => Exit::Residue,
        };
        let hint = (!done).then(|| format!("bring {domain} back: cc-ci warm reconcile {domain}"));
        for failure in &mut receipt.failures {
            *failure = self.session.redactor.redact(failure);
        }
        self.record().receipt = Some(receipt);
        (exit, hint)
    }

    /// Sets `another` where the app is canonical again, and that is not what it was before.
    async fn rollback_steps(
        &self,
        tier: &mut OpenTier<'_>,
        session: &Session,
        in_flight: bool,
        receipt: &mut Receipt,
        another: &mut bool,
    ) -> Result<(), Halt> {
        let Some(before) = self.warm.before.get() else {
            // It was ended while it brought the app back.
            return tier
                .must("redeploy", async { self.bring_back(session).await.map_err(StepError::Broken) })
                .await;
        };
        let (engine, domain) = (self.harness.site.engine.as_ref(), self.record().domain.clone());
        let until = self.harness.lifetime.begin_teardown().until;
        self.orders_are_done(in_flight).await;
        let mut again = false;
        tier.must("redeploy", async {
            self.make_ready(session).await?;
            again = self.redeploy_or_again(session, &before.lasting, until).await?;
            Ok(())
        })
        .await?;
        tier.must("remove", async {
            receipt.removed = self.remove_added(&before.lasting, in_flight || again).await?;
            Ok(())
        })
        .await?;
        tier.must("as-before", async {
            let now = self.lasting().await?;
            let lost: Vec<Residue> =
                before.lasting.iter().filter(|residue| !now.contains(residue)).cloned().collect();
            if !lost.is_empty() {
                return Err(StepError::Failed(format!("the app lost {}", Residue::list(&lost))));
            }
            // What is not the canonical version's is gone: the app is what was just deployed and proven, and was
            // something else before.
            let gained: Vec<Residue> =
                now.into_iter().filter(|residue| !before.lasting.contains(residue)).collect();
            let differs = match as_before(&before.services, &engine.services(&domain).await?) {
                Err(reason) => reason,
                Ok(()) if gained.is_empty() => return Ok(()),
                Ok(()) => format!("the app gained {}", Residue::list(&gained)),
            };
            *another = true;
            Err(StepError::Broken(Failure::host(format!(
                "{domain} was not what its .env and recipe say when the run began: they had changed since it was last \
                 deployed; it is canonical now ({differs})"
            ))))
        })
        .await
    }

    /// Redeploys, and once more where the deployer or the host failed: abra may fall over once, or the engine refuse an
    /// order that crossed a step of the update which it was to end. Gives whether it was once more.
    async fn redeploy_or_again(
        &self,
        session: &Session,
        before: &[Residue],
        until: Instant,
    ) -> Result<bool, StepError> {
        let Err(error) = self.redeploy(session, Some(before), until).await else { return Ok(false) };
        let StepError::Broken(failure) = error else { return Err(error) };
        self.warn(&format!("the canonical version is deployed once more: {}", failure.message));
        // The call may have been killed.
        self.orders_are_done(true).await;
        self.redeploy(session, Some(before), until).await?;
        Ok(true)
    }
}

/// Every service is there, and made of what it was made of.
fn as_before(before: &[ServiceState], now: &[ServiceState]) -> Result<(), String> {
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
        assert!(as_before(&before, &before).is_ok());
        for (now, culprit) in [
            (vec![service("app", "2"), service("db", "1")], "app"),
            (vec![service("app", "1")], "db"),
            (vec![service("app", "1"), service("db", "1"), service("new", "1")], "new"),
        ] {
            let reason = as_before(&before, &now).unwrap_err();
            assert!(reason.ends_with(culprit), "{reason}");
        }
    }
}
