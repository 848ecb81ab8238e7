//! Removal: from any state, beside anybody, and bounded.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use cc_ci_core::engine::{Engine as _, Kind};
use cc_ci_core::error_chain;
use cc_ci_tests::engine::{BUSYBOX, TestEngine, until};

use crate::support::{App, By, KEPT, block_on};

/// Enough to try again a few times, and no more.
const CUT_SHORT: Duration = Duration::from_secs(15);

/// How often a deployment is stopped early, and how long what it had ordered has time to appear.
const EARLY_STOPS: usize = 20;
const STILL_NOTHING: Duration = Duration::from_secs(20);

#[test]
fn what_is_not_there_is_removed_already() {
    let Some(test) = TestEngine::shared("what_is_not_there_is_removed_already") else { return };
    App::new(&test, "012345").remove();
}

#[test]
fn half_made_states_go() {
    let Some(test) = TestEngine::shared("half_made_states_go") else { return };
    let app = App::new(&test, "012345");
    let stack = &app.stack;
    let label = format!("com.docker.stack.namespace={stack}");
    let name = format!("{stack}_app");
    let service = |more: &[&str]| {
        let words =
            ["service", "create", "--detach", "--no-resolve-image", "--name", &name, "--label", &label];
        test.docker(words.iter().chain(&["--container-label", &label]).chain(more));
    };
    let tasks_are = |state: &str| {
        until(&format!("its task is {state}"), || {
            test.tasks(&name).iter().any(|task| task["Status"]["State"] == state)
        });
    };

    service(&["--replicas=0", BUSYBOX, "true"]);
    app.remove();

    service(&["--constraint=node.labels.never==there", BUSYBOX, "true"]);
    tasks_are("pending");
    app.remove();

    service(&["--mount=type=bind,source=/not/there,target=/x", BUSYBOX, "true"]);
    until("its task is rejected", || {
        test.tasks(&name).iter().any(|task| task["Status"]["State"] == "rejected")
    });
    app.remove();

    service(&["no-such-image.invalid/at-all:1"]);
    until("its task is at work", || {
        test.tasks(&name)
            .iter()
            .any(|task| matches!(task["Status"]["State"].as_str(), Some("preparing" | "rejected")))
    });
    app.remove();

    // Two of its past tasks have left their containers.
    service(&["--restart-max-attempts=1", "--restart-delay=10ms", BUSYBOX, "false"]);
    until("its tasks have failed", || {
        test.tasks(&name).iter().filter(|task| task["Status"]["State"] == "failed").count() == 2
    });
    app.remove();

    for kind in KEPT {
        app.make(kind, By::Name);
        app.remove();
    }
}

