//! A deployer and an engine that ask before each change whether the caller still owns the app (I16).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{App, Backup, Deployer, Endpoint, Engine, Failure, Inventory, LockSpace, VolumePath};
use super::{Drift, Order, Redactor, Resource, RunContext, Secret, ServiceState, TaskLog};
use crate::lock::{AppGuard, LostOwnership, OwnershipCheck};
use crate::model::event::Reporter;
use crate::names::Domain;
use crate::recipe::{Compose, VolumeBackup};

/// The locks that somebody holds, by domain. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Owners(Arc<Mutex<BTreeMap<Domain, OwnershipCheck>>>);

impl Owners {
    /// Whoever holds `guards`.
    pub fn of<'g>(guards: impl IntoIterator<Item = &'g AppGuard>) -> Self {
        let owners = Self::default();
        owners.add(guards);
        owners
    }

    /// It holds these, too.
    pub fn add<'g>(&self, guards: impl IntoIterator<Item = &'g AppGuard>) {
        let of = |guard: &AppGuard| (guard.domain().clone(), guard.ownership());
        self.locked().extend(guards.into_iter().map(of));
    }

    /// Somebody else owns `domain` after all: from now on nothing of it is changed, whatever its lock says.
    pub fn give_up(&self, domain: &Domain, reason: &str) {
        let reason = reason.to_owned();
        let lost = OwnershipCheck::new(domain.clone(), None, move || Err(reason.clone()));
        self.locked().insert(domain.clone(), lost);
    }

    /// Whether the lock of `domain` is held, and is the one that its path names.
    ///
    /// # Errors
    /// When not.
    pub fn check(&self, domain: &Domain) -> Result<(), LostOwnership> {
        let ownership = self.locked().get(domain).cloned();
        match ownership {
            Some(ownership) => ownership.check(),
            None => Err(LostOwnership {
                domain: domain.clone(),
                reason: "it was never taken".to_owned(),
                path: None,
            }),
        }
    }

    /// The same of every domain; the first that is lost.
    ///
    /// # Errors
    /// When one is.
    pub fn check_all(&self) -> Result<(), LostOwnership> {
        let all: Vec<OwnershipCheck> = self.locked().values().cloned().collect();
        all.iter().try_for_each(OwnershipCheck::check)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Domain, OwnershipCheck>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changes an app only while its domain is owned.
#[derive(Debug)]
pub struct Owned<T: ?Sized> {
    owners: Owners,
    inner: Arc<T>,
}

impl<T: ?Sized> Owned<T> {
    /// `inner`, in the hands of `owners`.
    pub fn new(inner: Arc<T>, owners: Owners) -> Self {
        Self { owners, inner }
    }

    /// What may be changed.
    fn of(&self, domain: &Domain) -> Result<&T, Failure> {
        match self.owners.check(domain) {
            Ok(()) => Ok(&self.inner),
            Err(lost) => Err(Failure::host(lost.to_string()).with_hint(lost.hint())),
        }
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Deployer for Owned<dyn Deployer> {
    async fn create(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.of(&app.domain)?.create(context, app).await
    }

    async fn generate_secrets(
        &self,
        context: &RunContext,
        app: &App,
    ) -> Result<BTreeMap<String, Secret>, Failure> {
        self.of(&app.domain)?.generate_secrets(context, app).await
    }

    async fn deploy(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.of(&app.domain)?.deploy(context, app).await
    }

    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.of(&app.domain)?.upgrade(context, app).await
    }

    async fn backup(&self, context: &RunContext, app: &App) -> Result<Backup, Failure> {
        self.of(&app.domain)?.backup(context, app).await
    }

    async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure> {
        self.of(&app.domain)?.restore(context, app, backup).await
    }

    fn unfit(&self, compose: &Compose) -> Option<String> {
        self.inner.unfit(compose)
    }

    fn version(&self) -> Option<String> {
        self.inner.version()
    }

    fn runs_on_host(&self) -> bool {
        self.inner.runs_on_host()
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        self.inner.environment()
    }
}

#[async_trait]
impl Engine for Owned<dyn Engine> {
    async fn claim(&self, claim: &LockSpace) -> Result<(), Failure> {
        self.inner.claim(claim).await
    }

    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure> {
        self.inner.inventory(domains).await
    }

    fn request_lag(&self) -> Duration {
        self.inner.request_lag()
    }

    async fn wait_converged(
        &self,
        domain: &Domain,
        limit: Duration,
        reporter: &dyn Reporter,
    ) -> Result<(), Failure> {
        self.inner.wait_converged(domain, limit, reporter).await
    }

    async fn drift(&self, domain: &Domain, order: &Order) -> Result<Drift, Failure> {
        self.inner.drift(domain, order).await
    }

    async fn services(&self, domain: &Domain) -> Result<Vec<ServiceState>, Failure> {
        self.inner.services(domain).await
    }

    async fn remove(&self, domain: &Domain, limit: Duration) -> Result<(), Failure> {
        self.of(domain)?.remove(domain, limit).await
    }

    async fn version(&self) -> Option<String> {
        self.inner.version().await
    }

    async fn pre_pull(&self, app: &App) -> Result<(), Failure> {
        self.inner.pre_pull(app).await
    }

    fn redactor(&self) -> Redactor {
        self.inner.redactor()
    }

    async fn endpoint(&self, domain: &Domain) -> Result<Endpoint, Failure> {
        self.inner.endpoint(domain).await
    }

    async fn storage(&self) -> Vec<PathBuf> {
        self.inner.storage().await
    }

    fn shown_by(&self, domain: &Domain) -> Option<String> {
        self.inner.shown_by(domain)
    }

    async fn volumes(&self, domain: &Domain) -> Result<Vec<String>, Failure> {
        self.inner.volumes(domain).await
    }

    async fn volume_path(
        &self,
        domain: &Domain,
        volume: &str,
        path: &str,
    ) -> Result<Option<VolumePath>, Failure> {
        self.of(domain)?.volume_path(domain, volume, path).await
    }

    async fn write_volume_file(
        &self,
        domain: &Domain,
        volume: &str,
        file: &str,
        content: &[u8],
    ) -> Result<(), Failure> {
        self.of(domain)?.write_volume_file(domain, volume, file, content).await
    }

    async fn read_volume_file(
        &self,
        domain: &Domain,
        volume: &str,
        file: &str,
    ) -> Result<Option<Vec<u8>>, Failure> {
        // On an engine that has no files of its own, this makes a helper beside the app.
        self.of(domain)?.read_volume_file(domain, volume, file).await
    }

    async fn execute(
        &self,
        context: &RunContext,
        app: &App,
        service: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<String, Failure> {
        self.of(&app.domain)?.execute(context, app, service, command, limit).await
    }

    async fn log(&self, domain: &Domain, service: &str) -> Result<String, Failure> {
        self.inner.log(domain, service).await
    }

    async fn logs(&self, domain: &Domain, limit: Duration) -> Result<Vec<TaskLog>, Failure> {
        self.inner.logs(domain, limit).await
    }

    async fn save_volume(
        &self,
        context: &RunContext,
        app: &App,
        volume: &str,
        rule: &VolumeBackup,
        to: &Path,
    ) -> Result<(), Failure> {
        self.of(&app.domain)?.save_volume(context, app, volume, rule, to).await
    }

    async fn load_volume(
        &self,
        context: &RunContext,
        app: &App,
        volume: &str,
        from: &Path,
    ) -> Result<(), Failure> {
        self.of(&app.domain)?.load_volume(context, app, volume, from).await
    }

    async fn secrets(&self, domain: &Domain) -> Result<BTreeSet<String>, Failure> {
        self.inner.secrets(domain).await
    }

    async fn adopt_secrets(&self, domain: &Domain, names: &BTreeSet<String>) -> Result<(), Failure> {
        self.of(domain)?.adopt_secrets(domain, names).await
    }

    async fn has_backup_service(&self) -> Result<bool, Failure> {
        self.inner.has_backup_service().await
    }

    async fn remove_selected(
        &self,
        domain: &Domain,
        named: &[Resource],
        limit: Duration,
    ) -> Result<(), Failure> {
        self.of(domain)?.remove_selected(domain, named, limit).await
    }

    async fn unowned(&self) -> Result<BTreeSet<Resource>, Failure> {
        self.inner.unowned().await
    }
}
