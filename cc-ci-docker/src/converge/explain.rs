//! Why services are not up, for people.
//!
//! The reasons come first, in one line; then what the containers themselves said last: the failed healthcheck and
//! the end of the log. All of that is untrusted, and cut.

use std::time::Duration;

use bollard::models::{ContainerInspectResponse, HealthStatusEnum};
use bollard::query_parameters::LogsOptionsBuilder;
use cc_ci_core::engine::{Failure, Fault, Redactor, TaskLog};
use cc_ci_core::names::Stack;
use futures_util::{StreamExt as _, TryStreamExt as _, future};

use super::observe;
use super::verdict::{ConvergenceVerdict, Service, Task};
use crate::client::Client;
use crate::node::{self, Node};
use crate::{SwarmEngine, nodes, placement, sanitize};

/// What all explanations together may take.
const LIMIT: Duration = Duration::from_secs(5);

/// So many lines of a log explain a failure.
const LINES: &str = "20";

/// As much of a probe's output is kept by the engine.
const PROBE_LIMIT: usize = 4096;

/// Of so many services the output is shown.
const SHOWN: usize = 5;

/// The error that names every service that is not up.
pub(super) async fn error(
    engine: &SwarmEngine,
    what: &str,
    services: &[Service],
    verdicts: &[ConvergenceVerdict],
) -> Failure {
    let mut sick: Vec<(&Service, &str, bool)> = services
        .iter()
        .zip(verdicts)
        .filter_map(|(service, verdict)| match verdict {
            ConvergenceVerdict::Up => None,
            ConvergenceVerdict::Lags(lag) => Some((service, lag.reason.as_str(), false)),
            ConvergenceVerdict::Over(reason) => Some((service, reason.as_str(), true)),
        })
        .collect();
    // What came to a bad end is what made the others wait, more often than not.
    sick.sort_by_key(|(_, _, over)| !over);
    let reasons: Vec<String> =
        sick.iter().map(|(service, reason, _)| format!("{} ({reason})", service.name)).collect();
    let outputs = sick.iter().take(SHOWN).filter_map(|(service, ..)| {
        let task = service.telling()?;
        Some(async move { output(engine, &service.name, task).await })
    });
    let constraints: Vec<&[String]> = services.iter().map(|service| service.constraints.as_slice()).collect();
    // An engine in trouble must not keep the reason back.
    let (outputs, down) = future::join(
        tokio::time::timeout(LIMIT, future::join_all(outputs)),
        tokio::time::timeout(LIMIT, nodes_down(engine, &constraints)),
    )
    .await;
    let (outputs, down) = (outputs.unwrap_or_default().concat(), down.unwrap_or_default());
    let what = format!("{what}: {}", reasons.join(", "));
    if let Some(down) = down {
        return Failure::host(format!("{what}; {down}{outputs}"));
    }
    let mut over = sick.iter().filter(|(_, _, over)| *over).peekable();
    let by_engine = over.peek().is_some() && over.all(|(service, ..)| service.engine_failed_its_update());
    let fault = if by_engine { Fault::Transient } else { Fault::Recipe };
    Failure::new(fault, format!("{what}{outputs}"))
}

/// Which nodes are down that may run one of the services of these constraints, in words: what should be there, or was, is not
/// up for that, nor is what needs it. A Swarm that can't tell has its own troubles, which are told elsewhere.
async fn nodes_down(engine: &SwarmEngine, constraints: &[impl AsRef<[String]>]) -> Option<String> {
    if !engine.has_other_nodes() {
        return None;
    }
    let has_one = |node: &Node| constraints.iter().any(|of_one| placement::allows(of_one.as_ref(), node));
    let all = node::list(&engine.client).await.unwrap_or_default();
    let down = all.into_iter().filter(|node| node.down && !node.drained && has_one(node));
    let down: Vec<String> = down.map(|node| node.name).collect();
    match &down[..] {
        [] => None,
        [one] => Some(format!("the node {one} is down")),
        several => Some(format!("the nodes {} are down", several.join(" and "))),
    }
}

/// The same of an app whose command can't be run, as far as it is told in time.
pub(crate) async fn down_for(engine: &SwarmEngine, stack: &Stack) -> Option<String> {
    if !engine.has_other_nodes() {
        return None;
    }
    let look = async {
        let services = observe::services(&engine.client, stack).await.ok()?;
        let templates = services.into_iter().filter_map(|service| service.spec?.task_template);
        let constraints: Vec<Vec<String>> =
            templates.map(|template| observe::constraints(&template)).collect();
        nodes_down(engine, &constraints).await
    };
    tokio::time::timeout(LIMIT, look).await.ok()?
}

