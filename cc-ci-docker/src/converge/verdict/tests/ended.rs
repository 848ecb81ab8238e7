//! Tasks that have ended, and updates that have.

use super::*;

#[test]
fn failures_are_counted_and_the_last_one_is_named() {
    let next = Task { desired: TaskState::READY, ..task(9, TaskState::READY, Liveness::No) };
    let twice = vec![failed(1), ended(2, TaskState::FAILED, "task: non-zero exit (2)"), next.clone()];
    let lag = assert_lags(
        &service(Mode::Replicated(1), twice),
        "0 of 1 tasks are up: task: non-zero exit (2), 2 times",
    );
    assert_eq!((lag.failed, lag.may_recover), (vec!["t1".to_owned(), "t2".to_owned()], false));
    // Failures of an older spec don't count.
    let older = vec![of_old_spec(failed(1)), next];
    let lag = assert_lags(
        &service(Mode::Replicated(1), older),
        "0 of 1 tasks are up: it waits for its turn to start",
    );
    assert_eq!(lag.failed, Vec::<String>::new());
    let sick = task(9, TaskState::STARTING, Liveness::Unhealthy);
    assert_lags(
        &service(Mode::Replicated(1), vec![failed(1), sick]),
        "0 of 1 tasks are up: it is unhealthy; before: task: non-zero exit (1)",
    );
}

#[test]
fn a_task_that_came_before_its_network_is_no_sign_of_a_crash_loop() {
    let error = "node is missing network attachments, ip addresses may be exhausted";
    let tasks = vec![ended(1, TaskState::REJECTED, error), ended(2, TaskState::REJECTED, error), failed(3)];
    let lag = assert_lags(
        &service(Mode::Replicated(1), [tasks, vec![task(4, TaskState::READY, Liveness::No)]].concat()),
        "0 of 1 tasks are up: task: non-zero exit (1), 3 times",
    );
    assert_eq!(lag.failed, ["t3"]);
}

#[test]
fn a_task_that_the_engine_failed_is_no_sign_of_a_crash_loop_and_its_update_not_the_recipes() {
    let error = "starting container failed: unable to remount dir as readonly: mount tmpfs:/x/mounts/secrets: device or \
                 resource busy";
    let tasks = vec![ended(1, TaskState::FAILED, error), failed(2), task(3, TaskState::READY, Liveness::No)];
    let lag = assert_lags(
        &service(Mode::Replicated(1), tasks.clone()),
        "0 of 1 tasks are up: task: non-zero exit (1), 2 times",
    );
    assert_eq!(lag.failed, ["t2"]);
    let rolled_back = |tasks| Service {
        update: Update::RolledBack("rollback completed".to_owned()),
        ..service(Mode::Replicated(1), tasks)
    };
    assert!(rolled_back(vec![failed(1), ended(2, TaskState::FAILED, error)]).engine_failed_its_update());
    assert!(!rolled_back(vec![ended(1, TaskState::FAILED, error), failed(2)]).engine_failed_its_update());
    assert!(!service(Mode::Replicated(1), tasks).engine_failed_its_update());
}

#[test]
fn a_paused_or_rolled_back_update_is_over_whatever_runs() {
    let tasks = vec![of_old_spec(failed(1)), healthy(2)];
    let paused = Update::Paused("update paused due to failure of task t1".to_owned());
    assert_over(
        &Service { update: paused.clone(), ..service(Mode::Replicated(1), tasks.clone()) },
        "its update was paused (update paused due to failure of task t1): task: non-zero exit (1)",
    );
    assert_over(
        &Service {
            update: Update::RolledBack("rollback completed".to_owned()),
            ..service(Mode::Replicated(1), tasks)
        },
        "its update was rolled back (rollback completed): task: non-zero exit (1)",
    );
    assert_over(
        &Service { update: paused, ..service(Mode::Replicated(1), vec![healthy(2)]) },
        "its update was paused (update paused due to failure of task t1)",
    );
}

