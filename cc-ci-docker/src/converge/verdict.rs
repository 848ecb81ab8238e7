//! From what the engine shows of one service to what that means. Pure: it asks nobody and knows no clock.
//!
//! A service is up when it has as many running tasks of its current spec as it is meant to have (healthy ones, where
//! there is a healthcheck), none of an older spec runs any more, and no update is in flight.
//!
//! What is not obvious:
//! - A task without a healthcheck is believed only after it has run for [`STEADY`]: a process that ends after 5 ms
//!   is listed as running for 150 to 300 ms, by its container and by Swarm. Where a task of the same spec failed
//!   before, it must outlive [`STEADY_AFTER_FAILURE`], which is how long Swarm itself watches an updated task.
//! - A task that ended with status 0 is done, unless the restart policy starts it again: recipes have services that
//!   prepare something and end. That holds for a server that ends with status 0 as well; checks that ask it find out.
//! - A service that is started again on purpose is done between two of its runs, too: recipes have services that do
//!   their work, end, and begin anew after a while. On purpose is a restart policy with a delay of its own together with
//!   a healthcheck that was turned off. One that has failed is like any other.
//! - Jobs are up when they have completed as often as they should.
//! - What runs of an older spec delays convergence: it still writes into the same volumes, and still answers.
//! - A service that was changed less than [`UNDECIDED`] ago, without an update status, is not judged by its older
//!   tasks: Swarm may be about to replace them for a reason that tasks don't show, such as another published port.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bollard::models::TaskState;

use crate::sanitize;
use crate::tasks::is_terminal;

/// How long a task without a healthcheck must have run.
pub(super) const STEADY: Duration = Duration::from_secs(1);

/// The same, after a failure.
pub(super) const STEADY_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How long after a change it may be undecided whether Swarm replaces tasks; 1 to 2 ms were measured.
pub(super) const UNDECIDED: Duration = Duration::from_millis(500);

/// A service, as it was seen.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub id: String,
    /// Its name in the recipe.
    pub name: String,
    /// The engine's creation stamp.
    pub created: String,
    /// The engine's count of its changes.
    pub order: String,
    pub mode: Mode,
    pub update: Update,
    /// How long ago it was last changed, by whomever.
    pub changed: Duration,
    /// Whether a task that ended with status 0 is started again.
    pub restarts_done: bool,
    /// Whether that is on purpose: it was given a delay, and its healthcheck was turned off.
    pub periodic: bool,
    /// Where its tasks may run, as it is written.
    pub constraints: Vec<String>,
    /// A digest of what its tasks are made of.
    pub spec: String,
    /// What its label says of the recipe's version.
    pub version: Option<String>,
    pub tasks: Vec<Task>,
}

/// How many tasks it is meant to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Replicated(u64),
    Global,
    /// Runs to completion, so many times.
    Job(u64),
    /// Runs to completion, once on each node.
    GlobalJob,
}

/// How an update of it stands, with Swarm's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Update {
    /// There was none since it was last changed, or Swarm has not begun it yet.
    None,
    Completed,
    InFlight(String),
    Paused(String),
    RolledBack(String),
}

/// A task, as it was seen.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub id: String,
    /// Its slot, or the node of a global service.
    pub place: String,
    /// How long ago it was made.
    pub age: Duration,
    /// Whether it is of the service's current spec.
    pub current: bool,
    pub desired: TaskState,
    pub state: TaskState,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// Its container, if it has had one on this node.
    pub container: Option<String>,
    /// The same of another node, by the node's id.
    pub elsewhere: Option<(String, String)>,
    pub running: Liveness,
}

/// Whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    No,
    /// Its healthcheck has not passed yet.
    Starting,
    Unhealthy,
    Healthy,
    /// It has no healthcheck, and has run for so long.
    For(Duration),
}

