//! Apps that come and go through abra.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::engine::{App, Backup, Deployer, Engine, EngineError, ServiceState, Session};
use cc_ci_core::lifetime::Command;
use cc_ci_core::names::Domain;
use cc_ci_core::recipe::{Compose, Recipe, RecipeError};

use crate::backup::{self, Backups};
use crate::call::Call;
use crate::capabilities::{Flag, Subcommand};
use crate::probe::Abra;
use crate::secrets;

/// `app new` copies one file. It may still read the whole catalogue first.
const NEW_LIMIT: Duration = Duration::from_mins(2);
/// One object of the engine is made.
pub(crate) const INSERT_LIMIT: Duration = Duration::from_mins(1);
/// Deploying ends when the engine has taken the order; the wait for the app is our own. An engine under load takes its
/// time for each of some ten services.
const DEPLOY_LIMIT: Duration = Duration::from_mins(5);
/// abra waits until the services are gone, which stop within their own grace.
const UNDEPLOY_LIMIT: Duration = Duration::from_mins(5);
/// A backup copies data, and hooks of the recipe run in it.
pub(crate) const BACKUP_LIMIT: Duration = Duration::from_mins(20);
/// Every server is asked.
const LIST_LIMIT: Duration = Duration::from_mins(1);

/// What a deployer works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The installed abra.
    pub abra: Abra,
    /// abra's name for the engine.
    pub server: String,
    /// The engine's address, as `DOCKER_HOST` says it.
    pub docker_host: OsString,
    /// The engine: what abra says is looked for there.
    pub engine: Arc<dyn Engine>,
    /// Who takes backups.
    pub backups: Backups,
}

/// Deploys with abra.
#[derive(Debug)]
pub struct AbraDeployer {
    settings: Settings,
    /// The domains of which the backup service has a snapshot through us.
    snapshots: Mutex<BTreeSet<Domain>>,
}

impl AbraDeployer {
    /// A deployer.
    ///
    /// # Errors
    /// The abra lacks what is needed, see [`Abra::require`], or there is no backup service where [`Backups::Service`]
    /// wants one.
    pub async fn new(settings: Settings) -> Result<Self, EngineError> {
        settings.abra.require()?;
        let deployer = Self { settings, snapshots: Mutex::default() };
        backup::require(&deployer).await?;
        Ok(deployer)
    }

    pub(crate) fn abra(&self) -> &Abra {
        &self.settings.abra
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.settings.engine.as_ref()
    }

    pub(crate) fn backups(&self) -> Backups {
        self.settings.backups
    }

