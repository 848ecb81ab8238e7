//! A warm app, and bringing it back to its canonical version: what `cc-ci warm reconcile`, the start of a quick run and
//! its rollback all do.
//!
//! The canonical `.env` is never written: deployers work on copies of it. The canonical version is checked out in an
//! abra tree of its own, from the source that the operator configured: nothing of what is tested decides what is
//! deployed here, whatever its tags say.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::checks;
use super::drive::Running;
use super::guarded::some_of;
use super::reading::said;
use super::record::Lane;
use super::tiers::StepError;
use super::{Failure, Harness, WarmApp};
use crate::env_files::EnvFiles;
use crate::error_chain;
use crate::event::Event;
use crate::executor::{App, Kind, Residue, ServiceState, Session};
use crate::files::write_whole;
use crate::janitor::end_orphans;
use crate::lifetime::RunLifetime;
use crate::names::{Domain, RecipeName};
use crate::traces::RunTrace;
use crate::workspace::{self, FetchRequest, GitError, RecipeSource, RecipeTree, Release};

/// What removing the things that an upgrade had added may take.
const REMOVAL_LIMIT: Duration = Duration::from_mins(2);

/// Nothing but the recipe's own limit, or the configured one, bounds a wait here.
const FAR: Duration = Duration::from_hours(24);

/// What a run knows of the warm app that it works on.
#[derive(Debug, Default)]
pub(super) struct Warm {
    canonical: OnceLock<Canonical>,
    /// The app before its upgrade.
    pub before: OnceLock<Before>,
    /// Whether the app may be another than the canonical version, by this run's doing.
    pub touched: AtomicBool,
    /// What was done to bring the app back, before anything was tested.
    pub brought_back: OnceLock<BroughtBack>,
}

/// The canonical version, ready to be deployed.
#[derive(Debug)]
struct Canonical {
    /// The run, with the canonical version's own abra tree.
    session: Session,
    app: App,
    tree: RecipeTree,
    release: Release,
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
    fn canonical(&self) -> Result<&Canonical, Failure> {
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
        let mut session = self.session.clone();
        session.environment.retain(|(name, _)| name != "ABRA_DIR");
        session.environment.push(("ABRA_DIR".into(), tree.clone().into()));
        let app = App { env_file: files.path(&domain), tree: fetched.tree.root().to_owned(), recipe, domain };
        let tree = fetched.tree;
        tree.checkout(lifetime, &release.commit).await?;
        self.warm.canonical.get_or_init(|| Canonical { session, app, tree, release });
        Ok(())
    }

    /// Copies the canonical `.env` to where the run's deployers see it. Under the lock: it may have changed before.
    pub(super) fn copy_env(&self, to: &Path) -> Result<(), Failure> {
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
        let mut dead = site.unfinished_on(domain).map_err(|error| Failure::host(error_chain(&error)))?;
        dead.retain(|run| run.id != own);
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
        self.copy_env(&canonical.app.env_file)?;
        let failed = |error: StepError| match error {
            StepError::Failed(reason) | StepError::Skipped(reason) => {
                Failure::host(format!("{domain} could not be brought back: {reason}"))
            }
            // Of an engine's words here: the recipe's or the host's, the warm app is not what is tested.
            StepError::Broken(failure) => Failure {
                message: format!("{domain} could not be brought back: {}", failure.message),
                ..failure
            },
        };
        brought.reasons = self.reasons(&dead, &services).await.map_err(failed)?;
        if !brought.reasons.is_empty() {
            let text =
                format!("{domain} is brought back to {}: {}", brought.version, brought.reasons.join("; "));
            self.session.reporter.report(&Event::Note { text });
            self.warm.touched.store(true, Ordering::Relaxed);
            // The oldest knows the app as nobody had touched it.
            let before = dead.iter().find_map(RunTrace::before);
            self.orders_are_done(dead_orders(&dead)).await;
            let until = crate::after(Instant::now(), FAR);
            self.redeploy(session, before.as_deref(), until).await.map_err(failed)?;
            if let Some(before) = &before {
                brought.removed = self.remove_added(before, dead_orders(&dead)).await.map_err(failed)?;
            }
        }
        for run in &dead {
            self.discard(run).await?;
        }
        self.warm.touched.store(false, Ordering::Relaxed);
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
        let said = said(&canonical.app)?;
        let missing =
            said.compose.services.keys().filter(|name| !services.iter().any(|one| one.name == **name));
        reasons.extend(missing.map(|name| format!("its service {name} is missing")));
        if let Err(StepError::Failed(reason)) = checks::healthy(services) {
            reasons.push(reason);
        }
        reasons.extend(other_version(said.labels.version.as_deref(), services));
        if reasons.is_empty() {
            match checks::serving(self.harness, &canonical.app).await {
                Ok(()) => {}
                Err(StepError::Failed(reason) | StepError::Skipped(reason)) => reasons.push(reason),
                Err(broken @ StepError::Broken(_)) => return Err(broken),
            }
        }
        Ok(reasons)
    }

