//! A private place for each run (I7).
//!
//! A run gets `<runs dir>/<run id>/`, mode 0700, and in it everything that it writes: an abra tree of its own
//! (`abra/`, whose `servers` and `catalogue` are symlinks into the canonical tree and whose `recipes/` is fresh),
//! `home/`, `tmp/`, `logs/` and the state files. It holds `flock` on `run.lock` in there for life: whoever finds
//! the directory later knows from the kernel whether the run still lives, and touches nothing while it does.
//!
//! The recipe comes in through [`fetch`]: one commit and the tags, and nothing of the repository's own hooks,
//! filters or configuration. What is pushed from that clone goes nowhere (I13).
//!
//! # Limitations
//! The directory confines nothing: a child of the run can write wherever its user can. The canonical `servers`
//! is shared on purpose, and each run writes only its own `<domain>.env` there.

#[cfg(any(test, feature = "conformance"))]
#[expect(clippy::disallowed_methods, reason = "the cases make what they look at")]
pub mod conformance;
mod copy;
mod credentials;
mod deploy_count;
mod fetch;
mod fetch_error;
mod git;
mod kernel;
mod layout;
mod log_ends;
mod logins;
mod pulled_images;
mod quarantine;
mod recipe_tree;
mod registry_credentials;
mod releases;
mod run_dir;
mod run_files;
mod source;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::names::RunId;
use crate::sys::files::RootError;

pub(crate) use crate::sys::files::remove_tree;
pub(crate) use copy::{copy_entries, copy_living};
pub use credentials::{GitCredentials, redact as redact_addresses};
pub use deploy_count::{DeployCount, DeployCountError};
pub(crate) use fetch::fetch_into;
pub use fetch::{FetchRequest, Fetched, ReleasesOf, fetch};
pub use fetch_error::FetchError;
pub use git::GitError;
pub use kernel::KernelWorkspace;
pub use pulled_images::{PulledImage, PulledImages};
pub use quarantine::QuarantineDir;
pub use recipe_tree::{RecipeTree, SnapshotError};
pub use registry_credentials::RegistryCredentials;
pub use releases::{Release, Releases};
pub use run_dir::RunDir;
pub(crate) use run_dir::home_environment;
pub(crate) use run_files::RECORD_LIMIT;
pub use run_files::RunFiles;
pub use source::{CommitId, InvalidSource, RecipeSource, Revision};

/// Private abra trees, one per run.
///
/// Everything here is a handful of system calls, but for what removes or copies: those block, and belong into
/// the run's [jobs](crate::lifetime::BlockingTasks).
pub trait AbraWorkspace: fmt::Debug + fmt::Display + Send + Sync {
    /// Makes a run's directory and takes its lock. A taken id gets a free suffix `.2`, `.3`…: see
    /// [`RunDir::id`]. When it fails, nothing stays. May copy the catalogue.
    fn create(&self, wanted: &RunId) -> Result<RunDir, WorkspaceError>;

    /// The directories of all runs, live or dead, in the order of their ids, to be looked at: those in the runs directory
    /// that is changed.
    fn run_files(&self) -> Result<Vec<RunFiles>, WorkspaceError>;

    /// The ids that have a directory, live or dead, in order.
    fn run_ids(&self) -> Result<Vec<RunId>, WorkspaceError> {
        Ok(self.run_files()?.into_iter().map(|run| run.id().clone()).collect())
    }

    /// Whether the runs directory is ours to change. Changes nothing.
    fn check(&self) -> Result<(), WorkspaceError>;

    /// Makes the runs directory ready to be changed: what is there and is not ours is refused.
    fn prepare(&self) -> Result<(), WorkspaceError>;

    /// Takes the lock of a run that is dead: `None` when the run lives, in this process too, or when it has no
    /// directory. Never waits for a run.
    fn try_lock_dead(&self, run_id: &RunId) -> Result<Option<RunDir>, WorkspaceError>;

    /// Removes the oldest run directories until `keep` are left. Never a live one, and never one whose tree
    /// still holds residue: that is the janitor's. Blocks, until `stop` says so: what is due then is the next one's.
    fn prune(&self, keep: usize, stop: &dyn Fn() -> bool) -> Result<Pruned, WorkspaceError>;

