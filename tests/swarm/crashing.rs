//! Services that end.

use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Fault};
use cc_ci_tests::engine::TestEngine;

use crate::deployed::PATIENT;
use crate::support::{App, block_on};

#[test]
fn a_crash_loop_is_not_waited_out() {
    let Some(engine) = TestEngine::shared("a_crash_loop_is_not_waited_out") else { return };
    let app = App::new(&engine, "0b0001");
    app.deploy(
        &[
            (
                "app",
                "command: [sh, -c, 'echo the end is near; exit 7'], \
                 deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 1s}}",
            ),
            ("fine", "command: [sleep, '1000000']"),
        ],
        "",
    );
    // One that was waited out is said to be not up after that time.
    let error = app.wait(Duration::from_secs(30)).expect_err("it ends again and again");
    assert_eq!(error.fault(), Fault::Recipe);
    let message = error.to_string();
    assert!(
        message.contains("ends again and again: app (0 of 1 tasks are up: task: non-zero exit (7), "),
        "{message}"
    );
    assert!(message.ends_with("\napp logged last:\nthe end is near"), "{message}");
    app.remove();
}

#[test]
fn one_that_crashes_at_once_is_never_called_up() {
    let Some(engine) = TestEngine::shared("one_that_crashes_at_once_is_never_called_up") else { return };
    let app = App::new(&engine, "0b0002");
    // It is listed as running for a moment, each time.
    app.deploy(
        &[("app", "command: ['false'], deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 0.5s}}")],
        "",
    );
    // However late a busy engine says so.
    let error = app.wait(PATIENT / 8).expect_err("it never runs");
    assert!(error.to_string().contains("task: non-zero exit (1)"), "{error}");
    assert!(!app.services()["app"].healthy);
    app.remove();
}

#[test]
fn what_swarm_does_not_start_again_is_red_at_once() {
    let Some(engine) = TestEngine::shared("what_swarm_does_not_start_again_is_red_at_once") else { return };
    for (hex, policy) in
        [("0b0003", "condition: none"), ("0b0004", "condition: on-failure, max_attempts: 1, delay: 0s")]
    {
        let app = App::new(&engine, hex);
        let service = format!(
            "command: [sh, -c, 'echo bye; exit 3'], deploy: {{endpoint_mode: dnsrr, restart_policy: {{{policy}}}}}"
        );
        app.deploy(&[("app", &service), ("fine", "command: [sleep, '1000000']")], "");
        let error = app.wait(PATIENT).expect_err("it has ended");
        let message = error.to_string();
        let says = "did not come up: app (Swarm does not start it again: task: non-zero exit (3))";
        assert!(message.contains(says) && message.ends_with("\napp logged last:\nbye"), "{message}");
        app.remove();
    }
}

#[test]
fn every_task_tells_what_it_came_to_and_logged_those_that_have_ended_too() {
    let Some(engine) =
        TestEngine::shared("every_task_tells_what_it_came_to_and_logged_those_that_have_ended_too")
    else {
        return;
    };
    let app = App::new(&engine, "0b0005");
    let sick = "command: [sh, -c, 'echo not well; sleep 1000000'], \
                healthcheck: {test: [CMD-SHELL, 'echo no database; exit 4'], interval: 0.2s, retries: 1}";
    app.deploy(
        &[
            ("app", "command: [sh, -c, 'echo bye; exit 3'], deploy: {restart_policy: {condition: none}}"),
            ("fine", "command: [sh, -c, 'echo all is well; exec sleep 1000000']"),
            ("sick", sick),
        ],
        "",
    );
    app.wait(PATIENT).expect_err("one has ended");
    let mut shown = Vec::new();
    cc_ci_tests::until("the engine tells of each", || {
        shown = block_on(app.swarm.logs(&app.domain, PATIENT)).expect("the tasks are told");
        let is_told = |service: &str, word: &str| {
            shown.iter().any(|task| {
                task.service == service
                    && task.log.trim_end() == word
                    && task.failed == (word != "all is well")
            })
        };
        is_told("app", "bye") && is_told("fine", "all is well") && is_told("sick", "not well")
    });
    let of = |service: &str| shown.iter().find(|task| task.service == service && task.failed);
    let ended = of("app").expect("it has failed");
    assert_eq!((ended.state.as_str(), ended.exit_status), ("failed", Some(3)), "{ended:?}");
    assert_eq!(ended.error.as_deref(), Some("task: non-zero exit (3)"));
    let health = shown.iter().filter(|task| task.service == "sick").find_map(|task| task.health.as_deref());
    assert_eq!(health, Some("ended with status 4 and said:\nno database"), "{shown:?}");
    app.remove();
    assert_eq!(block_on(app.swarm.logs(&app.domain, PATIENT)).expect("nothing is told"), []);
}
