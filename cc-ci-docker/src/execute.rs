//! Commands inside of an app's services, through the engine's exec API.
//!
//! A command runs once: what fails before it began is tried again when the app stands still, what fails later is told.
//!
//! # Limitations
//! The engine can't end a command: one that takes too long goes on until its container ends.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, TaskState};
use bollard::query_parameters::ListTasksOptions;
use cc_ci_core::engine::{Failure, RunContext, ServiceCommand};
use cc_ci_core::event::Silent;
use cc_ci_core::names::{Domain, Stack};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::SwarmEngine;
use crate::backoff::Backoff;
use crate::client::Filters;
use crate::client::{ApiError, Client};
use crate::converge::{self, explain, observe};
use crate::{nodes, sanitize};

/// So much of an output is kept: its end.
const OUTPUT_LIMIT: usize = 1 << 20;

/// Runs `command` in the newest running task of a service, and gives what it said; of more than 1 MiB, the last lines.
pub(crate) async fn execute(
    engine: &SwarmEngine,
    context: &RunContext,
    command: &ServiceCommand<'_>,
) -> Result<String, Failure> {
    let ServiceCommand { service, words, limit, .. } = *command;
    let program = words.first().map_or("", String::as_str);
    let what = format!(
        "{} in the service {}",
        sanitize::message(&context.redactor, program),
        sanitize::written(service)
    );
    let mut running = RunningCommand::default();
    // The engine is waited for as long as the command may take.
    let ended = Box::pin(running.run(engine, command));
    let ended = tokio::time::timeout(limit, ended).await;
    let output = running.output();
    let failed = |how: &str| {
        let text = sanitize::tail(&context.redactor, &output);
        let text = if text.is_empty() { text } else { format!(", and said:\n{text}") };
        Failure::recipe(format!("{what} {how}{text}"))
    };
    match ended {
        Ok(Ok(Some(0))) => Ok(output),
        Ok(Ok(Some(status))) => Err(failed(&format!("ended with status {status}"))),
        Ok(Ok(None)) => Err(failed("ended with its container")),
        Ok(Err(Trouble::Api(error))) => Err(error.during(format!("can't run {what}"))),
        Ok(Err(Trouble::NotUp(error))) => Err(error),
        Ok(Err(Trouble::NoService)) => {
            Err(Failure::recipe(format!("can't run {what}: there is no such service")))
        }
        Err(_) if running.began => {
            Err(failed(&format!("took longer than {limit:?}; it goes on until the app is removed")))
        }
        Err(_) => {
            let never = format!("can't run {what}: nothing of it ran for {limit:?}");
            Err(match explain::down_for(engine, &command.app.domain.stack()).await {
                Some(down) => Failure::host(format!("{never}; {down}")),
                None => Failure::recipe(never),
            })
        }
    }
}

/// Gives the last lines that the newest running task of a service has logged; none where none runs.
pub(crate) async fn log(engine: &SwarmEngine, domain: &Domain, service: &str) -> Result<String, Failure> {
    let shown = sanitize::written(service);
    match newest(engine, &domain.stack(), service).await {
        Ok(Some((client, container))) => Ok(explain::log(client, &container).await),
        Ok(None) => Ok(String::new()),
        Err(Trouble::NoService) => Err(Failure::recipe(format!("the app has no service {shown}"))),
        Err(Trouble::Api(error)) => Err(error.during(format!("can't read the log of the service {shown}"))),
        Err(Trouble::NotUp(error)) => Err(error),
    }
}

