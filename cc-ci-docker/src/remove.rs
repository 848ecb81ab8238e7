//! Removal, in the order that leaves nothing behind.
//!
//! Services, then whatever they still make ([`crate::drain`]), then all that only lies there: volumes, secrets,
//! configs, networks. Each round begins with a look at everything, and only a look that finds nothing ends the work.
//! What is in use, and an engine that restarts, are tried again until the limit is spent.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use bollard::query_parameters::{RemoveContainerOptions, RemoveVolumeOptions};
use cc_ci_core::engine::{EngineError, Kind, Residue};
use cc_ci_core::names::Domain;
use futures_util::future::join_all;
use tokio::sync::OnceCell;

use crate::SwarmEngine;
use crate::client::{ApiError, Client};
use crate::drain::own_tasks;
use crate::inventory::{Sources, attribute};
use crate::listing::{Filters, Listing, networks};
use crate::look::{Look, Remembered, Target};
use crate::only::Only;

/// The last traces of a removed network go with the tasks that used it. Whoever asks again at once gets an error.
const NETWORK_LINGERS: Duration = Duration::from_secs(2);

/// Removes everything of the stack of `domain`.
pub(crate) async fn remove(
    engine: &SwarmEngine,
    domain: &Domain,
    limit: Duration,
) -> Result<(), EngineError> {
    Removal::new(engine, domain, None).within(limit).await
}

/// Removes those things of the stack of `domain` that `residue` names.
pub(crate) async fn remove_only(
    engine: &SwarmEngine,
    domain: &Domain,
    residue: &[Residue],
    limit: Duration,
) -> Result<(), EngineError> {
    Removal::new(engine, domain, Some(Only::new(residue))).within(limit).await
}

/// One removal, and what it must remember from one look to the next.
pub(crate) struct Removal<'e> {
    pub engine: &'e SwarmEngine,
    domain: &'e Domain,
    pub stack: String,
    /// What is to be removed, where that is not everything.
    only: Option<Only>,
    sources: OnceCell<Sources>,
    pub(crate) remembered: Remembered,
    /// What the last look saw, and what of it was to be removed.
    last: Option<(Listing, Vec<Target>)>,
    /// What the engine would not remove in the last round, and what it said.
    refusals: BTreeMap<Residue, String>,
    /// Why the last round ended early.
    trouble: Option<ApiError>,
}

/// How a round ended.
enum Round {
    /// A look found nothing.
    Empty,
    /// It found nothing but what may be somebody else's.
    HeldBack(Vec<Target>),
    Progress,
    Stuck,
}

