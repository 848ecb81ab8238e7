//! An engine on which something happens while nobody looks.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cc_ci_core::engine::{Engine as _, EngineLayer, Failure, Inventory};
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::names::Domain;
use cc_ci_tests::World;

/// The local engine, but between a removal and the next look something happens; with an request lag, the next look
/// that comes so much later.
pub struct Eventful {
    real: Arc<LocalExecutor>,
    removed: Mutex<Option<(Instant, Domain)>>,
    lag: Duration,
    blind: AtomicBool,
    since_removal: Mutex<Vec<usize>>,
    then: Box<dyn Fn(&Domain) + Send + Sync>,
}

impl Eventful {
    fn new(world: &World, lag: Duration, then: impl Fn(&Domain) + Send + Sync + 'static) -> Arc<Self> {
        let real = world.executor(world.host());
        Arc::new(Self {
            real,
            removed: Mutex::default(),
            lag,
            blind: AtomicBool::default(),
            since_removal: Mutex::default(),
            then: Box::new(then),
        })
    }

    /// Then `then` happens.
    pub fn engine(world: &World, then: impl Fn(&Domain) + Send + Sync + 'static) -> Arc<Self> {
        Self::new(world, Duration::ZERO, then)
    }

    /// From now on it can be looked at, or not, as while an engine restarts.
    pub fn blind(&self, blind: bool) {
        self.blind.store(blind, Ordering::Relaxed);
    }

    /// How often it was looked at after each removal and before the next.
    pub fn looks(&self) -> Vec<usize> {
        self.since_removal.lock().unwrap().clone()
    }

    /// Something of one kind is there all the same.
    pub fn leaky(world: &World, kind: &'static str) -> Arc<Self> {
        let root = world.local_root();
        Self::new(world, Duration::ZERO, move |domain| make(&root, domain, kind, "left"))
    }

    /// An engine where a secret appears late, once.
    pub fn late(world: &World, lag: Duration) -> Arc<Self> {
        let (root, once) = (world.local_root(), Once::new());
        Self::new(world, lag, move |domain| once.call_once(|| make(&root, domain, "secrets", "late")))
    }
}

impl fmt::Debug for Eventful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Eventful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eventful {}", self.real)
    }
}

#[async_trait]
impl EngineLayer for Eventful {
    type Inner = LocalExecutor;

    fn inner(&self) -> &LocalExecutor {
        &self.real
    }
    fn request_lag(&self) -> Duration {
        self.lag
    }
    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure> {
        if self.blind.load(Ordering::Relaxed) {
            return Err(Failure::host("the engine restarts"));
        }
        if let Some(looks) = self.since_removal.lock().unwrap().last_mut() {
            *looks += 1;
        }
        let removed = self.removed.lock().unwrap().take_if(|(at, _)| at.elapsed() >= self.lag);
        if let Some((_, domain)) = removed {
            (self.then)(&domain);
        }
        self.real.inventory(domains).await
    }
    async fn remove(&self, domain: &Domain, limit: Duration) -> Result<(), Failure> {
        self.real.remove(domain, limit).await?;
        self.since_removal.lock().unwrap().push(0);
        *self.removed.lock().unwrap() = Some((Instant::now(), domain.clone()));
        // And claims that all is well: nobody trusts an exit status.
        Ok(())
    }
}

fn make(root: &Path, domain: &Domain, kind: &str, name: &str) {
    let directory = root.join("apps").join(domain.as_str()).join(kind);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), "").unwrap();
}
