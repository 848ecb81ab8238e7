//! A node of the Swarm, as the manager tells it.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{NodeSpecAvailabilityEnum, NodeState, SystemInfo};
use bollard::query_parameters::ListNodesOptions;

use crate::client::{ApiError, Client};
use crate::sanitize;

/// A node. What the manager does not tell of it is empty, as it is for the Swarm's scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub id: String,
    /// Its host name; its id where it has none, or one that another node has too.
    pub name: String,
    pub hostname: String,
    /// Whether it is given no tasks, and has none.
    pub drained: bool,
    /// Whether the manager hears nothing of it.
    pub down: bool,
    pub is_manager: bool,
    pub address: Option<IpAddr>,
    pub os: String,
    /// As the kernel calls it: `x86_64`.
    pub architecture: String,
    /// What the operator put on it.
    pub labels: HashMap<String, String>,
    /// What its daemon was started with.
    pub engine_labels: HashMap<String, String>,
}

impl Node {
    /// Whether what answers is this node: it could be another machine by now.
    pub(crate) fn is_asked(&self, info: &SystemInfo, client: &Client) -> Result<(), ApiError> {
        let found = info.swarm.as_ref().and_then(|swarm| swarm.node_id.clone()).unwrap_or_default();
        if found == self.id {
            return Ok(());
        }
        let found = if found.is_empty() { "none".to_owned() } else { sanitize::written(&found) };
        let (address, expected) = (client.address().to_string(), self.id.clone());
        Err(ApiError::OtherNode { address, expected, found })
    }
}

/// All nodes of the Swarm.
pub(crate) async fn list(client: &Client) -> Result<Vec<Node>, ApiError> {
    let nodes = client.call(async |docker| docker.list_nodes(None::<ListNodesOptions>).await).await?;
    let mut nodes = nodes.into_iter().map(node).collect::<Result<Vec<Node>, ApiError>>()?;
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for node in &mut nodes {
        if names.iter().filter(|name| **name == node.name).count() > 1 {
            node.name.clone_from(&node.id);
        }
    }
    Ok(nodes)
}

fn node(node: bollard::models::Node) -> Result<Node, ApiError> {
    let id = node.id.ok_or(ApiError::Incomplete("a node without an id"))?;
    let (spec, status) = (node.spec.unwrap_or_default(), node.status.unwrap_or_default());
    let description = node.description.unwrap_or_default();
    let hostname = description.hostname.unwrap_or_default();
    let platform = description.platform.unwrap_or_default();
    Ok(Node {
        name: if hostname.is_empty() { id.clone() } else { hostname.clone() },
        hostname,
        drained: spec.availability == Some(NodeSpecAvailabilityEnum::DRAIN),
        down: status.state.is_some_and(|state| matches!(state, NodeState::DOWN | NodeState::DISCONNECTED)),
        is_manager: node.manager_status.is_some(),
        address: status.addr.and_then(|address| address.parse().ok()),
        os: platform.os.unwrap_or_default(),
        architecture: platform.architecture.unwrap_or_default(),
        labels: spec.labels.unwrap_or_default(),
        engine_labels: description.engine.and_then(|engine| engine.labels).unwrap_or_default(),
        id,
    })
}
