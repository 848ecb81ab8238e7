//! The nodes of the Swarm, and what is on those that the manager's engine does not see.
//!
//! Containers and volumes are told by each node's own engine, where the operator named it. A node that may have tasks and
//! has no engine named is refused before anything is said of the Swarm. One that is named and does not answer is *unseen*:
//! whatever is there, nobody may say that nothing is. A node that is only paused keeps the tasks that it has.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cc_ci_core::engine::Redactor;
use cc_ci_core::error_chain;
use cc_ci_core::names::Domain;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::SwarmEngine;
use crate::address::Address;
use crate::client::{ApiError, Client};
use crate::node::{self, Node};

/// What a look at one node may take: the others' are not kept waiting for one that is gone.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// So long is a node that did not answer not asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The manager, of a Swarm of several nodes.
#[derive(Debug)]
pub(crate) struct Here {
    id: String,
    pub name: Arc<str>,
}

/// Where the engine of another node listens.
#[derive(Debug, Clone)]
pub struct NodeAddress {
    /// The node: its host name in the Swarm, or its id.
    pub name: String,
    /// Where its engine listens.
    pub address: Address,
}

/// The engines of other nodes, by the names that the operator gave.
#[derive(Debug, Default)]
pub(crate) struct NodeEngines(Vec<NodeEngine>);

/// The engine of another node.
#[derive(Debug)]
pub(crate) struct NodeEngine {
    /// As the operator calls it.
    key: String,
    client: Client,
    /// The node that it has shown to be that of.
    verified: Mutex<Option<Verified>>,
    /// Whether it was given tasks at any look: what was there may be there still.
    had_tasks: AtomicBool,
    /// The apps that were deployed while it was given tasks, until they are verified to be gone.
    apps: Mutex<BTreeSet<Domain>>,
    missed: Mutex<Option<Missed>>,
    /// Since when the manager was seen to hear nothing of it.
    lost: Mutex<Option<Timestamp>>,
}

/// A node whose engine has told its id.
#[derive(Debug)]
struct Verified {
    id: String,
    name: Arc<str>,
}

/// An engine that did not answer.
#[derive(Debug, Clone)]
struct Missed {
    since: Timestamp,
    tried: Instant,
    why: String,
}

/// The nodes that a look asks beside the manager.
#[derive(Debug, Default)]
pub(crate) struct Others<'e> {
    /// What the manager is called, where there are several.
    pub here: Option<Arc<str>>,
    pub asked: Vec<(Node, &'e NodeEngine)>,
    /// Those that are no nodes any more, and were while apps were deployed that are there still.
    pub left: Vec<UnseenNode>,
}

/// A node that can't be seen.
#[derive(Debug, Clone)]
pub(crate) struct UnseenNode {
    /// None of one that is no node any more: no task is there.
    pub id: Option<String>,
    pub name: Arc<str>,
    pub since: Timestamp,
    pub why: String,
    pub holds: Holds,
}

/// Of which apps something may be on a node that can't be seen.
#[derive(Debug, Clone)]
pub(crate) enum Holds {
    /// It was never given tasks.
    Nothing,
    OfAnyApp,
    Of(BTreeSet<Domain>),
}

impl UnseenNode {
    /// Whether something of `domain` may be there.
    pub(crate) fn may_hold(&self, domain: &Domain) -> bool {
        match &self.holds {
            Holds::Nothing => false,
            Holds::OfAnyApp => true,
            Holds::Of(apps) => apps.contains(domain),
        }
    }

    /// Whether whoever asks for these, or for everything, is told of it.
    pub(crate) fn matters_to(&self, domains: Option<&[Domain]>) -> bool {
        match (&self.holds, domains) {
            (Holds::Of(apps), Some(asked)) => asked.iter().any(|domain| apps.contains(domain)),
            _ => true,
        }
    }
}

impl NodeEngines {
    /// Nothing is asked of them yet.
    pub(crate) fn new(nodes: Vec<NodeAddress>, redactor: &Redactor) -> Self {
        let engine = |NodeAddress { name, address }| NodeEngine {
            client: Client::at(address, Some(name.clone())).with_redactor(redactor.clone()),
            key: name,
            verified: Mutex::new(None),
            had_tasks: AtomicBool::new(false),
            apps: Mutex::default(),
            missed: Mutex::new(None),
            lost: Mutex::new(None),
        };
        Self(nodes.into_iter().map(engine).collect())
    }

    /// The same, with another bound for each call.
    pub(crate) fn with_call_limit(self, limit: Duration) -> Self {
        let engines = self.0.into_iter();
        Self(engines.map(|node| NodeEngine { client: node.client.with_call_limit(limit), ..node }).collect())
    }

    /// The engine of `node`.
    pub(crate) fn of(&self, node: &Node) -> Option<&NodeEngine> {
        let named = |name: &str| self.0.iter().find(|engine| engine.key == name);
        named(&node.id).or_else(|| named(&node.name))
    }

