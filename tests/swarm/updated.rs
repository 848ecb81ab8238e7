//! Services that are changed in place.

use std::time::Duration;

use cc_ci_core::engine::Fault;
use cc_ci_core::error_chain;
use cc_ci_tests::engine::TestEngine;

use crate::deployed::PATIENT;
use crate::support::App;

/// A service that runs `script`, updated as `how` says. What ends later than the monitor's time after its start fails no
/// update: on a busy engine a second is not enough to be told of it.
fn service(script: &str, how: &str) -> String {
    format!(
        "command: [sh, -c, '{script}'], deploy: {{endpoint_mode: dnsrr, update_config: {{monitor: 6s, {how}}}, \
         restart_policy: {{delay: 2s}}}}"
    )
}

const FIRST: &str = "exec sleep 1000001";
const SECOND: &str = "exec sleep 1000002";
const BROKEN: &str = "echo new and broken; exit 3";

#[test]
fn a_paused_update_is_red_and_the_next_one_is_its_own() {
    let Some(engine) = TestEngine::shared("a_paused_update_is_red_and_the_next_one_is_its_own") else {
        return;
    };
    let app = App::new(&engine, "0c0001");
    let deploy = |script| app.deploy(&[("app", &service(script, "failure_action: pause"))], "");
    deploy(FIRST);
    app.comes_up();
    let before = app.services();
    for _ in 0..2 {
        deploy(BROKEN);
        let error = app.wait(Duration::from_secs(90)).expect_err("the update is paused");
        assert_eq!(error.fault(), Fault::Recipe);
        let message = error.to_string();
        // Deployed again as it was, it is no update any more: Swarm only starts it again and again.
        let paused = "app (its update was paused (update paused due to failure or early termination of task ";
        let loops = "ends again and again: app (0 of 1 tasks are up: task: non-zero exit (3), ";
        assert!(message.contains(paused) || message.contains(loops), "{message}");
        assert!(message.ends_with("\napp logged last:\nnew and broken"), "{message}");
    }
    deploy(SECOND);
    app.comes_up();
    let after = app.services();
    assert_eq!((&before["app"].id, &before["app"].created), (&after["app"].id, &after["app"].created));
    assert_ne!(before["app"].tasks, after["app"].tasks);
    // Nothing changes: its tasks stay. But the engine has taken an order.
    deploy(SECOND);
    app.comes_up();
    let mut again = app.services();
    for (name, service) in &mut again {
        assert_ne!(service.order, after[name].order);
        service.order.clone_from(&after[name].order);
    }
    assert_eq!(again, after);
    app.remove();
}

#[test]
fn an_update_that_was_rolled_back_is_red() {
    let name = "an_update_that_was_rolled_back_is_red";
    let Some(engine) = TestEngine::shared(name) else { return };
    let app = App::new(&engine, "0c0002");
    let deploy = |script| app.deploy(&[("app", &service(script, "failure_action: rollback"))], "");
    deploy(FIRST);
    app.comes_up();
    deploy(BROKEN);
    let error = app.wait(PATIENT).expect_err("the update is rolled back");
    let message = error.to_string();
    let says = "app (its update was rolled back (rollback completed): task: non-zero exit (3))";
    assert!(message.contains(says) && message.ends_with("\napp logged last:\nnew and broken"), "{message}");
    deploy(SECOND);
    app.comes_up();
    app.remove();
}

/// Swarm watches the new task for longer than a crash loop takes to be seen, and tolerates every failure.
#[test]
fn a_loop_is_not_judged_while_swarm_updates() {
    let Some(engine) = TestEngine::shared("a_loop_is_not_judged_while_swarm_updates") else { return };
    let app = App::new(&engine, "0c0007");
    let how = "command: [sh, -c, 'exec sleep 1000001'], deploy: {endpoint_mode: dnsrr, \
               update_config: {monitor: 30s, failure_action: rollback, max_failure_ratio: 1}, \
               restart_policy: {delay: 3s}}";
    app.deploy(&[("app", how)], "");
    app.comes_up();
    app.deploy(&[("app", &how.replace("exec sleep 1000001", "exit 3"))], "");
    let error = app.wait(Duration::from_secs(75)).expect_err("it ends again and again");
    let message = error.to_string();
    assert!(
        message.contains("ends again and again: app (0 of 1 tasks are up: task: non-zero exit (3), "),
        "{message}"
    );
    app.remove();
}

