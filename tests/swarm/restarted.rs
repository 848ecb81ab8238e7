//! Waiting for a stack while the engine is in trouble.

use std::thread;
use std::time::{Duration, Instant};

use cc_ci_core::engine::{Engine as _, Fault};
use cc_ci_core::error_chain;
use cc_ci_core::event::Silent;
use cc_ci_core::names::Suffix;
use cc_ci_tests::engine::{PrivateEngine, until};

use crate::bystanders;
use crate::deployed::PATIENT;
use crate::support::{App, LIMIT, block_on, swarm};

fn suffix() -> Suffix {
    "waiting.test".parse().expect("a suffix")
}

#[test]
fn an_engine_that_is_killed_and_restarted_only_delays_a_wait() {
    let Some(mut engine) = PrivateEngine::start("an_engine_that_is_killed_and_restarted_only_delays_a_wait")
    else {
        return;
    };
    let others = bystanders::make(&engine);
    let app = App::below(&engine, &suffix(), "012345");
    let (stack, domain) = (app.stack.clone(), app.domain.clone());
    app.deploy(
        &[
            ("app", "healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 0.2s, retries: 1000}"),
            ("other", "command: [sleep, '1000000']"),
        ],
        "",
    );
    let (waiting, waited) = (swarm(&engine, &suffix()), domain.clone());
    let wait = thread::spawn(move || block_on(waiting.wait_converged(&waited, PATIENT, &Silent)));
    let name = format!("name={stack}_app.");
    until("the task starts", || !engine.docker(["ps", "--quiet", "--filter", &name]).is_empty());
    drop(app);
    engine.kill_daemon();
    engine.start_daemon();
    assert!(!wait.is_finished());
    // The task that replaces the dead one; its predecessor may still be listed.
    until("it is healthy in the end", || {
        let running = engine.docker(["ps", "--quiet", "--filter", &name]);
        for container in running.lines() {
            engine.try_docker(["exec", container, "touch", "/tmp/up"]);
        }
        wait.is_finished()
    });
    if let Err(error) = wait.join().expect("no panic") {
        panic!("{}", error_chain(&error));
    }
    let swarm = swarm(&engine, &suffix());
    let services = block_on(swarm.services(&domain)).expect("the engine can be asked");
    assert!(services.iter().all(|service| service.healthy && service.tasks.len() == 1), "{services:?}");
    block_on(swarm.remove(&domain, LIMIT)).expect("it can be removed");
    engine.wait_until_idle();
    bystanders::nothing_else(&engine, &others, |_| false);
    engine.end().expect("nothing is left of it");
}

#[test]
fn an_engine_that_does_not_answer_is_the_hosts_fault() {
    let Some(mut engine) = PrivateEngine::start("an_engine_that_does_not_answer_is_the_hosts_fault") else {
        return;
    };
    let app = App::below(&engine, &suffix(), "012345");
    app.deploy(&[("app", "healthcheck: {test: [CMD, 'false'], interval: 0.2s, retries: 1000}")], "");
    let domain = app.domain.clone();
    drop(app);
    let limit = Duration::from_secs(2);
    for (frozen, says) in [(true, "did not answer within"), (false, "no Docker engine answers at")] {
        if frozen {
            engine.freeze_daemon();
        } else {
            engine.thaw_daemon();
            engine.kill_daemon();
        }
        let swarm = swarm(&engine, &suffix());
        let began = Instant::now();
        let error = block_on(swarm.wait_converged(&domain, limit, &Silent)).expect_err("nobody can be asked");
        let took = began.elapsed();
        assert!(took >= limit && took < limit * 5, "{took:?}");
        assert_eq!(error.fault(), Fault::Host);
        let message = error_chain(&error);
        assert!(message.contains("can't tell whether") && message.contains(says), "{message}");
        assert!(error.hint().is_some());
    }
    engine.end().expect("nothing is left of it");
}
