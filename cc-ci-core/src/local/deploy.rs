//! Starting, replacing and stopping services.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::LocalExecutor;
use super::plan::{self, Planned};
use super::processes;
use super::state_dir::{ContainerRecord, ServiceRecord, StateDir, TaskRecord, host};
use crate::engine::{App, Failure, RunContext};
use crate::lifetime::{Command, Output};
use crate::names::Domain;
use crate::sys::files::new_id;

/// After a killed service, so long until its processes are gone for certain.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Brings the app to what its tree and `.env` say now. Services that stay the same and run go on undisturbed; changed
/// ones, and those that ended, keep their id and are started anew; those that are no longer named are stopped.
pub(super) async fn apply(executor: &LocalExecutor, context: &RunContext, app: &App) -> Result<(), Failure> {
    let planned = plan::planned(executor, context, app).await?;
    let known = executor.services_of(&app.domain).await?;
    for (name, record) in &known {
        if !planned.iter().any(|service| service.name == *name) {
            drop_service(executor, context, &app.domain, name, record).await?;
        }
    }
    for service in &planned {
        let old = known.iter().find(|(name, _)| *name == service.name).map(|(_, record)| record);
        let runs = match old {
            Some(record) if record.replicas > 0 => {
                processes::running(executor, &app.domain, &service.name).await?.is_some()
            }
            old => old.is_some(),
        };
        let same = runs && old.is_some_and(|record| record.digest == service.digest);
        if let Some(record) = old.filter(|_| !same) {
            stop(executor, context, &app.domain, &service.name, grace_of(record)).await?;
        }
        write_service(executor, context, &app.domain, service, old).await?;
        if service.replicas > 0 && !same {
            start(executor, context, &app.domain, service).await?;
        }
    }
    // All services work from this one now.
    let (trees, kept) = (executor.state_dir.of(&app.domain, "trees"), planned.into_iter().next());
    let state_dir = executor.state_dir.clone();
    let dropped =
        move || drop_trees(&state_dir, &trees, kept.as_ref().map(|service| service.directory.as_path()));
    context.lifetime.blocking_tasks().run(dropped).await.map_err(host)
}

/// Writes what a service is meant to be. One that is there keeps its id.
async fn write_service(
    executor: &LocalExecutor,
    context: &RunContext,
    domain: &Domain,
    service: &Planned,
    old: Option<&ServiceRecord>,
) -> Result<(), Failure> {
    let (state_dir, domain, name) = (executor.state_dir.clone(), domain.clone(), service.name.clone());
    let id = old.map(|record| record.id.clone());
    let record = ServiceRecord {
        id: String::new(),
        created: old.map_or_else(|| executor.host.now().to_string(), |record| record.created.clone()),
        digest: service.digest.clone(),
        replicas: service.replicas,
        port: service.port,
        health: service.health.clone(),
        stop_grace_seconds: service.stop_grace.as_secs_f64(),
        version: service.version.clone(),
    };
    let write = move || {
        let record = ServiceRecord { id: id.map_or_else(new_id, Ok)?, ..record };
        state_dir.write_record(&domain, "services", &name, &record)
    };
    context.lifetime.blocking_tasks().run(write).await.map_err(host)
}

/// Removes the copies of the recipe's files but `kept`. Blocks.
fn drop_trees(state_dir: &StateDir, trees: &Path, kept: Option<&Path>) -> io::Result<()> {
    for name in state_dir.names(trees)? {
        let tree = trees.join(name);
        if kept != Some(tree.as_path()) {
            state_dir.remove(&tree)?;
        }
    }
    Ok(())
}

