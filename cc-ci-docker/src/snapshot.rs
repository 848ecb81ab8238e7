//! What the engine lists, cut down to what attribution and removal need.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bollard::Docker;
use bollard::models;
use bollard::models::TaskState;
use bollard::query_parameters::{
    InspectContainerOptions, ListConfigsOptions, ListContainersOptions, ListNetworksOptions,
    ListSecretsOptions, ListServicesOptions, ListTasksOptions, ListVolumesOptions,
};
use futures_util::future::join_all;

use crate::SwarmEngine;
use crate::client::{ApiError, Client, Filters};
use crate::nodes::{self, UnseenNode};

/// The label that says which stack an object belongs to.
pub(crate) const NAMESPACE: &str = "com.docker.stack.namespace";

/// The label that says which task a container is of.
pub(crate) const TASK_ID: &str = "com.docker.swarm.task.id";

/// Everything that exists on the engine, of every kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub services: Vec<Service>,
    pub tasks: Vec<Task>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Object>,
    pub secrets: Vec<Object>,
    pub configs: Vec<Object>,
    pub networks: Vec<Object>,
    /// The nodes whose containers and volumes are not all among these: they could not be seen, or are not done.
    pub unseen: Vec<UnseenNode>,
    /// The names of those that were seen, where there are several.
    pub seen: Vec<Arc<str>>,
}

/// A volume, secret, config or network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    /// What a removal asks for: volumes have only their name.
    pub id: String,
    pub name: String,
    pub label: Option<String>,
    /// The node that has it, of a volume where there are several; of a network, the one that still has it when the Swarm has not.
    pub node: Option<Arc<str>>,
}

/// A service, and what it uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    pub id: String,
    pub name: String,
    pub label: Option<String>,
    pub uses: Uses,
}

/// What the containers of a service or a task are given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses {
    /// The stack that its containers are labelled with.
    pub label: Option<String>,
    /// The volumes that it names itself: never anonymous ones.
    pub volumes: Vec<String>,
    /// By id.
    pub secrets: Vec<String>,
    /// By id.
    pub configs: Vec<String>,
    /// By id or name.
    pub networks: Vec<String>,
}

/// A task, as the store of the Swarm has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    pub id: String,
    pub service: Option<String>,
    /// Its slot, or its node where each node has one.
    pub place: String,
    pub uses: Uses,
    pub state: Option<TaskState>,
    pub desired: Option<TaskState>,
    /// The one container that it made.
    pub container: Option<String>,
    /// The node that it was given to, by id.
    pub node: Option<String>,
}

/// A container, running or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Container {
    pub id: String,
    pub name: String,
    pub label: Option<String>,
    pub service: Option<String>,
    pub task: Option<String>,
    /// Every volume that is mounted, by name.
    pub volumes: Vec<String>,
    /// By id.
    pub networks: Vec<String>,
    /// The node that has it, where there are several.
    pub node: Option<Arc<str>>,
}

impl Snapshot {
    /// One list call of each kind and node, however much there is. What tasks say of containers is judged by a list of
    /// containers that is *later* than they are: an id that is not in it is gone. So other nodes are asked last, side by
    /// side.
    pub(crate) async fn read(engine: &SwarmEngine) -> Result<Self, ApiError> {
        let client = &engine.client;
        let (others, services, (tasks, mut containers), mut volumes, secrets, configs, mut networks) = tokio::try_join!(
            // The state of eight calls at once is much for one stack.
            Box::pin(nodes::others(engine)),
            services(client),
            async {
                let tasks = tasks(client, None).await?;
                Ok((tasks, containers(client, None).await?))
            },
            volumes(client),
            secrets(client),
            configs(client),
            networks(client, None),
        )?;
        for container in &mut containers {
            container.node.clone_from(&others.here);
        }
        for volume in &mut volumes {
            volume.node.clone_from(&others.here);
        }
        let (mut unseen, mut seen) = (others.left, others.here.into_iter().collect::<Vec<_>>());
        let known: HashSet<String> = networks.iter().map(|network| network.id.clone()).collect();
        let looks =
            others.asked.iter().map(async |(node, engine)| (node, engine, engine.look(node, held).await));
        for (node, engine, look) in join_all(looks).await {
            match look {
                Ok(mut held) => {
                    let name: Arc<str> = node.name.as_str().into();
                    for container in &mut held.containers {
                        container.node = Some(name.clone());
                    }
                    // Of a network that the Swarm has, the Swarm tells.
                    held.networks.retain(|network| !known.contains(&network.id));
                    for object in held.volumes.iter_mut().chain(&mut held.networks) {
                        object.node = Some(name.clone());
                    }
                    containers.append(&mut held.containers);
                    volumes.append(&mut held.volumes);
                    networks.append(&mut held.networks);
                    match engine.lost(node) {
                        Some(lost) => unseen.push(lost),
                        None => seen.push(name),
                    }
                }
                Err(node) => unseen.push(node),
            }
        }
        Ok(Self { services, tasks, containers, volumes, secrets, configs, networks, unseen, seen })
    }

