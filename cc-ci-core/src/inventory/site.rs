//! Everything of this host that a run or a janitor must know.

use std::io;
use std::sync::Arc;

use crate::engine::{Engine, EngineError, Inventory, Kind, LockSpace, Owned, Owners, Residue};
use crate::inventory::env_files::EnvFiles;
use crate::lock::{AppLock, LockError};
use crate::model::event::Reporter;
use crate::names::{Domain, RunAppPattern, RunId};
use crate::sys::files::mounts_beneath;
use crate::sys::host::Host;
use crate::sys::process::{self, MarkerOwner};
use crate::workspace::{AbraWorkspace, WorkspaceError};

/// A host with its engine, its locks and its runs.
#[derive(Debug, Clone)]
pub struct Site {
    /// Boot, machine, clock.
    pub host: Arc<dyn Host>,
    /// Which domains are run apps.
    pub pattern: RunAppPattern,
    /// Who owns what.
    pub locks: Arc<dyn AppLock>,
    /// What exists.
    pub engine: Arc<dyn Engine>,
    /// The apps' `.env` files.
    pub env_files: EnvFiles,
    /// The runs' directories.
    pub runs: Arc<dyn AbraWorkspace>,
    /// Takes events.
    pub reporter: Arc<dyn Reporter>,
}

/// The host could not be looked at: nothing is known, so nothing may be called empty.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// A directory or `/proc` can't be read.
    #[error("can't look for {what}")]
    Io {
        /// What was looked for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The lock directory can't be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The runs can't be listed.
    #[error(transparent)]
    Runs(#[from] WorkspaceError),
}

impl Site {
    /// Claims the engine for this lock space; to be called before anything is changed.
    pub async fn claim(&self) -> Result<(), ClaimError> {
        // Before anything is made: a root of somebody else's is left as it is.
        self.runs.check()?;
        let claim = LockSpace::of(self.host.as_ref(), self.locks.as_ref())?;
        self.engine.claim(&claim).await?;
        Ok(self.runs.prepare()?)
    }

    /// The same site, in the hands of `owners`: the engine changes only what they own (I16).
    pub fn owned_by(&self, owners: &Owners) -> Self {
        Self { engine: Arc::new(Owned::new(self.engine.clone(), owners.clone())), ..self.clone() }
    }

    /// What exists of `domains`, or of every domain: objects of the engine, `.env` files, processes that a dead
    /// run left, trees of dead runs. Takes no lock. `own` is the caller's run, which is not residue.
    pub async fn inventory(
        &self,
        domains: Option<&[Domain]>,
        own: Option<&RunId>,
    ) -> Result<Inventory, LookError> {
        let mut inventory = self.engine.inventory(domains).await?;
        let wanted = |domain: &Domain| domains.is_none_or(|domains| domains.contains(domain));
        for domain in self.env_domains(domains)? {
            for path in self.env_files.found(&domain) {
                inventory.add(&domain, Residue::new(Kind::EnvFile, path.display().to_string()));
            }
        }
        let boot = self.host.boot_id();
        let processes =
            process::marked(&boot).map_err(|source| LookError::Io { what: "marked processes", source })?;
        for found in processes {
            let orphaned =
                matches!(&found.marker.owner, MarkerOwner::Run { owner, .. } if !owner.is_alive(&boot));
            if orphaned && wanted(&found.marker.domain) {
                inventory.add(&found.marker.domain, Residue::new(Kind::Process, found.process.to_string()));
            }
        }
        for run in self.dead_trees()?.iter().filter(|run| own != Some(&run.id)) {
            // What is mounted there keeps the tree: it is named by its own path.
            let mounts = mounts_beneath(&run.path);
            for domain in run.domains.iter().filter(|domain| wanted(domain)) {
                for path in mounts.iter().chain([&run.path]) {
                    inventory.add(domain, Residue::new(Kind::RunTree, path.display().to_string()));
                }
            }
        }
        Ok(inventory)
    }

    fn env_domains(&self, domains: Option<&[Domain]>) -> Result<Vec<Domain>, LookError> {
        match domains {
            Some(domains) => Ok(domains.to_vec()),
            None => self.env_files.domains().map_err(|source| LookError::Io { what: ".env files", source }),
        }
    }
}

/// The engine was not claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The lock directory can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The runs directory can't be used.
    #[error(transparent)]
    Runs(#[from] WorkspaceError),
    /// Another lock space has the engine, or the engine did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
