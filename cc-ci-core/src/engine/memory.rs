//! An engine that is a map: for tests of what works on engines.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{App, Endpoint, Engine, Failure, Inventory, Kind, LockSpace, Residue, ServiceState, Session};
use crate::names::Domain;
use crate::recipe::VolumeBackup;

/// Objects by domain, and the lock space that claimed them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    world: Arc<Mutex<World>>,
    lag: Duration,
    keeps: bool,
}

#[derive(Debug, Default)]
struct World {
    objects: Vec<(Domain, Residue)>,
    /// Ordered, and there from then on.
    late: Vec<(Instant, Domain, Residue)>,
    looks: usize,
    removals: Vec<Domain>,
    claim: Option<LockSpace>,
}

impl MemoryEngine {
    /// The same objects, of an engine that says that it has this order lag.
    pub fn with_order_lag(&self, lag: Duration) -> Self {
        Self { lag, ..self.clone() }
    }

    /// The same objects, of an engine that refuses to remove anything.
    pub fn with_failing_removals(&self) -> Self {
        Self { keeps: true, ..self.clone() }
    }

    /// Makes an object.
    pub fn put(&self, domain: &Domain, residue: Residue) {
        self.world().objects.push((domain.clone(), residue));
    }

    /// Makes one that appears after a while.
    pub fn put_late(&self, domain: &Domain, residue: Residue, after: Duration) {
        self.world().late.push((Instant::now() + after, domain.clone(), residue));
    }

    /// How often it was looked at.
    pub fn looks(&self) -> usize {
        self.world().looks
    }

    /// The domains that were removed, one entry a call that found something.
    pub fn removals(&self) -> Vec<Domain> {
        self.world().removals.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let appeared = world.late.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>();
        world.objects.extend(appeared.into_iter().map(|(_, domain, residue)| (domain, residue)));
        world
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
        let mut world = self.world();
        match &world.claim {
            Some(held) if held != claim => Err(Failure::configuration("another lock space has it")),
            _ => {
                world.claim = Some(claim.clone());
                Ok(())
            }
        }
    }

    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure> {
        let mut inventory = Inventory::default();
        let mut world = self.world();
        world.looks += 1;
        for (domain, residue) in &world.objects {
            if domains.is_none_or(|domains| domains.contains(domain)) {
                inventory.add(domain, residue.clone());
            }
        }
        Ok(inventory)
    }

    fn order_lag(&self) -> Duration {
        self.lag
    }

    async fn wait_converged(&self, _: &Domain, _: Duration) -> Result<(), Failure> {
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
        let mut world = self.world();
        let before = world.objects.len();
        world.objects.retain(|(owner, _)| owner != domain);
        if world.objects.len() < before {
            world.removals.push(domain.clone());
        }
        Ok(())
    }

    async fn pre_pull(&self, _: &App) -> Result<(), Failure> {
        Ok(())
    }

    async fn endpoint(&self, _: &Domain) -> Result<Endpoint, Failure> {
        Err(Failure::host("memory serves nothing"))
    }

    async fn volumes(&self, _: &Domain) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    async fn write_volume_file(&self, _: &Domain, _: &str, _: &str, _: &[u8]) -> Result<(), Failure> {
        Err(Failure::host("memory has no volumes"))
    }

    async fn read_volume_file(&self, _: &Domain, _: &str, _: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }

    async fn execute(
        &self,
        _: &Session,
        _: &App,
        _: &str,
        _: &[String],
        _: Duration,
    ) -> Result<String, Failure> {
        Err(Failure::host("memory runs nothing"))
    }

    async fn save_volume(
        &self,
        _: &Session,
        _: &App,
        _: &str,
        _: &VolumeBackup,
        _: &Path,
    ) -> Result<(), Failure> {
        Err(Failure::host("memory has no volumes"))
    }

    async fn load_volume(&self, _: &Session, _: &App, _: &str, _: &Path) -> Result<(), Failure> {
        Err(Failure::host("memory has no volumes"))
    }

    async fn secrets(&self, domain: &Domain) -> Result<BTreeSet<String>, Failure> {
        let world = self.world();
        let secrets = world.objects.iter().filter(|(of, object)| of == domain && object.kind == Kind::Secret);
        Ok(secrets.map(|(_, secret)| secret.name.clone()).collect())
    }

    async fn remove_only(&self, domain: &Domain, residue: &[Residue], _: Duration) -> Result<(), Failure> {
        if self.keeps {
            return Err(Failure::host("memory removes nothing"));
        }
        self.world().objects.retain(|(owner, object)| owner != domain || !residue.contains(object));
        Ok(())
    }
}
