//! One service: read from one file, laid over what earlier files said, and completed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::environment::{self, EnvironmentLayer};
use super::forms::{command, labels, pairs};
use super::local::LocalLayer;
use super::node::{Node, check_variable};
use super::{
    ComposeError, FileReference, Healthcheck, LOCAL_KEY, MAX_PORTS, Mode, Mount, MountKind, MountOptions,
    Port, Protocol, Service, object, passed_on, privilege, short,
};

/// What one file says about a service.
#[derive(Debug, Default)]
pub(super) struct ServiceLayer {
    image: Option<String>,
    environment_layers: Vec<EnvironmentLayer>,
    command: Option<Vec<String>>,
    /// Each of these lists may be there and empty: what is laid over that is merged.
    volumes: Option<Vec<Mount>>,
    secrets: Option<Vec<FileReference>>,
    configs: Option<Vec<FileReference>>,
    networks: BTreeSet<String>,
    aliases: BTreeMap<String, BTreeSet<String>>,
    labels: BTreeMap<String, String>,
    passed_on: Map<String, Value>,
    healthcheck: Option<HealthLayer>,
    mode: Option<ModeOf>,
    replicas: Option<u32>,
    stop_grace_period: Option<Duration>,
    ports: Option<Vec<Port>>,
    local: Option<LocalLayer>,
}

/// A mode by how many replicas.
type ModeOf = fn(u32) -> Mode;

#[derive(Debug, Default)]
struct HealthLayer {
    /// In how many files it has a test: docker/cli joins them to one.
    tests: u32,
    disable: bool,
    test: Option<Vec<String>>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    start_period: Option<Duration>,
    retries: Option<u32>,
}

impl ServiceLayer {
    pub(super) fn parse(at: &Node<'_>) -> Result<Self, ComposeError> {
        let deploy = at.get("deploy")?;
        let mut layer = Self {
            image: at.field("image", Node::text)?,
            environment_layers: vec![EnvironmentLayer {
                files: at.field("env_file", env_files)?.unwrap_or_default(),
                variables: at.field("environment", variables)?.unwrap_or_default(),
            }],
            command: at.field("command", command)?,
            volumes: at.field("volumes", |at| at.list(mount))?,
            secrets: at.field("secrets", |at| at.list(|at| file_reference(at, "/run/secrets/")))?,
            configs: at.field("configs", |at| at.list(|at| file_reference(at, "/")))?,
            networks: at.field("networks", networks)?.unwrap_or_default(),
            aliases: at.field("networks", aliases)?.unwrap_or_default(),
            healthcheck: at.field("healthcheck", healthcheck)?,
            stop_grace_period: at.field("stop_grace_period", Node::duration)?,
            ports: at.field("ports", ports)?,
            local: at.field(LOCAL_KEY, LocalLayer::parse)?,
            passed_on: passed_on::of(at)?,
            ..Self::default()
        };
        if let Some(deploy) = deploy {
            layer.labels = deploy.field("labels", labels)?.unwrap_or_default();
            layer.mode = deploy.field("mode", mode)?.flatten();
            layer.replicas = deploy.field("replicas", Node::number)?;
        }
        Ok(layer)
    }

