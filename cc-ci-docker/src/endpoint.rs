//! The way in: straight to a task, past the proxy.
//!
//! A task of an overlay network has a leg on the bridge `docker_gwbridge` as well, whose address answers from this
//! host, whether or not the kernel can do what a service's virtual address needs.
//!
//! # Limitations
//! A service whose networks are all internal, or the host's own, has no such leg. Nor has one of another node: an app that
//! has no task on this one is reached through the proxy alone.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use bollard::models::{ContainerSummary, NetworkInspect, PortSummaryTypeEnum, Service};
use bollard::query_parameters::{InspectNetworkOptions, ListTasksOptions};
use cc_ci_core::engine::{Endpoint, Failure};
use cc_ci_core::names::{Domain, Stack};

use crate::SwarmEngine;
use crate::client::{ApiError, Client};
use crate::converge::observe;
use crate::snapshot::{TASK_ID, labelled};

/// The bridge between a host and its tasks.
const BRIDGE: &str = "docker_gwbridge";

/// By the recipes' own convention, the service that serves the domain.
const APP: &str = "app";

/// Where the proxy would send requests, by the service's labels.
const LABEL: (&str, &str) = ("traefik.http.services.", ".loadbalancer.server.port");

pub(crate) async fn endpoint(engine: &SwarmEngine, domain: &Domain) -> Result<Endpoint, Failure> {
    let (client, stack) = (&engine.client, domain.stack());
    let read = futures_util::try_join!(
        observe::services(client, &stack),
        wanted(client, &stack),
        observe::running(client, &stack),
        client.call(async |docker| docker.inspect_network(BRIDGE, None::<InspectNetworkOptions>).await)
    );
    let (services, wanted, mut containers, bridge) =
        read.map_err(|error: ApiError| error.during(format!("can't tell where {domain} answers")))?;
    // For a moment after its end, the engine lists a container as running.
    containers.retain(|container| label(container, TASK_ID).is_some_and(|id| wanted.contains(id)));
    let elsewhere = engine.has_other_nodes() && wanted.len() > containers.len();
    find(&stack, &services, &containers, &bridge)
        .map(|address| Endpoint { address, host: domain.clone() })
        .map_err(|reason| {
            let what = format!("{domain} has no address: {reason}");
            if !elsewhere {
                return Failure::recipe(what);
            }
            Failure::host(format!("{what}, on this node; it has tasks on others"))
                .with_hint("name the proxy that leads there: [proxy] address, in the configuration")
        })
}

/// The tasks that are meant to run.
async fn wanted(client: &Client, stack: &Stack) -> Result<HashSet<String>, ApiError> {
    let mut filters = labelled(stack.as_str());
    filters.insert("desired-state".to_owned(), vec!["running".to_owned()]);
    let options = ListTasksOptions { filters: Some(filters) };
    let tasks = client.call(async |docker| docker.list_tasks(Some(options)).await).await?;
    Ok(tasks.into_iter().filter_map(|task| task.id).collect())
}

/// The address, or why there is none.
fn find(
    stack: &Stack,
    services: &[Service],
    containers: &[ContainerSummary],
    bridge: &NetworkInspect,
) -> Result<SocketAddr, String> {
    let named =
        |service: &Service| Some((service.spec.as_ref()?.name.clone()?, labelled_port(stack, service)));
    let mut known: Vec<(String, Option<String>)> = services.iter().filter_map(named).collect();
    known.sort();
    let app = format!("{stack}_{APP}");
    let serves = known
        .iter()
        .find(|(name, _)| *name == app)
        .or_else(|| known.iter().find(|(_, port)| port.is_some()))
        .ok_or_else(|| {
            format!("no service is called {APP}, and none has a label {}<NAME>{}", LABEL.0, LABEL.1)
        })?;
    let (service, port) = serves;
    let short = service.strip_prefix(&format!("{stack}_")).unwrap_or(service);
    // The same one each time: of two, the one that was made last.
    let container = containers
        .iter()
        .filter(|container| label(container, "com.docker.swarm.service.name") == Some(service))
        .max_by_key(|container| (container.created, &container.id))
        .ok_or_else(|| format!("the service {short} has no running task"))?;
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            format!("the service {short} names the port {:?} in its label", crate::sanitize::written(port))
        })?,
        None => exposed(container),
    };
    let leg = container.id.as_ref().and_then(|id| bridge.containers.as_ref()?.get(id));
    let address = leg.and_then(|leg| {
        let (address, _) = leg.ipv4_address.as_ref()?.split_once('/')?;
        address.parse::<IpAddr>().ok()
    });
    match address {
        Some(address) => Ok(SocketAddr::new(address, port)),
        None => Err(format!("the service {short} is not reached from this host: has it an overlay network?")),
    }
}

fn label<'c>(container: &'c ContainerSummary, key: &str) -> Option<&'c String> {
    container.labels.as_ref()?.get(key)
}

