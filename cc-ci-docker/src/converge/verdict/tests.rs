//! What a snapshot means, for every snapshot that matters; whether snapshots are like that is for the suites with a
//! real engine to find out.

mod ended;

use super::*;

const LONG: Duration = Duration::from_mins(1);

/// A service of `tasks` that was changed long ago.
fn service(mode: Mode, tasks: Vec<Task>) -> Service {
    Service {
        id: "s".to_owned(),
        name: "app".to_owned(),
        created: String::new(),
        order: String::new(),
        mode,
        update: Update::None,
        changed: LONG,
        restarts_done: true,
        periodic: false,
        constraints: Vec::new(),
        spec: String::new(),
        version: None,
        tasks,
    }
}

/// Whose tasks that end with status 0 are done.
fn ending(mode: Mode, tasks: Vec<Task>) -> Service {
    Service { restarts_done: false, ..service(mode, tasks) }
}

/// A task of the current spec that is meant to run, made later the higher its number.
fn task(number: u64, state: TaskState, running: Liveness) -> Task {
    Task {
        id: format!("t{number}"),
        place: "1".to_owned(),
        age: Duration::from_secs(30 - number),
        current: true,
        desired: TaskState::RUNNING,
        state,
        error: String::new(),
        container: Some(format!("c{number}")),
        elsewhere: None,
        running,
    }
}

fn healthy(number: u64) -> Task {
    task(number, TaskState::RUNNING, Liveness::Healthy)
}

/// One that ended, and of which Swarm has seen to the rest.
fn ended(number: u64, state: TaskState, error: &str) -> Task {
    Task { desired: TaskState::SHUTDOWN, error: error.to_owned(), ..task(number, state, Liveness::No) }
}

fn failed(number: u64) -> Task {
    ended(number, TaskState::FAILED, "task: non-zero exit (1)")
}

fn at(place: &str, task: Task) -> Task {
    Task { place: place.to_owned(), ..task }
}

fn of_old_spec(task: Task) -> Task {
    Task { current: false, ..task }
}

fn leaving(task: Task) -> Task {
    Task { desired: TaskState::SHUTDOWN, ..task }
}

#[track_caller]
fn assert_up(service: &Service) {
    assert_eq!(service.verdict(), ConvergenceVerdict::Up, "{service:#?}");
}

#[track_caller]
fn assert_lags(service: &Service, reason: &str) -> Lag {
    match service.verdict() {
        ConvergenceVerdict::Lags(lag) if lag.reason == reason => lag,
        other => panic!("{other:?}, but it should lag: {reason}\n{service:#?}"),
    }
}

#[track_caller]
fn assert_over(service: &Service, reason: &str) {
    assert_eq!(service.verdict(), ConvergenceVerdict::Over(reason.to_owned()), "{service:#?}");
}

#[test]
fn a_service_is_up_when_all_its_tasks_are() {
    assert_up(&service(Mode::Replicated(1), vec![healthy(1)]));
    assert_up(&service(Mode::Replicated(2), vec![healthy(1), at("2", healthy(2))]));
    assert_lags(
        &service(Mode::Replicated(2), vec![healthy(1)]),
        "1 of 2 tasks are up: Swarm has made no task of it",
    );
    assert_lags(&service(Mode::Replicated(1), vec![]), "0 of 1 tasks are up: Swarm has made no task of it");
    // What became of earlier tasks is forgotten.
    assert_up(&service(Mode::Replicated(1), vec![failed(1), failed(2), healthy(3)]));
}

#[test]
fn a_service_that_is_begun_anew_on_purpose_is_up_between_its_runs() {
    let periodic = |tasks| Service { periodic: true, ..service(Mode::Replicated(1), tasks) };
    let done = ended(1, TaskState::COMPLETE, "");
    let waits = task(2, TaskState::READY, Liveness::No);
    assert_up(&periodic(vec![done.clone(), waits.clone()]));
    assert_up(&periodic(vec![done.clone(), task(2, TaskState::RUNNING, Liveness::For(STEADY / 2))]));
    assert_eq!(periodic(vec![done.clone(), healthy(2)]).watched_tasks(), [""; 0]);
    // Before it has ended once it is like any other, and so it is once it failed.
    assert_lags(&periodic(vec![waits.clone()]), "0 of 1 tasks are up: it waits for its turn to start");
    assert_eq!(periodic(vec![healthy(2)]).watched_tasks(), ["t2"]);
    let tasks = vec![done.clone(), failed(2), task(3, TaskState::READY, Liveness::No)];
    assert_lags(&periodic(tasks), "0 of 1 tasks are up: task: non-zero exit (1)");
    assert_eq!(periodic(vec![done.clone(), failed(2), healthy(3)]).watched_tasks(), ["t3"]);
    // A run that ended well says nothing of another slot.
    let tasks = vec![done.clone(), waits.clone(), at("2", task(3, TaskState::PREPARING, Liveness::No))];
    let two = Service { periodic: true, ..service(Mode::Replicated(2), tasks) };
    assert_lags(&two, "1 of 2 tasks are up: it waits for its turn to start");
    // Without a purpose an end is a failure.
    let lag = assert_lags(
        &service(Mode::Replicated(1), vec![done, waits]),
        "0 of 1 tasks are up: it ended with status 0",
    );
    assert_eq!(lag.failed, ["t1"]);
}

