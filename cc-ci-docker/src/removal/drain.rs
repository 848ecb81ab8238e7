//! The barrier between what makes objects and what is made.
//!
//! A service that is gone leaves tasks that may be on their way to a container, and to the volumes that it mounts. So
//! nothing else is removed before the stack is *drained*: none of its containers is left, and every task of it that
//! the Swarm still remembers is harmless. Containers are removed directly, without the grace that the Swarm would
//! give them; those that still appear, too. The store of tasks has no events: it is asked again and again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::inspection::{Inspection, Target, is_ours};
use super::state::{Removal, delete};
use crate::backoff::Backoff;
use crate::client::ApiError;
use crate::snapshot::{self, labelled};
use crate::tasks::{is_harmless, own_tasks};

/// Afterwards a whole look is worth its price: a killed client's last order may have made a service.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// While containers are being removed, only new ones are worth asking for.
const NEW_CONTAINERS: Duration = Duration::from_millis(100);

impl Removal<'_> {
    /// Drains the stack, whose services are gone. False when that takes so long that another look is due.
    pub(crate) async fn drain(&mut self, look: &Inspection) -> Result<bool, ApiError> {
        let engine = self.engine;
        let began = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(250));
        let mut removing = FuturesUnordered::new();
        let mut under_way: HashSet<String> = HashSet::new();
        // A filtered look is one at the manager alone.
        let mut filtered = look.labelled && !self.engine.looks.is_shared() && !engine.has_other_nodes();
        let mut found = look.containers.clone();
        loop {
            let late = began.elapsed() > LOOK_AGAIN;
            for container in found.drain(..).filter(|_| !late) {
                if under_way.insert(container.id.clone()) {
                    removing.push(async move {
                        let removed = delete(engine, &container).await;
                        (container, removed)
                    });
                }
            }
            let asked = Instant::now();
            let verdict = if filtered { self.verdict(&look.others).await? } else { None };
            filtered = verdict.is_some();
            let (containers, waits) = if let Some(verdict) = verdict {
                verdict
            } else {
                let look = self.inspect().await?;
                (look.containers, !look.tasks.is_empty())
            };
            if containers.is_empty() && !waits {
                return Ok(true);
            }
            if removing.is_empty() && late {
                return Ok(false);
            }
            found = containers;
            found.retain(|container| !under_way.contains(&container.id));
            // An engine under load is not asked more often than it can answer.
            let pause = asked.elapsed();
            if removing.is_empty() && found.is_empty() {
                backoff.wait(pause).await;
                continue;
            }
            let until = tokio::time::Instant::now() + pause.max(NEW_CONTAINERS);
            let mut refused = false;
            while let Ok(Some((container, removed))) = tokio::time::timeout_at(until, removing.next()).await {
                under_way.remove(&container.id);
                refused |= !self.note(&container, removed)?;
            }
            if refused {
                backoff.wait(pause).await;
            }
        }
    }

    /// The containers that are left, and whether a task is waited for, as the engine's filters say. None where they do
    /// not say enough: what carries no label can't be filtered by it.
    async fn verdict(&self, others: &HashSet<String>) -> Result<Option<(Vec<Target>, bool)>, ApiError> {
        let (client, stack) = (&self.engine.client, self.stack.as_str());
        let mut tasks = own_tasks(client, stack).await?;
        tasks.retain(|task| is_ours(task, stack, others));
        if tasks.iter().any(|task| task.uses.label.is_none()) {
            return Ok(None);
        }
        let containers = snapshot::containers(client, Some(labelled(stack))).await?;
        let ids: HashSet<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        let waits = tasks.iter().any(|task| !is_harmless(task, &ids));
        let own = containers.iter().filter(|container| self.remembered.may_own(container));
        Ok(Some((own.map(Target::container).collect(), waits)))
    }
}
