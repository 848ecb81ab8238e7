//! What an engine is, for whoever is to mend it.

use std::path::PathBuf;

use bollard::models::LocalNodeState;
use bollard::query_parameters::ListNetworksOptions;
use cc_ci_core::engine::Failure;
use futures_util::future::join_all;

use crate::claim::{self, Claims};
use crate::client::{ApiError, Filters};
use crate::node::{self, Node};
use crate::node_info::{self, NodeInfo};
use crate::nodes::NodeEngine;
use crate::{PROXY, SwarmEngine};

/// An engine that answers, as it is now.
#[derive(Debug)]
pub struct EngineInfo {
    /// Its version, e.g. `20.10.24`.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api_version: String,
    /// Where it keeps everything.
    pub data_root: PathBuf,
    /// Whether it is part of a Swarm at all. A manager that has just been started is, and can't manage yet.
    pub in_a_swarm: bool,
    /// The Swarm that it manages, or why it manages none.
    pub swarm: Result<SwarmInfo, Failure>,
}

/// A Swarm, seen from one of its managers.
#[derive(Debug)]
pub struct SwarmInfo {
    /// This node's name, where tasks may be given to it.
    pub this_node: Option<String>,
    /// The other nodes. Those that are given tasks must be named.
    pub other_nodes: Vec<NodeInfo>,
    /// What is named as a node, and is none of the Swarm, or may be either of two.
    pub strange_nodes: Vec<String>,
    /// The network that the reverse proxy reaches apps by, if it is there.
    pub proxy: Option<ProxyNetwork>,
    /// Who has this host's suffix, and others.
    pub claims: Claims,
}

/// The network `proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyNetwork {
    /// `overlay` is the one that works.
    pub driver: String,
    /// `swarm` is the one that works.
    pub scope: String,
    /// Whether containers outside of a service may join.
    pub attachable: bool,
}

pub(crate) async fn inspect(engine: &SwarmEngine) -> Result<EngineInfo, Failure> {
    info(engine).await.map_err(|error| error.during("can't examine the Docker engine"))
}

async fn info(engine: &SwarmEngine) -> Result<EngineInfo, ApiError> {
    let client = &engine.client;
    let api_version = client.docker().await?.client_version().to_string();
    let (version, info) = tokio::try_join!(
        client.call(async |docker| docker.version().await),
        client.call(async |docker| docker.info().await),
    )?;
    let node = info.swarm.as_ref().and_then(|swarm| swarm.node_id.clone());
    Ok(EngineInfo {
        version: version.version.ok_or(ApiError::Incomplete("no version"))?,
        api_version,
        data_root: info.docker_root_dir.ok_or(ApiError::Incomplete("no data root"))?.into(),
        in_a_swarm: info
            .swarm
            .and_then(|swarm| swarm.local_node_state)
            .is_some_and(|state| !matches!(state, LocalNodeState::EMPTY | LocalNodeState::INACTIVE)),
        swarm: match swarm(engine, node.as_deref()).await {
            Ok(swarm) => Ok(swarm),
            Err(error @ ApiError::NoManager { .. }) => Err(error.during("no Swarm")),
            Err(error) => return Err(error),
        },
    })
}

async fn swarm(engine: &SwarmEngine, here: Option<&str>) -> Result<SwarmInfo, ApiError> {
    let client = &engine.client;
    // The engine takes it for a part of a name.
    let filters = Filters::from([("name".to_owned(), vec![PROXY.to_owned()])]);
    let options = ListNetworksOptions { filters: Some(filters) };
    let (nodes, networks, claims) = tokio::try_join!(
        node::list(client),
        client.call(async |docker| docker.list_networks(Some(options)).await),
        claim::held(client, &engine.settings.suffix),
    )?;
    let proxy = networks.into_iter().find(|network| network.name.as_deref() == Some(PROXY));
    let is_here = |node: &&Node| here == Some(node.id.as_str());
    let others = nodes.iter().filter(|node| !is_here(node));
    let others = others.map(|node| node_info::inspect(node, engine.nodes.of(node).map(NodeEngine::client)));
    Ok(SwarmInfo {
        this_node: nodes.iter().find(is_here).filter(|node| !node.drained).map(|node| node.name.clone()),
        other_nodes: join_all(others).await,
        strange_nodes: engine.nodes.strange(&nodes),
        proxy: proxy.map(|network| ProxyNetwork {
            driver: network.driver.unwrap_or_default(),
            scope: network.scope.unwrap_or_default(),
            attachable: network.attachable == Some(true),
        }),
        claims,
    })
}
