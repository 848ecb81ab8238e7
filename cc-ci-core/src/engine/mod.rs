//! What a run needs of the thing that runs apps.
//!
//! Two traits: a [`Deployer`] makes apps come and go, an [`Engine`] sees and removes what exists. abra is the
//! first and Docker Swarm the second; the embedded [`local`](crate::local) executor is both. A crate of somebody else can add
//! its own pair.

mod app;
mod backup;
#[cfg(any(test, feature = "conformance"))]
#[expect(clippy::disallowed_methods, reason = "the cases make what they look at")]
pub mod conformance;
#[cfg(test)]
mod conformance_tests;
mod context;
mod convergence_report;
mod layer;
mod lock_space;
#[cfg(any(test, feature = "conformance"))]
mod memory;
mod owned;
mod redactor;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::event::Reporter;
use crate::names::{Domain, Stack};
use crate::recipe::{Compose, VolumeBackup};

pub use crate::model::failure::{Failure, Fault};
pub use crate::model::inventory::{Inventory, Kind, Resource, Unseen};
pub use crate::model::secret::Secret;
pub use app::App;
pub(crate) use app::{ENV_LIMIT, UNFINISHED, unfinished};
pub use backup::{restore_by_labels, take_by_labels};
pub use context::{Confined, RecipeCode, RunContext};
pub use convergence_report::ConvergenceReport;
pub use layer::{DeployerLayer, EngineLayer};
pub use lock_space::LockSpace;
#[cfg(any(test, feature = "conformance"))]
pub use memory::MemoryEngine;
pub use owned::{Owned, Owners};
pub use redactor::Redactor;

/// Makes apps come and go. The caller owns the app's domain.
///
/// It is shown as its name, one word of at most 64 bytes: by it a later command knows whether a dead run was its executor's.
/// Every call may be dropped at any await; what it leaves half-made, [`Engine::remove`] takes away.
#[async_trait]
pub trait Deployer: fmt::Debug + fmt::Display + Send + Sync {
    /// Writes the app's `.env` from the recipe's sample.
    async fn create(&self, context: &RunContext, app: &App) -> Result<(), Failure>;

    /// Generates the secrets that the `.env` names and that do not exist yet; gives the names and values of the
    /// new ones.
    async fn generate_secrets(
        &self,
        context: &RunContext,
        app: &App,
    ) -> Result<BTreeMap<String, Secret>, Failure>;

    /// Deploys the app. Returns when the engine has taken the order, not when the app is up: see
    /// [`Engine::wait_converged`].
    async fn deploy(&self, context: &RunContext, app: &App) -> Result<(), Failure>;

    /// Upgrades a deployed app in place to what its tree and `.env` say now. The same order as a deploy, unless a deployer
    /// has another.
    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.deploy(context, app).await
    }

    /// Takes a backup of what the recipe's labels declare.
    async fn backup(&self, context: &RunContext, app: &App) -> Result<Backup, Failure>;

    /// Brings the content of a backup back.
    async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure>;

    /// Returns why this deployer can't deploy such a recipe on any host; asked before anything of it is deployed.
    fn unfit(&self, _compose: &Compose) -> Option<String> {
        None
    }

    /// Returns whether it deploys processes of this host: then a recipe's services are code that runs here.
    fn runs_on_host(&self) -> bool {
        false
    }

    /// Returns the version of the program that it deploys with, where there is one.
    fn version(&self) -> Option<String> {
        None
    }

    /// Returns the variables that a child of the run needs to reach the same engine.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        Vec::new()
    }
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name, in the deployer's own terms.
    pub id: String,
}

/// What became of images that nobody uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedImages {
    /// The names of those that are gone.
    pub removed: Vec<String>,
    /// Why others stay, or could not be looked at.
    pub warnings: Vec<String>,
}

/// What a deployer was told to deploy: the files as they were judged.
#[derive(Debug, Clone)]
pub struct Order {
    /// The compose files.
    pub compose: Compose,
    /// The variables that they were read with: what is empty in a service's environment has one's value, and a deployer may
    /// show them to its services.
    pub vars: BTreeMap<String, String>,
    /// The recipe's directory: paths of the host may be relative to it.
    pub root: PathBuf,
    /// The texts of the files that services have more variables from.
    pub env_files: BTreeMap<PathBuf, String>,
    /// The SHA-256 of each file that a config is made of.
    pub config_files: BTreeMap<PathBuf, [u8; 32]>,
    /// What of the app was there before: deploying a release that lacks it does not remove it.
    pub before: BTreeSet<Resource>,
}

/// Where what is deployed is not what was ordered. No value that may be a secret is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// What is there and was not ordered, is not there and was, or is another: by service and field.
    pub differences: Vec<String>,
    /// What a deployer has added of its own, and touches nobody.
    pub remarks: Vec<String>,
}

