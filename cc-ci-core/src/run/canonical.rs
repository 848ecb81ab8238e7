//! A warm app, and bringing it back to its canonical version: what `cc-ci warm reconcile`, the start of a quick run and
//! its rollback all do.
//!
//! The canonical `.env` is never written: deployers work on copies of it. The canonical version is checked out in an
//! abra tree of its own, from the source that the operator configured: nothing of what is tested decides what is
//! deployed here, whatever its tags say.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::added::REMOVAL_LIMIT;
use super::checks;
use super::conclude::write_record;
use super::drive::Running;
use super::guarded::some_of;
use super::reading::add_new_variables;
use super::scripts::Scripts;
use super::tiers::StepError;
use super::{Failure, Harness, WarmApp};
use crate::engine::{App, Kind, Residue, ServiceState, Session};
use crate::inventory::env_files::EnvFiles;
use crate::inventory::traces::{RunTrace, has_tree};
use crate::janitor::end_orphans;
use crate::model::error_chain;
use crate::model::event::Event;
use crate::model::record::{Lane, TierName};
use crate::names::{RecipeName, Version};
use crate::sys::files::write_whole;
use crate::workspace::{self, FetchRequest, GitError, RecipeSource, RecipeTree, Release, WorkspaceError};

/// Nothing but the recipe's own limit, or the configured one, bounds a wait here.
const FAR: Duration = Duration::from_hours(24);

/// What a run knows of the warm app that it works on.
#[derive(Debug, Default)]
pub(super) struct Warm {
    canonical: OnceLock<Canonical>,
    /// The app before its upgrade.
    pub before: OnceLock<Before>,
    /// What was done to bring the app back, before anything was tested.
    pub brought_back: OnceLock<BroughtBack>,
}

/// The canonical version, ready to be deployed.
#[derive(Debug)]
pub(super) struct Canonical {
    /// The environment of children, with the canonical version's own abra tree and home.
    environment: Vec<(OsString, OsString)>,
    pub app: App,
    tree: RecipeTree,
    pub release: Release,
}

/// A warm app before its upgrade.
#[derive(Debug)]
pub(super) struct Before {
    pub lasting: Vec<Residue>,
    pub services: Vec<ServiceState>,
}

/// What bringing an app back took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BroughtBack {
    /// The canonical version.
    pub version: String,
    /// Why it was deployed again; empty where all was as it should be, and nothing was touched.
    pub reasons: Vec<String>,
    /// Whether there was no app.
    pub was_down: bool,
    /// What a dead run had added, and is gone.
    pub removed: Vec<Residue>,
}

impl Harness {
    /// The warm app of a recipe, where it can be worked on.
    pub(super) fn guard_warm(&self, recipe: &RecipeName) -> Result<&WarmApp, Failure> {
        let Some(warm) = self.settings.warm.get(recipe) else {
            return Err(Failure::usage(format!("{recipe} has no warm app")).hint(format!(
                "name it in the configuration: [recipes.{recipe}] warm = \"{recipe}.example.org\""
            )));
        };
        let domain = &warm.domain;
        if self.site.pattern.is_run_app(domain) {
            return Err(Failure::usage(format!(
                "the warm app {domain} has the name of a run app: any janitor would remove it"
            ))
            .hint("choose another domain, or add it to `protect` in every configuration of this host"));
        }
        if !self.site.env_files.exists(domain) {
            let path = self.site.env_files.path(domain);
            return Err(Failure::usage(format!(
                "the warm app {domain} has no .env file at {}",
                path.display()
            ))
            .hint(format!("make the app first: abra app new {recipe} --domain={domain}")));
        }
        Ok(warm)
    }
}

