//! What is known of a run's services: what their tasks came to, and what they logged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::engine::TaskLog;
use crate::model::record::{Span, SpanKind};

/// So many services of a run have a log.
const SERVICES: usize = 64;

/// So much of a task's id tells it from others of its service.
const TASK: usize = 12;

/// How long the name of a log may be, without its ending.
const NAME_LIMIT: usize = 120;

/// What is known of the tasks: by the file that it is kept in.
#[derive(Debug, Default)]
pub(super) struct Evidence(Mutex<BTreeMap<String, Vec<TaskLog>>>);

impl Evidence {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<TaskLog>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was read; gives the files that are other than before, with their text.
    pub fn take_in(&self, prefix: &str, read: Vec<TaskLog>) -> Vec<(String, String)> {
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

/// A service that is not well, by the task that tells the most.
#[derive(Debug, Clone)]
pub(super) struct Unwell {
    /// The name of its log.
    pub file: String,
    pub task: TaskLog,
}

impl Evidence {
    /// The service to look at first: of those of which a task failed, the one that `text` names, else one that is not well now.
    pub fn unwell(&self, text: &str) -> Option<Unwell> {
        let is_named = |service: &str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            text.split(|c| !is_part(c)).any(|word| word.trim_end_matches('.') == service)
        };
        let files = self.files();
        let sick = files.iter().filter_map(|(file, tasks)| {
            // What came after it may have had no time to say anything.
            let task = tasks.iter().rfind(|task| task.failed)?;
            let is_last = tasks.last().is_some_and(|last| last.failed);
            Some(((is_named(&task.service), is_last), Unwell { file: file.clone(), task: task.clone() }))
        });
        // The first of those that are alike.
        sick.rev().max_by_key(|(rank, _)| *rank).map(|(_, unwell)| unwell)
    }

    /// The lives of the tasks, as far as they are known.
    pub fn lives(&self) -> Vec<Span> {
        let files = self.files();
        let life = |task: &TaskLog| {
            let began = task.began?;
            let name = format!("{} {}", task.service, task.task.chars().take(TASK).collect::<String>());
            Some(Span { kind: SpanKind::Task, name, began, ended: task.ended, failed: task.failed })
        };
        files.values().flatten().filter_map(life).collect()
    }

    /// The newest task of a service of the app under test.
    pub fn of(&self, service: &str) -> Option<Unwell> {
        let file = format!("service-{service}.log");
        let task = self.files().get(&file)?.last()?.clone();
        Some(Unwell { file, task })
    }
}

/// `name` as the name of a file that gets an ending yet: a test's own name may be as long as any file's.
pub(super) fn file_name(mut name: String) -> String {
    if name.len() > NAME_LIMIT {
        let digest = Sha256::digest(&name);
        name.truncate(name.floor_char_boundary(NAME_LIMIT - 17));
        name.push('-');
        name.extend(digest[..8].iter().map(|byte| format!("{byte:02x}")));
    }
    name
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
        let _ = writeln!(text, "== the healthcheck: {health}");
    }
    let log = Some(task.log.trim_end()).filter(|log| !log.is_empty()).unwrap_or("== it logged nothing");
    text.push_str(log);
    text.push('\n');
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
    fn the_service_to_look_at_is_the_one_that_is_named_then_the_one_that_is_not_well_now() {
        let evidence = Evidence::default();
        let of = |service: &str, id: &str, failed| TaskLog {
            service: service.to_owned(),
            failed,
            ..task(id, "said")
        };
        evidence.take_in("", vec![of("app", "1", false)]);
        assert!(evidence.unwell("app").is_none());
        evidence.take_in(
            "",
            vec![of("app", "2", true), of("app", "3", false), of("db", "4", true), of("kv", "5", true)],
        );
        let named = |text| evidence.unwell(text).unwrap().task;
        assert_eq!(named("it did not come up").service, "db");
        assert_eq!(named("not healthy: kv").service, "kv");
        assert_eq!(
            (named("app (exit status 1)").task, named("apple").service.as_str()),
            ("2".to_owned(), "db")
        );
    }

    #[test]
    fn a_name_as_long_as_a_file_system_has_them_leaves_room_for_an_ending() {
        assert_eq!(file_name("custom-recipe-custom".to_owned()), "custom-recipe-custom");
        let (one, other) = (file_name("ä".repeat(127) + "a"), file_name("ä".repeat(127) + "b"));
        assert!(one.len() <= NAME_LIMIT && other.len() <= NAME_LIMIT, "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_services_name_leads_to_no_other_directory() {
        let evidence = Evidence::default();
        let hostile = TaskLog { service: "../../run".to_owned(), ..task("1", "said") };
        assert_eq!(evidence.take_in("", vec![hostile])[0].0, "service-..-..-run.log");
    }
}
