//! When a stack is up.

use std::thread;
use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Fault};
use cc_ci_core::error_chain;
use cc_ci_core::event::Silent;
use cc_ci_tests::engine::{PrivateEngine, TestEngine, until};
use serde_json::Value;

use crate::deployed::PATIENT;
use crate::support::{App, block_on, swarm};

/// Passes when the test says so, from inside.
const GATED: &str = "healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 0.2s, retries: 1000}";

#[test]
fn every_service_has_its_tasks() {
    let Some(engine) = TestEngine::shared("every_service_has_its_tasks") else { return };
    let app = App::new(&engine, "0a0001");
    app.deploy(
        &[
            ("app", "deploy: {endpoint_mode: dnsrr, replicas: 2}"),
            ("everywhere", "deploy: {endpoint_mode: dnsrr, mode: global}"),
            ("off", "deploy: {endpoint_mode: dnsrr, replicas: 0}"),
            (
                "once",
                "command: ['true'], deploy: {endpoint_mode: dnsrr, restart_policy: {condition: on-failure}}",
            ),
            ("sound", "healthcheck: {test: [CMD, 'true'], interval: 0.2s}"),
        ],
        "",
    );
    app.comes_up();
    let services = app.services();
    let tasks: Vec<(&str, usize, bool)> = services
        .values()
        .map(|service| (service.name.as_str(), service.tasks.len(), service.healthy))
        .collect();
    let expected =
        [("app", 2, true), ("everywhere", 1, true), ("off", 0, true), ("once", 0, true), ("sound", 1, true)];
    assert_eq!(tasks, expected);
    let shown = engine.get(&format!("/services/{}_app", app.stack)).expect("the service");
    assert_eq!(services["app"].id, shown["ID"]);
    assert_eq!(services["app"].created, shown["CreatedAt"]);
    app.remove();
    let error = app.wait(PATIENT).expect_err("nothing is deployed");
    assert!(error.to_string().contains("nothing of"), "{error}");
    assert_eq!(app.services().len(), 0);
}

#[test]
fn health_that_comes_late_is_waited_for() {
    let Some(engine) = TestEngine::shared("health_that_comes_late_is_waited_for") else { return };
    let app = App::new(&engine, "0a0002");
    app.deploy(&[("app", GATED), ("other", "command: [sleep, '1000000']")], "");
    thread::scope(|scope| {
        let wait = scope.spawn(|| app.wait(PATIENT));
        until("the task starts", || {
            !engine.docker(["ps", "-q", "--filter", &format!("name={}_app", app.stack)]).is_empty()
        });
        // Long enough for a busy engine to answer at least once.
        let limit = Duration::from_secs(5);
        let error = app.wait(limit).expect_err("it is not healthy yet");
        let message = error.to_string();
        let reason = "is not up after 5s: app (0 of 1 tasks are up: its healthcheck has not passed yet)";
        assert!(message.contains(reason), "{message}");
        assert!(!app.services()["app"].healthy);
        assert!(!wait.is_finished());
        app.run_in("app", "touch /tmp/up");
        wait.join().expect("no panic").expect("it is healthy now");
    });
    assert!(app.services()["app"].healthy);
    app.remove();
}

#[test]
fn an_app_may_exit_until_its_database_is_up() {
    let Some(engine) = TestEngine::shared("an_app_may_exit_until_its_database_is_up") else { return };
    let app = App::new(&engine, "0a0003");
    let health = "healthcheck: {test: [CMD, test, -e, /data/up], interval: 0.2s, retries: 1000}";
    let needs_db = "command: [sh, -c, 'test -e /data/up && exec sleep 1000000'], volumes: ['data:/data'], \
         deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 2s}}";
    let services = [("app", needs_db), ("db", &format!("volumes: ['data:/data'], {health}"))];
    app.deploy(&services, "volumes: {data: }");
    let limit = Duration::from_mins(1);
    thread::scope(|scope| {
        let began = std::time::Instant::now();
        let wait = scope.spawn(|| app.wait(limit));
        // More often than a crash loop is let go on, and for longer.
        until("the app fails and fails", || {
            let failed = |task: &&Value| task["Status"]["State"] == "failed";
            engine.tasks(&format!("{}_app", app.stack)).iter().filter(failed).count() >= 4
                && began.elapsed() > limit / 3
        });
        assert!(!wait.is_finished());
        app.run_in("db", "touch /data/up");
        if let Err(error) = wait.join().expect("no panic") {
            panic!("{}", error_chain(&error));
        }
    });
    app.remove();
}