    /// The engine of the node that is called so, once it has been looked at.
    pub(crate) fn called(&self, name: &str) -> Option<&Client> {
        let is_called =
            |engine: &&NodeEngine| engine.verified().as_ref().is_some_and(|node| *node.name == *name);
        Some(&self.0.iter().find(is_called)?.client)
    }

    /// The nodes that are none of `all`, and whose disks may have what an app had there.
    fn left(&self, all: &[Node]) -> Vec<UnseenNode> {
        let is_one =
            |engine: &NodeEngine| all.iter().any(|node| engine.key == node.id || engine.key == node.name);
        self.0.iter().filter(|engine| !is_one(engine)).filter_map(NodeEngine::left).collect()
    }

    /// `domain` is verified to be gone.
    pub(crate) fn is_gone(&self, domain: &Domain) {
        for engine in &self.0 {
            engine.apps().remove(domain);
        }
    }

    /// The names that are no node's of `all`.
    pub(crate) fn strange(&self, all: &[Node]) -> Vec<String> {
        let is_one = |name: &str| all.iter().any(|node| node.id == name || node.name == name);
        self.0.iter().map(|engine| engine.key.clone()).filter(|name| !is_one(name)).collect()
    }
}

impl NodeEngine {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What `ask` learns of `node`, or that it can't be seen: one that does not answer in time is not asked again at once.
    pub(crate) async fn look<T>(
        &self,
        node: &Node,
        ask: impl AsyncFnOnce(&Client) -> Result<T, ApiError>,
    ) -> Result<T, UnseenNode> {
        let holds = self.holds(node);
        let missed = self.missed().clone();
        let unseen = |missed: Missed| UnseenNode {
            id: Some(node.id.clone()),
            name: node.name.as_str().into(),
            since: missed.since,
            why: missed.why,
            holds: holds.clone(),
        };
        if let Some(missed) = missed.clone().filter(|missed| missed.tried.elapsed() < ASK_AGAIN) {
            return Err(unseen(missed));
        }
        let limit = LOOK_LIMIT.min(self.client.call_limit());
        let asked = timeout(limit, async { ask(self.of(node).await?).await }).await;
        match asked.unwrap_or_else(|_| Err(ApiError::Hangs { limit, node: Some(self.key.clone()) })) {
            Ok(told) => {
                *self.missed() = None;
                Ok(told)
            }
            Err(error) => {
                let since = missed.map_or_else(Timestamp::now, |missed| missed.since);
                let missed = Missed { since, tried: Instant::now(), why: error_chain(&error) };
                *self.missed() = Some(missed.clone());
                Err(unseen(missed))
            }
        }
    }

    /// That `node` can't be seen though its engine answers, if the manager hears nothing of it: nobody tells the tasks
    /// there to end, and one that has begun may still make its container.
    pub(crate) fn lost(&self, node: &Node) -> Option<UnseenNode> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if !node.down {
            *lost = None;
            return None;
        }
        Some(UnseenNode {
            id: Some(node.id.clone()),
            name: node.name.as_str().into(),
            since: *lost.get_or_insert_with(Timestamp::now),
            why: "the Swarm hears nothing of it".to_owned(),
            holds: self.holds(node),
        })
    }

    /// Of which apps `node` may have something.
    fn holds(&self, node: &Node) -> Holds {
        let given = !node.drained;
        let may_have_tasks = self.had_tasks.fetch_or(given, Ordering::Relaxed) || given;
        if may_have_tasks { Holds::OfAnyApp } else { Holds::Nothing }
    }

    /// Its client, once it has shown that it is `node`'s.
    async fn of(&self, node: &Node) -> Result<&Client, ApiError> {
        // Another machine may have come back under the name.
        if self.verified().as_ref().is_none_or(|verified| verified.id != node.id) {
            let info = self.client.call(async |docker| docker.info().await).await?;
            node.is_asked(&info, &self.client)?;
            *self.verified() = Some(Verified { id: node.id.clone(), name: node.name.as_str().into() });
        }
        Ok(&self.client)
    }

    /// What is told of it when it is no node any more, if apps may have had something there.
    fn left(&self) -> Option<UnseenNode> {
        let apps = self.apps().clone();
        if apps.is_empty() {
            return None;
        }
        let name =
            self.verified().as_ref().map_or_else(|| self.key.as_str().into(), |node| node.name.clone());
        let why = "it is no node of this Swarm any more".to_owned();
        let mut missed = self.missed();
        let since = missed.as_ref().map_or_else(Timestamp::now, |missed| missed.since);
        *missed = Some(Missed { since, tried: Instant::now(), why: why.clone() });
        Some(UnseenNode { id: None, name, since, why, holds: Holds::Of(apps) })
    }

    /// Each change is whole.
    fn apps(&self) -> MutexGuard<'_, BTreeSet<Domain>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poisoned one is as good: it is replaced whole.
    fn verified(&self) -> MutexGuard<'_, Option<Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Likewise.
    fn missed(&self) -> MutexGuard<'_, Option<Missed>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nodes that are to be asked. It asks no more than it must: the only node has no others.
