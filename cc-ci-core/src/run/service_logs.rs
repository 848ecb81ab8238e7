//! What the services of a run came to and logged, kept before it is gone: `logs/service-<name>.log`.
//!
//! A task's log goes with its container, and that with the app, an upgrade, or Swarm's own tidying. So it is read whenever a
//! tier is red, before each upgrade in place, and before each removal; what was read once stays in the file when the engine has
//! forgotten the task.
//!
//! Reading takes [`LIMIT`] at the most each time, writing as long at the most, and in a teardown no more than a quarter of what
//! is left of its budget. What can't be read or written is noted: evidence explains a run, and never makes one red.
//!
//! # Limitations
//! A task that came and went between two looks is known only if the engine still knows it. Of a warm app, nothing is kept unless
//! a tier is red: its logs are of other people's work.

use std::time::Duration;

use super::state::Run;
use crate::engine::TaskLog;
use crate::names::Domain;
use crate::sys::text::sanitize;

/// What reading all logs once may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// How much of an engine's message is kept, in bytes.
const MESSAGE: usize = 2000;

/// Reads what the engine knows of the run's tasks, and keeps it.
pub(super) async fn keep(run: &Run<'_>, limit: Duration) {
    let domains = run.record().domains.clone();
    let main = run.main_app().domain;
    let engine = &run.harness.ci_host.engine;
    let all = futures_util::future::join_all(domains.iter().map(async |domain| {
        let read = tokio::time::timeout(limit, engine.logs(domain, limit)).await;
        (domain, read)
    }));
    for (domain, read) in all.await {
        match read {
            Ok(Ok(tasks)) => keep_tasks(run, domain, &main, tasks).await,
            Ok(Err(failure)) => {
                run.note_once(&format!("the logs of {domain} are not kept: {}", failure.chain()));
            }
            Err(_) => run.note_once(&format!("the logs of {domain} are not kept: the engine took too long")),
        }
    }
}

async fn keep_tasks(run: &Run<'_>, domain: &Domain, main: &Domain, mut tasks: Vec<TaskLog>) {
    let harmless = |text: &str| sanitize(&run.context.redactor.redact(text));
    for task in &mut tasks {
        task.log = harmless(&task.log);
        for text in [&mut task.error, &mut task.health].into_iter().flatten() {
            *text = harmless(text);
            text.truncate(text.floor_char_boundary(MESSAGE));
        }
    }
    let prefix = if domain == main { String::new() } else { format!("{domain}-") };
    let files = run.evidence.take_in(&prefix, tasks);
    let (directory, logs) = (run.directory.clone(), run.directory.logs());
    let write = move || {
        let write = |(name, text): &(String, String)| directory.write(&logs.join(name), text.as_bytes());
        files.iter().map(write).find_map(Result::err)
    };
    // Whole or not at all, and replaced: a recipe's script can reach it, and may have put anything there.
    let written = tokio::time::timeout(LIMIT, run.context.lifetime.blocking_tasks().run(write)).await;
    if let Ok(Some(error)) = written {
        run.note_once(&format!("the logs of {domain} can't be kept: {error}"));
    }
}
