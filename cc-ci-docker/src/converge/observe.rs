//! What the engine shows of a stack's services right now.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerSummary, Service as ApiService, ServiceSpecMode, ServiceUpdateStatus,
    ServiceUpdateStatusStateEnum, Task as ApiTask, TaskSpec, TaskSpecRestartPolicyConditionEnum, TaskState,
};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use cc_ci_core::engine::Redactor;
use cc_ci_core::names::Stack;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::current::{digest, is_current, is_of_iteration};
use super::verdict::{Liveness, Mode, Service, Task, Update};
use crate::client::{ApiError, Client};
use crate::sanitize;
use crate::snapshot::{TASK_ID, labelled};

/// How long Swarm waits before it starts a task anew where nobody says it, in nanoseconds: the engine tells it like any
/// other.
const SWARMS_DELAY: i64 = 5_000_000_000;

/// So many containers are asked at once.
const AT_ONCE: usize = 8;

/// When the looks of one wait first came upon stamps that were still to come, by whose stamp it is and itself: of a clock that was
/// set back since, or of an engine whose clock is ahead. What happened then is as old as that, at least.
#[derive(Debug, Default)]
pub(super) struct FutureStamps(HashMap<(String, Timestamp), Instant>);

impl FutureStamps {
    fn age(&mut self, id: &str, stamp: Timestamp, now: Instant) -> Duration {
        let first = *self.0.entry((id.to_owned(), stamp)).or_insert(now);
        now.saturating_duration_since(first)
    }

    /// Forgets tasks that the engine has forgotten, and stamps that have come.
    fn retain(&mut self, ids: &HashSet<String>, now: Timestamp) {
        self.0.retain(|(id, stamp), _| *stamp > now && ids.contains(id));
    }
}

/// Looks at the services of `stack`, in the order of their names. What runs on this node, called `node`, is told by
/// its containers: the tasks that Swarm knows of lag behind them by 70 to 200 ms, as was measured.
///
/// `future` is what earlier looks have kept; a look that is the only one has none, and takes what has a stamp of the future for old.
pub(super) async fn services_of(
    client: &Client,
    stack: &Stack,
    node: &str,
    mut future: Option<&mut FutureStamps>,
) -> Result<Vec<Service>, ApiError> {
    let (services, tasks, containers) =
        futures_util::try_join!(services(client, stack), tasks(client, stack), running(client, stack))?;
    let redactor = client.redactor();
    let now = Timestamp::now();
    if let Some(future) = future.as_deref_mut() {
        let ids = services.iter().filter_map(|service| service.id.clone());
        future.retain(&ids.chain(tasks.iter().filter_map(|task| task.id.clone())).collect(), now);
    }
    let looked = Instant::now();
    let mut seen = View { node, now, looked, future, redactor, containers: by_task(containers) };
    let mut tasks_of: HashMap<String, Vec<ApiTask>> = HashMap::new();
    for task in tasks {
        tasks_of.entry(task.service_id.clone().unwrap_or_default()).or_default().push(task);
    }
    let mut services: Vec<Service> = services
        .into_iter()
        .map(|service| {
            let tasks = service.id.as_ref().and_then(|id| tasks_of.remove(id)).unwrap_or_default();
            seen.service(stack, service, &tasks)
        })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(services)
}

