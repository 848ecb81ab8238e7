//! Removal, in the order that leaves nothing behind.
//!
//! Services, then whatever they still make ([`drain`]), then all that only lies there: volumes, secrets,
//! configs, networks. Each round begins with a look at everything, and only a look that finds nothing ends the work.
//! What is in use, and an engine that restarts, are tried again until the limit is spent; what others than the stack use, for a
//! while.

mod drain;
mod inspection;
#[cfg(test)]
mod inspection_tests;
mod selective;
#[cfg(test)]
mod selective_tests;
mod state;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cc_ci_core::engine::{Failure, Kind, Resource};
use cc_ci_core::names::Domain;

use crate::SwarmEngine;
use crate::backoff::Backoff;
use crate::client::ApiError;
use crate::client::Filters;
use crate::snapshot::{Task, networks};
use inspection::Target;
use selective::Selective;
use state::Removal;

/// The last traces of a removed network go with the tasks that used it. Whoever asks again at once gets an error.
const NETWORK_LINGERS: Duration = Duration::from_secs(2);

/// So long, or a tenth of the limit, may what is not the stack's use what is left of it: then it is told. Whoever comes to an end
/// by itself has done so by then, and all others would have the whole limit waited for.
const USED_BY_OTHERS: Duration = Duration::from_secs(20);

/// Removes everything of the stack of `domain`.
pub(crate) async fn remove(engine: &SwarmEngine, domain: &Domain, limit: Duration) -> Result<(), Failure> {
    Removal::new(engine, domain, None).within(limit).await?;
    engine.nodes.is_gone(domain);
    Ok(())
}

/// Removes those things of the stack of `domain` that `residue` names.
pub(crate) async fn remove_selected(
    engine: &SwarmEngine,
    domain: &Domain,
    named: &[Resource],
    limit: Duration,
) -> Result<(), Failure> {
    Removal::new(engine, domain, Some(Selective::new(named))).within(limit).await
}

/// How a round ended.
enum Round {
    /// A look found nothing.
    Empty,
    /// It found nothing but what may be somebody else's.
    HeldBack(Vec<Target>),
    /// It found nothing, and there are nodes that it could not look at.
    Unseen,
    Progress,
    Stuck,
}

impl Removal<'_> {
    async fn within(mut self, limit: Duration) -> Result<(), Failure> {
        // What of a stack stays may use the rest for as long as its tasks are given to end.
        let patience = if self.only.is_some() { limit } else { USED_BY_OTHERS.min(limit / 10) };
        match tokio::time::timeout(limit, self.run(patience)).await {
            Ok(ended) => ended,
            Err(_) => Err(self.overdue(&format!("within {limit:?}"))),
        }
    }

    async fn run(&mut self, patience: Duration) -> Result<(), Failure> {
        let mut used_since = None;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let round = self.round().await;
            self.trouble = None;
            let is_used = self.is_used_by_others() || self.unseen().next().is_some();
            let waits_for_others = matches!(round, Ok(Round::Stuck)) && is_used;
            if !waits_for_others {
                used_since = None;
            } else if used_since.get_or_insert_with(Instant::now).elapsed() > patience {
                let used = if self.is_used_by_others() {
                    "while others use it"
                } else {
                    "while nodes can't be seen"
                };
                return Err(self.overdue(used));
            }
            match round {
                Ok(Round::Empty) => return Ok(()),
                Ok(Round::HeldBack(targets)) => return Err(self.held_back(&targets)),
                Ok(Round::Unseen) => return Err(self.not_verified()),
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
        let look = self.inspect().await?;
        if look.is_empty() {
            let held_back = look.held_back;
            return Ok(match (held_back.is_empty(), self.unseen().next()) {
                (false, _) => Round::HeldBack(held_back),
                (true, Some(_)) => Round::Unseen,
                (true, None) => Round::Empty,
            });
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

    /// Waits for the last traces of removed networks.
    async fn networks_gone(&self, targets: &[Target]) -> Result<(), ApiError> {
        let refused = |target: &&Target| self.refusals.contains_key(&target.resource());
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

    fn not_verified(&self) -> Failure {
        let nodes = self.unseen().map(|node| format!("{} ({})", node.name, node.why));
        let nodes: Vec<String> = nodes.collect();
        Failure::host(format!("{} is not verified to be gone from {}", self.domain, nodes.join(", ")))
            .with_hint("bring the node back, and let a janitor look again: cc-ci janitor")
    }

    fn held_back(&self, targets: &[Target]) -> Failure {
        let failed = self.sources.get().map(|sources| sources.failed.join("; ")).unwrap_or_default();
        Failure::host(format!(
            "known by name alone, and not removed, since another stack may own it: {}: {failed}",
            list(targets)
        ))
    }

    /// Whether all that the last look saw is used by what is not to be removed.
    fn is_used_by_others(&self) -> bool {
        let Some((snapshot, targets)) = &self.last else { return false };
        let removed: HashSet<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        !targets.is_empty() && targets.iter().all(|target| !snapshot.users(target, &removed).is_empty())
    }

    /// What is left when no more is tried, and why.
    fn overdue(&mut self, when: &str) -> Failure {
        let doing = format!("can't remove all of {} {when}", self.domain);
        if let Some(trouble) = self.trouble.take() {
            return trouble.during(doing);
        }
        let Some((snapshot, targets)) = &self.last else {
            return Failure::host(format!("{doing}: nothing could be looked at"));
        };
        let removed: HashSet<&str> = targets.iter().map(|target| target.id.as_str()).collect();
        let left: Vec<String> = targets
            .iter()
            .map(|target| {
                let resource = target.resource();
                let users = snapshot.users(target, &removed);
                match self.refusals.get(&resource) {
                    _ if !users.is_empty() => format!("{resource}, used by {}", users.join(" and ")),
                    Some(refusal) => format!("{resource}: {refusal}"),
                    None => match snapshot.tasks.iter().find(|task| task.id == target.id) {
                        // It is the engine that has not seen to it.
                        Some(Task { state: Some(state), .. }) => {
                            format!("{resource}, which the engine left {state}")
                        }
                        _ => resource.to_string(),
                    },
                }
            })
            .collect();
        Failure::host(format!("{doing}, still there: {}", left.join("; ")))
    }
}

fn list(targets: &[Target]) -> String {
    Resource::list(&targets.iter().map(Target::resource).collect::<Vec<_>>())
}