/// What a task's container said, each part on lines of its own.
async fn output(engine: &SwarmEngine, service: &str, task: &Task) -> String {
    let (client, container) = match (&task.container, &task.elsewhere) {
        (Some(container), _) => (&engine.client, container),
        (None, Some((node, container))) => match nodes::of_task(engine, Some(node)).await {
            Ok(client) => (client, container),
            Err(_) => return String::new(),
        },
        (None, None) => return String::new(),
    };
    let (inspected, log) = future::join(
        client.call(async |docker| docker.inspect_container(container, None).await),
        log(client, container),
    )
    .await;
    let health = inspected.ok().and_then(|container| last_probe(client.redactor(), container));
    let health = health.map(|probe| format!("\nthe healthcheck of {service} {probe}")).unwrap_or_default();
    let log = if log.is_empty() { log } else { format!("\n{service} logged last:\n{log}") };
    health + &log
}

/// How the last failed probe ended, of a container that is not healthy.
pub(crate) fn unhealthy(redactor: &Redactor, container: ContainerInspectResponse) -> Option<String> {
    let health = container.state.as_ref()?.health.as_ref()?;
    if health.status != Some(HealthStatusEnum::UNHEALTHY) {
        return None;
    }
    last_probe(redactor, container)
}

/// How the last failed probe ended.
fn last_probe(redactor: &Redactor, container: ContainerInspectResponse) -> Option<String> {
    let log = container.state?.health?.log?;
    let probe = log.into_iter().rev().find(|probe| probe.exit_code != Some(0))?;
    let status = probe.exit_code.unwrap_or(-1);
    let mut output = probe.output.unwrap_or_default();
    // The engine has cut it, maybe in the middle of a secret. A line that is as long by itself is not shown.
    if let Some(end) = output.rfind('\n').filter(|_| output.len() >= PROBE_LIMIT) {
        output.truncate(end);
    }
    let message = sanitize::tail(redactor, &output);
    Some(if message.is_empty() {
        format!("ended with status {status} and said nothing")
    } else {
        format!("ended with status {status} and said:\n{message}")
    })
}

/// The end of a container's log as it is shown; empty where the log driver keeps none that can be read.
pub(crate) async fn log(client: &Client, container: &str) -> String {
    sanitize::tail(client.redactor(), &read_log(client, container, LINES).await)
}

/// The last `lines` of a container's log, whole ones; nothing is taken out.
pub(crate) async fn read_log(client: &Client, container: &str, lines: &str) -> String {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(lines).build();
    let Ok(docker) = client.docker().await else { return String::new() };
    let (mut text, mut cut) = (Vec::new(), false);
    let mut parts = docker.logs(container, Some(options)).boxed();
    while let Ok(Some(part)) = parts.try_next().await {
        text.extend_from_slice(&part.into_bytes());
        let surplus = text.len().saturating_sub(TaskLog::LOG_LIMIT);
        cut |= surplus > 0;
        text.drain(..surplus);
    }
    if cut {
        let line = text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1);
        text.drain(..line);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use cc_ci_core::engine::Engine as _;

    use super::*;
    use crate::NodeAddress;
    use crate::address::Address;
    use crate::fake_engine::{FakeEngine, Reply, nothing};

    #[tokio::test]
    async fn a_node_that_is_down_is_the_cause_of_what_may_run_there() {
        let manager = FakeEngine::start(|call| {
            let body = match call {
                _ if call.contains("/info") => r#"{"Swarm":{"NodeID":"m","Nodes":3}}"#,
                _ if call.contains("/nodes") => {
                    r#"[{"ID":"m","Description":{"Hostname":"here"},"Status":{"State":"ready"},"ManagerStatus":{}},
                    {"ID":"a","Spec":{"Availability":"drain"},"Description":{"Hostname":"gone"},"Status":{"State":"down"}},
                    {"ID":"b","Description":{"Hostname":"down"},"Status":{"State":"down"}}]"#
                }
                _ if call.contains("/services") => {
                    r#"[{"ID":"s","Spec":{"Name":"x_app","TaskTemplate":{"ContainerSpec":{},
                    "Placement":{"Constraints":["node.hostname == down"]}}}}]"#
                }
                _ => return nothing(call),
            };
            Reply::Json(200, body.to_owned())
        });
        let socket = manager.socket().with_file_name("nobody.sock");
        let named = NodeAddress { name: "b".to_owned(), address: Address::Unix(socket) };
        let engine = manager.engine().with_nodes(vec![named]);
        engine.inventory(None).await.unwrap();
        let down = async |constraints: &[&str]| {
            let constraints: Vec<[String; 1]> = constraints.iter().map(|&text| [text.to_owned()]).collect();
            nodes_down(&engine, &constraints).await
        };
        assert_eq!(down(&["node.role == manager"]).await, None);
        // What is up there is as good as what is not: others may need it.
        let found = down(&["node.role == manager", "node.role == worker"]).await;
        assert_eq!(found.as_deref(), Some("the node down is down"));
        assert_eq!(down(&["node.hostname == gone"]).await, None);
        let found = down_for(&engine, &"x_ci_example_org".parse().unwrap()).await;
        assert_eq!(found.as_deref(), Some("the node down is down"));
    }
}
