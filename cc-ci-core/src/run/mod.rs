//! A run: one recipe at one commit, deployed, proved, taken down, reported.
//!
//! `guards → workspace → fetch → lock → settle → janitor → tiers → begin_teardown → end children → teardown →
//! receipt → report`. Everything up to the tiers happens in a *body* that may end at any await; everything after
//! it happens always, once, and under the locks that the body took.

mod added;
mod canonical;
mod checks;
mod cold;
mod conclude;
mod drive;
mod guarded;
mod matrix;
mod prepare;
mod quick;
mod reading;
mod reconcile;
mod recorded;
mod redacted;
mod scripts;
mod seeds;
mod steps;
mod tiers;
mod upgrade_from;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Deployer, EngineError, Fault, Owned, Owners};
use crate::inventory::site::Site;
use crate::lifetime::RunLifetime;
use crate::lock::LostOwnership;
use crate::model::cancellation::Cause;
use crate::model::exit::Exit;
use crate::names::{Domain, RecipeName, RunId, Subject, Version};
use crate::workspace::{FetchError, GitError, InvalidSource, RecipeSource, Revision, WorkspaceError};

pub use crate::http::{InvalidProxy, Proxy};
pub use crate::model::record::{Lane, RUN_SCHEMA, Receipt, RunRecord, Status, Step, Tier, TierName, Verdict};
pub use cold::Deployed;
pub use drive::RunEnd;
pub use reconcile::{Outcome, WarmEnd};
pub use upgrade_from::UpgradeFrom;

/// What to test.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the recipe is.
    pub source: RecipeSource,
    /// Its name.
    pub recipe: RecipeName,
    /// At which commit; the source's `HEAD` unless given.
    pub revision: Option<Revision>,
    /// What determines the domain.
    pub subject: Subject,
    /// The run's id; a suffix is added where it is taken.
    pub run_id: RunId,
    /// Deploy the commit itself, without an earlier release.
    pub fresh: bool,
    /// The releases to upgrade from, unless `fresh`.
    pub upgrade_from: UpgradeFrom,
    /// Copy the canonical tree's recipe instead of fetching it.
    pub skip_fetch: bool,
}

impl Request {
    /// The whole cold lane on the source's `HEAD`.
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
        })
    }
}

/// A recipe's long-lived app that the quick lane upgrades in place and rolls back. It is never a run app (I5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmApp {
    /// Its address and name.
    pub domain: Domain,
    /// Its canonical version; the newest release of its source unless given.
    pub version: Option<Version>,
    /// Where its canonical version comes from, whatever is tested; the canonical tree's recipe unless given.
    pub source: Option<RecipeSource>,
}

/// How a run goes about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The longest wait for the run's locks.
    pub lock_timeout: Duration,
    /// The longest fetch.
    pub fetch_limit: Duration,
    /// The longest wait for an app to come up, where its recipe states none.
    pub converge_limit: Duration,
    /// The most of it that a recipe may state.
    pub converge_max: Duration,
    /// The longest run of one test.
    pub script_limit: Duration,
    /// What the janitor may take before a run deploys.
    pub janitor_budget: Duration,
    /// The operator's tests: `<directory>/<recipe>/`.
    pub operator_tests: Option<PathBuf>,
    /// The reverse proxy that leads to the apps: whether one serves is asked through it. Straight from the app's
    /// task without.
    pub proxy: Option<Proxy>,
    /// The external networks that an app may join: those that the operator shares among apps.
    pub shared_networks: Vec<String>,
    /// The recipes that a recipe needs beside it.
    pub dependencies: BTreeMap<RecipeName, Vec<RecipeSource>>,
    /// The warm apps of recipes.
    pub warm: BTreeMap<RecipeName, WarmApp>,
    /// So many run directories are kept.
    pub keep_runs: usize,
    /// Why this executor, where nobody asked for it by name: said in the run's first line.
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
            dependencies: BTreeMap::new(),
            warm: BTreeMap::new(),
            keep_runs: 50,
            why_executor: None,
        }
    }
}

/// A site, a way to deploy there, and a lifetime: all that a run needs.
#[derive(Debug, Clone)]
pub struct Harness {
    /// The host.
    pub site: Site,
    /// Makes the run's apps come and go.
    pub deployer: Arc<dyn Deployer>,
    /// Ends the run, and its children.
    pub lifetime: Arc<dyn RunLifetime>,
    /// How.
    pub settings: Settings,
}

impl Harness {
    /// The same in the hands of `owners`: nothing is ordered for what they don't own (I16).
    fn owned_by(&self, owners: &Owners) -> Self {
        Self {
            site: self.site.owned_by(owners),
            deployer: Arc::new(Owned::new(self.deployer.clone(), owners.clone())),
            ..self.clone()
        }
    }
}

/// What ended a run's body before its work was done, other than a red tier or a cancellation.
#[derive(Debug)]
pub struct Failure {
    /// How the run exits for it.
    pub exit: Exit,
    /// What was being done, and what was wrong.
    pub message: String,
    /// What helps.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of the harness or the host.
    pub fn host(message: impl Into<String>) -> Self {
        Self { exit: Exit::Harness, message: message.into(), hint: None }
    }

    /// A call or a configuration that is wrong, before anything was changed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// Adds what helps.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The run was ended from outside.
    pub(super) fn cancelled(cause: Cause) -> Self {
        Self { exit: Exit::Cancelled(cause), message: format!("ended by {cause}"), hint: None }
    }

    /// The recipe's fault, found before its first tier.
    pub fn recipe(message: impl Into<String>) -> Self {
        Self { exit: Exit::Red, message: message.into(), hint: None }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match error.fault() {
            Fault::Recipe => Exit::Red,
            Fault::Host => Exit::Harness,
            Fault::Configuration => Exit::Usage,
        };
        Self { exit, message: crate::model::error_chain(&error), hint: error.hint().map(str::to_owned) }
    }
}

impl From<LostOwnership> for Failure {
    fn from(lost: LostOwnership) -> Self {
        Self { hint: Some(lost.hint()), ..Self::host(lost.to_string()) }
    }
}

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        Self { hint: error.hint().map(str::to_owned), ..Self::host(crate::model::error_chain(&error)) }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let message = crate::model::error_chain(&error);
        match error {
            // What was asked for is not there: nothing was changed yet.
            FetchError::Source(_)
            | FetchError::NoCanonicalTree { .. }
            | FetchError::Path { .. }
            | FetchError::NoSuchRevision { .. }
            | FetchError::Ambiguous { .. } => Self::usage(message),
            _ => Self::host(message),
        }
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::host(crate::model::error_chain(&error))
    }
}
