//! Docker Swarm, as cc-ci's [`Engine`]: it sees everything of an app, waits until it is up, and removes it whole.
//!
//! It speaks the engine's API over its unix socket, those of other nodes over TLS or an `ssh` that it starts, too, and never runs
//! the `docker` command. It reads the world and keeps
//! no notes: what a call needs to know, it asks.
//!
//! # Limitations
//! What is on other nodes is seen, used and removed where their engines are [named](SwarmEngine::with_nodes), and a node that is
//! given tasks must be. What a node had left behind when it was drained is seen only where its engine is named. An app is
//! reached [straight](Engine::endpoint) only where it has a task on the manager's node, which is this host: locks are per host.

#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests make what they look at"))]

mod address;
mod attribution;
#[cfg(test)]
mod attribution_tests;
mod backoff;
mod backup_service;
mod claim;
mod client;
mod converge;
mod drift;
mod endpoint;
mod engine_info;
mod events;
mod execute;
#[cfg(test)]
mod fake_engine;
mod images;
mod inventory;
mod logs;
mod node;
mod node_info;
mod nodes;
#[cfg(test)]
mod nodes_tests;
#[cfg(test)]
mod order_tests;
mod placement;
mod removal;
mod sanitize;
mod secrets;
mod snapshot;
mod ssh_host;
mod tasks;
#[cfg(test)]
mod trouble_tests;
mod tunnel;
mod volumes;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cc_ci_core::engine::{
    App, Drift, Endpoint, Engine, Failure, Inventory, LockSpace, Order, Redactor, RemovedImages, Resource,
    RunContext, ServiceCommand, ServiceState, StackSource, TaskLog, VolumeCopy, VolumeFile, VolumePath,
};
use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::names::{Domain, Suffix};
use cc_ci_core::recipe::VolumeBackup;
use cc_ci_core::shared_look::SharedLook;
use cc_ci_core::workspace::{PulledImages, RegistryCredentials};

pub use address::{Address, InvalidTls, TlsAddress};
pub use claim::{Claims, OtherClaim};
use client::Client;
pub use engine_info::{EngineInfo, ProxyNetwork, SwarmInfo};
pub use node_info::{NodeEngine, NodeInfo};
pub use nodes::NodeAddress;
use nodes::{Here, NodeEngines, Places};
use snapshot::Snapshot;
pub use ssh_host::{InvalidSshHost, SshHost};
pub use tunnel::Tunnel;
use volumes::copies;

/// The overlay network that the reverse proxy reaches every app by. No app's, whoever made it.
pub(crate) const PROXY: &str = "proxy";

/// Which engine, and what it must know of the host around it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The socket that the engine listens on.
    pub socket: PathBuf,
    /// The suffix of this host's run apps: what a lock space claims.
    pub suffix: Suffix,
    /// Who knows stacks, beside the engine's own labels.
    pub sources: Vec<Arc<dyn StackSource>>,
    /// Takes events.
    pub reporter: Arc<dyn Reporter>,
}

/// A Docker Swarm, by the engine of this host that manages it. It connects when it is first asked.
#[derive(Debug)]
pub struct SwarmEngine {
    client: Client,
    nodes: NodeEngines,
    /// The manager, once it was seen with others.
    here: OnceLock<Here>,
    places: Places,
    settings: Settings,
    credentials: RegistryCredentials,
    pulled: Option<PulledImages>,
    pull_silence: Duration,
    poll_pause: Duration,
    looks: SharedLook<Snapshot>,
    /// What was warned of, and is not warned of again.
    told: Mutex<BTreeSet<String>>,
    /// Whether it ever showed what exists. One that did and does not any more is likely to be restarting.
    has_shown: AtomicBool,
}

impl SwarmEngine {
    /// An engine of these settings; nothing is asked of it yet.
    pub fn new(settings: Settings) -> Self {
        let client = Client::new(settings.socket.clone());
        let (pull_silence, poll_pause) = (images::SILENCE, converge::PAUSE);
        Self {
            client,
            nodes: NodeEngines::default(),
            here: OnceLock::new(),
            places: Places::default(),
            settings,
            credentials: RegistryCredentials::default(),
            pulled: None,
            pull_silence,
            poll_pause,
            looks: SharedLook::default(),
            told: Mutex::default(),
            has_shown: AtomicBool::new(false),
        }
    }

    /// The same engine, where those of other nodes listen there.
    pub fn with_nodes(self, nodes: Vec<NodeAddress>) -> Self {
        let nodes = NodeEngines::new(nodes, self.client.redactor()).with_call_limit(self.client.call_limit());
        Self { nodes, ..self }
    }

    /// The same engine, where no call may take longer than `limit`. The default of 30 s is meant for production; tests
    /// of an engine that hangs have less time.
    pub fn with_call_limit(self, limit: Duration) -> Self {
        let (client, nodes) = (self.client.with_call_limit(limit), self.nodes.with_call_limit(limit));
        Self { client, nodes, ..self }
    }

    /// The same engine, where a wait that hears nothing looks again only after `pause`, and not after 100 ms and then
    /// less and less often: tests see by it that events drive a wait.
    pub fn with_poll_pause(self, pause: Duration) -> Self {
        Self { poll_pause: pause, ..self }
    }

    /// The same engine, where images are pulled with these credentials. No output has them.
    pub fn with_credentials(self, credentials: RegistryCredentials) -> Self {
        for secret in credentials.secrets() {
            self.client.redactor().hide(secret);
        }
        Self { credentials, ..self }
    }