    /// Whether this is the first one of the domain. Says so once.
    pub(crate) fn is_first_snapshot(&self, domain: &Domain) -> bool {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.clone())
    }

    /// Orders what the tree and the `.env` say, and looks whether the engine has it: in place of `before`, the services
    /// that were there.
    async fn order(&self, session: &Session, app: &App, before: &[ServiceState]) -> Result<(), EngineError> {
        let call = Call::new(self.abra(), Subcommand::Deploy, DEPLOY_LIMIT)
            .flag(Flag::Chaos)
            .flag(Flag::NoConvergeChecks)
            .flag(Flag::NoDomainChecks);
        let call = if before.is_empty() { call } else { call.flag(Flag::Force) };
        call.arg(app.domain.as_str()).run(session, &app.domain).await?;
        let now = self.engine().services(&app.domain).await?;
        let there = names(&now);
        let owned = app.clone();
        let compose = session.lifetime.jobs().run(move || compose(&owned)).await?;
        let wanted: BTreeSet<String> = compose.services.into_keys().collect();
        let missing: Vec<&str> = wanted.difference(&there).map(String::as_str).collect();
        if there.is_empty() {
            let domain = &app.domain;
            return Err(EngineError::host(format!(
                "abra says that it deployed {domain}, and nothing of it is deployed"
            )));
        }
        if !missing.is_empty() {
            let (domain, missing) = (&app.domain, missing.join(", "));
            return Err(EngineError::host(format!(
                "abra says that it deployed {domain}, and these services are not there: {missing}"
            )));
        }
        let untouched = |service: &ServiceState| {
            before.iter().any(|old| old.id == service.id && old.order == service.order)
        };
        // In order, which the engine's lists have not.
        let missed: BTreeSet<&str> = now
            .iter()
            .filter(|service| wanted.contains(&service.name) && untouched(service))
            .map(|service| service.name.as_str())
            .collect();
        if !missed.is_empty() {
            let (domain, missed) = (&app.domain, missed.into_iter().collect::<Vec<_>>().join(", "));
            return Err(EngineError::host(format!(
                "abra says that it deployed {domain}, and the engine got no order for these services: {missed}"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for AbraDeployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("abra")
    }
}

#[async_trait]
impl Deployer for AbraDeployer {
    async fn create(&self, session: &Session, app: &App) -> Result<(), EngineError> {
        let owned = app.clone();
        session.lifetime.jobs().run(move || sample(&owned)).await?;
        Call::new(self.abra(), Subcommand::New, NEW_LIMIT)
            .flag(Flag::Chaos)
            .value(Flag::Server, &self.settings.server)
            .value(Flag::Domain, app.domain.as_str())
            .arg(app.recipe.as_str())
            .run(session, &app.domain)
            .await?;
        let app = app.clone();
        session.lifetime.jobs().run(move || adapt(&app)).await
    }

    async fn generate_secrets(
        &self,
        session: &Session,
        app: &App,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        secrets::generate(self, session, app).await
    }

    async fn deploy(&self, session: &Session, app: &App) -> Result<(), EngineError> {
        self.order(session, app, &[]).await
    }

    async fn upgrade(&self, session: &Session, app: &App) -> Result<(), EngineError> {
        // With force, abra would deploy it anew: that is no upgrade.
        let before = self.engine().services(&app.domain).await?;
        if before.is_empty() {
            let domain = &app.domain;
            return Err(EngineError::host(format!("{domain} is not deployed, so it can't be upgraded")));
        }
        self.order(session, app, &before).await
    }

    async fn undeploy(&self, session: &Session, app: &App) -> Result<(), EngineError> {
        if !self.abra().can(Subcommand::Undeploy) {
            return Err(EngineError::configuration("this abra has no app undeploy that cc-ci can call"));
        }
        let call = Call::new(self.abra(), Subcommand::Undeploy, UNDEPLOY_LIMIT).flag(Flag::Chaos);
        call.arg(app.domain.as_str()).run(session, &app.domain).await?;
        let left = names(&self.engine().services(&app.domain).await?);
        if left.is_empty() {
            return Ok(());
        }
        let (domain, left) = (&app.domain, left.into_iter().collect::<Vec<_>>().join(", "));
        Err(EngineError::host(format!(
            "abra says that it undeployed {domain}, and these services are there: {left}"
        )))
    }

    async fn backup(&self, session: &Session, app: &App) -> Result<Backup, EngineError> {
        backup::take(self, session, app).await
    }

    async fn restore(&self, session: &Session, app: &App, backup: &Backup) -> Result<(), EngineError> {
        backup::restore(self, session, app, backup).await
    }

    async fn list(&self, session: &Session) -> Result<Vec<Domain>, EngineError> {
        let environment = session.environment.iter().map(|(name, value)| (name, value));
        let command = Command::new(self.abra().program(), &session.tmp).envs(environment);
        let apps =
            self.abra().apps(session.lifetime.as_ref(), command, &session.redactor, LIST_LIMIT).await?;
        // A name that is no domain is no app of anybody's.
        Ok(apps.iter().filter_map(|app| app.domain.parse().ok()).collect())
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![("DOCKER_HOST".into(), self.settings.docker_host.clone())]
    }
}

fn names(services: &[ServiceState]) -> BTreeSet<String> {
    services.iter().map(|service| service.name.clone()).collect()
}

/// Refuses a sample that can't be read, or leads out of the tree: abra would follow it, and copy what is there. Blocks.
fn sample(app: &App) -> Result<(), EngineError> {
    let read = Recipe::open(app.recipe.clone(), &app.tree).and_then(|recipe| recipe.sample());
    read.map(drop).map_err(|error| EngineError::recipe("can't use the recipe's .env.sample").because(error))
}

/// Makes the `.env` that abra wrote a run app's: its own domain, and no certificates asked for. Blocks.
fn adapt(app: &App) -> Result<(), EngineError> {
    if !app.env_file.exists() {
        let path = app.env_file.display();
        return Err(EngineError::host(format!(
            "abra says that it made {}, and there is no {path}",
            app.domain
        ))
        .with_hint("see that ABRA_DIR and --server name the tree and the server that abra uses"));
    }
    let mut env = app.env()?;
    let mut changed = false;
    let has_acme = env.get("LETS_ENCRYPT_ENV").is_some();
    for (name, value, applies) in [("DOMAIN", app.domain.as_str(), true), ("LETS_ENCRYPT_ENV", "", has_acme)]
    {
        if applies && env.get(name) != Some(value) {
            env.set(name, value)
                .map_err(|error| EngineError::recipe("can't change the .env file").because(error))?;
            changed = true;
        }
    }
    if changed { app.set_env(&env) } else { Ok(()) }
}

/// What the recipe's compose files say, as its tree and the app's `.env` are now. Blocks.
pub(crate) fn compose(app: &App) -> Result<Compose, EngineError> {
    let env = app.env()?;
    let read = || {
        let recipe = Recipe::open(app.recipe.clone(), &app.tree)?;
        recipe.compose(&recipe.vars(&env, &app.domain)?)
    };
    read().map_err(|error: RecipeError| EngineError::recipe("can't read the recipe").because(error))
}