    /// Whether a task is where what it makes can be seen.
    pub(crate) fn sees(&self, task: &Task) -> bool {
        !self.unseen.iter().any(|unseen| task.node.is_some() && task.node == unseen.id)
    }
}

/// What a node's own engine tells: its containers and volumes, and the networks that it has not let go of.
struct Held {
    containers: Vec<Container>,
    volumes: Vec<Object>,
    networks: Vec<Object>,
}

async fn held(client: &Client) -> Result<Held, ApiError> {
    let (containers, volumes, mut networks) =
        tokio::try_join!(containers(client, None), volumes(client), networks(client, None))?;
    // Those of a stack say so; others are a node's own.
    networks.retain(|network| network.label.is_some());
    Ok(Held { containers, volumes, networks })
}

/// A filter for what carries the label of `stack`.
pub(crate) fn labelled(stack: &str) -> Filters {
    Filters::from([("label".to_owned(), vec![format!("{NAMESPACE}={stack}")])])
}

/// A filter for tasks of services, gone ones too, whose name begins with that of `stack`.
pub(crate) fn named(stack: &str) -> Filters {
    Filters::from([("name".to_owned(), vec![format!("{stack}_")])])
}

async fn services(client: &Client) -> Result<Vec<Service>, ApiError> {
    let listed = client.call(async |docker| docker.list_services(None::<ListServicesOptions>).await).await?;
    listed
        .into_iter()
        .map(|service| {
            let spec = service.spec.ok_or(ApiError::Incomplete("a service without a spec"))?;
            let mut uses = spec.task_template.map(Uses::from).unwrap_or_default();
            uses.networks.extend(targets(spec.networks));
            Ok(Service {
                id: service.id.ok_or(ApiError::Incomplete("a service without an id"))?,
                name: spec.name.ok_or(ApiError::Incomplete("a service without a name"))?,
                label: namespace(spec.labels.as_ref()),
                uses,
            })
        })
        .collect()
}

pub(crate) async fn tasks(client: &Client, filters: Option<Filters>) -> Result<Vec<Task>, ApiError> {
    let options = ListTasksOptions { filters };
    let listed = client.call(async |docker| docker.list_tasks(Some(options)).await).await?;
    listed
        .into_iter()
        .map(|task| {
            let status = task.status.unwrap_or_default();
            let mut uses = task.spec.map(Uses::from).unwrap_or_default();
            uses.label = namespace(task.labels.as_ref()).or(uses.label);
            Ok(Task {
                id: task.id.ok_or(ApiError::Incomplete("a task without an id"))?,
                service: given(task.service_id),
                place: match task.slot {
                    Some(slot) if slot > 0 => slot.to_string(),
                    _ => task.node_id.clone().unwrap_or_default(),
                },
                node: given(task.node_id),
                uses,
                state: status.state,
                desired: task.desired_state,
                container: status.container_status.and_then(|status| given(status.container_id)),
            })
        })
        .collect()
}

pub(crate) async fn containers(
    client: &Client,
    filters: Option<Filters>,
) -> Result<Vec<Container>, ApiError> {
    let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
    let listed = client.call(async |docker| docker.list_containers(Some(options)).await).await?;
    listed
        .into_iter()
        .map(|container| {
            let id = container.id.ok_or(ApiError::Incomplete("a container without an id"))?;
            let mut labels = container.labels.unwrap_or_default();
            // A container that is half gone may have lost its name; others have a name for each link to them.
            let name = container
                .names
                .unwrap_or_default()
                .iter()
                .find_map(|name| name.strip_prefix('/').filter(|name| !name.contains('/')).map(str::to_owned))
                .or_else(|| labels.get("com.docker.swarm.task.name").cloned())
                .unwrap_or_else(|| id.clone());
            let networks = container.network_settings.and_then(|settings| settings.networks);
            Ok(Container {
                label: namespace(Some(&labels)),
                service: given(labels.remove("com.docker.swarm.service.id")),
                task: given(labels.remove(TASK_ID)),
                volumes: container.mounts.unwrap_or_default().into_iter().filter_map(mounted).collect(),
                networks: networks
                    .unwrap_or_default()
                    .into_values()
                    .filter_map(|endpoint| given(endpoint.network_id))
                    .collect(),
                node: None,
                id,
                name,
            })
        })
        .collect()
}