    /// How many ports it publishes.
    pub(super) fn ports(&self) -> usize {
        self.ports.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn merge(&mut self, over: Self) {
        self.image = over.image.filter(|image| !image.is_empty()).or(self.image.take());
        self.environment_layers.extend(over.environment_layers);
        self.command = over.command.filter(|command| !command.is_empty()).or(self.command.take());
        merge_by(&mut self.volumes, over.volumes, |mount| mount.target.clone());
        merge_by(&mut self.secrets, over.secrets, |reference| reference.source.clone());
        merge_by(&mut self.configs, over.configs, |reference| reference.source.clone());
        // Those that Swarm gives a port to have none to be told apart by: the last of them counts.
        merge_by(&mut self.ports, over.ports, |port| port.published);
        self.networks.extend(over.networks);
        // What is said of a network takes the place of all that was.
        self.aliases.extend(over.aliases);
        self.labels.extend(over.labels);
        if let Some(over) = over.healthcheck {
            let base = self.healthcheck.get_or_insert_default();
            base.tests += over.tests;
            base.disable |= over.disable;
            base.test = over.test.or(base.test.take());
            base.interval = later(base.interval, over.interval);
            base.timeout = later(base.timeout, over.timeout);
            base.start_period = later(base.start_period, over.start_period);
            base.retries = over.retries.or(base.retries);
        }
        passed_on::lay(&mut self.passed_on, over.passed_on);
        self.mode = over.mode.or(self.mode);
        self.replicas = over.replicas.or(self.replicas);
        self.stop_grace_period = later(self.stop_grace_period, over.stop_grace_period);
        if let Some(over) = over.local {
            self.local.get_or_insert_default().merge(over);
        }
    }

    /// The service; an error is where below the service, and the rule.
    pub(super) fn finish(self, vars: &BTreeMap<String, String>) -> Result<Service, (String, String)> {
        let image = self.image.filter(|image| !image.is_empty());
        let image = image.ok_or_else(|| (String::new(), "a service has an image".to_owned()))?;
        let at_local = |rule: &str| (format!(".{LOCAL_KEY}"), rule.to_owned());
        let local = self.local.map(LocalLayer::finish).transpose().map_err(at_local)?;
        let mut networks = self.networks;
        if networks.is_empty() {
            networks.insert("default".to_owned());
        }
        if let Some(HealthLayer { tests, disable, .. }) = self.healthcheck {
            let rule = match (tests, disable) {
                (0 | 1, false) | (0, true) => None,
                (_, true) => {
                    Some("Docker takes no test together with `disable:`, in whichever file each stands")
                }
                (_, false) => {
                    Some("Docker joins the tests of several files to one command: give it in one file")
                }
            };
            if let Some(rule) = rule {
                return Err((".healthcheck.test".to_owned(), rule.to_owned()));
            }
        }
        let healthcheck = self.healthcheck.map(|layer| Healthcheck {
            test: if layer.disable { vec!["NONE".to_owned()] } else { layer.test.unwrap_or_default() },
            interval: layer.interval.unwrap_or(Duration::from_secs(30)),
            timeout: layer.timeout.unwrap_or(Duration::from_secs(30)),
            start_period: layer.start_period.unwrap_or_default(),
            retries: layer.retries.unwrap_or(3),
        });
        Ok(Service {
            image,
            environment: environment::lay(&self.environment_layers, vars, &BTreeMap::new()),
            environment_layers: self.environment_layers,
            command: self.command,
            volumes: self.volumes.unwrap_or_default(),
            secrets: self.secrets.unwrap_or_default(),
            configs: self.configs.unwrap_or_default(),
            networks,
            aliases: self.aliases,
            labels: self.labels,
            passed_on: self.passed_on,
            healthcheck,
            mode: self.mode.unwrap_or(Mode::Replicated)(self.replicas.unwrap_or(1)),
            stop_grace_period: self.stop_grace_period.unwrap_or(Duration::from_secs(10)),
            ports: self.ports.unwrap_or_default(),
            local,
        })
    }
}

/// The later of two times; none at all replaces only nothing.
fn later(base: Option<Duration>, over: Option<Duration>) -> Option<Duration> {
    over.filter(|time| !time.is_zero()).or(base).or(over)
}

/// Appends `over`; of several with the same key the last one stays, in the place of the first. What is laid over nothing
/// stays as it is, whatever is twice in it.
fn merge_by<T, K: Ord>(base: &mut Option<Vec<T>>, over: Option<Vec<T>>, key: impl Fn(&T) -> K) {
    let Some(base) = base else {
        *base = over.filter(|over| !over.is_empty());
        return;
    };
    let mut places = BTreeMap::new();
    for item in std::mem::take(base).into_iter().chain(over.unwrap_or_default()) {
        if let Some(at) = places.get(&key(&item)) {
            base[*at] = item;
        } else {
            places.insert(key(&item), base.len());
            base.push(item);
        }
    }
}

fn variables(at: &Node<'_>) -> Result<BTreeMap<String, Option<String>>, ComposeError> {
    pairs(at)?
        .into_iter()
        .map(|(name, value, at)| {
            check_variable(&at, &name, value.as_deref().unwrap_or_default())?;
            Ok((name, value))
        })
        .collect()
}

/// One path, or a list of paths.
fn env_files(at: &Node<'_>) -> Result<Vec<PathBuf>, ComposeError> {
    if at.is_list() { at.list(object::file) } else { Ok(vec![object::file(at)?]) }
}

fn mount(at: &Node<'_>) -> Result<Mount, ComposeError> {
    if !at.is_map() {
        return short::mount(at.str()?).map_err(|rule| at.error(rule));
    }
    let kind = match at.field("type", Node::str)? {
        Some("volume") => MountKind::Volume,
        Some("bind") => MountKind::Bind,
        Some("tmpfs") => MountKind::Tmpfs,
        _ => return Err(at.error("a mount's type is volume, bind or tmpfs")),
    };
    let target = at.field("target", Node::text)?.filter(|target| target.starts_with('/'));
    let source = at.field("source", Node::text)?.filter(|source| !source.is_empty());
    if kind == MountKind::Tmpfs && source.is_some() {
        return Err(at.error("memory that is mounted has no source"));
    }
    if kind == MountKind::Bind && source.is_none() {
        return Err(at.error("a bind has a source"));
    }
    if kind == MountKind::Bind && source.as_ref().is_some_and(|source| source.starts_with('~')) {
        return Err(at.error(short::HOME));
    }
    Ok(Mount {
        kind,
        source,
        target: target.ok_or_else(|| at.error("a mount has an absolute target"))?,
        read_only: at.field("read_only", Node::boolean)?.unwrap_or(false),
        options: mount_options(at)?,
    })
}

fn mount_options(at: &Node<'_>) -> Result<MountOptions, ComposeError> {
    let (bind, volume, memory) = (at.get("bind")?, at.get("volume")?, at.get("tmpfs")?);
    let text = |of: &Option<Node<'_>>, key: &str| match of {
        Some(of) => of.field(key, Node::text),
        None => Ok(None),
    };
    let no_copy = volume.as_ref().map(|volume| volume.field("nocopy", Node::boolean)).transpose()?.flatten();
    let size = memory.as_ref().map(|memory| memory.get("size")).transpose()?.flatten();
    Ok(MountOptions {
        no_copy: no_copy.unwrap_or(false),
        subpath: text(&volume, "subpath")?,
        propagation: text(&bind, "propagation")?,
        // 0 is no limit.
        size: size.filter(|size| !is_zero(size.value)).map_or(0, |size| privilege::bytes(size.value)),
    })
}

