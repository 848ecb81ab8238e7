//! Restoring a warm app's baseline: what `cc-ci warm reconcile`, the start of a quick run and its rollback all do.

use std::time::{Duration, Instant};

use super::baseline::Baseline;
use super::checks;
use super::diff::{REMOVAL_LIMIT, added, on_one_node, pending_requests_are_done, remove_added};
use super::integrity::{env_text, put_env_back};
use super::recipe;
use super::scripts::Scripts;
use super::state::Run;
use crate::engine::{Kind, Resource, RunContext, ServiceState};
use crate::inventory::ci_host::left_groups;
use crate::inventory::run_store::RunSummary;
use crate::janitor::{end_orphans, remove_groups};
use crate::model::failure::{Failure, Fault};
use crate::model::record::{Lane, TierName};
use crate::workspace::WorkspaceError;

/// Nothing but the recipe's own limit, or the configured one, bounds a wait here.
const FAR: Duration = Duration::from_hours(24);

/// What restoring took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// The baseline's version.
    pub version: String,
    /// Why it was deployed again; empty where all was as it should be, and nothing was touched.
    pub reasons: Vec<String>,
    /// Whether there was no app.
    pub was_down: bool,
    /// What a dead run had added, and is gone.
    pub removed: Vec<Resource>,
}

/// The work of `context` on a warm app whose lock the caller holds.
#[derive(Debug)]
pub(super) struct Restore<'r> {
    run: &'r Run<'r>,
    baseline: &'r Baseline,
    context: &'r RunContext,
}

impl<'r> Restore<'r> {
    pub fn new(run: &'r Run<'r>, baseline: &'r Baseline, context: &'r RunContext) -> Self {
        Self { run, baseline, context }
    }

    /// Brings the warm app to its baseline, where it is not: a dead run may have left it in the middle of an upgrade.
    /// Where all is as it should be, nothing is touched.
    pub async fn restore(&self) -> Result<Restored, Failure> {
        let (run, app) = (self.run, &self.baseline.app);
        let (ci_host, domain) = (&run.harness.ci_host, &app.domain);
        let mut failures = end_orphans(ci_host.host.as_ref(), domain).await.failures;
        // No janitor comes to a warm app.
        let of_domain = domain.clone();
        let look = move || left_groups(|of| *of == of_domain);
        let left = run.harness.lifetime.blocking_tasks().run(look).await?;
        let groups: Vec<Resource> = left.into_iter().map(|(_, group)| group).collect();
        failures.extend(remove_groups(&groups).await);
        if !failures.is_empty() {
            let failures = failures.join("; ");
            return Err(Failure::host(format!("what a dead owner left running on {domain}: {failures}")));
        }
        let executor = run.harness.deployer.to_string();
        let (mut dead, mut untouched) = ci_host.over_on(domain, &executor).await?;
        for runs in [&mut dead, &mut untouched] {
            runs.retain(|other| other.id != run.context.run_id);
        }
        for other in &untouched {
            self.discard(other).await?;
        }
        let services = ci_host.engine.services(domain).await?;
        // Put down on purpose, for all that a test knows.
        if services.is_empty() && dead.is_empty() && run.lane() == Lane::Quick {
            return Err(Failure::configuration(format!("the warm app {domain} is not deployed"))
                .with_hint(format!("deploy its baseline: cc-ci warm reconcile {domain}")));
        }
        let version = self.baseline.release.version.to_string();
        let failed =
            |failure: Failure| failure.context(format!("{domain} could not be restored")).not_the_recipes();
        let unfit = |failure: Failure| {
            let hint = format!(
                "mend it or the app's .env, or choose another: [recipes.{}] warm_version",
                app.recipe
            );
            failure
                .context(format!("{version} can't be deployed to {domain}"))
                .not_the_recipes()
                .or_hint(&hint)
        };
        let new_variables = self.baseline.lay_out(run, self.context).await.map_err(unfit)?;
        recipe::load(run, app).await.map_err(unfit)?;
        let mut removed = Vec::new();
        let reasons = self.reasons(&dead, &services).await.map_err(failed)?;
        if !reasons.is_empty() {
            if !new_variables.is_empty() {
                let names = new_variables.join(", ");
                run.note(format!(
                    "the .env of {domain} lacks variables of {version}, taken with its sample's values: {names}"
                ));
            }
            self.make_ready().await.map_err(unfit)?;
            set_dirty(run, true).await?;
            run.note(format!("{domain} is restored to {version}: {}", reasons.join("; ")));
            removed = self.deploy_again(&dead).await.map_err(failed)?;
        } else if run.lane() == Lane::Quick {
            // What could not be deployed again is not upgraded.
            recipe::check_deployed(run, app).await.map_err(unfit)?;
        }
        for other in &dead {
            self.discard(other).await?;
        }
        set_dirty(run, false).await?;
        Ok(Restored { version, reasons, was_down: services.is_empty(), removed })
    }

