//! One removal: what it has seen, what it remembers, and how it removes a thing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bollard::query_parameters::{RemoveContainerOptions, RemoveVolumeOptions};
use cc_ci_core::engine::{Kind, Resource};
use cc_ci_core::error_chain;
use cc_ci_core::names::Domain;
use cc_ci_core::shared_look::AtWork;
use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::inspection::{Inspection, Remembered, Target};
use super::selective::Selective;
use crate::SwarmEngine;
use crate::client::ApiError;
use crate::inventory::{Sources, attribute};
use crate::nodes::UnseenNode;
use crate::snapshot::Snapshot;
use crate::tasks::own_tasks;

/// One removal, and what it must remember from one look to the next.
pub(super) struct Removal<'e> {
    pub engine: &'e SwarmEngine,
    pub domain: &'e Domain,
    pub stack: String,
    /// What is to be removed, where that is not everything.
    pub only: Option<Selective>,
    pub sources: OnceCell<Sources>,
    pub remembered: Remembered,
    /// What the last look saw, and what of it was to be removed.
    pub last: Option<(Arc<Snapshot>, Vec<Target>)>,
    /// What the engine would not remove in the last round, and what it said.
    pub refusals: BTreeMap<Resource, String>,
    /// Why the last round ended early.
    pub trouble: Option<ApiError>,
    _at_work: AtWork<'e, Snapshot>,
}

impl<'e> Removal<'e> {
    pub fn new(engine: &'e SwarmEngine, domain: &'e Domain, only: Option<Selective>) -> Self {
        Self {
            engine,
            domain,
            stack: domain.stack().to_string(),
            only,
            sources: OnceCell::new(),
            remembered: Remembered::default(),
            last: None,
            refusals: BTreeMap::new(),
            trouble: None,
            _at_work: engine.looks.begin_removal(),
        }
    }

    /// Looks at everything.
    pub async fn inspect(&mut self) -> Result<Inspection, ApiError> {
        let client = &self.engine.client;
        let mut snapshot = self.engine.looks.get(Box::pin(Snapshot::read(self.engine))).await?;
        let mut tasks = Vec::new();
        if snapshot.has_tasks_of_nobody(&self.stack, &self.remembered.services) {
            // Before the containers are: what a task says of its container is judged by a later list.
            tasks = own_tasks(client, &self.stack).await?;
            snapshot = self.engine.looks.get(Box::pin(Snapshot::read(self.engine))).await?;
        }
        let stacks = HashSet::from([self.stack.as_str()]);
        let mut found = attribute(self.engine, &snapshot, &stacks, Some(&stacks), &self.sources).await?;
        let certain = self.sources.get().is_none_or(|sources| sources.failed.is_empty());
        if let Some(only) = &self.only {
            only.narrow(&self.stack, &snapshot, &mut found, &self.remembered.services);
        }
        let mut look = Inspection::new(&self.stack, &snapshot, &found, &tasks, &mut self.remembered, certain);
        drop(found);
        // The engine's filters know nothing of what is not to go.
        look.labelled &= self.only.is_none();
        self.last = Some((snapshot, look.targets().cloned().collect()));
        Ok(look)
    }

    /// Removes independent things at once; says how many are gone. What is in use is noted.
    pub async fn delete(&mut self, targets: &[Target]) -> Result<usize, ApiError> {
        let engine = self.engine;
        let mut gone = 0;
        for (target, removed) in
            targets.iter().zip(join_all(targets.iter().map(|target| delete(engine, target))).await)
        {
            gone += usize::from(self.note(target, removed)?);
        }
        Ok(gone)
    }

    /// Whether the thing is gone. What the engine says against it is noted; other failures are not about the thing.
    pub fn note(&mut self, target: &Target, removed: Result<(), ApiError>) -> Result<bool, ApiError> {
        match removed {
            Ok(()) => Ok(true),
            Err(
                error @ (ApiError::Conflict { .. } | ApiError::Refused { .. } | ApiError::NoRemoval { .. }),
            ) => {
                self.refusals.insert(target.resource(), error.to_string());
                Ok(false)
            }
            // Another node's trouble is no reason to leave the rest.
            Err(error) if target.node.is_some() && error.is_passing() => {
                self.refusals.insert(target.resource(), error_chain(&error));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The nodes that the last look could not see, and where something of the stack may be.
    pub fn unseen(&self) -> impl Iterator<Item = &UnseenNode> {
        let nodes = self.last.iter().flat_map(|(snapshot, _)| &snapshot.unseen);
        nodes.filter(|node| node.may_hold(self.domain))
    }
}

/// Removes one thing, where it is. What is gone already is done.
pub(super) async fn delete(engine: &SwarmEngine, target: &Target) -> Result<(), ApiError> {
    let id = target.id.as_str();
    if target.kind == Kind::Network && target.node.is_some() {
        // Nobody but the node itself can, and it does as soon as it hears of it.
        return Err(ApiError::Conflict { message: "the node has not let go of it yet".to_owned() });
    }
    let client = engine.on(target.node.as_ref()).ok_or(ApiError::Incomplete("a node that nobody knows"))?;
    let deleted = match target.kind {
        Kind::Service => client.call(async |docker| docker.delete_service(id).await).await,
        Kind::Container => {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            client.call(async |docker| docker.remove_container(id, Some(options)).await).await
        }
        Kind::Volume => {
            client.call(async |docker| docker.remove_volume(id, None::<RemoveVolumeOptions>).await).await
        }
        Kind::Secret => client.call(async |docker| docker.delete_secret(id).await).await,
        Kind::Config => client.call(async |docker| docker.delete_config(id).await).await,
        Kind::Network => client.call(async |docker| docker.remove_network(id).await).await,
        // It goes with its service.
        Kind::Task => Ok(()),
        // What nobody here can remove must not count as gone.
        kind => Err(ApiError::NoRemoval { kind }),
    };
    match deleted {
        Err(ApiError::Gone { .. }) => Ok(()),
        // So says the Swarm of a network that it has forgotten, while the node still has it.
        Err(ApiError::Refused { message, .. })
            if target.kind == Kind::Network && message.ends_with("not found") =>
        {
            Ok(())
        }
        deleted => deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kind_that_nobody_here_removes_is_never_called_gone() {
        let engine = crate::fake_engine::engine("/nonexistent/docker.sock".into(), Vec::new());
        for kind in [Kind::Unknown, Kind::Process, Kind::EnvFile, Kind::RunTree, Kind::ControlGroup] {
            let target = Target { kind, id: "1".to_owned(), name: "x".to_owned(), node: None };
            let removed = delete(&engine, &target).await;
            assert!(matches!(removed, Err(ApiError::NoRemoval { kind: of }) if of == kind), "{removed:?}");
        }
    }
}
