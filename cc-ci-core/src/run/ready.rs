//! A run whose apps can be deployed, and what deployers are asked for then.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::integrity::{Call, CheckoutGuard};
use super::recipe;
use super::service_logs;
use super::state::{Fetched, Revision, Run};
use crate::engine::{App, Backup, Kind};
use crate::lock::AppGuard;
use crate::model::failure::{Failure, Fault};
use crate::model::secret::Secret;
use crate::recipe::{Compose, Labels};
use crate::sys::beneath::read_beneath;

/// More than any secret has.
const SECRET_LIMIT: u64 = 1 << 16;

/// Fetched, locked, and the domains as the lane needs them: empty, or a warm app at its baseline.
#[derive(Debug)]
pub(super) struct Ready<'r> {
    pub run: &'r Run<'r>,
    pub fetched: &'r Fetched,
    pub guards: &'r [AppGuard],
    pub checkouts: CheckoutGuard<'r>,
}

impl<'r> Ready<'r> {
    pub fn new(run: &'r Run<'r>, fetched: &'r Fetched, guards: &'r [AppGuard]) -> Self {
        Self { run, fetched, guards, checkouts: CheckoutGuard::new(run, fetched) }
    }

    pub fn enter(&self, phase: &str) {
        self.run.enter(phase, self.guards);
    }

    /// Brings up the recipes that the one under test needs.
    pub async fn deploy_dependencies(&self) -> Result<(), Failure> {
        let run = self.run;
        for (tree, domain) in &self.fetched.dependencies {
            self.enter(&format!("dependency {}", tree.name()));
            let releases = tree.releases(run.context.lifetime.as_ref()).await?;
            let newest = releases.releases.first();
            let revision = newest.map_or_else(|| Revision::commit(tree.tested()), Revision::release);
            let app = run.app(tree.name(), domain);
            let up = async {
                self.prepare(&app, &revision).await?;
                self.pull(&app).await?;
                self.deploy(&app).await
            };
            // A dependency that doesn't come up says nothing of the recipe under test.
            up.await.map_err(|failure| match failure.fault() {
                Fault::Recipe => failure
                    .context(format!("the dependency {} did not come up", tree.name()))
                    .not_the_recipes(),
                _ => failure,
            })?;
        }
        Ok(())
    }

    /// Checks `revision` out, creates the app, and generates its secrets.
    pub async fn prepare(&self, app: &App, revision: &Revision) -> Result<(), Failure> {
        self.checkouts.checkout(self.fetched.tree_of(&app.recipe), revision).await?;
        let create = self.run.harness.deployer.create(&self.run.context, app);
        self.guard_executor(app).await?;
        self.checkouts.around(app, Call::Create, create).await?;
        self.generate_secrets(app).await
    }

    /// An executor that nobody asked for, and that can't deploy the recipe, says nothing of the recipe.
    async fn guard_executor(&self, app: &App) -> Result<(), Failure> {
        let harness = &self.run.harness;
        let Some(why) = &harness.settings.why_executor else { return Ok(()) };
        let Some(compose) = recipe::with_sample(self.run, app).await else { return Ok(()) };
        harness.deployer.unfit(&compose).map_or(Ok(()), |unfit| {
            let chosen = format!("{unfit}; it was chosen by itself: {why}");
            Err(Failure::configuration(chosen).with_hint(
                "to test it on a Swarm: install abra, or say where it is in PATH, and --executor abra; to test it here: give \
                 each service x-cc-ci-local, and --executor local",
            ))
        })
    }

    /// Deploys the app, and waits until it is up.
    pub async fn deploy(&self, app: &App) -> Result<(), Failure> {
        let deploy = self.run.harness.deployer.deploy(&self.run.context, app);
        self.ordered(app, Call::Deploy, deploy).await.map(drop)
    }

    /// Fetches the images of the app.
    pub async fn pull(&self, app: &App) -> Result<(), Failure> {
        let pull = self.run.harness.ci_host.engine.pre_pull(app);
        self.run.timed(&format!("pull {}", app.recipe), pull).await
    }

    /// In place to `revision`: new variables and secrets first. Gives what it is now, as it was judged.
    pub async fn upgrade(&self, app: &App, revision: &Revision) -> Result<Compose, Failure> {
        let run = self.run;
        self.checkouts.checkout(self.fetched.tree_of(&app.recipe), revision).await?;
        recipe::add_new_variables(run, app).await?;
        self.generate_secrets(app).await?;
        self.pull(app).await?;
        if !run.lane().is_warm() {
            // Its tasks are replaced.
            service_logs::keep(run, service_logs::LIMIT).await;
        }
        match self.order_upgrade(app).await {
            // Swarm has rolled back or paused what the engine failed, and goes on by itself no more.
            Err(failure) if failure.fault() == Fault::Transient => {
                run.warn(&format!("the upgrade is ordered once more: {}", failure.chain()));
                self.order_upgrade(app).await
            }
            ordered => ordered,
        }
    }