enum Trouble {
    Api(ApiError),
    NoService,
    /// The app does not come up.
    NotUp(Failure),
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// A command, and what it said so far.
#[derive(Default)]
struct RunningCommand {
    began: bool,
    text: Vec<u8>,
    /// Whether `said` is not all.
    cut: bool,
}

impl RunningCommand {
    /// Runs the command; gives its status, if it lived longer than its container.
    async fn run(
        &mut self,
        engine: &SwarmEngine,
        command: &ServiceCommand<'_>,
    ) -> Result<Option<i64>, Trouble> {
        let ServiceCommand { app, service, words, limit } = *command;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let (client, (exec, mut parts)) = loop {
            let container = newest(engine, &app.domain.stack(), service).await?;
            let begun = match &container {
                Some((client, container)) => begin(client, container, words).await,
                None => Ok(None),
            };
            match begun {
                // It was begun in a container.
                Ok(Some(begun)) => break (container.map_or(&engine.client, |(client, _)| client), begun),
                Ok(None) => {}
                Err(error) => return Err(error.into()),
            }
            // The container comes or goes: it is the newest of an app that stands still that counts.
            converge::wait(engine, &app.domain, limit, converge::PAUSE, &Silent)
                .await
                .map_err(Trouble::NotUp)?;
            backoff.wait(Duration::ZERO).await;
        };
        self.began = true;
        while let Some(part) = parts.next().await {
            self.take(&part.map_err(|error| client.explain(error))?.into_bytes());
        }
        status(client, &exec).await.map_err(Trouble::Api)
    }

    fn take(&mut self, part: &[u8]) {
        self.text.extend_from_slice(part);
        // Now and then, not with each part.
        if self.text.len() > 2 * OUTPUT_LIMIT {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let surplus = self.text.len().saturating_sub(OUTPUT_LIMIT);
        self.cut |= surplus > 0;
        self.text.drain(..surplus);
    }

    /// What it said, from the beginning of a line.
    fn output(&mut self) -> String {
        self.shorten();
        if self.cut {
            let line =
                self.text.iter().position(|&byte| byte == b'\n').map_or(self.text.len(), |end| end + 1);
            self.text.drain(..line);
        }
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// The container of the newest running task, and the engine that has it.
async fn newest<'e>(
    engine: &'e SwarmEngine,
    stack: &Stack,
    service: &str,
) -> Result<Option<(&'e Client, String)>, Trouble> {
    let (client, name) = (&engine.client, format!("{stack}_{service}"));
    let services = observe::services(client, stack).await?;
    let found = services
        .into_iter()
        .find(|found| found.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name.as_str()))
        .and_then(|found| found.id)
        .ok_or(Trouble::NoService)?;
    let filters = Filters::from([
        ("service".to_owned(), vec![found]),
        ("desired-state".to_owned(), vec!["running".to_owned()]),
    ]);
    let options = ListTasksOptions { filters: Some(filters) };
    let tasks = client.call(async |docker| docker.list_tasks(Some(options)).await).await?;
    let running = tasks.into_iter().filter_map(|task| {
        let status = task.status.filter(|status| status.state == Some(TaskState::RUNNING))?;
        Some((task.created_at, status.container_status?.container_id?, task.node_id))
    });
    let Some((_, container, node)) = running.max() else { return Ok(None) };
    Ok(Some((nodes::of_task(engine, node.as_deref()).await?, container)))
}

type Begun = (String, BoxStream<'static, Result<LogOutput, Error>>);

/// Begins the command; nothing where the container does not run, or not yet.
async fn begin(client: &Client, container: &str, command: &[String]) -> Result<Option<Begun>, ApiError> {
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..ExecConfig::default()
    };
    let begun = client
        .call(async |docker| {
            let exec = docker.create_exec(container, config).await?.id;
            let started = docker.start_exec(&exec, None::<StartExecOptions>).await?;
            Ok((exec, started))
        })
        .await;
    match begun {
        Ok((exec, StartExecResults::Attached { output, .. })) => Ok(Some((exec, output))),
        Ok((_, StartExecResults::Detached)) => Err(ApiError::Incomplete("no output of a command")),
        Err(ApiError::Gone { .. } | ApiError::Conflict { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the command ended; nothing where its container ended first. Its output can end a moment before it does.
async fn status(client: &Client, exec: &str) -> Result<Option<i64>, ApiError> {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        match client.call(async |docker| docker.inspect_exec(exec).await).await {
            Ok(told) if told.running == Some(true) => backoff.wait(Duration::ZERO).await,
            Ok(told) => return Ok(told.exit_code),
            Err(ApiError::Gone { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