    /// Deploys the baseline over what `dead` runs left; gives what they had added, and is gone.
    async fn deploy_again(&self, dead: &[RunSummary]) -> Result<Vec<Resource>, Failure> {
        // The oldest knows the app as nobody had touched it.
        let known = dead.to_vec();
        let before = move || known.iter().find_map(RunSummary::before);
        let before = self.run.harness.lifetime.blocking_tasks().run(before).await;
        // Nobody can tell when they died, and what they had ordered may yet appear.
        let in_flight = !dead.is_empty();
        pending_requests_are_done(self.run, in_flight).await;
        self.redeploy(before.as_deref(), crate::sys::after(Instant::now(), FAR)).await?;
        match &before {
            Some(before) => remove_added(self.run, &self.baseline.app, before, in_flight).await,
            None => Ok(Vec::new()),
        }
    }

    /// Why the app is not as it should be.
    async fn reasons(&self, dead: &[RunSummary], services: &[ServiceState]) -> Result<Vec<String>, Failure> {
        let (run, app) = (self.run, &self.baseline.app);
        let mut reasons: Vec<String> = dead.iter().map(ended_in_the_middle).collect();
        if services.is_empty() {
            reasons.push("it is not deployed".to_owned());
            return Ok(reasons);
        }
        let loaded = recipe::load(run, app).await?;
        let missing =
            loaded.compose.services.keys().filter(|name| !services.iter().any(|one| one.name == **name));
        reasons.extend(missing.map(|name| format!("its service {name} is missing")));
        if let Err(failure) = checks::healthy(services) {
            reasons.push(failure.to_string());
        }
        reasons.extend(other_version(loaded.labels.version.as_deref(), services));
        if reasons.is_empty() {
            match self.check_serving().await {
                Err(failure) if failure.fault() == Fault::Recipe => reasons.push(failure.chain()),
                checked => checked?,
            }
        }
        Ok(reasons)
    }

    /// Whether it serves; unless the operator has a check of their own in its place, in any tier: the built-in one says
    /// nothing of the app then.
    async fn check_serving(&self) -> Result<(), Failure> {
        let operators = self.run.operator_tests();
        let find = move || Scripts::find(operators.as_deref(), None);
        let found = self.run.harness.lifetime.blocking_tasks().run(find).await;
        let scripts =
            found.map_err(|error| Failure::host("can't read the operator's tests").with_source(error))?;
        if TierName::ALL.into_iter().any(|tier| scripts.replacement(tier, "serving").is_some()) {
            return Ok(());
        }
        checks::serving(self.run, &self.baseline.app).await
    }

    /// Makes the baseline ready to be deployed, before anything is ordered: what would fail a deploy is told here, and
    /// secrets that are missing are made.
    pub async fn make_ready(&self) -> Result<(), Failure> {
        let (run, app) = (self.run, &self.baseline.app);
        self.baseline.lay_out(run, self.context).await?;
        recipe::check_deployed(run, app).await?;
        let context = self.baseline.context(self.context);
        for value in run.harness.deployer.generate_secrets(&context, app).await?.values() {
            run.context.redactor.hide(value.expose());
        }
        Ok(())
    }

