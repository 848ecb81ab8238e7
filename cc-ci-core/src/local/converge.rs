//! Whether services run and are healthy.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::LocalExecutor;
use super::log_tail::log_tail;
use super::processes;
use super::state_dir::{ServiceRecord, host};
use crate::engine::{ConvergenceReport, Failure, ServiceState};
use crate::http;
use crate::model::event::Reporter;
use crate::names::Domain;
use crate::sys::process;

/// What one health probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Waits until every service is up. A service that ends is a failure at once: nothing here starts it again.
pub(super) async fn wait(
    executor: &LocalExecutor,
    domain: &Domain,
    limit: Duration,
    reporter: &dyn Reporter,
) -> Result<(), Failure> {
    let until = crate::sys::after(Instant::now(), limit);
    let mut report = ConvergenceReport::new(reporter, domain, limit);
    let services = executor.services_of(domain).await?;
    for (up, (name, record)) in services.iter().enumerate() {
        if record.replicas == 0 {
            continue;
        }
        let mut pause = Duration::from_millis(10);
        loop {
            let Some((_, process)) = processes::running(executor, domain, name).await? else {
                let log = log_tail(executor, domain, name).await;
                return Err(Failure::recipe(format!("the service {name} ended\n{name} logged last:\n{log}")));
            };
            let unhealthy = match probe(record, domain).await {
                Ok(()) => break,
                Err(reason) => reason,
            };
            if Instant::now() >= until {
                let log = log_tail(executor, domain, name).await;
                return Err(Failure::recipe(format!(
                    "the service {name} is not healthy after {limit:?}: {unhealthy}\n{name} logged last:\n{log}"
                )));
            }
            let state = format!("starting ({unhealthy})");
            let rest = services[up + 1..].iter().map(|(name, _)| (name.as_str(), "not asked yet"));
            report.tell(services.len(), std::iter::once((name.as_str(), state.as_str())).chain(rest));
            // Its end is an event; that it came up is only seen by asking again.
            let next = Instant::now() + pause;
            process::wait_gone(&process, &executor.host.boot_id(), next).await.map_err(host)?;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }
    report.tell(services.len(), []);
    Ok(())
}

/// The services as they are now.
pub(super) async fn services(
    executor: &LocalExecutor,
    domain: &Domain,
) -> Result<Vec<ServiceState>, Failure> {
    let mut services = Vec::new();
    for (name, record) in executor.services_of(domain).await? {
        let task = processes::running(executor, domain, &name).await?;
        let healthy = match &task {
            Some(_) => probe(&record, domain).await.is_ok(),
            None => record.replicas == 0,
        };
        services.push(ServiceState {
            name,
            id: record.id,
            created: record.created,
            // A deploy of the same again leaves a service as it is: what it would run is all that tells.
            order: record.digest.clone(),
            tasks: task.into_iter().map(|(id, _)| id).collect(),
            healthy,
            spec: record.digest,
            version: record.version,
        });
    }
    Ok(services)
}

/// A real GET of the health path; a service without one is healthy when it runs.
pub(super) async fn probe(record: &ServiceRecord, domain: &Domain) -> Result<(), String> {
    let (Some(port), Some(health)) = (record.port, &record.health) else { return Ok(()) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match http::get(address, domain.as_str(), health, PROBE_LIMIT).await {
        Ok(response) if (200..300).contains(&response.status) => Ok(()),
        Ok(response) => Err(format!("GET {health}: HTTP status {}", response.status)),
        Err(error) => Err(crate::model::error_chain(&error)),
    }
}