impl Running<'_> {
    pub(super) fn canonical(&self) -> Result<&Canonical, Failure> {
        self.warm.canonical.get().ok_or_else(|| Failure::host("the canonical version is not fetched yet"))
    }

    /// Gets the canonical version of the warm app into a tree of its own.
    pub(super) async fn fetch_canonical(&self) -> Result<(), Failure> {
        let (recipe, domain) = (self.request.recipe.clone(), self.record().domain.clone());
        let warm = self.harness.guard_warm(&recipe)?;
        let (directory, server) = (self.directory.clone(), self.harness.site.env_files.server().to_owned());
        let lifetime = self.harness.lifetime.as_ref();
        let tree = lifetime.jobs().run(move || directory.make_warm_tree(&server)).await?;
        let request = FetchRequest {
            source: warm.source.clone().unwrap_or_else(|| RecipeSource::Name(recipe.clone())),
            revision: None,
            skip_fetch: false,
            limit: self.harness.settings.fetch_limit,
            marker: Some(self.session.marker(&domain)),
        };
        let fetched = workspace::fetch_into(&self.directory, &tree.join("recipes"), lifetime, &request)
            .await
            .map_err(|error| {
                let hint = format!("say where its canonical version is: [recipes.{recipe}] source");
                Failure::from(error).hint(hint)
            })?;
        for note in fetched.notes {
            self.warn(&format!("the warm app's recipe: {note}"));
        }
        let releases = fetched.tree.releases(lifetime).await?.releases;
        let wanted = warm.version.as_ref();
        let release = releases.iter().find(|release| wanted.is_none_or(|wanted| release.version == *wanted));
        let Some(release) = release.cloned() else {
            let known: Vec<String> = releases.iter().map(|release| release.version.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let what =
                wanted.map_or_else(|| "no release".to_owned(), |wanted| format!("no release {wanted}"));
            return Err(Failure::usage(format!("{} has {what}: its releases are {known}", request.source))
                .hint(format!("set [recipes.{recipe}] warm_version to a release, an annotated tag")));
        };
        let files = EnvFiles::new(&tree.join("servers"), self.harness.site.env_files.server());
        let environment = [self.directory.warm_environment(), self.harness.deployer.environment()].concat();
        let app = App { env_file: files.path(&domain), tree: fetched.tree.root().to_owned(), recipe, domain };
        let tree = fetched.tree;
        tree.checkout(lifetime, &release.commit).await?;
        self.warm.canonical.get_or_init(|| Canonical { environment, app, tree, release });
        Ok(())
    }

    /// What is upgraded downwards proves nothing: the commit under test must build on the canonical version.
    pub(super) async fn guard_ancestry(&self) -> Result<(), Failure> {
        let (canonical, tree) = (self.canonical()?, self.tree()?);
        let (release, tested) = (&canonical.release, tree.tested());
        if tree.builds_on(self.harness.lifetime.as_ref(), tested, &release.commit).await? {
            return Ok(());
        }
        let (domain, version) = (&canonical.app.domain, &release.version);
        Err(Failure::usage(format!(
            "the commit {} does not build on {version}, the canonical version of {domain}: nothing can be upgraded",
            tested.short()
        ))
        .hint(format!("rebase it onto {version}, or test it in the cold lane: leave --quick out")))
    }

    /// The canonical version, where it is the commit under test itself.
    pub(super) fn canonical_under_test(&self) -> Result<Option<&Version>, Failure> {
        let release = &self.canonical()?.release;
        Ok((release.commit == *self.tree()?.tested()).then_some(&release.version))
    }

    /// Notes whether the app may be another than the canonical version: in the run's directory, before it is, so that
    /// whoever finds this run dead knows.
    pub(super) fn touch(&self, touched: bool) -> Result<(), Failure> {
        let mut record = self.record();
        if std::mem::replace(&mut record.touched, touched) == touched {
            return Ok(());
        }
        write_record(&self.directory, &record, &self.session.redactor)
    }

    /// Copies the canonical `.env` to where the run's deployers see it, with the canonical version's new variables;
    /// gives their names. Under the lock: it may have changed before.
    pub(super) fn copy_env(&self, to: &Path) -> Result<Vec<String>, StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        self.copy_env_as_it_is(to).map_err(StepError::Broken)?;
        add_new_variables(&App { env_file: to.to_owned(), ..canonical.app.clone() }, false)
    }

    fn copy_env_as_it_is(&self, to: &Path) -> Result<(), Failure> {
        let domain = self.record().domain.clone();
        let files = &self.harness.site.env_files;
        let content = files.read(&domain).map_err(|error| {
            let path = files.path(&domain);
            Failure::host(format!("can't use {}: {}", path.display(), error_chain(&error)))
        })?;
        write_whole(to, &content, 0o600)
            .map_err(|error| Failure::host(format!("can't write {}: {error}", to.display())))
    }

    /// Brings the warm app to its canonical version, where it is not: a dead run may have left it in the middle of an
    /// upgrade. Where all is as it should be, nothing is touched. The caller holds the app's lock.
    pub(super) async fn bring_back(&self, session: &Session) -> Result<(), Failure> {
        let canonical = self.canonical()?;
        let (site, domain) = (&self.harness.site, &canonical.app.domain);
        let orphans = end_orphans(site.host.as_ref(), domain).await;
        if !orphans.failures.is_empty() {
            let failures = orphans.failures.join("; ");
            return Err(Failure::host(format!("what a dead owner left running on {domain}: {failures}")));
        }
        let own = self.record().run_id.clone();
        let executor = self.harness.deployer.to_string();
        let over = site.over_on(domain, &executor).map_err(|error| Failure::host(error_chain(&error)))?;
        let [dead, untouched] = [over.0, over.1].map(|mut runs| {
            runs.retain(|run| run.id != own);
            runs
        });
        for run in &untouched {
            self.discard(run).await?;
        }
        let services = site.engine.services(domain).await?;
        // Put down on purpose, for all that a test knows.
        if services.is_empty() && dead.is_empty() && self.lane() == Lane::Quick {
            return Err(Failure::usage(format!("the warm app {domain} is not deployed"))
                .hint(format!("deploy its canonical version: cc-ci warm reconcile {domain}")));
        }
        let mut brought = BroughtBack {
            version: canonical.release.version.to_string(),
            was_down: services.is_empty(),
            ..BroughtBack::default()
        };
        let failed = |error| told(&format!("{domain} could not be brought back"), error);
        let version = &brought.version;
        let unfit = |error| {
            let failure = told(&format!("{version} can't be deployed to {domain}"), error);
            let hint = format!(
                "mend it or the app's .env, or choose another: [recipes.{}] warm_version",
                canonical.app.recipe
            );
            Failure { hint: failure.hint.or(Some(hint)), ..failure }
        };
        let added = self.lay_out(session).await.map_err(unfit)?;
        self.said(&canonical.app).await.map_err(unfit)?;
        brought.reasons = self.reasons(&dead, &services).await.map_err(failed)?;
        if !brought.reasons.is_empty() {
            if !added.is_empty() {
                let text = format!(
                    "the .env of {domain} lacks variables of {}, taken with its sample's values: {}",
                    brought.version,
                    added.join(", ")
                );
                self.session.reporter.report(&Event::Note { text });
            }
            self.make_ready(session).await.map_err(unfit)?;
            self.touch(true)?;
            let text =
                format!("{domain} is brought back to {}: {}", brought.version, brought.reasons.join("; "));
            self.session.reporter.report(&Event::Note { text });
            // The oldest knows the app as nobody had touched it.
            let before = dead.iter().find_map(RunTrace::before);
            // Nobody can tell when they died, and what they had ordered may yet appear.
            let in_flight = !dead.is_empty();
            self.orders_are_done(in_flight).await;
            let until = crate::sys::after(Instant::now(), FAR);
            self.redeploy(session, before.as_deref(), until).await.map_err(failed)?;
            if let Some(before) = &before {
                brought.removed = self.remove_added(before, in_flight).await.map_err(failed)?;
            }
        } else if self.lane() == Lane::Quick {
            // What could not be deployed again is not upgraded.
            self.check_recipe(&canonical.app).await.map_err(unfit)?;
        }
        for run in &dead {
            self.discard(run).await?;
        }
        self.touch(false)?;
        self.warm.brought_back.get_or_init(|| brought);
        Ok(())
    }

    /// Why the app is not as it should be.
    async fn reasons(&self, dead: &[RunTrace], services: &[ServiceState]) -> Result<Vec<String>, StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let mut reasons: Vec<String> =
            dead.iter().map(|run| format!("run {} ended in the middle of its work", run.id)).collect();
        if services.is_empty() {
            reasons.push("it is not deployed".to_owned());
            return Ok(reasons);
        }
        let said = self.said(&canonical.app).await?;
        let missing =
            said.compose.services.keys().filter(|name| !services.iter().any(|one| one.name == **name));
        reasons.extend(missing.map(|name| format!("its service {name} is missing")));
        if let Err(StepError::Failed(reason)) = checks::healthy(services) {
            reasons.push(reason);
        }
        reasons.extend(other_version(said.labels.version.as_deref(), services));
        if reasons.is_empty() && !self.serving_is_replaced().map_err(StepError::Broken)? {
            match checks::serving(&self.harness, &canonical.app).await {
                Ok(()) => {}
                Err(StepError::Failed(reason) | StepError::Skipped(reason)) => reasons.push(reason),
                Err(broken @ StepError::Broken(_)) => return Err(broken),
            }
        }
        Ok(reasons)
    }

    /// Whether the operator has a check of their own in the place of `serving`, in any tier: the built-in one says
    /// nothing of the app then.
    fn serving_is_replaced(&self) -> Result<bool, Failure> {
        let scripts = Scripts::find(self.operator_tests().as_deref(), None)
            .map_err(|error| Failure::host(format!("can't read the operator's tests: {error}")))?;
        Ok(TierName::ALL.into_iter().any(|tier| scripts.replacement(tier, "serving").is_some()))
    }

    /// Puts the canonical version's files and `.env` in place: tests ran beside them, and a deployer's call may have
    /// changed them. Gives the names of the variables that the app's own `.env` lacks.
    async fn lay_out(&self, session: &Session) -> Result<Vec<String>, StepError> {
        let Canonical { tree, release, app, .. } = self.canonical().map_err(StepError::Broken)?;
        let lifetime = session.lifetime.as_ref();
        tree.checkout_anew(lifetime, &release.commit).await.map_err(git)?;
        self.guard_files(session, "before the deploy").await?;
        self.copy_env(&app.env_file)
    }

    /// The canonical checkout shows its commit, and nothing else.
    async fn guard_files(&self, session: &Session, when: &str) -> Result<(), StepError> {
        let Canonical { tree, release, .. } = self.canonical().map_err(StepError::Broken)?;
        let lifetime = session.lifetime.as_ref();
        let head = tree.head(lifetime).await.map_err(git)?;
        if head != release.commit {
            return Err(StepError::Failed(format!("the canonical checkout shows {head} {when}")));
        }
        let changed = tree.changed(lifetime, &release.commit).await.map_err(git)?;
        if changed.is_empty() {
            return Ok(());
        }
        let files = some_of(&changed);
        Err(StepError::Failed(format!(
            "files of the canonical checkout are not its commit's {when}: {files}"
        )))
    }

    /// Makes the canonical version ready to be deployed, before anything is ordered: what would fail a deploy is told
    /// here, and secrets that are missing are made.
    pub(super) async fn make_ready(&self, session: &Session) -> Result<(), StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        self.lay_out(session).await?;
        self.check_recipe(&canonical.app).await?;
        let session = canonical.session(session);
        for value in self.harness.deployer.generate_secrets(&session, &canonical.app).await?.values() {
            self.session.redactor.hide(value);
        }
        Ok(())
    }

    /// Deploys the canonical version, which is [ready](Self::make_ready), in place, and proves that it serves. Services
    /// that are not of it and were not there `before` go first: one that is sick would be waited for.
    pub(super) async fn redeploy(
        &self,
        session: &Session,
        before: Option<&[Residue]>,
        until: Instant,
    ) -> Result<(), StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let (app, site) = (&canonical.app, &self.harness.site);
        let session = &canonical.session(session);
        let deployer = &self.harness.deployer;
        self.lay_out(session).await?;
        let env = self.env_text(app).await?;
        site.engine.pre_pull(app).await?;
        if site.engine.services(&app.domain).await?.is_empty() {
            deployer.deploy(session, app).await?;
        } else {
            deployer.upgrade(session, app).await?;
        }
        // Else nobody knows what was deployed.
        self.guard_files(session, "after the deploy").await?;
        // What follows asks the recipe with it: how long to wait, and what is its own.
        self.put_env_back(app, env).await?;
        if let Some(before) = before {
            let mut added = self.added(before).await?;
            added.retain(|residue| residue.kind == Kind::Service);
            if !added.is_empty() {
                site.engine.remove_only(&app.domain, &added, REMOVAL_LIMIT).await?;
            }
        }
        let said = self.said(app).await?;
        let limit = self.converge_limit(app, &said).min(until.saturating_duration_since(Instant::now()));
        site.engine.wait_converged(&app.domain, limit).await?;
        if !self.serving_is_replaced().map_err(StepError::Broken)? {
            checks::serving(&self.harness, app).await?;
        }
        let services = site.engine.services(&app.domain).await?;
        checks::healthy(&services)?;
        match other_version(said.labels.version.as_deref(), &services) {
            Some(reason) => Err(StepError::Failed(reason)),
            None => Ok(()),
        }
    }

    /// Waits until what killed clients had ordered is carried out: it would undo what is deployed now.
    pub(super) async fn orders_are_done(&self, in_flight: bool) {
        if in_flight {
            tokio::time::sleep(self.harness.site.engine.order_lag()).await;
        }
    }

    /// A dead run's tree goes when what it left is put in order. Its record stays.
    async fn discard(&self, run: &RunTrace) -> Result<(), Failure> {
        let (runs, id) = (self.harness.site.runs.clone(), run.id.clone());
        let path = run.path.clone();
        let gone = self.harness.lifetime.jobs().run(move || {
            if let Some(dead) = runs.try_lock_dead(&id)? {
                dead.remove_tree()?;
            }
            // Whoever else holds its lock may have removed it just now, or not.
            Ok::<_, WorkspaceError>(!has_tree(&path))
        });
        if !gone.await? {
            self.warn(&format!("the tree of run {} is in use and stays: {}", run.id, run.path.display()));
        }
        Ok(())
    }
}

impl Canonical {
    fn session(&self, session: &Session) -> Session {
        Session { environment: self.environment.clone(), ..session.clone() }
    }
}

/// `error` as a run's failure while `doing`. The warm app is not what is tested: what is wrong with it is the host's.
fn told(doing: &str, error: StepError) -> Failure {
    match error {
        StepError::Failed(reason) | StepError::Skipped(reason) => Failure::host(format!("{doing}: {reason}")),
        StepError::Broken(failure) => Failure { message: format!("{doing}: {}", failure.message), ..failure },
    }
}

fn git(error: GitError) -> StepError {
    StepError::Broken(error.into())
}

/// The version that services say, where the canonical one says another.
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