/// What it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ConvergenceVerdict {
    Up,
    Lags(Lag),
    /// It came to an end, and not well: waiting changes nothing.
    Over(String),
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lag {
    pub reason: String,
    /// The ids of the tasks of this spec that ended so far and should not have, by their own doing.
    pub failed: Vec<String>,
    /// Whether it may yet come up by itself: a task of this spec runs, or Swarm's own update is in flight, and what
    /// becomes of that is Swarm's to decide.
    pub may_recover: bool,
    /// When time alone may change the verdict.
    pub again: Option<Duration>,
}

impl ConvergenceVerdict {
    /// When time alone may change it.
    pub(super) fn again(&self) -> Option<Duration> {
        match self {
            Self::Lags(lag) => lag.again,
            Self::Up | Self::Over(_) => None,
        }
    }
}

impl Service {
    /// Corrects what was seen: these containers have ended, though the engine still lists them as running.
    pub(super) fn mark_exited(&mut self, dead: &HashSet<String>) {
        for task in &mut self.tasks {
            if task.container.as_ref().is_some_and(|container| dead.contains(container)) {
                task.running = Liveness::No;
            }
        }
    }

    /// The tasks of the current spec that run and are meant to.
    pub(super) fn running(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.current && self.wants(task) && task.runs())
    }

    /// The ids of those tasks whose replacement is a restart. Where a run has ended and was begun anew on purpose, there is
    /// none.
    pub(super) fn watched_tasks(&self) -> Vec<String> {
        let running = self.running().filter(|task| !self.is_between_runs(&task.place));
        let mut tasks: Vec<String> = running.map(|task| task.id.clone()).collect();
        tasks.sort_unstable();
        tasks
    }

    /// Whether it is begun anew on purpose in this slot or node, and has always ended well so far.
    fn is_between_runs(&self, place: &str) -> bool {
        let mut current = self.tasks.iter().filter(|task| task.current);
        let has_ended = |task: &Task| task.place == place && task.state == TaskState::COMPLETE;
        self.periodic && current.clone().any(has_ended) && !current.any(|task| self.failed(task))
    }

    /// The newest task that ended and should not have.
    pub(super) fn last_failure(&self) -> Option<&Task> {
        self.tasks.iter().filter(|task| self.failed(task)).min_by_key(|task| task.age)
    }

    /// The task whose output explains best why the service is not up.
    pub(super) fn telling(&self) -> Option<&Task> {
        self.running().find(|task| !self.is_up(task)).or_else(|| self.last_failure())
    }

    /// Whether its update ended by a failure of the engine's: the same again may do it.
    pub(super) fn engine_failed_its_update(&self) -> bool {
        matches!(self.update, Update::Paused(_) | Update::RolledBack(_))
            && self.last_failure().is_some_and(Task::engine_failed_it)
    }

    /// How it stands.
    pub(super) fn verdict(&self) -> ConvergenceVerdict {
        match &self.update {
            Update::Paused(message) => return self.update_failed("paused", message),
            Update::RolledBack(message) => return self.update_failed("rolled back", message),
            Update::InFlight(message) => {
                let waits = self.waits_for().map(|wait| format!(": {wait}")).unwrap_or_default();
                return self.lags(format!("{message}{waits}"), None);
            }
            Update::None | Update::Completed => {}
        }
        let undecided = match self.update {
            Update::None => UNDECIDED.checked_sub(self.changed).filter(|left| !left.is_zero()),
            _ => None,
        };
        let older = |task: &Task| self.wants(task) && task.age > self.changed;
        if undecided.is_some() && self.tasks.iter().any(older) {
            return self.lags("it was changed a moment ago".to_owned(), undecided);
        }
        let places = self.places();
        let count = |state: Place| places.values().filter(|(_, found)| *found == state).count() as u64;
        let (up, coming) = (count(Place::Up), count(Place::Coming));
        let (done, given_up) = (count(Place::Done), count(Place::GivenUp));
        let (job, wanted) = match self.mode {
            Mode::Replicated(tasks) => (false, tasks),
            Mode::Job(runs) => (true, runs),
            // One at least: a node that is not eligible has no task.
            Mode::Global => (false, (up + coming + done + given_up).max(1)),
            Mode::GlobalJob => (true, (up + coming + done + given_up).max(1)),
        };
        let enough = if job { done >= wanted } else { up + done >= wanted && up <= wanted && coming == 0 };
        if enough {
            let old = self.tasks.iter().filter(|task| task.runs() && !(task.current && self.wants(task)));
            return match old.count() {
                0 => ConvergenceVerdict::Up,
                old => self.lags(format!("{old} of its older tasks still run"), None),
            };
        }
        if given_up > 0 && if job { up + coming == 0 } else { up + coming + done < wanted } {
            let reason = self.last_failure().map_or_else(|| "it ended".to_owned(), Task::reason);
            let reason = format!("Swarm does not start it again: {reason}");
            // It may be about to, where the service was deployed again as it was.
            return if undecided.is_some() {
                self.lags(reason, undecided)
            } else {
                ConvergenceVerdict::Over(reason)
            };
        }
        if !job && up + coming > wanted {
            return self.lags(format!("{} of its tasks are to be removed", up + coming - wanted), None);
        }
        let wait = self.waits_for().unwrap_or_else(|| self.nowhere());
        let (is, noun) = if job { (done, "runs are complete") } else { (up + done, "tasks are up") };
        let again = self.running().filter_map(|task| self.unsteady(task)).min();
        self.lags(format!("{is} of {wanted} {noun}: {wait}"), again)
    }

    /// Swarm wants this task to run, now or when another one has stopped.
    fn wants(&self, task: &Task) -> bool {
        !is_terminal(task.desired) || self.mode.is_job() && task.desired == TaskState::COMPLETE
    }

    /// Whether a task ended that should not have.
    fn failed(&self, task: &Task) -> bool {
        match task.state {
            TaskState::FAILED | TaskState::REJECTED => true,
            TaskState::COMPLETE => !self.may_end(),
            _ => false,
        }
    }

    /// Whether a task that ended with status 0 is done.
    fn may_end(&self) -> bool {
        self.mode.is_job() || !self.restarts_done || self.periodic
    }

    /// What each slot or node has come to. A task that is wanted outdoes those before it; else the newest counts.
    fn places(&self) -> BTreeMap<&str, (Reverse<Duration>, Place)> {
        let mut places = BTreeMap::new();
        for task in &self.tasks {
            let found = if self.wants(task) && !is_terminal(task.state) {
                if task.current && self.is_up(task) {
                    Place::Up
                } else if task.current && self.is_between_runs(&task.place) {
                    Place::Done
                } else {
                    // Those of an older spec are yet to be replaced.
                    Place::Coming
                }
            } else if !task.current {
                continue;
            } else if task.state == TaskState::COMPLETE && self.may_end() {
                Place::Done
            } else if !self.failed(task) {
                // Stopped by Swarm itself, e.g. on a node that is drained.
                continue;
            } else if self.wants(task) {
                // Swarm has yet to see to it.
                Place::Coming
            } else {
                Place::GivenUp
            };
            let is_wanted = |place: Place| matches!(place, Place::Up | Place::Coming);
            let newest = places.entry(task.place.as_str()).or_insert((Reverse(task.age), found));
            if (is_wanted(found), Reverse(task.age)) > (is_wanted(newest.1), newest.0) {
                *newest = (Reverse(task.age), found);
            }
        }
        places
    }

    fn is_up(&self, task: &Task) -> bool {
        match task.running {
            Liveness::Healthy => true,
            Liveness::For(_) => self.unsteady(task).is_none(),
            Liveness::No | Liveness::Starting | Liveness::Unhealthy => false,
        }
    }

    /// How long a task without a healthcheck still has to run.
    fn unsteady(&self, task: &Task) -> Option<Duration> {
        let Liveness::For(time) = task.running else { return None };
        let failed = self.tasks.iter().any(|task| task.current && self.failed(task));
        let steady = if failed { STEADY_AFTER_FAILURE } else { STEADY };
        steady.checked_sub(time).filter(|left| !left.is_zero())
    }

    fn lags(&self, reason: String, again: Option<Duration>) -> ConvergenceVerdict {
        let failed =
            self.tasks.iter().filter(|task| task.current && self.failed(task) && !task.engine_failed_it());
        let failed = failed.map(|task| task.id.clone()).collect();
        let may_recover = matches!(self.update, Update::InFlight(_)) || self.running().next().is_some();
        ConvergenceVerdict::Lags(Lag { reason, failed, may_recover, again })
    }

    fn update_failed(&self, how: &str, message: &str) -> ConvergenceVerdict {
        let error = self.last_failure().map(|task| format!(": {}", task.reason())).unwrap_or_default();
        ConvergenceVerdict::Over(format!("its update was {how} ({message}){error}"))
    }

    /// What the first of its tasks that is not up waits for.
    fn waits_for(&self) -> Option<String> {
        let failures = self.tasks.iter().filter(|task| task.current && self.failed(task)).count();
        let failed = match failures {
            0 => None,
            1 => self.last_failure().map(Task::reason),
            _ => self.last_failure().map(|task| format!("{}, {failures} times", task.reason())),
        };
        let waits = |task: &&Task| {
            let is_up = !self.mode.is_job() && self.is_up(task);
            self.wants(task) && task.current && !is_terminal(task.state) && !is_up
        };
        let Some(task) = self.tasks.iter().find(waits) else {
            let old = self.tasks.iter().any(|task| self.wants(task) && !task.current);
            return failed.or_else(|| old.then(|| "an older task is to be replaced".to_owned()));
        };
        let state = match task.running {
            Liveness::Unhealthy => "it is unhealthy",
            Liveness::Starting => "its healthcheck has not passed yet",
            Liveness::For(_) | Liveness::Healthy if self.mode.is_job() => "it has not completed yet",
            Liveness::For(_) | Liveness::Healthy => "it has just started",
            Liveness::No if !task.error.is_empty() => return Some(task.reason()),
            Liveness::No if failed.is_some() => return failed,
            Liveness::No => match task.state {
                TaskState::NEW | TaskState::ALLOCATED | TaskState::PENDING => "it waits for a node",
                TaskState::ASSIGNED | TaskState::ACCEPTED | TaskState::PREPARING => {
                    "its container is being made"
                }
                TaskState::READY => "it waits for its turn to start",
                TaskState::RUNNING => "its container is gone",
                _ => "it is being started",
            },
        };
        Some(failed.map_or_else(|| state.to_owned(), |failed| format!("{state}; before: {failed}")))
    }

    fn nowhere(&self) -> String {
        if self.constraints.is_empty() {
            "Swarm has made no task of it".to_owned()
        } else {
            format!("no node satisfies its constraints ({})", sanitize::written(&self.constraints.join(", ")))
        }
    }
}