#[test]
fn both_orders_of_an_update_end_with_new_tasks_only() {
    let Some(engine) = TestEngine::shared("both_orders_of_an_update_end_with_new_tasks_only") else { return };
    for (hex, order) in [("0c0003", "start-first"), ("0c0004", "stop-first")] {
        let app = App::new(&engine, hex);
        // Two of them; the old ones take their time to end.
        let deploy = |number: u32| {
            let script = format!("trap \"sleep 1; exit 0\" TERM; while :; do sleep 0.{number}; done");
            let deploy = format!(
                "{{endpoint_mode: dnsrr, replicas: 2, update_config: {{order: {order}, parallelism: 2, monitor: 1s}}}}"
            );
            let service = format!("command: [sh, -c, '{script}'], stop_signal: SIGTERM, deploy: {deploy}");
            app.deploy(&[("app", &service)], "");
        };
        deploy(1);
        app.comes_up();
        let before = app.services();
        deploy(2);
        app.comes_up();
        let after = app.services();
        assert_eq!(before["app"].id, after["app"].id);
        // Those that ended a moment ago are not seen any more.
        assert!(after["app"].healthy);
        assert_eq!(after["app"].tasks.len(), 2);
        assert!(before["app"].tasks.iter().all(|task| !after["app"].tasks.contains(task)));
        assert_eq!(app.alive("app"), 2, "{order}: an old one still runs");
        app.remove();
    }
}

#[test]
fn fewer_replicas_are_waited_for_too() {
    let Some(engine) = TestEngine::shared("fewer_replicas_are_waited_for_too") else { return };
    let app = App::new(&engine, "0c0005");
    let service = format!("{}_app", app.stack);
    app.deploy(&[("app", "deploy: {endpoint_mode: dnsrr, replicas: 3}")], "");
    app.comes_up();
    assert_eq!(app.alive("app"), 3);
    for replicas in [1, 0, 2] {
        engine.docker(["service", "scale", "--detach", &format!("{service}={replicas}")]);
        app.comes_up();
        assert_eq!(app.alive("app"), replicas);
        assert_eq!(app.services()["app"].tasks.len(), replicas);
    }
    app.remove();
}

/// Of these changes a task's own specification shows nothing, or shows too much.
#[test]
fn changes_that_tasks_do_not_show_are_waited_for_and_do_not_hang() {
    let name = "changes_that_tasks_do_not_show_are_waited_for_and_do_not_hang";
    let Some(engine) = TestEngine::shared(name) else { return };
    let app = App::new(&engine, "0c0006");
    let mut tasks = Vec::new();
    for (what, service, replaced) in [
        ("first", "deploy: {endpoint_mode: dnsrr, update_config: {monitor: 1s}}", true),
        (
            "the healthcheck alone",
            "healthcheck: {test: [CMD, 'true'], interval: 0.2s}, \
             deploy: {endpoint_mode: dnsrr, update_config: {monitor: 1s}}",
            true,
        ),
        (
            "the endpoint alone",
            "healthcheck: {test: [CMD, 'true'], interval: 0.2s}, \
             deploy: {endpoint_mode: vip, update_config: {monitor: 1s}}",
            true,
        ),
        (
            "a placement that its node satisfies",
            "healthcheck: {test: [CMD, 'true'], interval: 0.2s}, \
             deploy: {endpoint_mode: vip, update_config: {monitor: 1s}, \
             placement: {constraints: ['node.role == manager']}}",
            false,
        ),
        (
            "a label",
            "healthcheck: {test: [CMD, 'true'], interval: 0.2s}, \
             deploy: {endpoint_mode: vip, update_config: {monitor: 1s}, labels: {x: y}, \
             placement: {constraints: ['node.role == manager']}}",
            false,
        ),
    ] {
        app.deploy(&[("app", service)], "");
        if let Err(error) = app.wait(PATIENT) {
            panic!("{what}: {}", error_chain(&error));
        }
        let now = app.services()["app"].tasks.clone();
        assert_eq!(now.len(), 1, "{what}");
        assert_eq!(now != tasks, replaced, "{what}");
        tasks = now;
    }
    app.remove();
}
