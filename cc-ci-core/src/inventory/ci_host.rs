//! Everything of this host that a run or a janitor must know.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::{Engine, Inventory, Kind, LockSpace, Owned, Owners, Resource};
use crate::inventory::debts::Debts;
use crate::inventory::env_files::EnvFiles;
use crate::lock::AppLock;
use crate::model::event::Reporter;
use crate::model::failure::{Failure, Fault};
use crate::names::{Domain, RunAppPattern, RunId};
use crate::sys::blocking;
use crate::sys::cgroups;
use crate::sys::process::{self, MarkerOwner};
use crate::sys::system_info::SystemInfo;
use crate::workspace::{AbraWorkspace, WorkspaceError};

/// The files of so many apps are asked for by name; of more, the directory is listed.
const ASKED_ONE_BY_ONE: usize = 16;

/// A host with its engine, its locks and its runs.
#[derive(Debug, Clone)]
pub struct CiHost {
    /// Boot, machine, clock.
    pub host: Arc<dyn SystemInfo>,
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

/// For which domains a node that can't be seen counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    /// For those of which anything else is known, and those that owe it a look.
    OfWhatIsKnown,
    /// For every one that is looked at.
    OfAll,
}

impl CiHost {
    /// Claims the engine for this lock space; to be called before anything is changed.
    ///
    /// # Errors
    /// When another lock space has the engine, when it does not answer, or when the lock directory or the runs directory
    /// can't be used.
    pub async fn claim(&self) -> Result<(), Failure> {
        let ci_host = self.clone();
        let claim = blocking::run(move || {
            // Before anything is made: a root of somebody else's is left as it is.
            ci_host.runs.check().map_err(cannot_use_runs)?;
            LockSpace::of(ci_host.host.as_ref(), ci_host.locks.as_ref()).map_err(|error| {
                Failure::configuration("can't use the lock directory")
                    .with_source(error)
                    .with_hint("choose one that you can write: CCCI_APP_LOCK_DIR")
            })
        })
        .await?;
        self.engine.claim(&claim).await.map_err(|failure| match failure.fault() {
            Fault::Configuration => failure.context("the engine is not ours to change"),
            _ => failure.context("can't claim the engine"),
        })?;
        let runs = self.runs.clone();
        blocking::run(move || runs.prepare()).await.map_err(cannot_use_runs)
    }

    /// The same CI host, in the hands of `owners`: the engine changes only what they own (I16).
    pub fn owned_by(&self, owners: &Owners) -> Self {
        Self { engine: Arc::new(Owned::new(self.engine.clone(), owners.clone())), ..self.clone() }
    }

    /// What exists of `domains`, or of every domain: objects of the engine, `.env` files, processes that a dead
    /// run left, trees of dead runs. Takes no lock. `own` is the caller's run, which is not residue.
    ///
    /// A node of the engine that can't be seen counts for those domains of which anything else is known, or that owe it a
    /// look: where no run was killed, and none failed to look, nothing can be there.
    pub async fn inventory(
        &self,
        domains: Option<&[Domain]>,
        own: Option<&RunId>,
    ) -> Result<Inventory, Failure> {
        self.look(domains, own, Nodes::OfWhatIsKnown).await
    }

    /// The same for who has just worked on `domains`: whatever it made may be on any node.
    pub(crate) async fn inventory_after_work(
        &self,
        domains: Option<&[Domain]>,
        own: Option<&RunId>,
    ) -> Result<Inventory, Failure> {
        self.look(domains, own, Nodes::OfAll).await
    }

    async fn look(
        &self,
        domains: Option<&[Domain]>,
        own: Option<&RunId>,
        nodes: Nodes,
    ) -> Result<Inventory, Failure> {
        let inventory = self.engine.inventory(domains).await?;
        let (ci_host, domains, own) = (self.clone(), domains.map(<[Domain]>::to_vec), own.cloned());
        blocking::run(move || {
            let domains = domains.as_deref();
            let mut inventory = ci_host.with_this_host(inventory, domains, own.as_ref())?;
            if nodes == Nodes::OfWhatIsKnown {
                inventory.forget_unseen_of_the_empty();
            }
            ci_host.add_debts(domains, &mut inventory, nodes)?;
            Ok(inventory)
        })
        .await
    }