#[test]
fn what_swarm_gave_up_is_over() {
    let reason = "Swarm does not start it again: task: non-zero exit (1)";
    assert_over(&service(Mode::Replicated(1), vec![failed(1), failed(2)]), reason);
    assert_over(&service(Mode::Global, vec![failed(1)]), reason);
    // One slot of two.
    assert_over(&service(Mode::Replicated(2), vec![healthy(1), at("2", failed(2))]), reason);
    // Its next task is there already.
    let next = Task { desired: TaskState::READY, ..task(2, TaskState::NEW, Liveness::No) };
    assert_lags(
        &service(Mode::Replicated(1), vec![failed(1), next]),
        "0 of 1 tasks are up: task: non-zero exit (1)",
    );
    // Swarm has not yet seen to it.
    let fresh = Task { desired: TaskState::RUNNING, ..failed(1) };
    assert_lags(&service(Mode::Replicated(1), vec![fresh]), "0 of 1 tasks are up: task: non-zero exit (1)");
    // It was of an older spec: a task of this one is to come.
    assert_lags(
        &service(Mode::Replicated(1), vec![of_old_spec(failed(1))]),
        "0 of 1 tasks are up: Swarm has made no task of it",
    );
    // A slot that the service no longer has.
    assert_up(&service(Mode::Replicated(1), vec![healthy(1), at("2", failed(2))]));
    let coming = task(1, TaskState::STARTING, Liveness::Starting);
    assert_lags(
        &service(Mode::Replicated(1), vec![coming, at("2", failed(2))]),
        "0 of 1 tasks are up: its healthcheck has not passed yet; before: task: non-zero exit (1)",
    );
    // Whatever the stamps say, the one that is meant to run is the last.
    assert_up(&service(Mode::Replicated(1), vec![failed(2), healthy(1)]));
}

#[test]
fn a_task_that_ended_well_is_done_unless_it_is_started_again() {
    let done = || vec![ended(1, TaskState::COMPLETE, "")];
    assert_up(&ending(Mode::Replicated(1), done()));
    assert_up(&ending(Mode::Global, done()));
    assert_up(&ending(Mode::Replicated(2), vec![ended(1, TaskState::COMPLETE, ""), at("2", healthy(2))]));
    assert_over(
        &service(Mode::Replicated(1), done()),
        "Swarm does not start it again: it ended with status 0",
    );
    // Ends with status 0 in a loop are failures.
    let next = Task { desired: TaskState::READY, ..task(2, TaskState::READY, Liveness::No) };
    let tasks = vec![ended(1, TaskState::COMPLETE, ""), next];
    let lag =
        assert_lags(&service(Mode::Replicated(1), tasks), "0 of 1 tasks are up: it ended with status 0");
    assert_eq!(lag.failed, ["t1"]);
    // Done as an older spec is not done as this one.
    assert_lags(
        &ending(Mode::Replicated(1), vec![of_old_spec(ended(1, TaskState::COMPLETE, ""))]),
        "0 of 1 tasks are up: Swarm has made no task of it",
    );
    // Run again, e.g. by a forced update.
    let tasks = vec![ended(1, TaskState::COMPLETE, ""), task(2, TaskState::STARTING, Liveness::Starting)];
    assert_lags(
        &ending(Mode::Replicated(1), tasks),
        "0 of 1 tasks are up: its healthcheck has not passed yet",
    );
    // The failure came later.
    assert_over(
        &ending(Mode::Replicated(1), vec![ended(1, TaskState::COMPLETE, ""), failed(2)]),
        "Swarm does not start it again: task: non-zero exit (1)",
    );
}

#[test]
fn the_output_of_what_is_not_up_tells_most() {
    let sick = task(2, TaskState::STARTING, Liveness::Unhealthy);
    let telling = |tasks| service(Mode::Replicated(1), tasks).telling().map(|task| task.id.clone());
    assert_eq!(telling(vec![failed(1), sick]).as_deref(), Some("t2"));
    assert_eq!(telling(vec![failed(1), failed(2)]).as_deref(), Some("t2"));
    assert_eq!(telling(vec![healthy(1)]), None);
}
