//! An engine that is a map: for tests of what works on engines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Endpoint, Engine, Failure, Inventory, Kind, LockSpace, Resource, RunContext, ServiceCommand,
    ServiceState, Unseen, VolumeCopy, VolumeFile, VolumePath,
};
use crate::model::event::Reporter;
use crate::names::Domain;
use crate::recipe::VolumeBackup;

/// Objects by domain, and the lock space that claimed them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    state: Arc<Mutex<MemoryState>>,
    lag: Duration,
    keeps: bool,
}

#[derive(Debug, Default)]
struct MemoryState {
    objects: Vec<(Domain, Resource)>,
    /// Ordered, and there from then on.
    late: Vec<(Instant, Domain, Resource)>,
    looks: usize,
    removals: Vec<Domain>,
    claim: Option<LockSpace>,
    unowned: BTreeSet<Resource>,
    /// Whether each of its nodes can be seen, where it has several.
    nodes: BTreeMap<String, bool>,
    /// What paths lead to, of any volume.
    paths: BTreeMap<String, VolumePath>,
}

impl MemoryEngine {
    /// The same objects, of an engine that says that it has this request lag.
    pub fn with_request_lag(&self, lag: Duration) -> Self {
        Self { lag, ..self.clone() }
    }

    /// The same objects, of an engine that refuses to remove anything.
    pub fn with_failing_removals(&self) -> Self {
        Self { keeps: true, ..self.clone() }
    }

    /// Makes an object.
    pub fn put(&self, domain: &Domain, resource: Resource) {
        self.state().objects.push((domain.clone(), resource));
    }

    /// Makes one that appears after a while.
    pub fn put_late(&self, domain: &Domain, resource: Resource, after: Duration) {
        self.state().late.push((Instant::now() + after, domain.clone(), resource));
    }

    /// Lets these be there, and be no stack's.
    pub fn set_unowned(&self, resources: impl IntoIterator<Item = Resource>) {
        self.state().unowned = resources.into_iter().collect();
    }

    /// Gives it a node beside the first one, which can be seen or not.
    pub fn set_node(&self, name: &str, seen: bool) {
        self.state().nodes.insert(name.to_owned(), seen);
    }

    /// Lets a node leave.
    pub fn remove_node(&self, name: &str) {
        self.state().nodes.remove(name);
    }

    /// Lets a path of each volume lead there.
    pub fn set_volume_path(&self, path: &str, leads_to: VolumePath) {
        self.state().paths.insert(path.to_owned(), leads_to);
    }

    /// How often it was looked at.
    pub fn looks(&self) -> usize {
        self.state().looks
    }

    /// The domains that were removed, one entry a call that found something.
    pub fn removals(&self) -> Vec<Domain> {
        self.state().removals.clone()
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let appeared = state.late.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>();
        state.objects.extend(appeared.into_iter().map(|(_, domain, resource)| (domain, resource)));
        state
    }
}

impl fmt::Display for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn claim(&self, claim: &LockSpace) -> Result<(), Failure> {
        let mut state = self.state();
        match &state.claim {
            Some(held) if held != claim => Err(Failure::configuration("another lock space has it")),
            _ => {
                state.claim = Some(claim.clone());
                Ok(())
            }
        }
    }

    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure> {
        let mut inventory = Inventory::default();
        let mut state = self.state();
        state.looks += 1;
        for (domain, resource) in &state.objects {
            if domains.is_none_or(|domains| domains.contains(domain)) {
                inventory.add(domain, resource.clone());
            }
        }
        for (name, seen) in &state.nodes {
            if *seen {
                inventory.add_seen(name);
                continue;
            }
            inventory.add_unseen(name, Unseen { since: Timestamp::now(), why: "it is away".to_owned() });
            for domain in domains.into_iter().flatten() {
                inventory.add(domain, Resource::new(Kind::UnseenNode, name));
            }
        }
        Ok(inventory)
    }

    fn request_lag(&self) -> Duration {
        self.lag
    }

    async fn wait_converged(&self, _: &Domain, _: Duration, _: &dyn Reporter) -> Result<(), Failure> {
        Ok(())
    }

    async fn services(&self, _: &Domain) -> Result<Vec<ServiceState>, Failure> {
        Ok(Vec::new())
    }

    async fn remove(&self, domain: &Domain, _: Duration) -> Result<(), Failure> {
        // As long as a real removal takes at the least: somebody else gets a turn.
        tokio::task::yield_now().await;
        if self.keeps {
            return Err(Failure::host("memory removes nothing"));
        }
        let mut state = self.state();
        let before = state.objects.len();
        state.objects.retain(|(owner, _)| owner != domain);
        if state.objects.len() < before {
            state.removals.push(domain.clone());
        }
        match state.nodes.iter().find(|(_, seen)| !**seen) {
            Some((node, _)) => Err(Failure::host(format!("{domain} is not verified to be gone from {node}"))),
            None => Ok(()),
        }
    }

    async fn endpoint(&self, _: &Domain) -> Result<Endpoint, Failure> {
        Err(Failure::host("memory serves nothing"))
    }

    async fn volumes(&self, _: &Domain) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    async fn volume_path(&self, file: &VolumeFile<'_>) -> Result<Option<VolumePath>, Failure> {
        Ok(self.state().paths.get(file.path).copied())
    }

    async fn write_volume_file(&self, _: &VolumeFile<'_>, _: &[u8]) -> Result<(), Failure> {
        Err(Failure::host("memory has no volumes"))
    }

    async fn read_volume_file(&self, _: &VolumeFile<'_>) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }

    async fn execute(&self, _: &RunContext, _: &ServiceCommand<'_>) -> Result<String, Failure> {
        Err(Failure::host("memory runs nothing"))
    }

    async fn log(&self, _: &Domain, _: &str) -> Result<String, Failure> {
        Ok(String::new())
    }

    async fn save_volume(&self, _: &RunContext, _: &VolumeCopy<'_>, _: &VolumeBackup) -> Result<(), Failure> {
        Err(Failure::host("memory has no volumes"))
    }

    async fn load_volume(&self, _: &RunContext, _: &VolumeCopy<'_>) -> Result<(), Failure> {
        Err(Failure::host("memory has no volumes"))
    }

    async fn secrets(&self, domain: &Domain) -> Result<BTreeSet<String>, Failure> {
        let state = self.state();
        let secrets = state.objects.iter().filter(|(of, object)| of == domain && object.kind == Kind::Secret);
        Ok(secrets.map(|(_, secret)| secret.name.clone()).collect())
    }

    async fn remove_selected(&self, domain: &Domain, named: &[Resource], _: Duration) -> Result<(), Failure> {
        if self.keeps {
            return Err(Failure::host("memory removes nothing"));
        }
        self.state().objects.retain(|(owner, object)| owner != domain || !named.contains(object));
        Ok(())
    }

    async fn unowned(&self) -> Result<BTreeSet<Resource>, Failure> {
        Ok(self.state().unowned.clone())
    }
}
