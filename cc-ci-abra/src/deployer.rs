//! Apps that come and go through abra.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::engine::{App, Backup, Deployer, Engine, Failure, RunContext, Secret, ServiceState};

use crate::app_files::{adapt, compose, sample};
use crate::backup::{BackupTaker, Backups};
use crate::call::Call;
use crate::capabilities::{Flag, Subcommand};
use crate::installed::Abra;
use crate::secrets;

/// `app new` copies one file. It may still read the whole catalogue first.
const NEW_LIMIT: Duration = Duration::from_mins(2);
/// Deploying ends when the engine has taken the order; the wait for the app is our own. An engine under load takes its
/// time for each of some ten services.
const DEPLOY_LIMIT: Duration = Duration::from_mins(5);

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
    backups: BackupTaker,
}

impl AbraDeployer {
    /// A deployer.
    ///
    /// # Errors
    /// The abra lacks what is needed, see [`Abra::require`], or there is no backup service where [`Backups::Service`]
    /// wants one.
    pub async fn new(settings: Settings) -> Result<Self, Failure> {
        settings.abra.require()?;
        let (abra, engine) = (settings.abra.clone(), settings.engine.clone());
        let backups = BackupTaker::new(abra, engine, settings.backups).await?;
        Ok(Self { settings, backups })
    }

    fn abra(&self) -> &Abra {
        &self.settings.abra
    }

    fn engine(&self) -> &dyn Engine {
        self.settings.engine.as_ref()
    }

    /// Orders what the tree and the `.env` say, and looks whether the engine has it: in place of `before`, the services
    /// that were there.
    async fn order(&self, context: &RunContext, app: &App, before: &[ServiceState]) -> Result<(), Failure> {
        let call = Call::new(self.abra(), Subcommand::Deploy, DEPLOY_LIMIT)
            .flag(Flag::Chaos)
            .flag(Flag::NoConvergeChecks)
            .flag(Flag::NoDomainChecks);
        let call = if before.is_empty() { call } else { call.flag(Flag::Force) };
        call.arg(app.domain.as_str()).run(context, &app.domain).await?;
        let now = self.engine().services(&app.domain).await?;
        let there = names(&now);
        let owned = app.clone();
        let compose = context.lifetime.blocking_tasks().run(move || compose(&owned)).await?;
        let wanted: BTreeSet<String> = compose.services.into_keys().collect();
        let missing: Vec<&str> = wanted.difference(&there).map(String::as_str).collect();
        if there.is_empty() {
            let domain = &app.domain;
            return Err(Failure::host(format!(
                "abra says that it deployed {domain}, and nothing of it is deployed"
            )));
        }
        if !missing.is_empty() {
            let (domain, missing) = (&app.domain, missing.join(", "));
            return Err(Failure::host(format!(
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
            return Err(Failure::host(format!(
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
    fn version(&self) -> Option<String> {
        Some(self.abra().version().to_owned())
    }

    async fn create(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        let owned = app.clone();
        context.lifetime.blocking_tasks().run(move || sample(&owned)).await?;
        Call::new(self.abra(), Subcommand::New, NEW_LIMIT)
            .flag(Flag::Chaos)
            .value(Flag::Server, &self.settings.server)
            .value(Flag::Domain, app.domain.as_str())
            .arg(app.recipe.as_str())
            .run(context, &app.domain)
            .await?;
        let app = app.clone();
        context.lifetime.blocking_tasks().run(move || adapt(&app)).await
    }

    async fn generate_secrets(
        &self,
        context: &RunContext,
        app: &App,
    ) -> Result<BTreeMap<String, Secret>, Failure> {
        secrets::generate(self.abra(), self.engine(), context, app).await
    }

    async fn deploy(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.order(context, app, &[]).await
    }

    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        // With force, abra would deploy it anew: that is no upgrade.
        let before = self.engine().services(&app.domain).await?;
        if before.is_empty() {
            let domain = &app.domain;
            return Err(Failure::host(format!("{domain} is not deployed, so it can't be upgraded")));
        }
        self.order(context, app, &before).await
    }

    async fn backup(&self, context: &RunContext, app: &App) -> Result<Backup, Failure> {
        self.backups.take(context, app).await
    }

    async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure> {
        self.backups.restore(context, app, backup).await
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![("DOCKER_HOST".into(), self.settings.docker_host.clone())]
    }
}

fn names(services: &[ServiceState]) -> BTreeSet<String> {
    services.iter().map(|service| service.name.clone()).collect()
}