fn is_zero(value: &Value) -> bool {
    value.as_u64() == Some(0) || value.as_str() == Some("0")
}

fn file_reference(at: &Node<'_>, directory: &str) -> Result<FileReference, ComposeError> {
    if !at.is_map() {
        let source = at.text()?;
        let target = format!("{directory}{source}");
        return Ok(FileReference { source, target, owner: ("0".to_owned(), "0".to_owned()), mode: 0o444 });
    }
    let source = at.field("source", Node::text)?.ok_or_else(|| at.error("a source is needed"))?;
    let target = at.field("target", Node::text)?.filter(|target| !target.is_empty());
    let target = target.unwrap_or_else(|| source.clone());
    let target = if target.starts_with('/') { target } else { format!("{directory}{target}") };
    let number =
        |key: &str| Ok::<_, ComposeError>(at.field(key, Node::text)?.unwrap_or_else(|| "0".to_owned()));
    let owner = (number("uid")?, number("gid")?);
    Ok(FileReference { source, target, owner, mode: at.field("mode", Node::number)?.unwrap_or(0o444) })
}

fn networks(at: &Node<'_>) -> Result<BTreeSet<String>, ComposeError> {
    if at.is_list() {
        return Ok(at.list(Node::text)?.into_iter().collect());
    }
    Ok(at.entries()?.into_iter().map(|(key, _)| key.to_owned()).collect())
}

/// The names that the service has in each network, besides its own.
fn aliases(at: &Node<'_>) -> Result<BTreeMap<String, BTreeSet<String>>, ComposeError> {
    if at.is_list() {
        return Ok(BTreeMap::new());
    }
    let named = at.entries()?.into_iter().filter(|(_, at)| at.is_map()).map(|(network, at)| {
        let aliases = at.field("aliases", |at| at.list(Node::text))?.unwrap_or_default();
        Ok((network.to_owned(), aliases.into_iter().collect()))
    });
    named.collect()
}

fn healthcheck(at: &Node<'_>) -> Result<HealthLayer, ComposeError> {
    let test = |at: &Node<'_>| {
        if at.is_list() { at.list(Node::text) } else { Ok(vec!["CMD-SHELL".to_owned(), at.text()?]) }
    };
    let test = at.field("test", test)?;
    Ok(HealthLayer {
        tests: u32::from(test.is_some()),
        disable: at.field("disable", Node::boolean)?.unwrap_or(false),
        test,
        interval: at.field("interval", Node::duration)?,
        timeout: at.field("timeout", Node::duration)?,
        start_period: at.field("start_period", Node::duration)?,
        retries: at.field("retries", Node::number)?,
    })
}

/// An empty one replaces none.
fn mode(at: &Node<'_>) -> Result<Option<ModeOf>, ComposeError> {
    match at.str()? {
        "" => Ok(None),
        "replicated" => Ok(Some(Mode::Replicated)),
        "global" => Ok(Some(|_| Mode::Global)),
        "replicated-job" => Ok(Some(Mode::ReplicatedJob)),
        "global-job" => Ok(Some(|_| Mode::GlobalJob)),
        _ => Err(at.error("a mode is replicated, global, replicated-job or global-job")),
    }
}

fn ports(at: &Node<'_>) -> Result<Vec<Port>, ComposeError> {
    let mut ports = Vec::new();
    for at in at.items()? {
        if at.is_map() {
            let protocol = at.field("protocol", |at| {
                short::protocol(at.str()?).ok_or_else(|| at.error("a protocol is tcp, udp or sctp"))
            })?;
            ports.push(Port {
                target: at.field("target", Node::number)?.ok_or_else(|| at.error("a target is needed"))?,
                published: at.field("published", Node::number)?.filter(|port| *port > 0),
                protocol: protocol.unwrap_or(Protocol::Tcp),
                host_mode: at.field("mode", Node::str)?.is_some_and(|mode| mode.eq_ignore_ascii_case("host")),
            });
        } else {
            let text = at.scalar()?.unwrap_or_default();
            ports.append(&mut short::ports(&text).map_err(|rule| at.error(rule))?);
        }
        if ports.len() > MAX_PORTS {
            return Err(at.error(format_args!("a service publishes at most {MAX_PORTS} ports")));
        }
    }
    Ok(ports)
}