impl<'e> Removal<'e> {
    fn new(engine: &'e SwarmEngine, domain: &'e Domain, only: Option<Only>) -> Self {
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
        }
    }

    async fn within(mut self, limit: Duration) -> Result<(), EngineError> {
        match tokio::time::timeout(limit, self.run()).await {
            Ok(ended) => ended,
            Err(_) => Err(self.overdue(limit)),
        }
    }

    async fn run(&mut self) -> Result<(), EngineError> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let round = self.round().await;
            self.trouble = None;
            match round {
                Ok(Round::Empty) => return Ok(()),
                Ok(Round::HeldBack(targets)) => return Err(self.held_back(&targets)),
                Ok(Round::Progress) => backoff.reset(),
                Ok(Round::Stuck) => backoff.wait(Duration::ZERO).await,
                Err(error) if error.is_passing() => {
                    self.trouble = Some(error);
                    backoff.wait(Duration::ZERO).await;
                }
                Err(error) => return Err(error.during(format!("can't remove {}", self.domain))),
            }
        }
    }

    async fn round(&mut self) -> Result<Round, ApiError> {
        let look = self.look().await?;
        if look.is_empty() {
            let held_back = look.held_back;
            return Ok(if held_back.is_empty() { Round::Empty } else { Round::HeldBack(held_back) });
        }
        self.refusals.clear();
        let mut removed = self.delete(&look.services).await?;
        if removed < look.services.len() {
            return Ok(if removed > 0 { Round::Progress } else { Round::Stuck });
        }
        if !look.services.is_empty() || !look.is_drained() {
            if !self.drain(&look).await? {
                return Ok(Round::Progress);
            }
            removed += look.containers.len();
        }
        removed += self.delete(&look.kept).await?;
        self.networks_gone(&look.kept).await?;
        Ok(if removed > 0 { Round::Progress } else { Round::Stuck })
    }

    /// Looks at everything.
    pub(crate) async fn look(&mut self) -> Result<Look, ApiError> {
        let client = &self.engine.client;
        // Before the containers are: what a task says of its container is judged by a later list.
        let tasks = own_tasks(client, &self.stack).await?;
        let listing = Listing::read(client).await?;
        let stacks = HashSet::from([self.stack.as_str()]);
        let mut found = attribute(self.engine, &listing, &stacks, Some(&stacks), &self.sources).await?;
        let certain = self.sources.get().is_none_or(|sources| sources.failed.is_empty());
        if let Some(only) = &self.only {
            only.narrow(&self.stack, &listing, &mut found, &self.remembered.services);
        }
        let mut look = Look::new(&self.stack, &listing, &found, &tasks, &mut self.remembered, certain);
        drop(found);
        // The engine's filters know nothing of what is not to go.
        look.labelled &= self.only.is_none();
        self.last = Some((listing, look.targets().cloned().collect()));
        Ok(look)
    }

    /// Removes independent things at once; says how many are gone. What is in use is noted.
    async fn delete(&mut self, targets: &[Target]) -> Result<usize, ApiError> {
        let client = &self.engine.client;
        let mut gone = 0;
        for (target, removed) in
            targets.iter().zip(join_all(targets.iter().map(|target| delete(client, target))).await)
        {
            gone += usize::from(self.note(target, removed)?);
        }
        Ok(gone)
    }

    /// Whether the thing is gone. What the engine says against it is noted; other failures are not about the thing.
    pub(crate) fn note(&mut self, target: &Target, removed: Result<(), ApiError>) -> Result<bool, ApiError> {
        match removed {
            Ok(()) => Ok(true),
            Err(error @ (ApiError::Conflict { .. } | ApiError::Refused { .. })) => {
                self.refusals.insert(Residue::new(target.kind, &target.name), error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the last traces of removed networks.
    async fn networks_gone(&self, targets: &[Target]) -> Result<(), ApiError> {
        let refused = |target: &&Target| self.refusals.contains_key(&Residue::new(target.kind, &target.name));
        let networks_of = |target: &&Target| target.kind == Kind::Network;
        let ids = targets
            .iter()
            .filter(networks_of)
            .filter(|target| !refused(target))
            .map(|target| target.id.clone());
        let filters = Filters::from([("id".to_owned(), ids.collect())]);
        let until = Instant::now() + NETWORK_LINGERS;
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        while !filters["id"].is_empty() && Instant::now() < until {
            if networks(&self.engine.client, Some(filters.clone())).await?.is_empty() {
                break;
            }
            backoff.wait(Duration::ZERO).await;
        }
        Ok(())
    }

    fn held_back(&self, targets: &[Target]) -> EngineError {
        let failed = self.sources.get().map(|sources| sources.failed.join("; ")).unwrap_or_default();
        EngineError::host(format!(
            "known by name alone, and not removed, since another stack may own it: {}: {failed}",
            list(targets)
        ))
    }

    /// What is left when the limit is spent, and why.
    fn overdue(&mut self, limit: Duration) -> EngineError {
        let doing = format!("can't remove all of {} within {limit:?}", self.domain);
        if let Some(trouble) = self.trouble.take() {
            return trouble.during(doing);
        }
        let Some((listing, targets)) = &self.last else {
            return EngineError::host(format!("{doing}: nothing could be looked at"));
        };
        let removed: HashSet<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        let left: Vec<String> = targets
            .iter()
            .map(|target| {
                let residue = Residue::new(target.kind, &target.name);
                let users = listing.users(target, &removed);
                match self.refusals.get(&residue) {
                    _ if !users.is_empty() => format!("{residue}, used by {}", users.join(" and ")),
                    Some(refusal) => format!("{residue}: {refusal}"),
                    None => residue.to_string(),
                }
            })
            .collect();
        EngineError::host(format!("{doing}, still there: {}", left.join("; ")))
    }
}

fn list(targets: &[Target]) -> String {
    Residue::list(&targets.iter().map(|target| Residue::new(target.kind, &target.name)).collect::<Vec<_>>())
}

/// Removes one thing. What is gone already is done.
pub(crate) async fn delete(client: &Client, target: &Target) -> Result<(), ApiError> {
    let id = target.id.as_str();
    let deleted = client
        .call(async |docker| match target.kind {
            Kind::Service => docker.delete_service(id).await,
            Kind::Container => {
                let options = RemoveContainerOptions { force: true, v: true, link: false };
                docker.remove_container(id, Some(options)).await
            }
            Kind::Volume => docker.remove_volume(id, None::<RemoveVolumeOptions>).await,
            Kind::Secret => docker.delete_secret(id).await,
            Kind::Config => docker.delete_config(id).await,
            Kind::Network => docker.remove_network(id).await,
            // Nothing else is ever found on an engine; a task goes with its service.
            _ => Ok(()),
        })
        .await;
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

/// A pause that grows.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits, for `least` at the least.
    pub(crate) async fn wait(&mut self, least: Duration) {
        tokio::time::sleep(self.next.max(least)).await;
        self.next = (self.next * 3 / 2).min(self.most);
    }
}
