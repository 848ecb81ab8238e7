//! The nodes of the Swarm: there must be one that has tasks.
//!
//! Containers and volumes of another node can't be seen from here, so a Swarm with a second place for tasks is refused
//! before anything is said of it, or done to it. A node that is only paused keeps the tasks that it has.

use bollard::models::NodeSpecAvailabilityEnum;
use bollard::query_parameters::ListNodesOptions;

use crate::client::{ApiError, Client};

/// The nodes that may have tasks.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// This one's name, if it is among them.
    pub here: Option<String>,
    /// The others, by what they are asked for by.
    pub elsewhere: Vec<String>,
}

/// Refuses a Swarm with a second place for tasks. It asks no more than it must: the only node has no others.
pub(crate) async fn alone(client: &Client) -> Result<(), ApiError> {
    let info = client.call(async |docker| docker.info().await).await?;
    let swarm = info.swarm.unwrap_or_default();
    if swarm.nodes == Some(1) {
        return Ok(());
    }
    let nodes = with_tasks(client, swarm.node_id.as_deref()).await?;
    if nodes.elsewhere.is_empty() { Ok(()) } else { Err(ApiError::OtherNodes { nodes: nodes.elsewhere }) }
}

/// The nodes that may have tasks; `here` is this one's id.
pub(crate) async fn with_tasks(client: &Client, here: Option<&str>) -> Result<Nodes, ApiError> {
    let nodes = client.call(async |docker| docker.list_nodes(None::<ListNodesOptions>).await).await?;
    let mut found = Nodes::default();
    for node in nodes {
        let drained = Some(NodeSpecAvailabilityEnum::DRAIN);
        if node.spec.is_some_and(|spec| spec.availability == drained) {
            continue;
        }
        let id = node.id.ok_or(ApiError::Incomplete("a node without an id"))?;
        let hostname = node.description.and_then(|description| description.hostname);
        if here == Some(id.as_str()) {
            found.here = Some(hostname.unwrap_or(id));
        } else {
            found.elsewhere.push(id);
        }
    }
    Ok(found)
}