    /// Deploys the canonical version in place, and proves that it serves. Services that are not of it and were not
    /// there `before` go first: one that is sick would be waited for.
    pub(super) async fn redeploy(
        &self,
        session: &Session,
        before: Option<&[Residue]>,
        until: Instant,
    ) -> Result<(), StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let (app, site) = (&canonical.app, &self.harness.site);
        let session = &Session { environment: canonical.session.environment.clone(), ..session.clone() };
        let deployer = &self.harness.deployer;
        // Tests ran beside it, and an earlier call may have moved it.
        let (tree, lifetime) = (&canonical.tree, session.lifetime.as_ref());
        tree.checkout(lifetime, &canonical.release.commit).await.map_err(git)?;
        self.canonical_is_whole(lifetime).await?;
        self.copy_env(&app.env_file).map_err(StepError::Broken)?;
        let env = self.env_text(app).await?;
        site.engine.pre_pull(app).await?;
        if site.engine.services(&app.domain).await?.is_empty() {
            for value in deployer.generate_secrets(session, app).await?.values() {
                self.session.redactor.hide(value);
            }
            deployer.deploy(session, app).await?;
        } else {
            deployer.upgrade(session, app).await?;
        }
        let head = tree.head(lifetime).await.map_err(git)?;
        if head != canonical.release.commit {
            let reason =
                format!("{deployer} moved the canonical checkout to {head}: what it deployed is not known");
            return Err(StepError::Failed(reason));
        }
        self.canonical_is_whole(lifetime).await?;
        // What follows asks the recipe with it: how long to wait, and what is its own.
        self.put_env_back(app, env).await?;
        if let Some(before) = before {
            let mut added = self.added(before).await?;
            added.retain(|residue| residue.kind == Kind::Service);
            if !added.is_empty() {
                site.engine.remove_only(&app.domain, &added, REMOVAL_LIMIT).await?;
            }
        }
        let said = said(app)?;
        let limit = said.labels.timeout.unwrap_or(self.harness.settings.converge_limit);
        let limit = limit.min(until.saturating_duration_since(Instant::now()));
        site.engine.wait_converged(&app.domain, limit).await?;
        checks::serving(self.harness, app).await?;
        let services = site.engine.services(&app.domain).await?;
        checks::healthy(&services)?;
        match other_version(said.labels.version.as_deref(), &services) {
            Some(reason) => Err(StepError::Failed(reason)),
            None => Ok(()),
        }
    }

    /// The canonical checkout is its commit. A checkout alone does not make it so: a test can have files skipped in the
    /// clone's index.
    async fn canonical_is_whole(&self, lifetime: &dyn RunLifetime) -> Result<(), StepError> {
        let Canonical { tree, release, .. } = self.canonical().map_err(StepError::Broken)?;
        let changed = tree.changed(lifetime, &release.commit).await.map_err(git)?;
        if changed.is_empty() {
            return Ok(());
        }
        let (files, version) = (some_of(&changed), &release.version);
        Err(StepError::Failed(format!(
            "the canonical checkout is not the release {version}: somebody changed {files}"
        )))
    }

    /// Waits until what killed clients had ordered is carried out: it would undo what is deployed now.
    pub(super) async fn orders_are_done(&self, in_flight: bool) {
        if in_flight {
            tokio::time::sleep(self.harness.site.engine.order_lag()).await;
        }
    }

    /// Removes what was added since `before`, until a look finds nothing; gives what is gone. Where an order may be
    /// `in_flight`, it may yet appear, and the last look comes so much later.
    pub(super) async fn remove_added(
        &self,
        before: &[Residue],
        in_flight: bool,
    ) -> Result<Vec<Residue>, StepError> {
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let (engine, domain) = (&self.harness.site.engine, &canonical.app.domain);
        let mut removed = BTreeSet::new();
        let mut refused = None;
        loop {
            self.orders_are_done(in_flight).await;
            let added = self.added(before).await?;
            if added.is_empty() {
                return Ok(removed.into_iter().collect());
            }
            // What is still there after it was removed is not removed for ever.
            if added.iter().all(|residue| removed.contains(residue)) {
                let left = Residue::list(&added);
                let why = refused.map(|error| format!(": {}", error_chain(&error))).unwrap_or_default();
                return Err(StepError::Failed(format!(
                    "what was added to {domain} is still there: {left}{why}"
                )));
            }
            refused = engine.remove_only(domain, &added, REMOVAL_LIMIT).await.err();
            removed.extend(added);
        }
    }

    /// What lasts of the app, was not there `before`, and is nothing of the canonical version.
    ///
    /// A record without any service is none of a warm app that was deployed: where the before is not known, nothing
    /// counts as added.
    pub(super) async fn added(&self, before: &[Residue]) -> Result<Vec<Residue>, StepError> {
        if !before.iter().any(|residue| residue.kind == Kind::Service) {
            return Ok(Vec::new());
        }
        let canonical = self.canonical().map_err(StepError::Broken)?;
        let compose = said(&canonical.app)?.compose;
        let stack = &compose.stack;
        let mut kept: BTreeSet<String> =
            compose.services.keys().map(|name| format!("{stack}_{name}")).collect();
        kept.extend(compose.services.keys().cloned());
        for objects in [&compose.volumes, &compose.secrets, &compose.configs, &compose.networks] {
            kept.extend(objects.values().map(|object| object.name.clone()));
        }
        let mut added = self.lasting().await?;
        added.retain(|residue| !before.contains(residue) && !kept.contains(&residue.name));
        Ok(added)
    }

    /// What of the app outlives a restart of its services.
    pub(super) async fn lasting(&self) -> Result<Vec<Residue>, StepError> {
        let domain = self.record().domain.clone();
        let inventory = self.harness.site.engine.inventory(Some(std::slice::from_ref(&domain))).await?;
        let mut lasting = inventory.of(&domain);
        lasting.retain(lasts);
        Ok(lasting)
    }

    /// A dead run's tree goes when what it left is put in order. Its record stays.
    async fn discard(&self, run: &RunTrace) -> Result<(), Failure> {
        let (runs, id) = (self.harness.site.runs.clone(), run.id.clone());
        let removed = self.harness.lifetime.jobs().run(move || match runs.try_lock_dead(&id) {
            Ok(Some(dead)) => dead.remove_tree(),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        });
        Ok(removed.await?)
    }

    /// The app as it is now, as the upgrade finds it.
    pub(super) async fn note_before(&self, domain: &Domain) -> Result<&Before, Failure> {
        let failed = |error: StepError| match error {
            StepError::Broken(failure) => failure,
            StepError::Failed(reason) | StepError::Skipped(reason) => Failure::host(reason),
        };
        let lasting = self.lasting().await.map_err(failed)?;
        let services = self.harness.site.engine.services(domain).await?;
        Ok(self.warm.before.get_or_init(|| Before { lasting, services }))
    }
}