/// Asks each container that is listed as running whether it is: an answer about one waits until its end has been seen
/// to, which a list does not.
pub(super) async fn confirm(client: &Client, services: &mut [Service]) -> Result<(), ApiError> {
    let listed = services.iter().flat_map(|service| &service.tasks).filter(|task| task.runs());
    let listed: Vec<String> = listed.filter_map(|task| task.container.clone()).collect();
    let ask = |container: String| async move {
        let inspect = async |docker: &Docker| {
            docker.inspect_container(&container, None::<InspectContainerOptions>).await
        };
        let runs = match client.call(inspect).await {
            Ok(shown) => shown.state.and_then(|state| state.running) == Some(true),
            Err(ApiError::Gone { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok((!runs).then_some(container))
    };
    let asked: Vec<_> = listed.into_iter().map(ask).collect();
    let dead: Vec<Option<String>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let dead = dead.into_iter().flatten().collect();
    for service in services {
        service.mark_exited(&dead);
    }
    Ok(())
}

/// The name of this node in the Swarm.
pub(super) async fn node(client: &Client) -> Result<String, ApiError> {
    let info = client.call(async |docker| docker.info().await).await?;
    Ok(info.swarm.and_then(|swarm| swarm.node_id).unwrap_or_default())
}

/// The services of a stack, as the engine gives them.
pub(crate) async fn services(client: &Client, stack: &Stack) -> Result<Vec<ApiService>, ApiError> {
    typed(client.get("/services", &labelled(stack.as_str())).await?, "/Spec/TaskTemplate/ContainerSpec")
}

/// Where the tasks of such a service may run, as it is written.
pub(crate) fn constraints(template: &TaskSpec) -> Vec<String> {
    template.placement.as_ref().and_then(|placement| placement.constraints.clone()).unwrap_or_default()
}

/// Their tasks, those that have ended too.
pub(crate) async fn tasks(client: &Client, stack: &Stack) -> Result<Vec<ApiTask>, ApiError> {
    typed(client.get("/tasks", &labelled(stack.as_str())).await?, "/Spec/ContainerSpec")
}

/// A list as bollard's types have it. Theirs spell a healthcheck as the API's description does, and no engine: `container`
/// is where it is.
fn typed<T: DeserializeOwned>(mut list: Value, container: &str) -> Result<Vec<T>, ApiError> {
    for object in list.as_array_mut().into_iter().flatten() {
        if let Some(Value::Object(spec)) = object.pointer_mut(container)
            && let Some(healthcheck) = spec.remove("Healthcheck")
        {
            spec.insert("HealthCheck".to_owned(), healthcheck);
        }
    }
    // The engine may answer `null` for an empty list.
    let typed: Option<Vec<T>> =
        serde_json::from_value(list).map_err(|error| ApiError::Garbled(error.into()))?;
    Ok(typed.unwrap_or_default())
}

/// The containers of a stack that the engine lists as running. For some 100 ms after its end, one still is.
pub(crate) async fn running(client: &Client, stack: &Stack) -> Result<Vec<ContainerSummary>, ApiError> {
    let mut filters = labelled(stack.as_str());
    filters.insert("status".to_owned(), vec!["running".to_owned()]);
    let options = ListContainersOptions { filters: Some(filters), ..ListContainersOptions::default() };
    client.call(async |docker| docker.list_containers(Some(options)).await).await
}

fn by_task(containers: Vec<ContainerSummary>) -> HashMap<String, ContainerSummary> {
    containers
        .into_iter()
        .filter_map(|container| Some((container.labels.as_ref()?.get(TASK_ID)?.clone(), container)))
        .collect()
}

struct View<'a> {
    node: &'a str,
    now: Timestamp,
    /// The same, by a clock that nobody sets.
    looked: Instant,
    future: Option<&'a mut FutureStamps>,
    redactor: &'a Redactor,
    containers: HashMap<String, ContainerSummary>,
}

impl View<'_> {
    fn service(&mut self, stack: &Stack, service: ApiService, tasks: &[ApiTask]) -> Service {
        let spec = service.spec.unwrap_or_default();
        let digest = digest(&spec);
        let template = spec.task_template.unwrap_or_default();
        let name = spec.name.unwrap_or_default();
        let mode = mode(&spec.mode.unwrap_or_default());
        let iteration = service.job_status.and_then(|status| status.job_iteration?.index);
        let current = |task: &ApiTask| match mode {
            Mode::Job(_) | Mode::GlobalJob => is_of_iteration(iteration, task),
            Mode::Replicated(_) | Mode::Global => {
                task.spec.as_ref().is_some_and(|copy| is_current(&template, copy))
            }
        };
        let condition = template.restart_policy.as_ref().and_then(|policy| policy.condition);
        let delay = template.restart_policy.as_ref().and_then(|policy| policy.delay);
        let has_delay = delay.is_some_and(|delay| delay != SWARMS_DELAY);
        let test =
            template.container_spec.as_ref().and_then(|spec| spec.health_check.as_ref()?.test.as_deref());
        let id = service.id.unwrap_or_default();
        Service {
            changed: self.since(&id, service.updated_at.as_deref()),
            id,
            name: name.strip_prefix(&format!("{stack}_")).unwrap_or(&name).to_owned(),
            created: service.created_at.unwrap_or_default(),
            order: service.version.and_then(|version| version.index).unwrap_or_default().to_string(),
            mode,
            update: update(self.redactor, service.update_status),
            restarts_done: !matches!(
                condition,
                Some(
                    TaskSpecRestartPolicyConditionEnum::NONE | TaskSpecRestartPolicyConditionEnum::ON_FAILURE
                )
            ),
            periodic: has_delay && test.is_some_and(|test| test.first().is_some_and(|word| word == "NONE")),
            spec: digest,
            version: spec.labels.and_then(|mut labels| labels.remove(&format!("coop-cloud.{stack}.version"))),
            constraints: constraints(&template),
            tasks: tasks.iter().map(|task| self.task(task, mode, current(task))).collect(),
        }
    }

    fn task(&mut self, task: &ApiTask, mode: Mode, current: bool) -> Task {
        let id = task.id.clone().unwrap_or_default();
        let status = task.status.clone().unwrap_or_default();
        let state = status.state.unwrap_or(TaskState::NEW);
        let node = task.node_id.as_deref().unwrap_or_default();
        // Swarm counts a task as running from the moment that its status says, by the clock of the task's node. Where that is behind,
        // what has just begun is not steady yet: the manager's own stamp says when it heard of that.
        let running_for = match state {
            TaskState::RUNNING => {
                let told = self.since(&id, status.timestamp.as_deref());
                if node == self.node { told } else { told.min(self.since(&id, task.updated_at.as_deref())) }
            }
            _ => Duration::ZERO,
        };
        let container = self.containers.get(&id);
        let running = match container {
            Some(container) => health(container.status.as_deref().unwrap_or_default(), running_for),
            // It waits for the healthcheck itself before it says so.
            None if node != self.node && state == TaskState::RUNNING => Liveness::For(running_for),
            None => Liveness::No,
        };
        let own = status.container_status.and_then(|status| status.container_id).filter(|id| !id.is_empty());
        let (here, elsewhere) = if node == self.node { (own, None) } else { (None, own) };
        let container = container.and_then(|container| container.id.clone()).or(here);
        Task {
            place: match mode {
                Mode::Global | Mode::GlobalJob => node.to_owned(),
                // A job's first slot is 0, which is left out.
                Mode::Replicated(_) | Mode::Job(_) => task.slot.unwrap_or(0).to_string(),
            },
            age: self.since(&id, task.created_at.as_deref()),
            current,
            desired: task.desired_state.unwrap_or(TaskState::NEW),
            state,
            error: sanitize::message(self.redactor, &status.err.unwrap_or_default()),
            container: container.filter(|id| !id.is_empty()),
            elsewhere: elsewhere.map(|id| (node.to_owned(), id)),
            running,
            id,
        }
    }

    /// How long ago a stamp of the engine of what is called `id` was. One that says nothing is of long ago. The engine's clock is
    /// this host's.
    fn since(&mut self, id: &str, stamp: Option<&str>) -> Duration {
        let Some(stamp) = stamp.and_then(|stamp| stamp.parse().ok()) else { return Duration::MAX };
        if let Ok(age) = Duration::try_from(self.now.duration_since(stamp)) {
            return age;
        }
        self.future.as_deref_mut().map_or(Duration::MAX, |future| future.age(id, stamp, self.looked))
    }
}

/// The engine's own words: `Up 5 seconds (health: starting)`. There is no other place in a list that tells the
/// health of all containers in one answer.
fn health(status: &str, running_for: Duration) -> Liveness {
    match status.rsplit_once('(').map(|(_, state)| state.trim_end_matches(')')) {
        Some("healthy") => Liveness::Healthy,
        Some("unhealthy") => Liveness::Unhealthy,
        Some("health: starting") => Liveness::Starting,
        _ => Liveness::For(running_for),
    }
}

fn mode(mode: &ServiceSpecMode) -> Mode {
    let count = |count: Option<i64>| u64::try_from(count.unwrap_or(1)).unwrap_or(0);
    match mode {
        ServiceSpecMode { global: Some(_), .. } => Mode::Global,
        ServiceSpecMode { global_job: Some(_), .. } => Mode::GlobalJob,
        ServiceSpecMode { replicated_job: Some(job), .. } => {
            Mode::Job(count(job.total_completions.or(job.max_concurrent)))
        }
        ServiceSpecMode { replicated, .. } => {
            Mode::Replicated(count(replicated.as_ref().and_then(|replicated| replicated.replicas)))
        }
    }
}

fn update(redactor: &Redactor, status: Option<ServiceUpdateStatus>) -> Update {
    let Some(status) = status else { return Update::None };
    let message = sanitize::message(redactor, &status.message.unwrap_or_default());
    match status.state {
        None | Some(ServiceUpdateStatusStateEnum::EMPTY) => Update::None,
        Some(ServiceUpdateStatusStateEnum::COMPLETED) => Update::Completed,
        Some(ServiceUpdateStatusStateEnum::UPDATING | ServiceUpdateStatusStateEnum::ROLLBACK_STARTED) => {
            Update::InFlight(message)
        }
        Some(ServiceUpdateStatusStateEnum::PAUSED) => Update::Paused(message),
        Some(
            ServiceUpdateStatusStateEnum::ROLLBACK_PAUSED | ServiceUpdateStatusStateEnum::ROLLBACK_COMPLETED,
        ) => Update::RolledBack(message),
    }
}

#[cfg(test)]
mod tests;