#[test]
fn a_job_is_up_when_it_has_completed() {
    // One of its own: Engine 20.10 never forgets the tasks of a job that is removed.
    let Some(engine) = PrivateEngine::start("a_job_is_up_when_it_has_completed") else { return };
    let app = App::below(&engine, &"jobs.test".parse().expect("a suffix"), "0a0004");
    let job = |name: &str, words: &[&str], script: &str| {
        let label = format!("com.docker.stack.namespace={}", app.stack);
        let (label, container) = (format!("--label={label}"), format!("--container-label={label}"));
        let name = format!("--name={}_{name}", app.stack);
        let create = ["service", "create", "--detach", "--no-resolve-image", &name, &label, &container];
        let image = [cc_ci_tests::engine::BUSYBOX, "sh", "-c", script];
        engine.docker(create.iter().chain(words).chain(&image));
    };
    job("three", &["--mode=replicated-job", "--replicas=3", "--max-concurrent=2"], "exit 0");
    job("everywhere", &["--mode=global-job"], "exit 0");
    app.comes_up();
    let complete = |service: &str| {
        let tasks = engine.tasks(&format!("{}_{service}", app.stack));
        tasks.iter().filter(|task| task["Status"]["State"] == "complete").count()
    };
    assert_eq!((complete("three"), complete("everywhere")), (3, 1));
    // Run again, it has to complete again.
    engine.docker(["service", "update", "--detach", "--force", &format!("{}_three", app.stack)]);
    app.comes_up();
    assert_eq!(complete("three"), 6);
    job("bad", &["--mode=replicated-job", "--restart-max-attempts=1", "--restart-delay=0s"], "exit 3");
    let error = app.wait(PATIENT).expect_err("it fails");
    let message = error.to_string();
    assert!(message.contains("bad (Swarm does not start it again: task: non-zero exit (3))"), "{message}");
    drop(app);
    engine.end().expect("nothing is left of it");
}

#[test]
fn it_is_noticed_when_the_engine_says_so() {
    let Some(engine) = TestEngine::shared("it_is_noticed_when_the_engine_says_so") else { return };
    let app = App::new(&engine, "0a0005");
    // The first probe comes 2 s after the start: between two looks of a wait that hears nothing.
    app.deploy(&[("app", "healthcheck: {test: [CMD, 'true'], interval: 2s}")], "");
    app.comes_up();
    let service = format!("{}_app", app.stack);
    for replicas in 2..=4 {
        engine.docker(["service", "scale", "--detach", &format!("{service}={replicas}")]);
        // No look is due by the clock before this test is over.
        let swarm = swarm(&engine, engine.world().suffix()).with_poll_pause(PATIENT * 10);
        if let Err(error) = block_on(swarm.wait_converged(&app.domain, PATIENT, &Silent)) {
            panic!("{}", error_chain(&error));
        }
        assert_eq!(app.services()["app"].tasks.len(), replicas);
    }
    app.remove();
}

#[test]
fn a_wait_that_is_dropped_leaves_nothing_running() {
    let Some(engine) = TestEngine::shared("a_wait_that_is_dropped_leaves_nothing_running") else { return };
    let app = App::new(&engine, "0a0006");
    app.deploy(&[("app", GATED)], "");
    block_on(async {
        let swarm = swarm(&engine, engine.world().suffix());
        let wait = swarm.wait_converged(&app.domain, PATIENT, &Silent);
        tokio::time::timeout(Duration::from_secs(1), wait).await.expect_err("it can't be healthy");
        drop(swarm);
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let none = async {
            while tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(cc_ci_tests::EVENT_LIMIT, none).await;
        waited.unwrap_or_else(|_| panic!("{} tasks run on", tasks()));
    });
    app.remove();
}

#[test]
fn a_timeout_names_every_service_and_what_it_waits_for() {
    let Some(engine) = TestEngine::shared("a_timeout_names_every_service_and_what_it_waits_for") else {
        return;
    };
    let app = App::new(&engine, "0a0007");
    let nowhere = "placement: {constraints: ['node.labels.none == such']}";
    let sick = r"printf 'one\n\033[2Jtwo \342\200\256 three\n'; exit 4";
    app.deploy(
        &[
            ("everywhere", &format!("deploy: {{endpoint_mode: dnsrr, mode: global, {nowhere}}}")),
            ("fine", "command: [sleep, '1000000']"),
            (
                "imageless",
                "image: 'cc-ci-test/none:9', deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 60s}}",
            ),
            ("nowhere", &format!("deploy: {{endpoint_mode: dnsrr, {nowhere}}}")),
            (
                "sick",
                &format!(
                    "command: [sh, -c, 'echo it logs; exec sleep 1000000'], \
                     healthcheck: {{test: [CMD, sh, -c, {sick:?}], interval: 0.5s, retries: 1000}}"
                ),
            ),
        ],
        "",
    );
    // Long enough for the first probe to fail.
    until("the healthcheck fails", || {
        let unhealthy = engine.docker(["ps", "-q", "--filter", &format!("name={}_sick", app.stack)]);
        unhealthy.lines().any(|id| {
            let shown = engine.get(&format!("/containers/{id}/json"));
            shown.is_some_and(|shown| shown["State"]["Health"]["FailingStreak"].as_u64() > Some(0))
        })
    });
    let limit = Duration::from_secs(10);
    let error = app.wait(limit).expect_err("it can't come up");
    assert_eq!(error.fault(), Fault::Recipe);
    let message = error.to_string();
    for says in [
        "is not up after 10s: ",
        "everywhere (0 of 1 tasks are up: no node satisfies its constraints (node.labels.none == such))",
        "imageless (0 of 1 tasks are up: its image is missing (No such image: cc-ci-test/none:9)",
        "nowhere (0 of 1 tasks are up: no suitable node (scheduling constraints not satisfied on 1 node))",
        "sick (0 of 1 tasks are up: its healthcheck has not passed yet)",
        "\nthe healthcheck of sick ended with status 4 and said:\none\n\\u{1b}[2Jtwo \\u{202e} three",
        "\nsick logged last:\nit logs",
    ] {
        assert!(message.contains(says), "{says}\nis not in\n{message}");
    }
    assert!(!message.contains("fine"), "{message}");
    app.remove();
}