#[test]
fn no_replicas_means_that_none_runs() {
    assert_up(&service(Mode::Replicated(0), vec![]));
    assert_up(&service(Mode::Replicated(0), vec![failed(1), ended(2, TaskState::SHUTDOWN, "")]));
    assert_lags(&service(Mode::Replicated(0), vec![healthy(1)]), "1 of its tasks are to be removed");
    let leaves = leaving(healthy(1));
    assert_lags(&service(Mode::Replicated(0), vec![leaves]), "1 of its older tasks still run");
}

#[test]
fn a_task_too_many_is_waited_for() {
    let more = [healthy(2), task(2, TaskState::PREPARING, Liveness::No)];
    for more in more {
        let tasks = vec![healthy(1), at("2", more)];
        assert_lags(&service(Mode::Replicated(1), tasks), "1 of its tasks are to be removed");
    }
}

#[test]
fn every_state_before_running_lags() {
    let error = |text: &str, task: Task| Task { error: text.to_owned(), ..task };
    for (found, reason) in [
        (task(1, TaskState::NEW, Liveness::No), "it waits for a node"),
        (task(1, TaskState::PENDING, Liveness::No), "it waits for a node"),
        (
            error("no suitable node (x on 1 node)", task(1, TaskState::PENDING, Liveness::No)),
            "no suitable node (x on 1 node)",
        ),
        (task(1, TaskState::ASSIGNED, Liveness::No), "its container is being made"),
        (task(1, TaskState::PREPARING, Liveness::No), "its container is being made"),
        (
            Task { desired: TaskState::READY, ..task(1, TaskState::READY, Liveness::No) },
            "it waits for its turn to start",
        ),
        (task(1, TaskState::STARTING, Liveness::No), "it is being started"),
        (task(1, TaskState::STARTING, Liveness::Starting), "its healthcheck has not passed yet"),
        (task(1, TaskState::STARTING, Liveness::Unhealthy), "it is unhealthy"),
        (task(1, TaskState::STARTING, Liveness::For(Duration::ZERO)), "it has just started"),
        // The store lags behind the containers, in both directions.
        (task(1, TaskState::RUNNING, Liveness::No), "its container is gone"),
        (
            error("No such image: x:1", task(1, TaskState::REJECTED, Liveness::No)),
            "its image is missing (No such image: x:1)",
        ),
    ] {
        assert_lags(&service(Mode::Replicated(1), vec![found]), &format!("0 of 1 tasks are up: {reason}"));
    }
}

#[test]
fn a_container_is_believed_before_the_store_of_tasks_is() {
    assert_up(&service(Mode::Replicated(1), vec![task(1, TaskState::STARTING, Liveness::Healthy)]));
    let mut gone = service(Mode::Replicated(1), vec![healthy(1)]);
    gone.mark_exited(&HashSet::from(["c1".to_owned()]));
    assert_lags(&gone, "0 of 1 tasks are up: its container is gone");
    let mut other = service(Mode::Replicated(1), vec![healthy(1)]);
    other.mark_exited(&HashSet::from(["c2".to_owned()]));
    assert_up(&other);
}

#[test]
fn a_task_without_a_healthcheck_must_run_for_a_while() {
    let young = |time| task(9, TaskState::RUNNING, Liveness::For(time));
    let second = Duration::from_secs(1);
    assert_up(&service(Mode::Replicated(1), vec![young(second)]));
    let almost = service(Mode::Replicated(1), vec![young(Duration::from_millis(999))]);
    let lag = assert_lags(&almost, "0 of 1 tasks are up: it has just started");
    assert_eq!(lag.again, Some(Duration::from_millis(1)));
    assert!(lag.may_recover);
    // One that failed before must outlive what Swarm watches for.
    let loops = |time| service(Mode::Replicated(1), vec![failed(1), young(time)]);
    let lag = assert_lags(
        &loops(second),
        "0 of 1 tasks are up: it has just started; before: task: non-zero exit (1)",
    );
    assert_eq!(lag.again, Some(Duration::from_secs(4)));
    assert_up(&loops(Duration::from_secs(5)));
    // A failure of another spec says nothing of this one.
    assert_up(&service(Mode::Replicated(1), vec![of_old_spec(failed(1)), young(second)]));
}

#[test]
fn what_is_of_an_older_spec_does_not_count_and_must_go() {
    assert_lags(
        &service(Mode::Replicated(1), vec![of_old_spec(healthy(1))]),
        "0 of 1 tasks are up: an older task is to be replaced",
    );
    let both = |old: Task| service(Mode::Replicated(1), vec![of_old_spec(leaving(old)), healthy(2)]);
    assert_lags(&both(healthy(1)), "1 of its older tasks still run");
    assert_lags(&both(task(1, TaskState::RUNNING, Liveness::Unhealthy)), "1 of its older tasks still run");
    assert_up(&both(task(1, TaskState::SHUTDOWN, Liveness::No)));
}