    async fn order_upgrade(&self, app: &App) -> Result<Compose, Failure> {
        let upgrade = self.run.harness.deployer.upgrade(&self.run.context, app);
        self.ordered(app, Call::Upgrade, upgrade).await
    }

    /// Has the app deployed, sees that what the engine got is what was judged, and waits until it is up.
    async fn ordered(
        &self,
        app: &App,
        call: Call,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<Compose, Failure> {
        let engine = &self.run.harness.ci_host.engine;
        let mut before = engine.inventory(Some(std::slice::from_ref(&app.domain))).await?.of(&app.domain);
        if call == Call::Deploy {
            // What is deployed anew begins with its secrets, and what was made with them.
            before.retain(|resource| matches!(resource.kind, Kind::Secret | Kind::Config));
        }
        // What is read now, right after it was judged, is what is meant to be deployed.
        let order = async {
            let order = recipe::order(self.run, app, before.into_iter().collect()).await?;
            work.await?;
            Ok(order)
        };
        let name = format!("{} {}", call, app.recipe);
        let order = self.run.timed(&name, self.checkouts.around(app, call, order)).await?;
        recipe::check_order(self.run, app, &order).await?;
        self.wait_converged(app, &order.compose.labels()).await?;
        Ok(order.compose)
    }

    pub async fn backup(&self, app: &App) -> Result<Backup, Failure> {
        let backup = self.run.harness.deployer.backup(&self.run.context, app);
        self.run.timed("backup", self.checkouts.around(app, Call::Backup, backup)).await
    }

    pub async fn restore(&self, app: &App, backup: &Backup) -> Result<(), Failure> {
        let restore = self.run.harness.deployer.restore(&self.run.context, app, backup);
        self.run.timed("restore", self.checkouts.around(app, Call::Restore, restore)).await?;
        let labels = recipe::load(self.run, app).await?.labels;
        self.wait_converged(app, &labels).await
    }

    async fn wait_converged(&self, app: &App, labels: &Labels) -> Result<(), Failure> {
        let limit = recipe::converge_limit(self.run, app, labels);
        let reporter = self.run.context.reporter.as_ref();
        let converge = self.run.harness.ci_host.engine.wait_converged(&app.domain, limit, reporter);
        self.run.timed(&format!("start {}", app.recipe), converge).await
    }

    /// New secrets are hidden from every output before anything can print them, and put where tests find them.
    pub async fn generate_secrets(&self, app: &App) -> Result<(), Failure> {
        let run = self.run;
        let generate = async {
            let generated = run.harness.deployer.generate_secrets(&run.context, app).await?;
            for value in generated.values() {
                run.context.redactor.hide(value.expose());
            }
            Ok(generated)
        };
        let generated = self.checkouts.around(app, Call::GenerateSecrets, generate).await?;
        let (of_run, directory) = (run.directory.clone(), run.secrets_directory(app));
        let keep = move || -> io::Result<()> {
            of_run.make_private(&directory)?;
            for (name, value) in &generated {
                // A recipe's script may have put anything in its place: it is replaced, never opened.
                of_run.write(&directory.join(name), value.expose().as_bytes())?;
            }
            Ok(())
        };
        let kept = run.context.lifetime.blocking_tasks().run(keep).await;
        kept.map_err(|error| Failure::host("can't keep the secrets for the tests").with_source(error))
    }

    /// The secrets of an app, by short name.
    pub async fn secrets(&self, app: &App) -> Result<BTreeMap<String, Secret>, Failure> {
        let directory = self.run.secrets_directory(app);
        let read = move || -> io::Result<_> {
            let mut secrets = BTreeMap::new();
            for entry in fs::read_dir(&directory)? {
                let name = entry?.file_name();
                let value = read_beneath(&directory, &name, SECRET_LIMIT).map_err(io::Error::other)?;
                let value = String::from_utf8(value).map_err(|_| io::Error::other("it is no text"))?;
                secrets.insert(name.to_string_lossy().into_owned(), Secret::new(value));
            }
            Ok(secrets)
        };
        let read = self.run.context.lifetime.blocking_tasks().run(read).await;
        read.map_err(|error| Failure::host("can't read the secrets").with_source(error))
    }
}
