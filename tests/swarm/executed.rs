//! Commands in services.

use std::thread;
use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Failure, Fault, ServiceCommand};
use cc_ci_core::error_chain;
use cc_ci_tests::engine::{TestEngine, until};

use crate::contexts::Run;
use crate::deployed::PATIENT;
use crate::support::{App, block_on};

fn execute(app: &App<'_>, service: &str, script: &str, limit: Duration) -> Result<String, Failure> {
    let run = Run::of(app);
    let words = ["sh", "-c", script].map(str::to_owned);
    let command = ServiceCommand { app: &run.app, service, words: &words, limit };
    block_on(app.swarm.execute(&run.context, &command))
}

#[test]
fn a_command_says_how_it_ended_and_what_it_said() {
    let Some(engine) = TestEngine::shared("a_command_says_how_it_ended_and_what_it_said") else { return };
    let app = App::new(&engine, "0e0001");
    app.deploy(&[("app", "environment: {WHO: app}"), ("db", "environment: {WHO: db}")], "");
    app.comes_up();
    let run = |script: &str| execute(&app, "db", script, PATIENT);
    // Its input is empty; both of its streams are told, in the service that was named.
    let message = run("cat; echo $WHO; echo also >&2").expect("it works");
    // The engine copies each stream by itself: which line comes first is nobody's to say.
    let mut lines: Vec<&str> = message.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["also", "db"]);
    // Of a long output, the last whole lines.
    let message = run("yes 123456789 | head -n 300000; echo end").expect("it works");
    assert!(message.ends_with("\n123456789\nend\n"), "{}", &message[message.len() - 40..]);
    assert!(
        message.starts_with("123456789\n") && message.len() > (1 << 20) - 20 && message.len() <= 1 << 20,
        "{}",
        message.len()
    );

    app.swarm.redactor().hide("hunter22 and more");
    let error = run("echo it is hunter22 and more; exit 3").expect_err("it fails");
    assert_eq!(error.fault(), Fault::Recipe);
    assert_eq!(error.to_string(), "sh in the service db ended with status 3, and said:\nit is [secret]");
    let error = execute(&app, "nope", "true", PATIENT).expect_err("there is none");
    assert_eq!(error.to_string(), "can't run sh in the service nope: there is no such service");
    let program = block_on(async {
        let run = Run::of(&app);
        let words = ["no-such-program".to_owned()];
        let command = ServiceCommand { app: &run.app, service: "db", words: &words, limit: PATIENT };
        app.swarm.execute(&run.context, &command).await
    });
    let error = program.expect_err("there is none");
    assert_eq!(error.fault(), Fault::Recipe, "{}", error_chain(&error));

    let error = execute(&app, "db", "echo still here; sleep 1000", Duration::from_secs(8))
        .expect_err("it takes long");
    let expected = "sh in the service db took longer than 8s; it goes on until the app is removed, and said:\nstill here";
    assert_eq!(error.to_string(), expected);
    app.remove();
}

#[test]
fn a_container_that_churns_is_waited_for() {
    let Some(engine) = TestEngine::shared("a_container_that_churns_is_waited_for") else { return };
    let app = App::new(&engine, "0e0002");
    let service = "deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 0.2s}}";
    app.deploy(&[("app", service)], "");
    app.comes_up();
    for _ in 0..3 {
        let before = app.container("app");
        engine.docker(["kill", &before]);
        // The Swarm still says that it runs, or has no other one yet.
        let message = execute(&app, "app", "cat /etc/hostname", PATIENT).expect("the next one comes up");
        assert!(!before.starts_with(message.trim()), "{message}");
    }
    app.remove();
}

#[test]
fn a_command_that_ends_with_its_container_is_not_run_again() {
    let Some(engine) = TestEngine::shared("a_command_that_ends_with_its_container_is_not_run_again") else {
        return;
    };
    let app = App::new(&engine, "0e0003");
    let service = "volumes: ['data:/data'], deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 0.2s}}";
    app.deploy(&[("app", service)], "volumes: {data: }");
    app.comes_up();
    let before = app.container("app");
    thread::scope(|scope| {
        let command = "echo once >> /data/runs; sleep 1000";
        let running = scope.spawn(|| execute(&app, "app", command, PATIENT));
        until("it runs", || engine.try_docker(["exec", &before, "test", "-s", "/data/runs"]).code == 0);
        engine.docker(["kill", &before]);
        let error = running.join().expect("no panic").expect_err("it did not end well");
        assert_eq!(error.fault(), Fault::Recipe, "{}", error_chain(&error));
    });
    app.comes_up();
    app.run_in("app", "[ \"$(cat /data/runs)\" = once ]");
    app.remove();
}
