//! What the state of a task says of what it may still make.

use std::collections::{HashMap, HashSet};

use bollard::models::TaskState;

use crate::client::{ApiError, Client};
use crate::snapshot::{self, Task, labelled, named};

/// Whether a task can no more make anything: it is over; or it is to be removed, and its one container is gone from
/// `containers`. These must have been listed *after* the task, or it may be younger than they are.
pub(crate) fn is_harmless(task: &Task, containers: &HashSet<&str>) -> bool {
    is_over(task)
        || (task.desired == Some(TaskState::REMOVE)
            && task.container.as_deref().is_some_and(|container| !containers.contains(container)))
}

/// Whether a task has ended, and stays so.
pub(crate) fn is_over(task: &Task) -> bool {
    task.state.is_some_and(is_terminal)
}

/// Whether a task in `state` never runs (again).
pub(crate) fn is_terminal(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::COMPLETE
            | TaskState::SHUTDOWN
            | TaskState::FAILED
            | TaskState::REJECTED
            | TaskState::REMOVE
            | TaskState::ORPHANED
    )
}

/// The tasks whose service carries, or carried, the label of `stack` or a name that begins with it. The engine knows
/// that of services that are gone, but does not say it of a task.
pub(crate) async fn own_tasks(client: &Client, stack: &str) -> Result<Vec<Task>, ApiError> {
    let (by_label, by_name) = tokio::try_join!(
        snapshot::tasks(client, Some(labelled(stack))),
        snapshot::tasks(client, Some(named(stack))),
    )?;
    let tasks: HashMap<String, Task> =
        by_label.into_iter().chain(by_name).map(|task| (task.id.clone(), task)).collect();
    Ok(tasks.into_values().collect())
}