    /// What is owed of `domains`, or of every domain. Blocks.
    fn add_debts(
        &self,
        domains: Option<&[Domain]>,
        inventory: &mut Inventory,
        nodes: Nodes,
    ) -> Result<(), Failure> {
        let debts = Debts::of(self.runs.runs_dir()).read();
        for (domain, owed) in debts.map_err(|error| search_failure("what is owed on nodes", error))? {
            if domains.is_none_or(|domains| domains.contains(&domain)) {
                // A node that was seen owes nothing more than what was seen there.
                let is_paid = |node: &String| nodes == Nodes::OfAll && inventory.seen().contains(node);
                let owed: Vec<String> = owed.into_keys().filter(|node| !is_paid(node)).collect();
                for node in owed {
                    inventory.add(&domain, Resource::new(Kind::UnseenNode, node));
                }
            }
        }
        Ok(())
    }

    /// Adds what exists on this host beside the engine. Blocks.
    fn with_this_host(
        &self,
        mut inventory: Inventory,
        domains: Option<&[Domain]>,
        own: Option<&RunId>,
    ) -> Result<Inventory, Failure> {
        let names: Option<HashSet<&Domain>> = domains.map(|domains| domains.iter().collect());
        let wanted = |domain: &Domain| names.as_ref().is_none_or(|names| names.contains(domain));
        for domain in self.env_domains(domains)?.into_iter().filter(wanted) {
            for path in self.env_files.found(&domain) {
                inventory.add(&domain, Resource::new(Kind::EnvFile, path.display().to_string()));
            }
        }
        let boot = self.host.boot_id();
        let processes = process::marked(&boot).map_err(|error| search_failure("marked processes", error))?;
        for found in processes {
            let orphaned =
                matches!(&found.marker.owner, MarkerOwner::Run { owner, .. } if !owner.is_alive(&boot));
            if orphaned && wanted(&found.marker.domain) {
                inventory.add(&found.marker.domain, Resource::new(Kind::Process, found.process.to_string()));
            }
        }
        for (domain, group) in left_groups(wanted)? {
            inventory.add(&domain, group);
        }
        for run in self.dead_trees()?.iter().filter(|run| own != Some(&run.id)) {
            // What is mounted there keeps the tree: it is named by its own path.
            let mounts = run.files.mounts();
            for domain in run.domains.iter().filter(|domain| wanted(domain)) {
                for path in mounts.iter().chain([&run.path]) {
                    inventory.add(domain, Resource::new(Kind::RunTree, path.display().to_string()));
                }
            }
        }
        Ok(inventory)
    }

    fn env_domains(&self, domains: Option<&[Domain]>) -> Result<Vec<Domain>, Failure> {
        match domains {
            Some(domains) if domains.len() <= ASKED_ONE_BY_ONE => Ok(domains.to_vec()),
            _ => self.env_files.domains().map_err(|error| search_failure(".env files", error)),
        }
    }
}

/// The control groups that dead owners have left of the domains that are `wanted`. Takes no lock, and asks no engine.
pub(crate) fn left_groups(wanted: impl Fn(&Domain) -> bool) -> Result<Vec<(Domain, Resource)>, Failure> {
    let left = cgroups::left().map_err(|error| search_failure("control groups", error))?.into_iter();
    let resource = |path: PathBuf| Resource::new(Kind::ControlGroup, path.display().to_string());
    Ok(left.filter(|(of, _)| wanted(of)).map(|(of, path)| (of, resource(path))).collect())
}

fn cannot_use_runs(error: WorkspaceError) -> Failure {
    let hint = error.hint().unwrap_or("choose one that you can write: CCCI_RUNS_DIR").to_owned();
    Failure::configuration("can't use the runs directory").with_source(error).with_hint(hint)
}

/// Nothing is known of the host, so nothing may be called empty.
pub(crate) fn search_failure(what: &str, error: io::Error) -> Failure {
    Failure::host(format!("can't look for {what}")).with_source(error)
}
