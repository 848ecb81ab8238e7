//! The barrier between what makes objects and what is made.
//!
//! A service that is gone leaves tasks that may be on their way to a container, and to the volumes that it mounts. So
//! nothing else is removed before the stack is *drained*: none of its containers is left, and every task of it that
//! the Swarm still remembers is harmless. Containers are removed directly, without the grace that the Swarm would
//! give them; those that still appear, too. The store of tasks has no events: it is asked again and again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bollard::models::TaskState;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::client::{ApiError, Client};
use crate::listing::{self, Task, labelled, named};
use crate::look::{Look, Target, is_ours};
use crate::remove::{Backoff, Removal, delete};

/// Afterwards a whole look is worth its price: a killed client's last order may have made a service.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// While containers are being removed, only new ones are worth asking for.
const NEW_CONTAINERS: Duration = Duration::from_millis(100);

/// Whether a task can no more make anything: it is over; or it is to be removed, and its one container is gone from
/// `containers`. These must have been listed *after* the task, or it may be younger than they are.
pub(crate) fn is_harmless(task: &Task, containers: &HashSet<&str>) -> bool {
    is_over(task)
        || (task.desired == Some(TaskState::REMOVE)
            && task.container.as_deref().is_some_and(|container| !containers.contains(container)))
}

/// Whether a task has ended, and stays so.
pub(crate) fn is_over(task: &Task) -> bool {
    matches!(
        task.state,
        Some(
            TaskState::COMPLETE
                | TaskState::SHUTDOWN
                | TaskState::FAILED
                | TaskState::REJECTED
                | TaskState::REMOVE
                | TaskState::ORPHANED
        )
    )
}

/// The tasks whose service carries, or carried, the label of `stack` or a name that begins with it. The engine knows
/// that of services that are gone, but does not say it of a task.
pub(crate) async fn own_tasks(client: &Client, stack: &str) -> Result<Vec<Task>, ApiError> {
    let (by_label, by_name) = tokio::try_join!(
        listing::tasks(client, Some(labelled(stack))),
        listing::tasks(client, Some(named(stack))),
    )?;
    let tasks: HashMap<String, Task> =
        by_label.into_iter().chain(by_name).map(|task| (task.id.clone(), task)).collect();
    Ok(tasks.into_values().collect())
}

impl Removal<'_> {
    /// Drains the stack, whose services are gone. False when that takes so long that another look is due.
    pub(crate) async fn drain(&mut self, look: &Look) -> Result<bool, ApiError> {
        let client = &self.engine.client;
        let began = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(250));
        let mut removing = FuturesUnordered::new();
        let mut under_way: HashSet<String> = HashSet::new();
        let mut filtered = look.labelled;
        let mut found = look.containers.clone();
        loop {
            let late = began.elapsed() > LOOK_AGAIN;
            for container in found.drain(..).filter(|_| !late) {
                if under_way.insert(container.id.clone()) {
                    removing.push(async move {
                        let removed = delete(client, &container).await;
                        (container, removed)
                    });
                }
            }
            let asked = Instant::now();
            let standing = if filtered { self.standing(&look.others).await? } else { None };
            filtered = standing.is_some();
            let (containers, waits) = if let Some(standing) = standing {
                standing
            } else {
                let look = self.look().await?;
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
    async fn standing(&self, others: &HashSet<String>) -> Result<Option<(Vec<Target>, bool)>, ApiError> {
        let (client, stack) = (&self.engine.client, self.stack.as_str());
        let mut tasks = own_tasks(client, stack).await?;
        tasks.retain(|task| is_ours(task, stack, others));
        if tasks.iter().any(|task| task.uses.label.is_none()) {
            return Ok(None);
        }
        let containers = listing::containers(client, Some(labelled(stack))).await?;
        let ids: HashSet<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        let waits = tasks.iter().any(|task| !is_harmless(task, &ids));
        let own = containers.iter().filter(|container| self.remembered.may_own(container));
        Ok(Some((own.map(Target::container).collect(), waits)))
    }
}
