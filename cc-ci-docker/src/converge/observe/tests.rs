//! What is made of the engine's answers; they are as Engine 20.10 gave them.

use serde_json::{Value, json};

use super::super::verdict::ConvergenceVerdict;
use super::*;

const NOW: &str = "2026-11-21T14:02:10Z";

fn api_service(mut changes: Value) -> ApiService {
    let mut service = json!({
        "ID": "qt6n7cvrv1fmc8h5ob084mlpl",
        "Version": {"Index": 15},
        "CreatedAt": "2026-11-21T14:02:04.238084367Z",
        "UpdatedAt": "2026-11-21T14:02:04.238084367Z",
        "Spec": {
            "Name": "a_test_x_app",
            "Labels": {"com.docker.stack.namespace": "a_test_x"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "bb:1", "Isolation": "default"},
                "Resources": {}, "Placement": {}, "ForceUpdate": 0, "Runtime": "container"
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "dnsrr"}
        },
        "Endpoint": {"Spec": {}}
    });
    service.as_object_mut().unwrap().append(changes.as_object_mut().unwrap());
    typed(json!([service]), "/Spec/TaskTemplate/ContainerSpec").unwrap().remove(0)
}

fn api_task(mut changes: Value) -> ApiTask {
    let mut task = json!({
        "ID": "bpyecx0tz479suihm4htow95u",
        "Version": {"Index": 29},
        "CreatedAt": "2026-11-21T14:02:04.5Z",
        "Spec": {
            "ContainerSpec": {"Image": "bb:1", "Isolation": "default"},
            "Resources": {}, "Placement": {}, "ForceUpdate": 0
        },
        "ServiceID": "qt6n7cvrv1fmc8h5ob084mlpl",
        "Slot": 1,
        "NodeID": "here",
        "Status": {
            "Timestamp": "2026-11-21T14:02:07Z",
            "State": "running",
            "Message": "started",
            "ContainerStatus": {"ContainerID": "55c8", "PID": 18756, "ExitCode": 0}
        },
        "DesiredState": "running"
    });
    task.as_object_mut().unwrap().append(changes.as_object_mut().unwrap());
    typed(json!([task]), "/Spec/ContainerSpec").unwrap().remove(0)
}

fn container(status: &str) -> ContainerSummary {
    serde_json::from_value(json!({
        "Id": "55c8",
        "Labels": {"com.docker.swarm.task.id": "bpyecx0tz479suihm4htow95u"},
        "State": "running",
        "Status": status
    }))
    .unwrap()
}

fn seen(service: ApiService, tasks: &[ApiTask], containers: Vec<ContainerSummary>) -> Service {
    looked_at(Instant::now(), None, service, tasks, containers)
}

/// The same, by a look at `looked` among others.
fn looked_at(
    looked: Instant,
    future: Option<&mut FutureStamps>,
    service: ApiService,
    tasks: &[ApiTask],
    containers: Vec<ContainerSummary>,
) -> Service {
    let (now, redactor) = (NOW.parse().unwrap(), &Redactor::default());
    let mut view = View { node: "here", now, looked, future, redactor, containers: by_task(containers) };
    view.service(&"a_test_x".parse().unwrap(), service, tasks)
}

/// The one task of a service whose task and container are these.
fn seen_task(task: Value, containers: Vec<ContainerSummary>) -> Task {
    seen(api_service(json!({})), &[api_task(task)], containers).tasks.remove(0)
}

#[test]
fn a_service_that_is_up_is_seen_as_one() {
    let service =
        seen(api_service(json!({})), &[api_task(json!({}))], vec![container("Up 3 seconds (healthy)")]);
    assert_eq!((service.name.as_str(), service.mode), ("app", Mode::Replicated(1)));
    assert_eq!(service.created, "2026-11-21T14:02:04.238084367Z");
    assert_eq!(service.changed, Duration::from_nanos(5_761_915_633));
    let task = &service.tasks[0];
    assert!(task.current);
    assert_eq!((task.age, task.place.as_str()), (Duration::from_millis(5_500), "1"));
    assert_eq!(service.verdict(), ConvergenceVerdict::Up);
}