    /// The run apps that could not be reaped, as they are recorded in the runs directory that is changed.
    fn quarantine(&self) -> Result<QuarantineDir, WorkspaceError>;

    /// Where the directories are.
    fn runs_dir(&self) -> &Path;
}

/// How runs see the canonical catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Catalogue {
    /// Through a symlink. No run updates it: abra is called offline.
    #[default]
    Symlink,
    /// Each run copies it, where that is not enough.
    Copy,
}

/// Where workspaces are, and what they link to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    runs_dir: PathBuf,
    canonical: Option<PathBuf>,
    catalogue: Catalogue,
    path: OsString,
}

impl Settings {
    /// Run directories below `runs_dir`, without a canonical tree; `PATH` is this process's own.
    ///
    /// # Errors
    /// When `runs_dir` is relative and the working directory is gone.
    pub fn new(runs_dir: impl AsRef<Path>) -> Result<Self, WorkspaceError> {
        let runs_dir = absolute(runs_dir.as_ref())?;
        Ok(Self {
            runs_dir,
            canonical: None,
            catalogue: Catalogue::default(),
            path: crate::sys::programs::operator_path(),
        })
    }

    /// Links to this canonical abra tree.
    ///
    /// # Errors
    /// When `canonical` is relative and the working directory is gone.
    pub fn canonical(self, canonical: impl AsRef<Path>) -> Result<Self, WorkspaceError> {
        Ok(Self { canonical: Some(absolute(canonical.as_ref())?), ..self })
    }

    /// See [`Catalogue`].
    pub fn catalogue(self, catalogue: Catalogue) -> Self {
        Self { catalogue, ..self }
    }

    /// The children's `PATH`.
    pub fn path(self, path: impl Into<OsString>) -> Self {
        Self { path: path.into(), ..self }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, WorkspaceError> {
    std::path::absolute(path).map_err(WorkspaceError::io("resolve", path))
}

/// What [`AbraWorkspace::prune`] did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Removed.
    pub removed: Vec<RunId>,
    /// Due, but their trees still hold residue.
    pub with_residue: Vec<RunId>,
    /// Due, but they could not be removed.
    pub failed: Vec<(RunId, WorkspaceError)>,
}

/// A workspace could not be made, looked at or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkspaceError {
    /// Something else is where a symlink or directory belongs.
    #[error("{path} is {found}, where {wanted} belongs")]
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What belongs there.
        wanted: String,
    },
    /// The runs directory is not ours.
    #[error("{reason}")]
    NotOurs {
        /// Why.
        reason: String,
        /// What helps.
        hint: String,
    },
    /// The runs directory is on a file system from which nothing is executed.
    #[error("{runs_dir} is mounted noexec, and a recipe's tests are executed from there")]
    NotExecutable {
        /// The runs directory.
        runs_dir: PathBuf,
    },
    /// No suffix was free.
    #[error("the run id {run_id} and its suffixes up to .{tried} are taken in {runs_dir}")]
    Taken {
        /// The id.
        run_id: RunId,
        /// The last suffix that was tried.
        tried: u32,
        /// Where.
        runs_dir: PathBuf,
    },
    /// A system call failed.
    #[error("can't {doing} {path}")]
    Io {
        /// What was being done, in words.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl WorkspaceError {
    /// What helps, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotOurs { hint, .. } => Some(hint),
            Self::NotExecutable { .. } => {
                Some("name another one: CCCI_RUNS_DIR, or runs_dir in the configuration")
            }
            _ => None,
        }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        Self::host(error_chain(&error)).with_any_hint(error.hint())
    }
}

impl From<RootError> for WorkspaceError {
    fn from(error: RootError) -> Self {
        match (error.hint(), error) {
            (Some(hint), error) => Self::NotOurs { reason: error.to_string(), hint },
            (None, RootError::Io { doing, path, source }) => Self::Io { doing, path, source },
            (None, error) => Self::NotOurs { reason: error.to_string(), hint: String::new() },
        }
    }
}
