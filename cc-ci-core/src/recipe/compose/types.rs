//! What a service says, typed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::LocalService;
use super::environment::{self, EnvironmentLayer};

/// A service.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Service {
    /// Its image.
    pub image: String,
    /// Its environment but for what files have; an empty value is that of the app's variable of its name, if there is one.
    pub environment: BTreeMap<String, Option<String>>,
    pub(super) environment_layers: Vec<EnvironmentLayer>,
    /// Its command's words, where it replaces the image's.
    pub command: Option<Vec<String>>,
    /// What is mounted into it.
    pub volumes: Vec<Mount>,
    /// The secrets that it gets.
    pub secrets: Vec<FileReference>,
    /// The configs that it gets.
    pub configs: Vec<FileReference>,
    /// The keys of its networks, never none.
    pub networks: BTreeSet<String>,
    /// The names that it has in its networks besides its own, by the network's key.
    pub aliases: BTreeMap<String, BTreeSet<String>>,
    /// The labels of the service itself (`deploy.labels`).
    pub labels: BTreeMap<String, String>,
    /// What else is said of it, by the files' keys and merged like the rest: what nothing here acts on, and the deployer
    /// passes on. Lists of `name=value` are maps, single words and command lines are lists, times are in nanoseconds.
    pub passed_on: Map<String, Value>,
    /// Its healthcheck, where it says one.
    pub healthcheck: Option<Healthcheck>,
    /// How many tasks it has.
    pub mode: Mode,
    /// How long a task may take to stop.
    pub stop_grace_period: Duration,
    /// The ports that it publishes.
    pub ports: Vec<Port>,
    /// What the `local` executor runs for it.
    pub local: Option<LocalService>,
}

impl Service {
    /// The files of the recipe that more of its environment comes from.
    pub fn env_files(&self) -> impl Iterator<Item = &Path> {
        self.environment_layers.iter().flat_map(|layer| &layer.files).map(PathBuf::as_path)
    }

    /// Its environment with what the files have, whose texts are in `files`; `vars` as in [`Compose::load`](super::Compose::load).
    pub fn whole_environment(
        &self,
        vars: &BTreeMap<String, String>,
        files: &BTreeMap<PathBuf, String>,
    ) -> BTreeMap<String, Option<String>> {
        environment::lay(&self.environment_layers, vars, files)
    }
}

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// So many.
    Replicated(u32),
    /// One on each node.
    Global,
    /// Each runs to completion, so many.
    ReplicatedJob(u32),
    /// Each runs to completion, one on each node.
    GlobalJob,
}

impl Mode {
    /// Returns whether its tasks run to completion.
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob(_) | Self::GlobalJob)
    }
}

/// A volume, a path or memory, mounted into a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// Of which kind.
    pub kind: MountKind,
    /// A volume's key or a path of the host; nothing for an anonymous volume and for memory.
    pub source: Option<String>,
    /// Where it is mounted.
    pub target: String,
    /// Whether the service may only read it.
    pub read_only: bool,
    /// How it is mounted.
    pub options: MountOptions,
}

/// How something is mounted; the default is how it mostly is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountOptions {
    /// A new volume stays empty, whatever the image has there.
    pub no_copy: bool,
    /// The directory of the volume that is mounted, where it is not all of it.
    pub subpath: Option<String>,
    /// Which mounts beneath a bind are seen by whom.
    pub propagation: Option<String>,
    /// How much memory may hold, in bytes; 0 is no limit.
    pub size: u64,
}

/// What a mount mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountKind {
    /// A volume.
    Volume,
    /// A path of the host.
    Bind,
    /// Memory.
    Tmpfs,
}

/// A secret or a config that a service gets as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReference {
    /// Its key.
    pub source: String,
    /// The file's absolute path in the service.
    pub target: String,
    /// Who owns the file there: the number of a user, and of a group.
    pub owner: (String, String),
    /// Its mode's bits.
    pub mode: u32,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// The service's port.
    pub target: u16,
    /// The host's port, if it is not left to Swarm.
    pub published: Option<u16>,
    /// The protocol.
    pub protocol: Protocol,
    /// Published on the task's own node only (`mode: host`).
    pub host_mode: bool,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// How Swarm learns whether a task is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healthcheck {
    /// `CMD` and words, `CMD-SHELL` and a line, or `NONE`; empty: the image's own.
    pub test: Vec<String>,
    /// The time between two tests.
    pub interval: Duration,
    /// How long a test may take.
    pub timeout: Duration,
    /// How long failures don't count after a start.
    pub start_period: Duration,
    /// After how many failures a task is unhealthy.
    pub retries: u32,
}