pub(crate) async fn volumes(client: &Client) -> Result<Vec<Object>, ApiError> {
    let listed = client.call(async |docker| docker.list_volumes(None::<ListVolumesOptions>).await).await?;
    let objects = listed.volumes.unwrap_or_default().into_iter().map(|volume| Object {
        id: volume.name.clone(),
        name: volume.name,
        label: namespace(Some(&volume.labels)),
        node: None,
    });
    Ok(objects.collect())
}

async fn secrets(client: &Client) -> Result<Vec<Object>, ApiError> {
    let listed = client.call(async |docker| docker.list_secrets(None::<ListSecretsOptions>).await).await?;
    listed
        .into_iter()
        .map(|secret| {
            let spec = secret.spec.ok_or(ApiError::Incomplete("a secret without a spec"))?;
            Ok(Object {
                id: secret.id.ok_or(ApiError::Incomplete("a secret without an id"))?,
                name: spec.name.ok_or(ApiError::Incomplete("a secret without a name"))?,
                label: namespace(spec.labels.as_ref()),
                node: None,
            })
        })
        .collect()
}

async fn configs(client: &Client) -> Result<Vec<Object>, ApiError> {
    let listed = client.call(async |docker| docker.list_configs(None::<ListConfigsOptions>).await).await?;
    listed
        .into_iter()
        .map(|config| {
            let spec = config.spec.ok_or(ApiError::Incomplete("a config without a spec"))?;
            Ok(Object {
                id: config.id.ok_or(ApiError::Incomplete("a config without an id"))?,
                name: spec.name.ok_or(ApiError::Incomplete("a config without a name"))?,
                label: namespace(spec.labels.as_ref()),
                node: None,
            })
        })
        .collect()
}

pub(crate) async fn networks(client: &Client, filters: Option<Filters>) -> Result<Vec<Object>, ApiError> {
    let options = ListNetworksOptions { filters };
    let listed = client.call(async |docker| docker.list_networks(Some(options)).await).await?;
    listed
        .into_iter()
        .map(|network| {
            Ok(Object {
                id: network.id.ok_or(ApiError::Incomplete("a network without an id"))?,
                name: network.name.ok_or(ApiError::Incomplete("a network without a name"))?,
                label: namespace(network.labels.as_ref()),
                node: None,
            })
        })
        .collect()
}

/// The volumes that a container was told to mount by their name. None where it is gone.
pub(crate) async fn named_by_container(client: &Client, id: &str) -> Result<Vec<String>, ApiError> {
    let inspect = async |docker: &Docker| docker.inspect_container(id, None::<InspectContainerOptions>).await;
    let config = match client.call(inspect).await {
        Ok(container) => container.host_config.unwrap_or_default(),
        Err(ApiError::Gone { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mounts = config.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.source);
    let binds = config.binds.unwrap_or_default();
    let binds = binds.iter().filter_map(|bind| bind.split_once(':')).map(|(source, _)| source.to_owned());
    Ok(mounts.chain(binds).collect())
}

impl From<models::TaskSpec> for Uses {
    fn from(spec: models::TaskSpec) -> Self {
        let container = spec.container_spec.unwrap_or_default();
        let mounts = container.mounts.unwrap_or_default().into_iter();
        Self {
            label: namespace(container.labels.as_ref()),
            volumes: mounts.filter_map(|mount| given(mount.source)).collect(),
            secrets: container.secrets.into_iter().flatten().filter_map(|used| used.secret_id).collect(),
            configs: container.configs.into_iter().flatten().filter_map(|used| used.config_id).collect(),
            networks: targets(spec.networks).collect(),
        }
    }
}

fn targets(networks: Option<Vec<models::NetworkAttachmentConfig>>) -> impl Iterator<Item = String> {
    networks.into_iter().flatten().filter_map(|network| network.target)
}

fn mounted(mount: models::MountPoint) -> Option<String> {
    given(mount.name)
}

fn namespace(labels: Option<&HashMap<String, String>>) -> Option<String> {
    labels?.get(NAMESPACE).cloned()
}

/// What is there and not empty: in the engine's JSON the two are often the same.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
