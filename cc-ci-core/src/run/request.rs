//! What is asked of a run, and how it goes about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::upgrade_from::UpgradeFrom;
use crate::engine::{Deployer, Owned, Owners};
use crate::http::Proxy;
use crate::inventory::ci_host::CiHost;
use crate::inventory::env_files::EnvFiles;
use crate::lifetime::{Bounds, EmbeddedMode, RunLifetime};
use crate::local::LocalExecutor;
use crate::lock::FlockLocks;
use crate::model::asked::Asked;
use crate::model::event::Silent;
use crate::model::failure::Failure;
use crate::names::{Domain, RecipeName, RunAppPattern, RunId, Subject, Suffix, Version};
use crate::sys::files::private_directory;
use crate::sys::system_info::{KernelSystemInfo, SystemInfo};
use crate::workspace::{self, GitCredentials, InvalidSource, KernelWorkspace, RecipeSource, Revision};

/// The recipe that a run tests, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the recipe is.
    pub source: RecipeSource,
    /// The recipe's name.
    pub recipe: RecipeName,
    /// The commit under test; the `HEAD` of the source unless given.
    pub revision: Option<Revision>,
    /// What is tested, e.g. a pull request: it determines the domain.
    pub subject: Subject,
    /// The run's id; a suffix is added where it is taken.
    pub run_id: RunId,
    /// Whether the commit itself is deployed, without an earlier release.
    pub fresh: bool,
    /// The releases to upgrade from, unless `fresh`.
    pub upgrade_from: UpgradeFrom,
    /// Whether the canonical tree's recipe is copied instead of fetched.
    pub skip_fetch: bool,
    /// What the record says of the request, so that the same can be asked for again.
    pub asked: Option<Asked>,
}

impl Request {
    /// Returns a request for the whole cold lane, on the `HEAD` of the source.
    ///
    /// # Errors
    /// When the source names no recipe.
    pub fn new(source: RecipeSource, subject: Subject, run_id: RunId) -> Result<Self, InvalidSource> {
        let recipe = source.recipe_name()?;
        let upgrade_from = UpgradeFrom::default();
        Ok(Self {
            source,
            recipe,
            revision: None,
            subject,
            run_id,
            fresh: false,
            upgrade_from,
            skip_fetch: false,
            asked: None,
        })
    }
}

/// A recipe's long-lived app that the quick lane upgrades in place and rolls back. It is never a run app (I5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmApp {
    /// Its address and name.
    pub domain: Domain,
    /// Its baseline; the newest release of its source unless given.
    pub version: Option<Version>,
    /// Where its baseline comes from, whatever is tested; the canonical tree's recipe unless given.
    pub source: Option<RecipeSource>,
}

/// Whether what the recipe brings is confined: its tests and install steps, and with the local executor its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecipeScripts {
    /// It is confined. Where that is not possible, it runs neither as root nor beside an engine.
    #[default]
    Confined,
    /// It is not confined: for recipes whose authors are trusted like the operator.
    Unconfined,
}