#[test]
fn a_task_of_this_node_runs_as_long_as_its_container_does() {
    for (status, running) in [
        ("Up 3 seconds (healthy)", Liveness::Healthy),
        ("Up 3 seconds (unhealthy)", Liveness::Unhealthy),
        ("Up Less than a second (health: starting)", Liveness::Starting),
        ("Up 3 seconds", Liveness::For(Duration::from_secs(3))),
    ] {
        assert_eq!(seen_task(json!({}), vec![container(status)]).running, running, "{status}");
    }
    assert_eq!(seen_task(json!({}), vec![]).running, Liveness::No);
    let starting = json!({"Status": {"State": "starting", "Timestamp": "2026-11-21T14:02:07Z"}});
    let fresh = seen_task(starting, vec![container("Up 3 seconds")]);
    assert_eq!(fresh.running, Liveness::For(Duration::ZERO));
    assert_eq!(fresh.container.as_deref(), Some("55c8"));
}

#[test]
fn a_task_of_another_node_runs_when_swarm_says_so() {
    let elsewhere = seen_task(json!({"NodeID": "elsewhere"}), vec![]);
    assert_eq!(elsewhere.running, Liveness::For(Duration::from_secs(3)));
    assert_eq!(elsewhere.container, None, "it can't be asked for");
    let starting = json!({"NodeID": "elsewhere", "Status": {"State": "starting"}});
    assert_eq!(seen_task(starting, vec![]).running, Liveness::No);
}

#[test]
fn a_task_of_a_node_whose_clock_is_off_runs_since_the_manager_heard_of_it() {
    let status = |stamp: &str| json!({"State": "running", "Timestamp": stamp});
    for stamp in ["2026-11-21T13:02:09Z", "2026-11-21T15:02:09Z", "2026-11-21T14:02:07Z"] {
        let elsewhere =
            json!({"NodeID": "elsewhere", "UpdatedAt": "2026-11-21T14:02:09.8Z", "Status": status(stamp)});
        let seen = seen_task(elsewhere, vec![]);
        assert_eq!(seen.running, Liveness::For(Duration::from_millis(200)), "{stamp}");
    }
}

/// Nodes are chosen by them: what is shown of them is cleaned where it is shown.
#[test]
fn constraints_are_kept_as_they_are_written() {
    let written = "node.labels.x == a  b";
    let template = json!({"ContainerSpec": {}, "Placement": {"Constraints": [written]}});
    let service = api_service(json!({"Spec": {"Name": "a_test_x_app", "TaskTemplate": template}}));
    assert_eq!(seen(service, &[], vec![]).constraints, [written]);
}

#[test]
fn modes_are_told_apart() {
    for (mode, expected) in [
        (json!({"Replicated": {"Replicas": 0}}), Mode::Replicated(0)),
        (json!({"Replicated": {}}), Mode::Replicated(1)),
        (json!({"Global": {}}), Mode::Global),
        (json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 3}}), Mode::Job(3)),
        (json!({"ReplicatedJob": {"MaxConcurrent": 2}}), Mode::Job(2)),
        (json!({"GlobalJob": {}}), Mode::GlobalJob),
    ] {
        let service = api_service(json!({"Spec": {"Name": "a_test_x_app", "Mode": mode}}));
        assert_eq!(seen(service, &[], vec![]).mode, expected);
    }
    let global = api_service(json!({"Spec": {"Mode": {"Global": {}}}}));
    assert_eq!(seen(global, &[api_task(json!({}))], vec![]).tasks[0].place, "here");
    // A job's first slot is not spelled out.
    let job = api_service(json!({"Spec": {"Mode": {"ReplicatedJob": {"MaxConcurrent": 2}}}}));
    assert_eq!(seen(job, &[api_task(json!({"Slot": null}))], vec![]).tasks[0].place, "0");
}

