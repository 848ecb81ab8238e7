//! What the tasks of an app logged.
//!
//! # Limitations
//! How a task ended is known to nobody: a service is no child of the run that looks.

use std::time::{Duration, Instant};

use super::LocalExecutor;
use super::converge::probe;
use super::log_tail::{tail, untold};
use super::processes;
use super::state_dir::{TaskRecord, host};
use crate::engine::{Failure, TaskLog};
use crate::names::Domain;
use crate::sys::blocking;

/// Each task that is recorded: the one of each service that runs, or ran last.
pub(super) async fn logs(
    executor: &LocalExecutor,
    domain: &Domain,
    limit: Duration,
) -> Result<Vec<TaskLog>, Failure> {
    let until = crate::sys::after(Instant::now(), limit);
    let services = executor.services_of(domain).await?;
    let (state_dir, of) = (executor.state_dir.clone(), domain.clone());
    let tasks = blocking::run(move || state_dir.records(&of, "tasks")).await.map_err(host)?;
    let mut logs = Vec::new();
    for (task, TaskRecord { service, started }) in tasks {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let runs = processes::running(executor, domain, &service).await?.is_some_and(|(id, _)| id == task);
        let record = services.iter().find(|(name, _)| *name == service).map(|(_, record)| record);
        let health = match record.filter(|_| runs) {
            Some(record) => {
                tokio::time::timeout(left, probe(record, domain)).await.ok().and_then(Result::err)
            }
            None => None,
        };
        let log = executor.state_dir.log_of(domain, &task);
        let log = blocking::run(move || tail(&log, TaskLog::LOG_LIMIT)).await;
        logs.push(TaskLog {
            state: if runs { "running" } else { "ended" }.to_owned(),
            // It is started once, and meant to run.
            failed: health.is_some() || (!runs && record.is_some_and(|record| record.replicas > 0)),
            began: started,
            ended: None,
            error: (!runs).then(|| "the process ended".to_owned()),
            exit_status: None,
            health,
            log: log.unwrap_or_else(|error| untold(&error)),
            service,
            task,
        });
    }
    Ok(logs)
}