fn git(error: GitError) -> StepError {
    StepError::Broken(error.into())
}

/// Whether a thing is the app's own for longer than one start of its services. The rest comes and goes: a volume
/// without a name of its own with its container, a port with its service.
fn lasts(residue: &Residue) -> bool {
    let anonymous = residue.name.len() == 64 && residue.name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match residue.kind {
        Kind::Service | Kind::Secret | Kind::Config => true,
        Kind::Volume => !anonymous,
        Kind::Network => !residue.name.starts_with("port "),
        _ => false,
    }
}

/// Whether something that dead runs ordered may yet appear: who can tell when they died.
fn dead_orders(dead: &[RunTrace]) -> bool {
    dead.iter().any(|run| run.verdict.is_none())
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
    fn what_comes_and_goes_with_a_start_is_never_added() {
        for (kind, name) in [
            (Kind::Task, "t"),
            (Kind::Container, "c"),
            (Kind::Process, "1"),
            (Kind::Volume, &"a".repeat(64)),
            (Kind::Network, "port 20001"),
            (Kind::EnvFile, "/x.env"),
            (Kind::RunTree, "/runs/1"),
        ] {
            assert!(!lasts(&Residue::new(kind, name)), "{kind} {name}");
        }
        for (kind, name) in [(Kind::Volume, "a_data"), (Kind::Network, "a_net"), (Kind::Service, "a_app")] {
            assert!(lasts(&Residue::new(kind, name)), "{kind} {name}");
        }
    }

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