#[test]
fn an_update_in_flight_lags_whatever_runs() {
    let updating = Update::InFlight("update in progress".to_owned());
    let up = Service { update: updating.clone(), ..service(Mode::Replicated(1), vec![healthy(1)]) };
    assert_lags(&up, "update in progress");
    let tasks = vec![of_old_spec(leaving(healthy(1))), failed(2)];
    let lag = assert_lags(
        &Service { update: updating, ..service(Mode::Replicated(1), tasks) },
        "update in progress: task: non-zero exit (1)",
    );
    // What becomes of it is Swarm's to decide, however often a task ends meanwhile.
    assert_eq!((lag.failed, lag.may_recover), (vec!["t2".to_owned()], true));
    let done = Service { update: Update::Completed, ..service(Mode::Replicated(1), vec![healthy(1)]) };
    assert_up(&done);
}

#[test]
fn for_a_moment_after_a_change_older_tasks_say_nothing() {
    let moment = Duration::from_millis(100);
    let changed = |tasks| Service { changed: moment, ..service(Mode::Replicated(1), tasks) };
    let lag = assert_lags(&changed(vec![healthy(1)]), "it was changed a moment ago");
    assert_eq!(lag.again, Some(Duration::from_millis(400)));
    // Made since.
    assert_up(&changed(vec![Task { age: moment, ..healthy(1) }]));
    // Swarm has said what it does about the change.
    assert_up(&Service { update: Update::Completed, ..changed(vec![healthy(1)]) });
    assert_up(&Service { changed: UNDECIDED, ..changed(vec![healthy(1)]) });
    // One that has given up is started again by a change; not by one of long ago.
    let lag =
        assert_lags(&changed(vec![failed(1)]), "Swarm does not start it again: task: non-zero exit (1)");
    assert_eq!(lag.again, Some(Duration::from_millis(400)));
}

#[test]
fn a_global_service_has_a_task_on_each_node_and_on_one_at_least() {
    assert_up(&service(Mode::Global, vec![at("n1", healthy(1)), at("n2", healthy(2))]));
    let two = vec![at("n1", healthy(1)), at("n2", task(2, TaskState::PREPARING, Liveness::No))];
    assert_lags(&service(Mode::Global, two), "1 of 2 tasks are up: its container is being made");
    assert_lags(&service(Mode::Global, vec![]), "0 of 1 tasks are up: Swarm has made no task of it");
    let constraints = vec!["node.labels.x == y".to_owned(), "node.role == worker".to_owned()];
    assert_lags(
        &Service { constraints, ..service(Mode::Global, vec![]) },
        "0 of 1 tasks are up: no node satisfies its constraints (node.labels.x == y, node.role == worker)",
    );
    // A node that was drained.
    let drained = vec![at("n1", healthy(1)), at("n2", ended(2, TaskState::SHUTDOWN, ""))];
    assert_up(&service(Mode::Global, drained));
}

#[test]
fn a_job_is_up_when_it_has_completed() {
    let complete = |number: u64| Task {
        desired: TaskState::COMPLETE,
        ..at(&number.to_string(), task(number, TaskState::COMPLETE, Liveness::No))
    };
    let runs =
        Task { desired: TaskState::COMPLETE, ..at("2", task(2, TaskState::RUNNING, Liveness::For(LONG))) };
    assert_up(&service(Mode::Job(2), vec![complete(1), complete(2)]));
    assert_up(&service(Mode::GlobalJob, vec![complete(1), complete(2)]));
    for mode in [Mode::Job(2), Mode::GlobalJob] {
        let lag = assert_lags(
            &service(mode, vec![complete(1), runs.clone()]),
            "1 of 2 runs are complete: it has not completed yet",
        );
        assert!(lag.may_recover);
        // An earlier run of the job.
        let again = service(mode, vec![of_old_spec(complete(1)), of_old_spec(complete(2))]);
        assert!(matches!(again.verdict(), ConvergenceVerdict::Lags(_)), "{:?}", again.verdict());
    }
    assert_lags(&service(Mode::Job(1), vec![]), "0 of 1 runs are complete: Swarm has made no task of it");
    assert_up(&service(Mode::Job(0), vec![]));
    for mode in [Mode::Job(1), Mode::GlobalJob] {
        assert_over(
            &service(mode, vec![failed(1)]),
            "Swarm does not start it again: task: non-zero exit (1)",
        );
    }
    // The rest may still complete before it is over.
    let lag = assert_lags(
        &service(Mode::Job(2), vec![failed(1), runs]),
        "0 of 2 runs are complete: it has not completed yet; before: task: non-zero exit (1)",
    );
    assert_eq!(lag.failed, ["t1"]);
}