impl Task {
    /// Whether its container runs, in whatever health.
    pub(super) fn runs(&self) -> bool {
        self.running != Liveness::No
    }

    /// Whether the engine failed it, whatever it is made of. Swarm makes another task: that is no crash loop. Two such
    /// failures are known:
    /// - Swarm has yet to attach the node to one of the task's networks.
    /// - The engine can't make the directory of secrets and configs read-only while a process that it forks has inherited
    ///   the descriptor of a file there (moby/moby#48783).
    fn engine_failed_it(&self) -> bool {
        self.state == TaskState::REJECTED && self.error.starts_with("node is missing network attachments")
            || matches!(self.state, TaskState::FAILED | TaskState::REJECTED)
                && self.error.contains("unable to remount dir as readonly")
    }

    fn reason(&self) -> String {
        match (self.error.as_str(), self.state) {
            ("", TaskState::COMPLETE) => "it ended with status 0".to_owned(),
            ("", state) => format!("it is {state}"),
            (error, _) if error.starts_with("No such image") => format!("its image is missing ({error})"),
            (error, _) => error.to_owned(),
        }
    }
}

impl Mode {
    fn is_job(self) -> bool {
        matches!(self, Self::Job(_) | Self::GlobalJob)
    }
}

/// What a slot or a node has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its task is up.
    Up,
    /// Its task is not up yet.
    Coming,
    /// Its task is done.
    Done,
    /// Its task ended, and Swarm makes no other.
    GivenUp,
}

#[cfg(test)]
mod tests;
