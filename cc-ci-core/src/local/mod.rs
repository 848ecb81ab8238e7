//! The embedded executor: apps without Docker.
//!
//! Each service of a recipe is a real process group (its command is in the `x-cc-ci-local` field of the service),
//! volumes are directories, secrets are files, health is a real HTTP probe. Services are detached from the run that
//! starts them and die only by removal or reap, so this executor leaks and crashes like the real thing, and a
//! killed run leaves real work for the janitor.
//!
//! # Limitations
//! Where the run confines what a recipe brings, services and what is executed in them see their own files; their network is
//! this host's. A service has one task at the most.
//! Config templates are not rendered.

mod claim;
mod converge;
mod deploy;
mod execute;
mod held_ports;
mod log_tail;
mod logs;
mod partial;
mod plan;
mod ports;
mod processes;
mod secrets;
mod state_dir;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::engine::{
    App, Backup, Deployer, Endpoint, Engine, Failure, Inventory, LockSpace, RunContext, ServiceCommand,
    ServiceState, VolumeCopy, VolumeFile, VolumePath, restore_by_labels, take_by_labels,
};
use crate::engine::{Kind, Resource, Secret, TaskLog};
use crate::lifetime::User;
use crate::model::event::Reporter;
use crate::names::Domain;
use crate::recipe::{Compose, EnvFile, Recipe, VolumeBackup};
use crate::sys::beneath::read_beneath;
use crate::sys::blocking::{self, briefly};
use crate::sys::process::{Marker, MarkerOwner};
use crate::sys::shared_look::SharedLook;
use crate::sys::system_info::SystemInfo;
use processes::ProcessTable;
use state_dir::{ContainerRecord, ServiceRecord, StateDir, host};

/// The files that are read back are our own, and small.
const VOLUME_FILE_LIMIT: u64 = 1 << 20;

/// The files of so many apps are asked for by name; of more, the directories are listed.
const ASKED_ONE_BY_ONE: usize = 16;

/// Deploys apps as processes below one root directory.
#[derive(Debug, Clone)]
pub struct LocalExecutor {
    state_dir: StateDir,
    host: Arc<dyn SystemInfo>,
    claim_limit: Duration,
    /// What removals see of the host's processes.
    tables: Arc<SharedLook<ProcessTable>>,
}

impl LocalExecutor {
    /// What the wait for another one's claim may take, unless somebody says otherwise.
    pub const CLAIM_LIMIT: Duration = Duration::from_secs(30);

    /// An executor whose world is the directory `root`; it is made when it is first needed.
    pub fn new(root: PathBuf, host: Arc<dyn SystemInfo>) -> Self {
        let tables = Arc::default();
        Self { state_dir: StateDir::new(root), host, claim_limit: Self::CLAIM_LIMIT, tables }
    }

    /// Waits so long for another one's claim of the same root.
    #[must_use]
    pub fn with_claim_limit(self, claim_limit: Duration) -> Self {
        Self { claim_limit, ..self }
    }

    /// The mark of a service's processes.
    pub fn marker(&self, domain: &Domain, service: &str) -> Marker {
        let owner = MarkerOwner::Service { service: service.to_owned(), state_dir: self.state_dir.id() };
        Marker { domain: domain.clone(), owner }
    }

    /// Who the services of an app are to the kernel where they are confined, and cc-ci is root: the same in each run, since
    /// their files are theirs.
    fn user_of(&self, domain: &Domain) -> User {
        User::of(&format!("{}/{domain}", self.state_dir.id()))
    }

    /// Its world.
    pub fn root(&self) -> &Path {
        self.state_dir.root()
    }

    /// Which lock space has claimed it, if one has. Changes nothing; blocks.
    pub fn claimed(&self) -> Result<Option<LockSpace>, Failure> {
        claim::claimed(&self.state_dir)
    }
}

impl fmt::Display for LocalExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local")
    }
}

#[async_trait]
impl Deployer for LocalExecutor {
    async fn create(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        let app = app.clone();
        context.lifetime.blocking_tasks().run(move || create(&app)).await
    }

    async fn generate_secrets(
        &self,
        context: &RunContext,
        app: &App,
    ) -> Result<BTreeMap<String, Secret>, Failure> {
        let (state_dir, app) = (self.state_dir.clone(), app.clone());
        context.lifetime.blocking_tasks().run(move || secrets::generate(&state_dir, &app)).await
    }

    async fn deploy(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        deploy::apply(self, context, app).await
    }

    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        if self.services_of(&app.domain).await?.is_empty() {
            return Err(Failure::host(format!("{} is not deployed, so it can't be upgraded", app.domain)));
        }
        deploy::apply(self, context, app).await
    }

    fn runs_on_host(&self) -> bool {
        true
    }

    async fn backup(&self, context: &RunContext, app: &App) -> Result<Backup, Failure> {
        take_by_labels(self, context, app).await
    }

    async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure> {
        restore_by_labels(self, context, app, backup).await
    }

    fn unfit(&self, compose: &Compose) -> Option<String> {
        let mut services = compose.services.iter().filter(|(_, service)| service.local.is_none());
        services.next().map(|(name, _)| plan::no_local(name))
    }
}