    /// The same engine, which notes there what it pulls: nothing else is ever removed by
    /// [`remove_images`](Engine::remove_images).
    pub fn with_pulled_images(self, pulled: PulledImages) -> Self {
        Self { pulled: Some(pulled), ..self }
    }

    /// The same engine, where a registry is given up on that sends nothing for `limit`. The default is 60 s.
    pub fn with_pull_silence(self, limit: Duration) -> Self {
        Self { pull_silence: limit, ..self }
    }
}

impl SwarmEngine {
    /// The engine that has what a look found on `node`: the manager's own where there are no others.
    pub(crate) fn on(&self, node: Option<&Arc<str>>) -> Option<&Client> {
        match node {
            None => Some(&self.client),
            // What it is called is known from the same look.
            Some(node) if self.here.get().is_some_and(|here| here.name == *node) => Some(&self.client),
            Some(node) => self.nodes.called(node),
        }
    }

    /// Whether the Swarm was seen to have other nodes.
    pub(crate) fn has_other_nodes(&self) -> bool {
        self.here.get().is_some()
    }

    /// Warns of something, once.
    pub(crate) fn warn_once(&self, text: String) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            self.settings.reporter.report(&Event::Warning { text });
        }
    }

    /// What this engine is. One that answers and is no Swarm manager is described too.
    pub async fn inspect(&self) -> Result<EngineInfo, Failure> {
        engine_info::inspect(self).await
    }
}

impl fmt::Display for SwarmEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Docker Swarm at unix://{}", self.client.address())
    }
}

#[async_trait]
impl Engine for SwarmEngine {
    async fn version(&self) -> Option<String> {
        let version = self.client.call(async |docker| docker.version().await).await.ok()?.version?;
        Some(format!("Docker {version}"))
    }

    async fn claim(&self, claim: &LockSpace) -> Result<(), Failure> {
        claim::claim(self, claim).await
    }

    async fn inventory(&self, domains: Option<&[Domain]>) -> Result<Inventory, Failure> {
        inventory::inventory(self, domains).await
    }

    /// Of 20 clients killed in the middle of a deploy, 3 had an order carried out after a look that read empty.
    fn request_lag(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn wait_converged(
        &self,
        domain: &Domain,
        limit: Duration,
        reporter: &dyn Reporter,
    ) -> Result<(), Failure> {
        converge::wait(self, domain, limit, self.poll_pause, reporter).await
    }

    async fn drift(&self, domain: &Domain, order: &Order) -> Result<Drift, Failure> {
        drift::drift(self, domain, order).await
    }

    async fn services(&self, domain: &Domain) -> Result<Vec<ServiceState>, Failure> {
        converge::services(&self.client, domain).await
    }

    async fn remove(&self, domain: &Domain, limit: Duration) -> Result<(), Failure> {
        removal::remove(self, domain, limit).await
    }

    async fn pre_pull(&self, app: &App) -> Result<(), Failure> {
        images::pre_pull(self, app).await
    }

    async fn remove_images(&self, unused_for: Duration, stop: &(dyn Fn() -> bool + Sync)) -> RemovedImages {
        images::remove(self, unused_for, stop).await
    }

    fn redactor(&self) -> Redactor {
        self.client.redactor().clone()
    }

    async fn endpoint(&self, domain: &Domain) -> Result<Endpoint, Failure> {
        endpoint::endpoint(self, domain).await
    }

    async fn storage(&self) -> Vec<PathBuf> {
        self.inspect().await.map(|info| info.data_root).into_iter().collect()
    }

    fn shown_by(&self, domain: &Domain) -> Option<String> {
        Some(format!("docker stack ps --no-trunc {}", domain.stack()))
    }

    async fn volumes(&self, domain: &Domain) -> Result<Vec<String>, Failure> {
        volumes::volumes(self, domain).await
    }

    async fn volume_path(&self, file: &VolumeFile<'_>) -> Result<Option<VolumePath>, Failure> {
        volumes::look(self, file).await.map(Some)
    }

    async fn write_volume_file(&self, file: &VolumeFile<'_>, content: &[u8]) -> Result<(), Failure> {
        volumes::write(self, file, content).await
    }

    async fn read_volume_file(&self, file: &VolumeFile<'_>) -> Result<Option<Vec<u8>>, Failure> {
        volumes::read(self, file).await
    }

    async fn execute(&self, context: &RunContext, command: &ServiceCommand<'_>) -> Result<String, Failure> {
        execute::execute(self, context, command).await
    }

    async fn log(&self, domain: &Domain, service: &str) -> Result<String, Failure> {
        execute::log(self, domain, service).await
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
        copies::save(self, context, copy, rule).await
    }

    async fn load_volume(&self, context: &RunContext, copy: &VolumeCopy<'_>) -> Result<(), Failure> {
        copies::load(self, context, copy).await
    }

    async fn secrets(&self, domain: &Domain) -> Result<BTreeSet<String>, Failure> {
        secrets::secrets(self, domain).await
    }

    async fn adopt_secrets(&self, domain: &Domain, names: &BTreeSet<String>) -> Result<(), Failure> {
        secrets::adopt(self, domain, names).await
    }

    async fn has_backup_service(&self) -> Result<bool, Failure> {
        backup_service::has_backup_service(self).await
    }

    async fn remove_selected(
        &self,
        domain: &Domain,
        named: &[Resource],
        limit: Duration,
    ) -> Result<(), Failure> {
        removal::remove_selected(self, domain, named, limit).await
    }

    async fn unowned(&self) -> Result<BTreeSet<Resource>, Failure> {
        inventory::unowned(self).await
    }
}