/// Sees and removes what exists.
#[async_trait]
pub trait Engine: fmt::Debug + fmt::Display + Send + Sync {
    /// Claims this engine for one lock space: two lock directories on one engine would be two owners of every
    /// domain. Changes nothing when another space has it.
    async fn claim(&self, claim: &LockSpace) -> Result<(), Failure>;

    /// Returns what exists of `domains`, or of every domain.
    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure>;

    /// Returns how long after a client was killed what it had ordered may still appear. Within that time, nothing is
    /// verified to be empty before a second inventory, so much later, finds nothing either.
    fn request_lag(&self) -> Duration {
        Duration::ZERO
    }

    /// Waits until every service runs what it is meant to run, and is healthy, and tells how they stand: a
    /// [`ConvergenceReport`]. Cancel-safe.
    async fn wait_converged(
        &self,
        domain: &Domain,
        limit: Duration,
        reporter: &dyn Reporter,
    ) -> Result<(), Failure>;

    /// Returns where what is deployed is not what was ordered: asked right after the order, before anything is waited for.
    ///
    /// An engine whose deployer deploys what cc-ci itself has read has nothing to say.
    async fn drift(&self, _domain: &Domain, _order: &Order) -> Result<Drift, Failure> {
        Ok(Drift::default())
    }

    /// Returns the services of an app, as the engine knows them.
    async fn services(&self, domain: &Domain) -> Result<Vec<ServiceState>, Failure>;

    /// Removes everything of an app, in the order that leaves nothing behind; idempotent. What is still there
    /// when `limit` has passed is for the caller's next look to find.
    ///
    /// The caller holds the domain's lock, and keeps it until this has *returned*.
    async fn remove(&self, domain: &Domain, limit: Duration) -> Result<(), Failure>;

    /// Fetches the images that a deployment needs, before anything is deployed. Where there are none, there is nothing to do.
    async fn pre_pull(&self, _app: &App) -> Result<(), Failure> {
        Ok(())
    }

    /// Removes images that runs pulled, that nobody uses, and that no run has used for so long. Begins no further one once
    /// `stop` says so.
    async fn remove_images(&self, _unused_for: Duration, _stop: &(dyn Fn() -> bool + Sync)) -> RemovedImages {
        RemovedImages::default()
    }

    /// Returns the name and version of the engine, where it tells them.
    async fn version(&self) -> Option<String> {
        None
    }

    /// Takes secrets out of what apps said, before it is cut: half of one would not be known for one. A run on this
    /// engine hides its secrets there.
    fn redactor(&self) -> Redactor {
        Redactor::default()
    }

    /// Returns where the app answers to this host.
    async fn endpoint(&self, domain: &Domain) -> Result<Endpoint, Failure>;