#[async_trait]
impl Engine for LocalExecutor {
    async fn claim(&self, claim: &LockSpace) -> Result<(), Failure> {
        let (state_dir, claim, limit) = (self.state_dir.clone(), claim.clone(), self.claim_limit);
        blocking::run(move || claim::claim(&state_dir, &claim, limit)).await
    }

    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure> {
        let (executor, domains) = (self.clone(), domains.map(<[Domain]>::to_vec));
        blocking::run(move || executor.look(domains.as_deref())).await.map_err(host)
    }

    async fn wait_converged(
        &self,
        domain: &Domain,
        limit: Duration,
        reporter: &dyn Reporter,
    ) -> Result<(), Failure> {
        converge::wait(self, domain, limit, reporter).await
    }

    async fn services(&self, domain: &Domain) -> Result<Vec<ServiceState>, Failure> {
        converge::services(self, domain).await
    }

    async fn remove(&self, domain: &Domain, limit: Duration) -> Result<(), Failure> {
        let until = crate::sys::after(Instant::now(), limit);
        let left = processes::end(self, domain, None, Duration::ZERO, limit).await.map_err(host)?;
        if !left.is_empty() {
            // Their files stay with them: whoever looks next must find both.
            return Err(Failure::host(format!("processes of {domain} survived SIGKILL: {left:?}")));
        }
        let (state_dir, domain) = (self.state_dir.clone(), domain.clone());
        // Out of the way first, and on this thread: what outlives a caller that gives up touches only the trash.
        briefly(|| state_dir.trash_app(&domain).and_then(|()| state_dir.free_ports(&domain)))
            .map_err(host)?;
        let (stop, _stopped) = stop_on_drop();
        let emptied =
            async { blocking::run(move || state_dir.remove_app(&domain, &*stop)).await.map_err(host) };
        tokio::time::timeout_at(until.into(), emptied)
            .await
            .unwrap_or_else(|_| Err(Failure::host("removing the files took too long")))
    }

    async fn endpoint(&self, domain: &Domain) -> Result<Endpoint, Failure> {
        let records = self.services_of(domain).await?;
        // The service `app` is the one that serves the domain, by the recipes' own convention.
        let port = records
            .iter()
            .find(|(name, record)| name == "app" && record.port.is_some())
            .or_else(|| records.iter().find(|(_, record)| record.port.is_some()))
            .and_then(|(_, record)| record.port)
            .ok_or_else(|| {
                Failure::recipe("no service has a port: x-cc-ci-local.health makes one serve".to_owned())
            })?;
        Ok(Endpoint { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), host: domain.clone() })
    }

    async fn storage(&self) -> Vec<PathBuf> {
        vec![self.state_dir.root().to_owned()]
    }

    fn shown_by(&self, domain: &Domain) -> Option<String> {
        Some(self.state_dir.app(domain).display().to_string())
    }

    async fn volumes(&self, domain: &Domain) -> Result<Vec<String>, Failure> {
        self.names_of(domain, "volumes").await
    }

    async fn volume_path(&self, file: &VolumeFile<'_>) -> Result<Option<VolumePath>, Failure> {
        let (path, state_dir) = (self.volume_file(file)?, self.state_dir.clone());
        blocking::run(move || volumes::look(&state_dir, &path)).await.map(Some)
    }

    async fn write_volume_file(&self, file: &VolumeFile<'_>, content: &[u8]) -> Result<(), Failure> {
        let (path, content) = (self.volume_file(file)?, content.to_vec());
        let state_dir = self.state_dir.clone();
        blocking::run(move || volumes::write(&state_dir, &path, &content)).await
    }

    async fn read_volume_file(&self, file: &VolumeFile<'_>) -> Result<Option<Vec<u8>>, Failure> {
        self.volume_file(file)?;
        let (volume, path) =
            (self.state_dir.of(file.domain, "volumes").join(file.volume), file.path.to_owned());
        // The app may have put anything there.
        blocking::run(move || match read_beneath(&volume, path, VOLUME_FILE_LIMIT) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(Failure::recipe("can't read a file of a volume").with_source(error)),
        })
        .await
    }

    async fn execute(&self, context: &RunContext, command: &ServiceCommand<'_>) -> Result<String, Failure> {
        execute::execute(self, context, command).await
    }

    async fn log(&self, domain: &Domain, service: &str) -> Result<String, Failure> {
        let known = self.services_of(domain).await?;
        if !known.iter().any(|(name, _)| name == service) {
            return Err(Failure::recipe(format!("the app has no service {service}")));
        }
        Ok(log_tail::log_tail(self, domain, service).await)
    }

    async fn logs(&self, domain: &Domain, limit: Duration) -> Result<Vec<TaskLog>, Failure> {
        logs::logs(self, domain, limit).await
    }

    async fn save_volume(
        &self,
        context: &RunContext,
        copy: &VolumeCopy<'_>,
        rule: &VolumeBackup,
    ) -> Result<(), Failure> {
        let from = self.state_dir.of(&copy.app.domain, "volumes").join(copy.volume);
        volumes::save(context, from, rule, copy.directory.to_owned()).await
    }

    async fn load_volume(&self, context: &RunContext, copy: &VolumeCopy<'_>) -> Result<(), Failure> {
        let domain = &copy.app.domain;
        let (from, to) = (copy.directory.to_owned(), self.state_dir.of(domain, "volumes").join(copy.volume));
        volumes::load(context, &self.state_dir, from, to, self.user_of(domain)).await
    }

    async fn secrets(&self, domain: &Domain) -> Result<BTreeSet<String>, Failure> {
        self.names_of(domain, "secrets").await.map(BTreeSet::from_iter)
    }

    async fn remove_selected(
        &self,
        domain: &Domain,
        named: &[Resource],
        limit: Duration,
    ) -> Result<(), Failure> {
        partial::remove(self, domain, named, limit).await
    }
}