#[test]
fn an_update_is_in_flight_over_or_neither() {
    let text = || "why".to_owned();
    for (state, expected) in [
        ("updating", Update::InFlight(text())),
        ("rollback_started", Update::InFlight(text())),
        ("completed", Update::Completed),
        ("paused", Update::Paused(text())),
        ("rollback_paused", Update::RolledBack(text())),
        ("rollback_completed", Update::RolledBack(text())),
        ("", Update::None),
    ] {
        let service = api_service(json!({"UpdateStatus": {"State": state, "Message": "why"}}));
        assert_eq!(seen(service, &[], vec![]).update, expected, "{state}");
    }
    assert_eq!(seen(api_service(json!({})), &[], vec![]).update, Update::None);
}

#[test]
fn what_may_end_is_read_from_the_restart_policy() {
    let restarts = |policy: Value| {
        let template = json!({"TaskTemplate": {"RestartPolicy": policy}});
        seen(api_service(json!({"Spec": template})), &[], vec![]).restarts_done
    };
    assert!(restarts(json!(null)));
    assert!(restarts(json!({"Condition": "any"})));
    assert!(!restarts(json!({"Condition": "on-failure"})));
    assert!(!restarts(json!({"Condition": "none"})));
}

#[test]
fn a_service_is_begun_anew_on_purpose_with_a_delay_and_without_a_healthcheck() {
    let periodic = |policy: Value, test: Value| {
        let template = json!({"RestartPolicy": policy, "ContainerSpec": {"Healthcheck": {"Test": test}}});
        seen(api_service(json!({"Spec": {"TaskTemplate": template}})), &[], vec![]).periodic
    };
    assert!(periodic(json!({"Delay": 3_000_000_000_i64}), json!(["NONE"])));
    assert!(!periodic(json!({"Condition": "any"}), json!(["NONE"])));
    // What the engine tells where the recipe says nothing.
    assert!(!periodic(json!({"Condition": "any", "Delay": 5_000_000_000_i64}), json!(["NONE"])));
    assert!(!periodic(json!({"Delay": 1}), json!(["CMD", "true"])));
    assert!(!periodic(json!({"Delay": 1}), json!(null)));
}

#[test]
fn what_a_recipe_says_in_an_error_is_made_harmless() {
    let task = json!({"Status": {"State": "failed", "Err": "exec: \"/x\u{1b}[2J\": not found"}});
    assert_eq!(seen_task(task, vec![]).error, "exec: \"/x\\u{1b}[2J\": not found");
}

#[test]
fn stamps_that_make_no_sense_are_of_long_ago() {
    for stamp in ["", "yesterday", "2027-01-01T00:00:00Z"] {
        let service = seen(api_service(json!({"UpdatedAt": stamp})), &[], vec![]);
        assert_eq!(service.changed, Duration::MAX, "{stamp:?}");
    }
}

#[test]
fn what_has_a_stamp_of_the_future_is_as_old_as_the_first_look_at_it() {
    let (mut future, first) = (FutureStamps::default(), Instant::now());
    let mut look = |after, stamp: &str| {
        let running = json!({"Status": {"State": "running", "Timestamp": stamp}});
        let service = api_service(json!({"UpdatedAt": "2026-11-21T15:02:04Z"}));
        let containers = vec![container("Up Less than a second")];
        looked_at(first + after, Some(&mut future), service, &[api_task(running)], containers)
    };
    let (set_back, moment) = ("2026-11-21T15:02:07Z", Duration::from_millis(200));
    let fresh = look(Duration::ZERO, set_back);
    assert_eq!((fresh.changed, fresh.tasks[0].running), (Duration::ZERO, Liveness::For(Duration::ZERO)));
    let lag = look(moment, set_back).verdict();
    assert!(matches!(lag, ConvergenceVerdict::Lags(_)), "it may yet end at once: {lag:?}");
    let steady = look(Duration::from_secs(1), set_back);
    assert_eq!(steady.tasks[0].running, Liveness::For(Duration::from_secs(1)));
    assert_eq!(steady.verdict(), ConvergenceVerdict::Up, "a clock that was set back holds up nothing");
    // Begun anew.
    let again = look(Duration::from_secs(2), "2026-11-21T15:02:09Z");
    assert_eq!(again.tasks[0].running, Liveness::For(Duration::ZERO));
    future.retain(&HashSet::new(), NOW.parse().unwrap());
    assert!(future.0.is_empty());
}