    /// Where its data is on this host: what it deploys takes room there.
    async fn storage(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What shows a person what exists of an app: a command, or a directory of this host.
    fn shown_by(&self, _domain: &Domain) -> Option<String> {
        None
    }

    /// Returns the volumes of an app, by full name.
    async fn volumes(&self, domain: &Domain) -> Result<Vec<String>, Failure>;

    /// What a relative path of a volume leads to, through no link. `None` where the engine can't tell.
    async fn volume_path(&self, _path: &VolumeFile<'_>) -> Result<Option<VolumePath>, Failure> {
        Ok(None)
    }

    /// Writes a small file into a volume, at its top or in a directory that is there: none is made, and no link is followed.
    async fn write_volume_file(&self, file: &VolumeFile<'_>, content: &[u8]) -> Result<(), Failure>;

    /// Reads such a file; `None` when it is not there.
    async fn read_volume_file(&self, file: &VolumeFile<'_>) -> Result<Option<Vec<u8>>, Failure>;

    /// Runs a command in a service of the app, within its limit, and gives its output: of both its streams, in no order
    /// between them. A command that fails is the recipe's fault.
    ///
    /// Where the engine can't end a command that takes too long, it ends with the app.
    async fn execute(&self, context: &RunContext, command: &ServiceCommand<'_>) -> Result<String, Failure>;

    /// Returns the last lines that a service of the app has logged.
    async fn log(&self, domain: &Domain, service: &str) -> Result<String, Failure>;

    /// Returns what became of every task of the app's services and what it logged, the oldest first; those that have ended too, for as long as
    /// the engine knows them. What could not be read when `limit` has passed is left out. Nothing is redacted.
    async fn logs(&self, _domain: &Domain, _limit: Duration) -> Result<Vec<TaskLog>, Failure> {
        Ok(Vec::new())
    }

    /// Copies what `rule` takes of a volume into the new directory of the copy, in the engine's own form: what only
    /// [`load_volume`](Self::load_volume) has to understand.
    async fn save_volume(
        &self,
        context: &RunContext,
        copy: &VolumeCopy<'_>,
        rule: &VolumeBackup,
    ) -> Result<(), Failure>;

    /// Brings back what [`save_volume`](Self::save_volume) copied, while the app runs.
    async fn load_volume(&self, context: &RunContext, copy: &VolumeCopy<'_>) -> Result<(), Failure>;

    /// Returns the secrets of an app, by full name.
    async fn secrets(&self, domain: &Domain) -> Result<BTreeSet<String>, Failure>;

    /// Lets these secrets of the app, by full name, say whose they are, where only their names told (I12). They are
    /// the ones that the caller has made: what was there before is somebody's, who may want it to outlive the app.
    async fn adopt_secrets(&self, _domain: &Domain, _names: &BTreeSet<String>) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns whether there is a backup service on this engine.
    async fn has_backup_service(&self) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Removes these things of an app, and nothing else of it: what an upgrade had added, once it is rolled back.
    /// What is not there is fine.
    ///
    /// The caller holds the domain's lock, and keeps it until this has *returned*.
    async fn remove_selected(
        &self,
        domain: &Domain,
        named: &[Resource],
        limit: Duration,
    ) -> Result<(), Failure>;

    /// Returns what exists and belongs to no stack. Only whoever made it removes it.
    async fn unowned(&self) -> Result<BTreeSet<Resource>, Failure> {
        Ok(BTreeSet::new())
    }
}

/// A file or a directory in a volume of an app.
#[derive(Debug, Clone, Copy)]
pub struct VolumeFile<'f> {
    /// The app's domain.
    pub domain: &'f Domain,
    /// The volume, by its full name.
    pub volume: &'f str,
    /// Its path in the volume.
    pub path: &'f str,
}

/// A volume of an app, and where its copy is.
#[derive(Debug, Clone, Copy)]
pub struct VolumeCopy<'c> {
    /// The app.
    pub app: &'c App,
    /// The volume, by its full name.
    pub volume: &'c str,
    /// The directory of the copy.
    pub directory: &'c Path,
}

/// A command to be run in a service of an app.
#[derive(Debug, Clone, Copy)]
pub struct ServiceCommand<'c> {
    /// The app.
    pub app: &'c App,
    /// The service, by its name in the recipe.
    pub service: &'c str,
    /// The program, and its arguments.
    pub words: &'c [String],
    /// What it may take.
    pub limit: Duration,
}

/// What a path of a volume leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumePath {
    /// Nothing is there.
    Missing,
    /// A directory.
    Directory,
    /// Anything else: mostly a file.
    Other,
}

/// Names stacks that exist. An engine's object without a label belongs to the longest of all known stacks that its
/// name begins with (I12), so an engine must know stacks that have no labelled object of their own.
#[async_trait]
pub trait StackSource: fmt::Debug + fmt::Display + Send + Sync {
    /// The stacks. Where this fails, what is matched by name alone may be somebody else's.
    async fn stacks(&self) -> Result<Vec<Stack>, Failure>;
}

/// A service, and what tells that it was not made anew (I10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Its name in the recipe.
    pub name: String,
    /// The engine's id.
    pub id: String,
    /// The engine's creation stamp.
    pub created: String,
    /// What the engine changes with every order that it takes for the service, be it for the same again.
    pub order: String,
    /// The ids of its running tasks, sorted: new ones are a restart. A service that ends well and begins anew on
    /// purpose has none.
    pub tasks: Vec<String>,
    /// Whether everything that it is meant to run runs, and is healthy.
    pub healthy: bool,
    /// A digest of what it is made of: the same one runs the same, as often, and is reached alike. The digest of an image
    /// and the deployer's own notes take no part in it.
    pub spec: String,
    /// The version of the recipe that its labels say.
    pub version: Option<String>,
}

/// One start of a service: what became of it, and what it logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskLog {
    /// The service, by its name in the recipe.
    pub service: String,
    /// The engine's id of the task.
    pub task: String,
    /// The engine's word for what it does: `running`, `failed`, …
    pub state: String,
    /// Whether it came to a bad end, or is not healthy.
    pub failed: bool,
    /// When its process began, where that is known.
    pub began: Option<Timestamp>,
    /// When its process ended, where it has, and that is known.
    pub ended: Option<Timestamp>,
    /// What the engine says went wrong.
    pub error: Option<String>,
    /// The status that it ended with.
    pub exit_status: Option<i64>,
    /// How its last failed healthcheck ended.
    pub health: Option<String>,
    /// The last lines of its log, [`TaskLog::LOG_LIMIT`] bytes at the most: whole ones, half a secret is not known for one.
    pub log: String,
}

impl TaskLog {
    /// As much of a log is read, in bytes.
    pub const LOG_LIMIT: usize = 64 * 1024;

    /// So many tasks of a service are looked at: the newest.
    pub const TASKS: usize = 10;
}

/// Where an app answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An address that reaches it from this host, e.g. `127.0.0.1:43021`.
    pub address: std::net::SocketAddr,
    /// The `Host` header to send.
    pub host: Domain,
}