impl LocalExecutor {
    /// Reads the world: directories, ports, processes.
    fn look(&self, domains: Option<&[Domain]>) -> io::Result<Inventory> {
        let boot = self.host.boot_id();
        let mut inventory = Inventory::default();
        let table = ProcessTable::read(&self.state_dir, &boot)?;
        let names: Option<BTreeSet<&Domain>> = domains.map(|domains| domains.iter().collect());
        let wanted = |domain: &Domain| names.as_ref().is_none_or(|names| names.contains(domain));
        for found in &table.services {
            if wanted(&found.marker.domain) {
                inventory.add(&found.marker.domain, Resource::new(Kind::Process, found.process.to_string()));
            }
        }
        for found in &table.logging {
            if wanted(&found.domain) {
                inventory.add(&found.domain, Resource::new(Kind::Process, found.process.to_string()));
            }
        }
        let known = match domains {
            Some(domains) if domains.len() <= ASKED_ONE_BY_ONE => domains.to_vec(),
            _ => self.state_dir.domains()?.into_iter().filter(wanted).collect(),
        };
        self.state_dir.in_the_way().into_iter().for_each(|what| inventory.add_in_the_way(what));
        let ports = self.state_dir.taken_ports()?;
        for domain in &known {
            self.state_dir.inventory(domain, &ports, &mut inventory)?;
            for (_, container) in self.state_dir.records::<ContainerRecord>(domain, "containers")? {
                if processes::is_proven(&self.state_dir, domain, &container.process, &boot) {
                    inventory.add(domain, Resource::new(Kind::Process, container.process.to_string()));
                }
            }
        }
        Ok(inventory)
    }

    /// The records of the app's services, by name.
    async fn services_of(&self, domain: &Domain) -> Result<Vec<(String, ServiceRecord)>, Failure> {
        let (state_dir, domain) = (self.state_dir.clone(), domain.clone());
        blocking::run(move || state_dir.records(&domain, "services")).await.map_err(host)
    }

    /// The names of the app's things of one kind.
    async fn names_of(&self, domain: &Domain, kind: &'static str) -> Result<Vec<String>, Failure> {
        let (state_dir, domain) = (self.state_dir.clone(), domain.clone());
        blocking::run(move || state_dir.names(&state_dir.of(&domain, kind))).await.map_err(host)
    }

    fn volume_file(&self, file: &VolumeFile<'_>) -> Result<PathBuf, Failure> {
        let VolumeFile { domain, volume, path } = *file;
        let plain = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !plain(volume) || !path.trim_end_matches('/').split('/').all(plain) {
            return Err(Failure::host(format!("{volume}/{path} is no file of a volume")));
        }
        Ok(self.state_dir.of(domain, "volumes").join(volume).join(path))
    }
}

/// A question that is answered with yes once the second is dropped: what works for a caller that has given up stops.
fn stop_on_drop() -> (Box<dyn Fn() -> bool + Send>, impl Drop) {
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let asked = stopped.clone();
    (Box::new(move || asked.load(Ordering::Relaxed)), Stop(stopped))
}

/// Writes the `.env` that the recipe's sample proposes. Blocks.
fn create(app: &App) -> Result<(), Failure> {
    let mut env: EnvFile = Recipe::open(app.recipe.clone(), &app.tree)
        .and_then(|recipe| recipe.sample())
        .map_err(|error| Failure::recipe("can't read .env.sample").with_source(error))?;
    env.set("DOMAIN", app.domain.as_str())
        .map_err(|error| Failure::recipe("can't set DOMAIN in .env.sample").with_source(error))?;
    app.set_env(&env)
}
