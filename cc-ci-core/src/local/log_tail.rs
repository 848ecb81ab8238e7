//! The end of what a service logged.

use std::io;
use std::path::Path;

use super::LocalExecutor;
use super::state_dir::TaskRecord;
use crate::names::Domain;
use crate::sys::beneath::{end_of, open_beneath};
use crate::sys::blocking;

/// How much of a log explains a failure.
const LOG_TAIL: usize = 2000;

/// The last lines of a service's task, running or ended.
pub(super) async fn log_tail(executor: &LocalExecutor, domain: &Domain, service: &str) -> String {
    let (state_dir, domain, service) = (executor.state_dir.clone(), domain.clone(), service.to_owned());
    let read = move || {
        let tasks = state_dir.records::<TaskRecord>(&domain, "tasks").unwrap_or_default();
        let Some((task, _)) = tasks.into_iter().find(|(_, task)| task.service == service) else {
            return "it has no task".to_owned();
        };
        match tail(&state_dir.log_of(&domain, &task), LOG_TAIL) {
            Ok(tail) if tail.is_empty() => "it logged nothing, or too long a line".to_owned(),
            Ok(tail) => tail,
            Err(error) => untold(&error),
        }
    };
    blocking::run(read).await
}

pub(super) fn untold(error: &io::Error) -> String {
    format!("its log can't be read: {error}")
}

/// The last whole lines of a log, `limit` bytes at the most: half a secret is not known for one.
pub(super) fn tail(path: &Path, limit: usize) -> io::Result<String> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(String::new()) };
    // The service writes it, and may have put anything in its place.
    let log = open_beneath(directory, name).map_err(io::Error::other)?;
    let (tail, _) = end_of(log, limit as u64)?;
    Ok(tail.trim().to_owned())
}
