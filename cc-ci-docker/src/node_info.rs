//! What the engines of other nodes are, for whoever is to mend them.

use std::path::PathBuf;

use cc_ci_core::engine::Failure;
use jiff::{SignedDuration, Timestamp};

use crate::client::{ApiError, Client};
use crate::node::Node;
use crate::sanitize;

/// Another node than the manager, as its own engine tells it.
#[derive(Debug)]
pub struct NodeInfo {
    /// Its host name, as the Swarm has it.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether it is given no tasks.
    pub drained: bool,
    /// Its engine, or why that can't be asked; none where nobody said where it listens.
    pub engine: Option<Result<NodeEngine, Failure>>,
}

/// The engine of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEngine {
    /// Where it listens.
    pub address: String,
    /// Its version.
    pub version: String,
    /// How far its clock is ahead of this host's; negative where it is behind. Right to what the answer took.
    pub clock_ahead: SignedDuration,
    /// Where it keeps everything.
    pub data_root: PathBuf,
}

/// What the engine says that is to be the node's.
pub(crate) async fn inspect(node: &Node, client: Option<&Client>) -> NodeInfo {
    let engine = match client {
        Some(client) => {
            let told = ask(node, client).await;
            Some(told.map_err(|error| error.during(format!("can't examine the node {}", node.name))))
        }
        None => None,
    };
    NodeInfo { name: sanitize::written(&node.name), id: node.id.clone(), drained: node.drained, engine }
}

async fn ask(node: &Node, client: &Client) -> Result<NodeEngine, ApiError> {
    let info = client.call(async |docker| docker.info().await).await?;
    let now = Timestamp::now();
    node.is_asked(&info, client)?;
    let time = info.system_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let time = time.ok_or(ApiError::Incomplete("no time"))?;
    Ok(NodeEngine {
        address: client.address().to_string(),
        version: info.server_version.ok_or(ApiError::Incomplete("no version"))?,
        clock_ahead: time.duration_since(now),
        data_root: info.docker_root_dir.ok_or(ApiError::Incomplete("no data root"))?.into(),
    })
}