/// Starts one task of a service. It is recorded before it executes, so that whoever dies in between leaves nothing
/// that is not known.
async fn start(
    executor: &LocalExecutor,
    context: &RunContext,
    domain: &Domain,
    service: &Planned,
) -> Result<(), Failure> {
    let scratch = executor.state_dir.of(domain, "scratch").join(&service.name);
    let record = TaskRecord { service: service.name.clone(), started: Some(executor.host.now()) };
    let (state_dir, of, made) = (executor.state_dir.clone(), domain.clone(), scratch.clone());
    let write = move || {
        let task = new_id()?;
        for directory in [&made, &state_dir.of(&of, "logs")] {
            state_dir.make(directory)?;
        }
        state_dir.write_record(&of, "tasks", &task, &record)?;
        Ok(task)
    };
    let task = context.lifetime.blocking_tasks().run(write).await.map_err(host)?;
    let (program, args) = service
        .command
        .split_first()
        .ok_or_else(|| Failure::recipe(format!("the service {} has an empty command", service.name)))?;
    let path = context.environment.iter().find(|(name, _)| name == "PATH");
    let command = Command::new(program, &service.directory)
        .args(args)
        .envs(path.map(|(name, value)| (name, value)))
        .env("HOME", &scratch)
        .env("TMPDIR", &scratch)
        .envs(&service.environment)
        .output(Output::File(executor.state_dir.log_of(domain, &task)))
        .marker(executor.marker(domain, &service.name));
    let command = match context.recipe_code.confined() {
        Some(confined) => {
            let sandbox = service.sandbox(confined, executor.user_of(domain), &scratch);
            command.sandbox(sandbox.persistent())
        }
        None => command,
    };
    let (state_dir, owned, name) = (executor.state_dir.clone(), domain.clone(), service.name.clone());
    let record = move |process: &crate::sys::process::ProcessIdentity| {
        let record = ContainerRecord { service: name, process: process.clone() };
        state_dir.write_record(&owned, "containers", &task, &record)
    };
    context.lifetime.spawn_detached(command, Box::new(record)).await.map(drop).map_err(|error| {
        let message = format!("can't start the service {}", service.name);
        if error.is_of_command() {
            Failure::recipe(message).with_source(error)
        } else {
            Failure::host(message).with_source(error)
        }
    })
}

/// Stops a service for good, and gives its port back.
async fn drop_service(
    executor: &LocalExecutor,
    context: &RunContext,
    domain: &Domain,
    name: &str,
    record: &ServiceRecord,
) -> Result<(), Failure> {
    stop(executor, context, domain, name, grace_of(record)).await?;
    let (state_dir, domain, name, port) =
        (executor.state_dir.clone(), domain.clone(), name.to_owned(), record.port);
    let remove = move || {
        state_dir.remove_record(&domain, "services", &name)?;
        port.map_or(Ok(()), |port| state_dir.free_port(port))
    };
    context.lifetime.blocking_tasks().run(remove).await.map_err(host)
}

/// Stops a service's tasks and forgets them.
async fn stop(
    executor: &LocalExecutor,
    context: &RunContext,
    domain: &Domain,
    service: &str,
    grace: Duration,
) -> Result<(), Failure> {
    end(executor, domain, service, grace).await?;
    let (state_dir, domain, service) = (executor.state_dir.clone(), domain.clone(), service.to_owned());
    let forget = move || forget_tasks(&state_dir, &domain, &service);
    context.lifetime.blocking_tasks().run(forget).await.map_err(host)
}

/// Ends a service's processes.
pub(super) async fn end(
    executor: &LocalExecutor,
    domain: &Domain,
    service: &str,
    grace: Duration,
) -> Result<(), Failure> {
    let left =
        processes::end(executor, domain, Some(service), grace, grace + KILL_LIMIT).await.map_err(host)?;
    if !left.is_empty() {
        return Err(Failure::host(format!("processes of the service {service} survived SIGKILL: {left:?}")));
    }
    Ok(())
}

/// Removes the records of a service's tasks, whose processes have ended. Blocks.
pub(super) fn forget_tasks(state_dir: &StateDir, domain: &Domain, service: &str) -> io::Result<()> {
    for (id, task) in state_dir.records::<TaskRecord>(domain, "tasks")? {
        if task.service == service {
            state_dir.remove_record(domain, "containers", &id)?;
            state_dir.remove_record(domain, "tasks", &id)?;
        }
    }
    Ok(())
}

pub(super) fn grace_of(record: &ServiceRecord) -> Duration {
    Duration::try_from_secs_f64(record.stop_grace_seconds).unwrap_or_default()
}
