//! Whether what the engine has is what was ordered: the specification of each service, all of it, against the one that
//! docker/cli makes of the judged files.
//!
//! [`ordered`] makes that one, [`form`] brings what the engine gives into the same form, and [`differ`] compares them leaf
//! by leaf, so that a field that nobody knew of is a difference too. Both leave out what says nothing: what is empty, and
//! what counts how often something was forced. [`objects`] does the same for networks, volumes, secrets and configs.
//!
//! # Limitations
//! Images are compared by their tags, where the files have no digest. A variable more than the files say is a remark, whoever
//! added it. A service that was there before and is not ordered any more is not looked at. Where the engine has begun to roll an update back, it shows the older specification: such a
//! service is left to the wait, which is red then.

mod form;
mod objects;
#[cfg(test)]
mod objects_tests;
mod ordered;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::engine::{Drift, Failure, Kind, Order, Resource};
use cc_ci_core::names::{Domain, Stack};
use futures_util::future::try_join_all;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::client::{ApiError, Client, Filters};
use crate::snapshot::labelled;
use crate::{SwarmEngine, nodes, sanitize};

use objects::Listed;

/// How long an engine that can't be asked just now is asked again.
const COMPARE_LIMIT: Duration = Duration::from_secs(30);

/// The service that abra shows the app's own variables to.
const APP: &str = "app";

/// What abra notes in labels of the stack's own, whatever the recipe says there.
const NOTED: [&str; 3] = ["chaos", "chaos-version", "recipe"];

/// What else it may add.
const ADDED: [&str; 3] = ["autoupdate", "timeout", "version"];

/// Where the variables of a service are.
const ENV: &str = "/TaskTemplate/ContainerSpec/Env";

/// Values that may be secrets stand beneath these.
const SILENT: [&str; 8] = ["Args", "Command", "Data", "DriverOpts", "Env", "Labels", "Options", "Sysctls"];

pub(crate) async fn drift(engine: &SwarmEngine, domain: &Domain, order: &Order) -> Result<Drift, Failure> {
    let (client, stack) = (&engine.client, domain.stack());
    let filters = labelled(stack.as_str());
    let during = |error: ApiError| error.during(format!("can't tell what is deployed of {domain}"));
    let (mut backoff, until) =
        (Backoff::new(Duration::from_millis(100), Duration::from_secs(1)), Instant::now() + COMPARE_LIMIT);
    let (all, of_name) = (Filters::new(), Filters::from([("name".to_owned(), vec![stack.to_string()])]));
    let (services, networks, volumes, secrets, configs) = loop {
        let asked = futures_util::try_join!(
            list(client, "/services", &filters),
            list(client, "/networks", &all),
            volumes(engine, &filters, &of_name),
            list(client, "/secrets", &filters),
            list(client, "/configs", &filters),
        );
        match asked {
            // One that restarts only delays the look.
            Err(error) if error.is_passing() && Instant::now() < until => backoff.wait(Duration::ZERO).await,
            asked => break asked.map_err(during)?,
        }
    };
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let by_id = networks.iter().map(|network| (text(network, "Id"), text(network, "Name"))).collect();
    let late_volumes = late_volumes(&stack, order, &services);
    let mut drift = compare(&stack, order, services, &by_id);
    let listed = Listed { networks, volumes, secrets, configs, late_volumes };
    objects::compare(order, listed, &mut drift);
    Ok(drift)
}

/// The volumes of each node that may have the stack's: each once, whichever way it was asked for.
async fn volumes(
    engine: &SwarmEngine,
    labelled: &Filters,
    named: &Filters,
) -> Result<Vec<(Option<Arc<str>>, Vec<Value>)>, ApiError> {
    let all = nodes::all(engine).await?.into_iter().map(async |(node, client)| {
        let (labelled, named) =
            futures_util::try_join!(list(client, "/volumes", labelled), list(client, "/volumes", named))?;
        let name = |volume: &Value| volume["Name"].as_str().unwrap_or_default().to_owned();
        let volumes: BTreeMap<String, Value> =
            labelled.into_iter().chain(named).map(|volume| (name(&volume), volume)).collect();
        Ok((node, volumes.into_values().collect()))
    });
    try_join_all(all).await
}

/// What the engine lists at `path`.
async fn list(client: &Client, path: &str, filters: &Filters) -> Result<Vec<Value>, ApiError> {
    let mut answer = client.get(path, filters).await?;
    if path == "/volumes" {
        answer = answer["Volumes"].take();
        // None is nothing there.
        if answer.is_null() {
            return Ok(Vec::new());
        }
    }
    let Value::Array(list) = answer else { return Err(ApiError::Incomplete("no list")) };
    Ok(list)
}

/// The volumes that services were to mount by the order before this one: a task of it that was under way makes them though
/// another order is given meanwhile.
fn late_volumes(stack: &Stack, order: &Order, services: &[Value]) -> BTreeSet<String> {
    let is_ordered = |service: &Value| {
        let key = service["Spec"]["Name"].as_str().and_then(|name| name.strip_prefix(&format!("{stack}_")));
        key.is_some_and(|key| order.compose.services.contains_key(key))
    };
    let specs = services.iter().flat_map(|service| {
        [Some(&service["PreviousSpec"]), (!is_ordered(service)).then_some(&service["Spec"])]
    });
    let mounts =
        specs.flatten().filter_map(|spec| spec.pointer("/TaskTemplate/ContainerSpec/Mounts")?.as_array());
    let volumes = mounts.flatten().filter(|mount| mount["Type"] == "volume");
    volumes.filter_map(|mount| mount["Source"].as_str().map(str::to_owned)).collect()
}