/// How a service says what became of its last update.
fn update(test: &TestEngine, service: &str) -> String {
    let service = test.get(&format!("/services/{service}")).unwrap_or_default();
    service["UpdateStatus"]["State"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_in_the_middle_of_an_update_goes() {
    let Some(test) = TestEngine::shared("what_is_in_the_middle_of_an_update_goes") else { return };
    let app = App::new(&test, "012345");
    let service = format!("{}_app", app.stack);
    let deploy = |script: &str, health: &str, how: &str| {
        let service = format!(
            "command: [sh, -c, '{script}'], volumes: ['data:/data', '/anonymous'], \
             healthcheck: {{test: [CMD, '{health}'], interval: 0.2s, retries: 1000}}, \
             deploy: {{endpoint_mode: dnsrr, update_config: {{monitor: 10s, {how}}}}}"
        );
        app.deploy(&[("app", &service)], "volumes: {data: }");
    };
    let works = "exec sleep 1000000";

    deploy(works, "true", "order: start-first");
    app.comes_up();
    deploy(works, "false", "order: start-first");
    until("the new task starts beside the old one", || app.alive("app") == 2);
    assert_eq!(update(&test, &service), "updating");
    app.remove();

    deploy(works, "true", "failure_action: pause");
    app.comes_up();
    deploy("exit 3", "true", "failure_action: pause");
    until("the update is paused", || update(&test, &service) == "paused");
    app.remove();
}

#[test]
fn a_task_that_ignores_term_does_not_hold_a_removal_up() {
    let Some(test) = TestEngine::shared("a_task_that_ignores_term_does_not_hold_a_removal_up") else {
        return;
    };
    let app = App::new(&test, "012345");
    let script = "trap '' TERM; while :; do sleep 1; done";
    test.deploy(
        &app.stack,
        &format!(
            "version: '3.8'\nservices:\n  app:\n    image: {BUSYBOX}\n    command: [sh, -c, \"{script}\"]\n    \
             stop_grace_period: 10m\n    volumes: ['data:/data']\nvolumes: {{data: }}\n"
        ),
    );
    let service = format!("{}_app", app.stack);
    until("the service runs", || test.running(&service) == 1);
    // Far less than its grace.
    app.remove();
}

#[test]
fn a_stack_that_somebody_else_removes_too_is_gone_for_both() {
    let Some(test) = TestEngine::shared("a_stack_that_somebody_else_removes_too_is_gone_for_both") else {
        return;
    };
    let app = App::new(&test, "012345");
    for _ in 0..3 {
        app.deploy_four();
        app.four_run();
        thread::scope(|scope| {
            let theirs = scope.spawn(|| test.try_docker(["stack", "rm", &app.stack]));
            let same = scope.spawn(|| app.remove());
            app.remove();
            same.join().expect("two removals of our own");
            theirs.join().expect("docker stack rm ends");
        });
        assert_eq!(app.resources(), BTreeSet::new());
    }
}

#[test]
fn what_a_foreign_container_uses_stays_and_is_named_with_its_user() {
    let Some(test) = TestEngine::shared("what_a_foreign_container_uses_stays_and_is_named_with_its_user")
    else {
        return;
    };
    let app = App::new(&test, "012345");
    let made: Vec<String> = KEPT.iter().map(|kind| app.make(*kind, By::Label)).collect();
    let [volume, secret, config, network] =
        [0, 1, 2, 3].map(|at| made[at].split_once(' ').expect("a line").1);
    let free = app.make(Kind::Volume, By::Name);
    let user = format!("user-{}", test.world().suffix());
    let service = format!("service-{user}").replace('.', "-");
    let mount = format!("{volume}:/data");
    let words = ["run", "--detach", "--name", &user, "--volume", &mount, "--network", network, BUSYBOX];
    test.docker(words.iter().chain(&["sleep", "1000"]));
    let words = ["service", "create", "--detach", "--no-resolve-image", "--name", &service, "--replicas=0"];
    test.docker(words.iter().chain(&["--secret", secret, "--config", config, BUSYBOX, "sleep", "1000"]));
    let id = |of: &str| test.docker(["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", of]);
    let before = id(&user);

    let began = Instant::now();
    let error = app.try_remove(CUT_SHORT).expect_err("all of it is used");
    assert!(began.elapsed() < CUT_SHORT, "what others hold is not tried for until the limit is spent");
    let message = error_chain(&error);
    for line in &made[..1] {
        assert!(message.contains(&format!("{line}, used by the container {user}")), "{message}");
    }
    for line in &made[1..3] {
        assert!(message.contains(&format!("{line}, used by the service {service}")), "{message}");
    }
    assert!(message.contains(&format!("{}, used by the container {user}", made[3])), "{message}");
    assert!(!message.contains(&free), "what nobody uses is gone: {message}");
    assert_eq!(app.resources(), made.iter().cloned().collect::<BTreeSet<_>>());
    assert_eq!(id(&user), before, "their container was touched");
    test.docker(["service", "inspect", &service]);

    // A removal that is at it goes on as soon as they are gone.
    thread::scope(|scope| {
        let removal = scope.spawn(|| app.remove());
        test.docker(["rm", "--force", &user]);
        test.docker(["service", "rm", &service]);
        removal.join().expect("it is removed");
    });
}

#[test]
fn anonymous_volumes_go_with_what_made_them() {
    let Some(test) = TestEngine::shared("anonymous_volumes_go_with_what_made_them") else { return };
    let volumes = || -> BTreeSet<String> {
        let anonymous = |name: &str| name.len() == 64;
        test.docker(["volume", "ls", "--quiet"])
            .lines()
            .filter(|name| anonymous(name))
            .map(str::to_owned)
            .collect()
    };
    let app = App::new(&test, "012345");
    app.deploy_four();
    app.four_run();
    let ours: Vec<String> = app
        .resources()
        .iter()
        .filter_map(|line| line.strip_prefix("volume ").filter(|name| name.len() == 64).map(str::to_owned))
        .collect();
    assert_eq!(ours.len(), 2);
    app.remove();
    let left = volumes();
    assert!(ours.iter().all(|volume| !left.contains(volume)), "{left:?}");
}

/// What the engine has come to when a deployment is stopped.
const MOMENTS: [&str; 5] = ["ordered", "assigned", "preparing", "container", "running"];

#[test]
fn an_early_stop_leaves_nothing_that_appears_later() {
    let Some(test) = TestEngine::shared("an_early_stop_leaves_nothing_that_appears_later") else { return };
    // One after another for each moment, beside each other for all of them.
    thread::scope(|scope| {
        for (column, moment) in MOMENTS.iter().enumerate() {
            let test = &test;
            scope.spawn(move || {
                for number in (column..EARLY_STOPS).step_by(MOMENTS.len()) {
                    let app = App::new(test, &format!("{number:06}"));
                    app.deploy_four();
                    until(moment, || has_come_to(&app, moment));
                    app.remove();
                }
            });
        }
    });
    let look = App::new(&test, "ffffff");
    let until = Instant::now() + STILL_NOTHING;
    while Instant::now() < until {
        let all = block_on(look.swarm.inventory(None)).expect("the engine can be looked at");
        let suffix = test.world().suffix().as_str();
        let back: Vec<_> = all.domains().filter(|domain| domain.as_str().ends_with(suffix)).collect();
        assert!(back.is_empty(), "they came back: {back:?}");
        thread::sleep(Duration::from_millis(500));
    }
}

fn has_come_to(app: &App<'_>, moment: &str) -> bool {
    let tasks =
        ["app", "cache", "db", "worker"].map(|name| app.engine.tasks(&format!("{}_{name}", app.stack)));
    let tasks: Vec<_> = tasks.iter().flatten().collect();
    let states: Vec<&str> = tasks.iter().filter_map(|task| task["Status"]["State"].as_str()).collect();
    match moment {
        "ordered" => true,
        "assigned" => states.iter().any(|state| *state != "new" && *state != "pending"),
        "container" => tasks.iter().any(|task| task["Status"]["ContainerStatus"]["ContainerID"].is_string()),
        "running" => states.contains(&"running"),
        moment => states.iter().any(|state| [moment, "starting", "running"].contains(state)),
    }
}
