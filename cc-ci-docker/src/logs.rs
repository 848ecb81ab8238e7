//! What the tasks of an app came to, and what their containers logged.
//!
//! # Limitations
//! Swarm forgets a service's tasks but for the last few, and their containers with them.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{Task, TaskState};
use cc_ci_core::engine::{Failure, TaskLog};
use cc_ci_core::names::Domain;
use futures_util::{StreamExt as _, future, stream};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::client::ApiError;
use crate::converge::{explain, observe};
use crate::tasks::is_terminal;
use crate::{SwarmEngine, nodes};

/// The label that says which service a container is of.
const SERVICE_NAME: &str = "com.docker.swarm.service.name";

/// So many tasks are asked for at once.
const AT_ONCE: usize = 8;

/// Each task that the engine still knows, the oldest first.
pub(crate) async fn logs(
    engine: &SwarmEngine,
    domain: &Domain,
    limit: Duration,
) -> Result<Vec<TaskLog>, Failure> {
    let client = &engine.client;
    let until = Instant::now() + limit;
    let stack = domain.stack();
    let look =
        async { futures_util::try_join!(observe::services(client, &stack), observe::tasks(client, &stack)) };
    let looked = timeout_at(until, look).await.unwrap_or(Err(ApiError::Hangs { limit, node: None }));
    let (services, tasks) =
        looked.map_err(|error| error.during(format!("can't list the tasks of {domain}")))?;
    let prefix = format!("{stack}_");
    let names: HashMap<String, String> = services
        .into_iter()
        .filter_map(|service| {
            let name = service.spec?.name?;
            Some((service.id?, name.strip_prefix(&prefix).unwrap_or(&name).to_owned()))
        })
        .collect();
    let each = newest(tasks).into_iter().map(|task| {
        let id = task.service_id.clone().unwrap_or_default();
        let (service, prefix) = (names.get(&id).cloned(), &prefix);
        async move { message(engine, service, prefix, task, until).await }
    });
    Ok(stream::iter(each.collect::<Vec<_>>()).buffered(AT_ONCE).filter_map(future::ready).collect().await)
}

/// The newest tasks of each service, the oldest first.
fn newest(mut tasks: Vec<Task>) -> Vec<Task> {
    tasks.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    let mut seen: HashMap<Option<String>, usize> = HashMap::new();
    tasks.retain(|task| {
        let count = seen.entry(task.service_id.clone()).or_default();
        *count += 1;
        *count <= TaskLog::TASKS
    });
    tasks.reverse();
    tasks
}

/// What one task tells, with as much of its container as is read in time. One whose service is gone is told where its container
/// knows the name.
async fn message(
    engine: &SwarmEngine,
    service: Option<String>,
    prefix: &str,
    task: Task,
    until: Instant,
) -> Option<TaskLog> {
    let status = task.status.unwrap_or_default();
    let state = status.state.unwrap_or(TaskState::NEW);
    let container = status.container_status.unwrap_or_default();
    let mut message = TaskLog {
        service: service.unwrap_or_default(),
        task: task.id.unwrap_or_default(),
        state: state.to_string(),
        failed: matches!(state, TaskState::FAILED | TaskState::REJECTED | TaskState::ORPHANED),
        error: status.err.filter(|error| !error.is_empty()),
        exit_status: container.exit_code.filter(|_| is_terminal(state)),
        ..TaskLog::default()
    };
    if let Some(id) = container.container_id.filter(|id| !id.is_empty()) {
        let read = async {
            // That of a node that can't be asked is left out, like one that is not read in time.
            let client = nodes::of_task(engine, task.node_id.as_deref()).await.ok()?;
            let inspect = client.call(async |docker| docker.inspect_container(&id, None).await);
            Some(future::join(inspect, explain::read_log(client, &id, "1000")).await)
        };
        if let Ok(Some((inspected, log))) = timeout_at(until, read).await {
            message.log = log;
            if let Ok(inspected) = inspected {
                let label =
                    inspected.config.as_ref().and_then(|config| config.labels.as_ref()?.get(SERVICE_NAME));
                if let Some(name) = label.filter(|_| message.service.is_empty()) {
                    message.service = name.strip_prefix(prefix).unwrap_or(name).to_owned();
                }
                let state = inspected.state.as_ref();
                message.began = state.and_then(|state| time(state.started_at.as_deref()?));
                message.ended = state.and_then(|state| time(state.finished_at.as_deref()?));
                message.health = explain::unhealthy(engine.client.redactor(), inspected);
                // A task that is being replaced because its healthcheck fails is shut down, and says no more than that.
                message.failed |= message.health.is_some();
            }
        }
    }
    (!message.service.is_empty()).then_some(message)
}

/// A time as Docker tells it; what has not been yet is told as the year 1.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_ended_has_no_end() {
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert_eq!(time("2026-01-02T03:04:05.123456789Z").unwrap().as_second(), 1_767_323_045);
        assert_eq!(time("soon"), None);
    }

    #[test]
    fn the_newest_tasks_of_each_service_are_told_the_oldest_first() {
        let task = |service: &str, number: usize| Task {
            service_id: Some(service.to_owned()),
            created_at: Some(format!("2026-01-01T00:00:{number:02}Z")),
            ..Task::default()
        };
        let many = (0..TaskLog::TASKS + 2).map(|number| task("app", number));
        let message = newest(many.chain([task("db", 5)]).collect());
        assert_eq!(message.iter().filter(|task| task.service_id.as_deref() == Some("db")).count(), 1);
        let app: Vec<_> = message.iter().filter(|task| task.service_id.as_deref() == Some("app")).collect();
        assert_eq!(app.len(), TaskLog::TASKS);
        assert!(
            app[0].created_at.as_deref() == Some("2026-01-01T00:00:02Z")
                && app[0].created_at < app[1].created_at
        );
    }
}