/// Compares what the engine lists with the order; `networks` are their names by id.
fn compare(stack: &Stack, order: &Order, services: Vec<Value>, networks: &BTreeMap<String, String>) -> Drift {
    let mut drift = Drift::default();
    let mut there: BTreeMap<String, Value> = services
        .into_iter()
        .map(|service| {
            let name = service["Spec"]["Name"].as_str().unwrap_or_default();
            (name.strip_prefix(&format!("{stack}_")).unwrap_or(name).to_owned(), service)
        })
        .collect();
    for (key, service) in &order.compose.services {
        let Some(mut found) = there.remove(key) else {
            drift.differences.push(format!("service {key}: is not there"));
            continue;
        };
        let state = found["UpdateStatus"]["State"].as_str().unwrap_or_default();
        if state.starts_with("rollback") {
            continue;
        }
        let mut spec = found["Spec"].take();
        let mut wanted = ordered::spec(order, key, service);
        form::normalise(&mut spec, networks);
        if !service.image.contains('@') {
            form::leave_digest(&mut spec);
        }
        let mut added = Vec::new();
        let env = if key == APP { Some(&order.vars) } else { None };
        take_additions(stack, &mut wanted, &mut spec, env, &mut added);
        ordered::ignore_unspecified(service, &mut wanted, &mut spec);
        form::fill(&mut wanted);
        form::fill(&mut spec);
        form::prune(&mut wanted);
        form::prune(&mut spec);
        drift.remarks.extend(added.into_iter().map(|what| format!("service {key}: {what}")));
        let mut differences = Vec::new();
        differ(&mut Vec::new(), &wanted, &spec, &mut differences);
        drift.differences.extend(differences.into_iter().map(|what| format!("service {key}: {what}")));
    }
    let was_there =
        |key: &String| order.before.contains(&Resource::new(Kind::Service, format!("{stack}_{key}")));
    for key in there.into_keys().filter(|key| !was_there(key)) {
        drift.differences.push(format!("service {}: was not ordered", sanitize::written(&key)));
    }
    drift
}

/// Takes away what a deployer may add of its own: the variables of the app, `env`, and labels of the stack's own. What of
/// it is not expected goes into `remarks`.
fn take_additions(
    stack: &Stack,
    wanted: &mut Value,
    there: &mut Value,
    env: Option<&BTreeMap<String, String>>,
    remarks: &mut Vec<String>,
) {
    let own = format!("coop-cloud.{stack}.");
    let none = Map::new();
    for path in ["/Labels", "/TaskTemplate/ContainerSpec/Labels"] {
        let Some(Value::Object(labels)) = there.pointer_mut(path) else { continue };
        let mut ordered = wanted.pointer_mut(path).and_then(Value::as_object_mut);
        labels.retain(|label, _| {
            let Some(name) = label.strip_prefix(&own) else { return true };
            if NOTED.contains(&name) {
                if let Some(ordered) = &mut ordered {
                    ordered.remove(label);
                }
                return false;
            }
            let is_ordered = ordered.as_ref().is_some_and(|ordered| ordered.contains_key(label));
            if !is_ordered && !ADDED.contains(&name) {
                remarks.push(format!("has a label that its files do not say: {}", sanitize::written(label)));
            }
            is_ordered
        });
    }
    let ordered = wanted.pointer(ENV).and_then(Value::as_object).unwrap_or(&none);
    let Some(Value::Object(variables)) = there.pointer_mut(ENV) else { return };
    variables.retain(|name, value| {
        if ordered.contains_key(name) {
            return true;
        }
        let of_app = env.and_then(|env| env.get(name)).map(|value| form::present(value));
        if of_app.as_ref() != Some(value) {
            remarks.push(format!("has a variable that its files do not say: {}", sanitize::written(name)));
        }
        false
    });
}

/// Names what of `there` is not as `wanted` says.
fn differ(path: &mut Vec<String>, wanted: &Value, there: &Value, differences: &mut Vec<String>) {
    if let (Value::Object(wanted), Value::Object(there)) = (wanted, there) {
        let mut keys: Vec<&String> = wanted.keys().chain(there.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            path.push(key.clone());
            differ(
                path,
                wanted.get(key).unwrap_or(&Value::Null),
                there.get(key).unwrap_or(&Value::Null),
                differences,
            );
            path.pop();
        }
    } else if wanted != there {
        let short = |key: &&String| !matches!(key.as_str(), "TaskTemplate" | "ContainerSpec");
        let field: Vec<&str> = path.iter().filter(short).map(String::as_str).collect();
        let field = sanitize::written(&field.join("."));
        let is_silent = path.iter().any(|key| SILENT.contains(&key.as_str()));
        differences.push(match (wanted, there) {
            (Value::Null, _) => format!("{field} was not ordered"),
            (_, Value::Null) => format!("{field} is not there"),
            (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => {
                format!("{field} differs")
            }
            _ if is_silent => format!("{field} differs"),
            (wanted, there) => format!("{field} is {}, not {}", shown(there), shown(wanted)),
        });
    }
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    sanitize::written(&text)
}
