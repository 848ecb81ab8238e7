//! What the services of a run came to and logged, kept before it is gone: `logs/service-<name>.log`.
//!
//! A task's log goes with its container, and that with the app, an upgrade, or Swarm's own tidying. So it is read whenever a
//! tier is red, before each upgrade in place, and before each removal; what was read once stays in the file when the engine has
//! forgotten the task.
//!
//! Reading takes [`LIMIT`] at the most each time, writing as long at the most, and in a teardown no more than a quarter of what is left of its budget. What
//! can't be read or written is noted: evidence explains a run, and never makes one red.
//!
//! # Limitations
//! A task that came and went between two looks is known only if the engine still knows it. Of a warm app, nothing is kept unless
//! a tier is red: its logs are of other people's work.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::Run;
use super::test_run::file_name;
use crate::engine::TaskLog;
use crate::names::Domain;
use crate::sys::text::sanitize;

/// What reading all logs once may take.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// So many services of a run have a log.
const SERVICES: usize = 64;

/// How much of an engine's message is kept, in bytes.
const MESSAGE: usize = 2000;

/// What is known of the tasks: by the file that it is kept in.
#[derive(Debug, Default)]
pub(super) struct Evidence(Mutex<BTreeMap<String, Vec<TaskLog>>>);

impl Evidence {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<TaskLog>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was read; gives the files that are other than before, with their text.
    fn take_in(&self, prefix: &str, read: Vec<TaskLog>) -> Vec<(String, String)> {
        let mut files = self.files();
        let mut changed: Vec<String> = Vec::new();
        for task in read {
            let name = format!("{}.log", file_name(format!("service-{prefix}{}", plain(&task.service))));
            if !files.contains_key(&name) && files.len() >= SERVICES {
                continue;
            }
            let tasks = files.entry(name.clone()).or_default();
            match tasks.iter_mut().find(|known| known.task == task.task) {
                Some(known) if *known == task => continue,
                // What was read before it could not be any more.
                Some(known) if task.log.is_empty() => {
                    *known = TaskLog { log: std::mem::take(&mut known.log), ..task }
                }
                Some(known) => *known = task,
                None => tasks.push(task),
            }
            let surplus = tasks.len().saturating_sub(TaskLog::TASKS);
            tasks.drain(..surplus);
            changed.push(name);
        }
        changed.dedup();
        changed.sort();
        changed.dedup();
        let text = |name: String| Some((files.get(&name)?.iter().map(shown).collect(), name));
        changed.into_iter().filter_map(text).map(|(text, name)| (name, text)).collect()
    }
}

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
                run.note_once(&format!("the logs of {domain} are not kept: {}", failure.chain()))
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

/// A service's name as part of a file's: compose has letters, digits and `_.-` there.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.chars().map(|c| if is_plain(c) { c } else { '-' }).collect()
}

/// One task as its file tells it.
fn shown(task: &TaskLog) -> String {
    let exit = task.exit_status.map(|status| format!(", exit status {status}")).unwrap_or_default();
    let error = task.error.as_ref().map(|error| format!(", {error}")).unwrap_or_default();
    let mut text = format!("== task {} of {}: {}{exit}{error}\n", task.task, task.service, task.state);
    if let Some(health) = &task.health {
        text += &format!("== the healthcheck: {health}\n");
    }
    match task.log.trim_end() {
        "" => text += "== it logged nothing\n",
        log => text += &format!("{log}\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, log: &str) -> TaskLog {
        let (service, task, state) = ("app".to_owned(), id.to_owned(), "running".to_owned());
        TaskLog { service, task, state, log: log.to_owned(), ..TaskLog::default() }
    }

    #[test]
    fn a_task_that_the_engine_forgot_keeps_its_log() {
        let evidence = Evidence::default();
        let first = evidence.take_in("", vec![task("1", "one")]);
        assert_eq!(first, [("service-app.log".to_owned(), "== task 1 of app: running\none\n".to_owned())]);
        assert_eq!(evidence.take_in("", vec![task("1", "one")]), []);
        let failed = TaskLog {
            state: "failed".to_owned(),
            exit_status: Some(3),
            error: Some("task: non-zero exit (3)".to_owned()),
            ..task("1", "")
        };
        let [(_, text)] = &evidence.take_in("", vec![failed])[..] else { panic!("it changed") };
        assert_eq!(text, "== task 1 of app: failed, exit status 3, task: non-zero exit (3)\none\n");
        let [(_, text)] = &evidence.take_in("", vec![task("2", "two")])[..] else { panic!("another task") };
        assert!(text.contains("one\n== task 2"), "{text}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let evidence = Evidence::default();
        let many = (0..TaskLog::TASKS + 5).map(|number| task(&number.to_string(), "said"));
        let [(_, text)] = &evidence.take_in("", many.collect())[..] else { panic!("one service") };
        assert!(
            text.matches("== task").count() == TaskLog::TASKS && !text.contains("== task 4 of"),
            "{text}"
        );
        for number in 0..SERVICES + 5 {
            evidence.take_in("", vec![TaskLog { service: format!("s{number}"), ..task("1", "said") }]);
        }
        assert_eq!(evidence.files().len(), SERVICES);
    }

    #[test]
    fn a_services_name_leads_to_no_other_directory() {
        let evidence = Evidence::default();
        let hostile = TaskLog { service: "../../run".to_owned(), ..task("1", "said") };
        assert_eq!(evidence.take_in("", vec![hostile])[0].0, "service-..-..-run.log");
    }
}