pub(crate) async fn others(engine: &SwarmEngine) -> Result<Others<'_>, ApiError> {
    let client = &engine.client;
    let info = client.call(async |docker| docker.info().await).await?;
    let swarm = info.swarm.unwrap_or_default();
    if swarm.nodes == Some(1) {
        engine.places.set(Vec::new());
        return Ok(Others { left: engine.nodes.left(&[]), ..Others::default() });
    }
    let nodes = node::list(client).await?;
    let (mut others, mut unnamed) = (Others::default(), Vec::new());
    others.left = engine.nodes.left(&nodes);
    let several = nodes.len() > 1;
    for node in nodes {
        if swarm.node_id.as_ref() == Some(&node.id) {
            let here = || Here { id: node.id.clone(), name: node.name.as_str().into() };
            others.here = several.then(|| engine.here.get_or_init(here).name.clone());
        } else if let Some(named) = engine.nodes.of(&node) {
            others.asked.push((node, named));
        } else if !node.drained {
            unnamed.push((node.name, node.id));
        }
    }
    engine.places.set(others.asked.iter().map(|(node, _)| node.clone()).collect());
    if unnamed.is_empty() { Ok(others) } else { Err(ApiError::UnnamedNodes { nodes: unnamed }) }
}

/// The other nodes, as they were last seen; none where nobody looked yet.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Option<Arc<[Node]>>>);

impl Places {
    fn set(&self, nodes: Vec<Node>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(nodes.into());
    }

    fn get(&self) -> Option<Arc<[Node]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The other nodes. Where none is named, there is none to ask, and where somebody looked, what that look saw.
async fn places(engine: &SwarmEngine) -> Result<Arc<[Node]>, ApiError> {
    if engine.nodes.0.is_empty() {
        return Ok(Arc::default());
    }
    if engine.places.get().is_none() {
        Box::pin(others(engine)).await?;
    }
    Ok(engine.places.get().unwrap_or_default())
}

/// `domain` is about to be deployed: something of it may be on each node that is given tasks.
pub(crate) fn expect(engine: &SwarmEngine, domain: &Domain) {
    let places = engine.places.get().unwrap_or_default();
    for named in places.iter().filter(|place| !place.drained).filter_map(|place| engine.nodes.of(place)) {
        named.apps().insert(domain.clone());
    }
}

/// The engine of the node that a task was given to; the manager's own where nobody else is asked for anything. A Swarm of
/// one node that was looked at is not asked again.
pub(crate) async fn of_task<'e>(engine: &'e SwarmEngine, node: Option<&str>) -> Result<&'e Client, ApiError> {
    match places(engine).await?.iter().find(|place| node == Some(place.id.as_str())) {
        None if engine.here.get().is_some_and(|here| node.is_some_and(|node| here.id != node)) => {
            Err(ApiError::Incomplete("a task on a node that was not there when the Swarm was looked at"))
        }
        None => Ok(&engine.client),
        Some(place) => match engine.nodes.of(place) {
            Some(named) => named.of(place).await,
            None => Err(ApiError::Incomplete("a node that nobody named")),
        },
    }
}

/// Every engine that may have something of an app: the manager's, and those of the nodes that are given tasks.
pub(crate) async fn all(engine: &SwarmEngine) -> Result<Vec<(Option<Arc<str>>, &Client)>, ApiError> {
    let places = places(engine).await?;
    let mut all = vec![(engine.here.get().map(|here| here.name.clone()), &engine.client)];
    for place in places.iter().filter(|place| !place.drained) {
        if let Some(named) = engine.nodes.of(place) {
            all.push((Some(place.name.as_str().into()), named.of(place).await?));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_engine::{FakeEngine, Reply};

    #[tokio::test]
    async fn a_node_is_named_by_its_id_or_by_a_name_that_no_other_one_has() {
        let described =
            |id: &str, name: &str| format!(r#"{{"ID":"{id}","Description":{{"Hostname":"{name}"}}}}"#);
        let body =
            format!("[{},{},{}]", described("i1", "one"), described("i2", "twin"), described("i3", "twin"));
        let fake = FakeEngine::start(move |_| Reply::Json(200, body.clone()));
        let all = node::list(&fake.engine().client).await.unwrap();
        let names: Vec<&str> = all.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["one", "i2", "i3"]);
        let address = |name: &str| NodeAddress { name: name.to_owned(), address: Address::Unix("/x".into()) };
        let engines =
            NodeEngines::new(["one", "twin", "i3", "four"].map(address).into(), &Redactor::default());
        let found = all.iter().map(|node| engines.of(node).is_some());
        assert_eq!(found.collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(engines.strange(&all), ["twin", "four"]);
    }
}