/// The port that the proxy is told: the one that is called like the stack, where there are several.
fn labelled_port(stack: &Stack, service: &Service) -> Option<String> {
    let labels = service.spec.as_ref()?.labels.as_ref()?;
    let mut ports: Vec<(bool, &str, &String)> = labels
        .iter()
        .filter_map(|(key, port)| {
            let name = key.strip_prefix(LABEL.0)?.strip_suffix(LABEL.1)?;
            Some((name != stack.as_str(), name, port))
        })
        .collect();
    ports.sort();
    ports.first().map(|(_, _, port)| (*port).clone())
}

/// The one port that the image exposes, or that of HTTP.
fn exposed(container: &ContainerSummary) -> u16 {
    let ports = container.ports.as_deref().unwrap_or_default();
    let mut ports: Vec<u16> = ports
        .iter()
        .filter(|port| port.typ == Some(PortSummaryTypeEnum::TCP))
        .map(|port| port.private_port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    match ports[..] {
        [port] => port,
        _ => 80,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, labels: &Value) -> Service {
        serde_json::from_value(json!({"Spec": {"Name": format!("a_test_x_{name}"), "Labels": labels}}))
            .unwrap()
    }

    fn container(id: &str, service: &str, created: i64, ports: &Value) -> ContainerSummary {
        let labels = json!({"com.docker.swarm.service.name": format!("a_test_x_{service}")});
        serde_json::from_value(json!({"Id": id, "Created": created, "Labels": labels, "Ports": ports}))
            .unwrap()
    }

    fn bridge() -> NetworkInspect {
        serde_json::from_value(json!({"Containers": {
            "c1": {"Name": "gateway_1", "IPv4Address": "172.18.0.3/16"},
            "c2": {"Name": "gateway_2", "IPv4Address": "172.18.0.4/16"},
            "ingress-sbox": {"Name": "gateway_ingress-sbox", "IPv4Address": "172.18.0.2/16"}
        }}))
        .unwrap()
    }

    fn found(services: &[Service], containers: &[ContainerSummary]) -> Result<String, String> {
        find(&"a_test_x".parse().unwrap(), services, containers, &bridge()).map(|found| found.to_string())
    }

    #[test]
    fn the_service_app_is_asked_at_its_labelled_port() {
        let port = json!({"traefik.http.services.a_test_x.loadbalancer.server.port": "8080"});
        let containers = [container("c1", "app", 1, &json!([])), container("c2", "db", 0, &json!([]))];
        let services = [service("db", &json!({})), service("app", &port)];
        assert_eq!(found(&services, &containers).unwrap(), "172.18.0.3:8080");
        // The label alone tells where no service is called app.
        let services = [service("app2", &json!({})), service("db", &port)];
        assert_eq!(found(&services, &containers).unwrap(), "172.18.0.4:8080");
        // The convention wins.
        let services = [service("app", &json!({})), service("db", &port)];
        assert_eq!(found(&services, &containers).unwrap(), "172.18.0.3:80");
    }

    #[test]
    fn of_several_ports_the_one_called_like_the_stack_is_taken() {
        let ports = json!({
            "traefik.http.services.a.loadbalancer.server.port": "1",
            "traefik.http.services.a_test_x.loadbalancer.server.port": "2",
            "traefik.http.services.z.loadbalancer.server.port": "3",
            "traefik.http.services.a.loadbalancer.server.scheme": "https"
        });
        let containers = [container("c1", "app", 1, &json!([]))];
        assert_eq!(found(&[service("app", &ports)], &containers).unwrap(), "172.18.0.3:2");
    }

    #[test]
    fn without_a_label_the_one_exposed_port_is_taken() {
        let tcp = |port| json!({"PrivatePort": port, "Type": "tcp"});
        for (ports, expected) in [
            (json!([tcp(3000)]), "172.18.0.3:3000"),
            (json!([tcp(3000), {"PrivatePort": 53, "Type": "udp"}]), "172.18.0.3:3000"),
            (json!([tcp(3000), tcp(4000)]), "172.18.0.3:80"),
            (json!([]), "172.18.0.3:80"),
        ] {
            let containers = [container("c1", "app", 1, &ports)];
            assert_eq!(found(&[service("app", &json!({}))], &containers).unwrap(), expected);
        }
    }

    #[test]
    fn the_newest_of_several_tasks_is_taken() {
        let containers = [container("c1", "app", 1, &json!([])), container("c2", "app", 2, &json!([]))];
        assert_eq!(found(&[service("app", &json!({}))], &containers).unwrap(), "172.18.0.4:80");
    }

    #[test]
    fn what_has_no_address_says_why() {
        let app = [service("app", &json!({}))];
        for (services, containers, why) in [
            (&[][..], &[][..], "no service is called app"),
            (&[service("db", &json!({}))], &[], "no service is called app"),
            (&app, &[], "the service app has no running task"),
            (&app, &[container("c1", "db", 1, &json!([]))], "the service app has no running task"),
            (&app, &[container("c9", "app", 1, &json!([]))], "the service app is not reached from this host"),
        ] {
            let error = found(services, containers).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for port in ["", "0", "65536", "http", "-1", "80\u{1b}[2J"] {
            let label = json!({"traefik.http.services.x.loadbalancer.server.port": port});
            let containers = [container("c1", "app", 1, &json!([]))];
            let error = found(&[service("app", &label)], &containers).unwrap_err();
            assert!(error.contains("names the port") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