    /// Deploys the baseline, which is [ready](Self::make_ready), in place, and proves that it serves. Services that are
    /// not of it and were not there `before` go first: one that is sick would be waited for.
    pub async fn redeploy(&self, before: Option<&[Resource]>, until: Instant) -> Result<(), Failure> {
        let (run, app) = (self.run, &self.baseline.app);
        let (engine, deployer) = (&run.harness.ci_host.engine, &run.harness.deployer);
        let context = &self.baseline.context(self.context);
        self.baseline.lay_out(run, context).await?;
        let env = env_text(run, app).await?;
        engine.pre_pull(app).await?;
        let is_down = engine.services(&app.domain).await?.is_empty();
        let there = engine.inventory(Some(std::slice::from_ref(&app.domain))).await?;
        on_one_node(&app.domain, &there)?;
        let there = there.of(&app.domain);
        let order = recipe::order(run, app, there.into_iter().collect()).await?;
        if is_down {
            deployer.deploy(context, app).await?;
        } else {
            deployer.upgrade(context, app).await?;
        }
        // Else nobody knows what was deployed.
        self.baseline.guard_files(context, "after the deploy").await?;
        // What follows asks the recipe with it: how long to wait, and what is its own.
        put_env_back(run, app, env).await?;
        recipe::check_order(run, app, &order).await?;
        if let Some(before) = before {
            let mut added = added(run, app, before).await?;
            added.retain(|resource| resource.kind == Kind::Service);
            if !added.is_empty() {
                engine.remove_selected(&app.domain, &added, REMOVAL_LIMIT).await?;
            }
        }
        let labels = order.compose.labels();
        let limit = recipe::converge_limit(run, app, &labels);
        let limit = limit.min(until.saturating_duration_since(Instant::now()));
        engine.wait_converged(&app.domain, limit, context.reporter.as_ref()).await?;
        self.check_serving().await?;
        let services = engine.services(&app.domain).await?;
        checks::healthy(&services)?;
        other_version(labels.version.as_deref(), &services)
            .map_or(Ok(()), |reason| Err(Failure::recipe(reason)))
    }

    /// Redeploys, and once more where the deployer or the host failed: abra may fall over once, or the engine refuse an
    /// order that crossed a step of the update which it was to end. Gives whether it was once more.
    pub async fn redeploy_or_again(&self, before: &[Resource], until: Instant) -> Result<bool, Failure> {
        let Err(failure) = self.redeploy(Some(before), until).await else { return Ok(false) };
        if failure.fault() == Fault::Recipe {
            return Err(failure);
        }
        self.run.warn(&format!("the baseline is deployed once more: {}", failure.chain()));
        // The call may have been killed.
        pending_requests_are_done(self.run, true).await;
        self.redeploy(Some(before), until).await?;
        Ok(true)
    }

    /// A dead run's tree goes when what it left is put in order. Its record stays.
    async fn discard(&self, other: &RunSummary) -> Result<(), Failure> {
        let (runs, files) = (self.run.ci_host.runs.clone(), other.files.clone());
        let gone = self.run.harness.lifetime.blocking_tasks().run(move || {
            if let Some(dead) = runs.try_lock_dead(files.id())? {
                dead.remove_tree()?;
            }
            // Whoever else holds its lock may have removed it just now, or not.
            Ok::<_, WorkspaceError>(!files.has_tree())
        });
        if !gone.await? {
            let (id, path) = (&other.id, other.path.display());
            self.run.warn(&format!("the tree of run {id} is in use and stays: {path}"));
        }
        Ok(())
    }
}

/// Notes whether the app may be another than its baseline: in the run's directory, before it is, so that whoever finds
/// this run dead knows.
pub(super) async fn set_dirty(run: &Run<'_>, dirty: bool) -> Result<(), Failure> {
    if std::mem::replace(&mut run.record().dirty, dirty) == dirty {
        return Ok(());
    }
    run.write_record().await
}

pub(super) fn ended_in_the_middle(run: &RunSummary) -> String {
    format!("run {} ended in the middle of its work", run.id)
}

/// The version that services say, where the baseline says another.
pub(super) fn other_version(wanted: Option<&str>, services: &[ServiceState]) -> Option<String> {
    let wanted = wanted?;
    let other = services
        .iter()
        .filter_map(|service| service.version.as_deref())
        .find(|version| *version != wanted)?;
    Some(format!("it is of version {other}, not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_one_that_a_service_says() {
        let service = |version: Option<&str>| ServiceState {
            name: "app".into(),
            order: String::new(),
            id: "a".into(),
            created: "1".into(),
            tasks: Vec::new(),
            healthy: true,
            spec: String::new(),
            version: version.map(str::to_owned),
        };
        assert_eq!(other_version(Some("1.0.0+1"), &[service(None), service(Some("1.0.0+1"))]), None);
        assert_eq!(other_version(None, &[service(Some("1.0.0+1"))]), None);
        assert!(other_version(Some("1.0.0+1"), &[service(None), service(Some("1.1.0+1"))]).is_some());
    }
}
