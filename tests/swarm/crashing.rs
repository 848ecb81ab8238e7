//! Services that end.

use std::time::Duration;

use cc_ci_core::engine::Fault;
use cc_ci_tests::engine::TestEngine;

use crate::deployed::PATIENT;
use crate::support::App;

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