/// The settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The longest wait for the run's locks.
    pub lock_timeout: Duration,
    /// The longest fetch.
    pub fetch_limit: Duration,
    /// The longest wait for an app to come up, where its recipe states none.
    pub converge_limit: Duration,
    /// The longest such wait that a recipe may state.
    pub converge_max: Duration,
    /// The longest run of one test.
    pub script_limit: Duration,
    /// How long the janitor may take before a run deploys.
    pub janitor_budget: Duration,
    /// The directory of the operator's tests: those of a recipe are in `<directory>/<recipe>/`.
    pub operator_tests: Option<PathBuf>,
    /// The reverse proxy that leads to the apps: whether one serves is asked through it. Straight from the app's
    /// task without.
    pub proxy: Option<Proxy>,
    /// The external networks that an app may join: those that the operator shares among apps.
    pub shared_networks: Vec<String>,
    /// The privileges that the operator grants to recipes, each as `key=value`: what is asked for without is red.
    pub granted: BTreeMap<RecipeName, Vec<String>>,
    /// Only tell which privileges are missing, and run the recipe's code unconfined, for the change-over.
    pub report_only: bool,
    /// Whether the recipe's own code is confined.
    pub recipe_scripts: RecipeScripts,
    /// What of the host the recipe's code may read beside its own files and the host's programs: absolute paths.
    pub sandbox_paths: Vec<PathBuf>,
    /// The directories of files that the operator has for recipes' tests, such as a mail server's password.
    pub fixtures: BTreeMap<RecipeName, PathBuf>,
    /// The recipes whose tests and install steps reach all that this host reaches.
    pub host_network: BTreeSet<RecipeName>,
    /// Recipes whose own tests may run commands and read logs in their warm app.
    pub warm_api: BTreeSet<RecipeName>,
    /// Where a recipe's releases come from; the canonical tree's recipe, or what is tested, unless given.
    pub sources: BTreeMap<RecipeName, RecipeSource>,
    /// The credentials with which git fetches recipes.
    pub git_credentials: GitCredentials,
    /// The recipes that a recipe needs beside it.
    pub dependencies: BTreeMap<RecipeName, Vec<RecipeSource>>,
    /// The warm apps of recipes.
    pub warm: BTreeMap<RecipeName, WarmApp>,
    /// What a run waits for before it begins its lane.
    pub limits: Limits,
    /// So long a red app is kept up for a person to look, within the run's deadline; in the cold lane only.
    pub keep_on_red: Duration,
    /// How many run directories are kept.
    pub keep_runs: usize,
    /// Why this executor was chosen, where nobody asked for it by name: the run's first line tells.
    pub why_executor: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_hours(1),
            fetch_limit: Duration::from_mins(5),
            converge_limit: Duration::from_mins(5),
            converge_max: Duration::from_mins(30),
            script_limit: Duration::from_mins(5),
            janitor_budget: Duration::from_mins(1),
            operator_tests: None,
            proxy: None,
            shared_networks: crate::recipe::SHARED_NETWORKS.map(str::to_owned).into(),
            granted: BTreeMap::new(),
            report_only: false,
            recipe_scripts: RecipeScripts::default(),
            sandbox_paths: Vec::new(),
            fixtures: BTreeMap::new(),
            host_network: BTreeSet::new(),
            warm_api: BTreeSet::new(),
            sources: BTreeMap::new(),
            git_credentials: GitCredentials::default(),
            dependencies: BTreeMap::new(),
            warm: BTreeMap::new(),
            limits: Limits::default(),
            keep_on_red: Duration::ZERO,
            keep_runs: 50,
            why_executor: None,
        }
    }
}

/// All that a run needs: a CI host, a deployer for it, and a lifetime.
#[derive(Debug, Clone)]
pub struct Harness {
    /// The CI host.
    pub ci_host: CiHost,
    /// Makes the run's apps come and go.
    pub deployer: Arc<dyn Deployer>,
    /// Ends the run, and its children.
    pub lifetime: Arc<dyn RunLifetime>,
    /// The settings of each run.
    pub settings: Settings,
}

impl Harness {
    /// Returns a harness for test fixtures: the embedded `local` executor, and everything below `directory`, which is made
    /// where it is missing. Whoever shares the directory shares its locks. Run apps are those below `suffix`.
    ///
    /// Each has a lifetime of its own, in [embedded mode](EmbeddedMode): it serves one run.
    ///
    /// # Errors
    /// When the directory can't be used, or `/proc` can't be read.
    pub fn local(directory: &Path, suffix: Suffix) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::host("can't make a local harness").with_source(error);
        let directory = std::path::absolute(directory).map_err(failed)?;
        let host: Arc<dyn SystemInfo> = Arc::new(KernelSystemInfo::new().map_err(failed)?);
        let locks = directory.join("locks");
        private_directory(&directory).and_then(|()| private_directory(&locks)).map_err(failed)?;
        let local = Arc::new(LocalExecutor::new(directory.join("local"), host.clone()));
        let runs = KernelWorkspace::new(workspace::Settings::new(directory.join("runs"))?)?;
        let lifetime = EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).map_err(failed)?;
        let ci_host = CiHost {
            pattern: RunAppPattern::new(suffix, []),
            locks: Arc::new(FlockLocks::new(locks, host.clone())),
            engine: local.clone(),
            env_files: EnvFiles::new(&directory.join("servers"), "local"),
            runs: Arc::new(runs),
            reporter: Arc::new(Silent),
            host,
        };
        Ok(Self { ci_host, deployer: local, lifetime: Arc::new(lifetime), settings: Settings::default() })
    }

    /// The same in the hands of `owners`: nothing is ordered for what they don't own (I16).
    pub(super) fn owned_by(&self, owners: &Owners) -> Self {
        Self {
            ci_host: self.ci_host.owned_by(owners),
            deployer: Arc::new(Owned::new(self.deployer.clone(), owners.clone())),
            ..self.clone()
        }
    }
}
