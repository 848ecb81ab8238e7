//! What the tasks of an app logged.
//!
//! # Limitations
//! How a task ended is known to nobody: a service is no child of the run that looks.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use super::LocalExecutor;
use super::converge::probe;
use super::processes;
use super::state_dir::{ServiceRecord, TaskRecord, host};
use crate::engine::{Failure, TaskLog};
use crate::names::Domain;
use crate::sys::beneath::open_beneath;

/// How much of a log explains a failure.
const LOG_TAIL: usize = 2000;

/// Each task that is recorded: the one of each service that runs, or ran last.
pub(super) async fn logs(
    executor: &LocalExecutor,
    domain: &Domain,
    limit: Duration,
) -> Result<Vec<TaskLog>, Failure> {
    let until = crate::sys::after(Instant::now(), limit);
    let services = executor.state_dir.records::<ServiceRecord>(domain, "services").map_err(host)?;
    let mut logs = Vec::new();
    for (task, TaskRecord { service }) in executor.state_dir.records(domain, "tasks").map_err(host)? {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let running = processes::running(&executor.state_dir, domain, &service, &executor.host.boot_id())?;
        let runs = running.is_some_and(|(id, _)| id == task);
        let record = services.iter().find(|(name, _)| *name == service).map(|(_, record)| record);
        let health = match record.filter(|_| runs) {
            Some(record) => {
                tokio::time::timeout(left, probe(record, domain)).await.ok().and_then(Result::err)
            }
            None => None,
        };
        logs.push(TaskLog {
            state: if runs { "running" } else { "ended" }.to_owned(),
            // It is started once, and meant to run.
            failed: health.is_some() || (!runs && record.is_some_and(|record| record.replicas > 0)),
            error: (!runs).then(|| "the process ended".to_owned()),
            exit_status: None,
            health,
            log: tail(&executor.state_dir.log_of(domain, &task), TaskLog::LOG_LIMIT).unwrap_or_else(untold),
            service,
            task,
        });
    }
    Ok(logs)
}

/// The last lines of a service's task, running or ended.
pub(super) fn log_tail(executor: &LocalExecutor, domain: &Domain, service: &str) -> String {
    let tasks = executor.state_dir.records::<TaskRecord>(domain, "tasks").unwrap_or_default();
    let Some((task, _)) = tasks.into_iter().find(|(_, task)| task.service == service) else {
        return "it has no task".to_owned();
    };
    match tail(&executor.state_dir.log_of(domain, &task), LOG_TAIL) {
        Ok(tail) if tail.is_empty() => "it logged nothing, or too long a line".to_owned(),
        Ok(tail) => tail,
        Err(error) => untold(error),
    }
}

fn untold(error: io::Error) -> String {
    format!("its log can't be read: {error}")
}

/// The last whole lines of a log, `limit` bytes at the most: half a secret is not known for one.
fn tail(path: &Path, limit: usize) -> io::Result<String> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(String::new()) };
    // The service writes it, and may have put anything in its place.
    let mut log = open_beneath(directory, name).map_err(io::Error::other)?;
    let limit = limit as u64;
    let start = log.metadata()?.len().saturating_sub(limit);
    log.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    log.take(limit).read_to_end(&mut tail)?;
    if start > 0 {
        let line = tail.iter().position(|&byte| byte == b'\n').map_or(tail.len(), |end| end + 1);
        tail.drain(..line);
    }
    Ok(String::from_utf8_lossy(&tail).trim().to_owned())
}
