//! An engine in trouble, the real one: it dies, stands still, is no manager.

use std::thread;
use std::time::{Duration, Instant};

use cc_ci_core::engine::{Engine as _, Fault};
use cc_ci_core::error_chain;
use cc_ci_core::names::Suffix;
use cc_ci_core::process::StatLine;
use cc_ci_tests::World;
use cc_ci_tests::engine::{Events, PrivateEngine, until};

use crate::bystanders;
use crate::orphans::orphan;
use crate::support::{App, LIMIT, block_on, swarm};

/// What a call may take where the engine is known to hang.
const SHORT: Duration = Duration::from_secs(2);

/// So long may a bounded failure take here, however busy the machine is.
const BOUNDED: Duration = Duration::from_mins(3);

fn suffix() -> Suffix {
    "trouble.test".parse().expect("a suffix")
}

#[test]
fn a_removal_outlasts_an_engine_that_is_killed_and_restarted() {
    let Some(mut engine) = PrivateEngine::start("a_removal_outlasts_an_engine_that_is_killed_and_restarted")
    else {
        return;
    };
    let others = bystanders::make(&engine);
    for moment in ["services", "containers"] {
        {
            let app = App::below(&engine, &suffix(), "012345");
            app.deploy_four();
            app.four_run();
        }
        let removal = App::below(&engine, &suffix(), "012345");
        let (swarm, domain) = (swarm(&engine, &suffix()), removal.domain.clone());
        let removing = thread::spawn(move || block_on(swarm.remove(&domain, LIMIT)));
        until(moment, || {
            if moment == "services" {
                engine.get(&format!("/services/{}_app", removal.stack)).is_none()
            } else {
                let name = format!("name={}_", removal.stack);
                engine.docker(["ps", "--all", "--quiet", "--filter", &name]).lines().count() < 4
            }
        });
        drop(removal);
        engine.kill_daemon();
        engine.start_daemon();
        let removed = removing.join().expect("it does not panic");
        if let Err(error) = removed {
            panic!("{moment}: {}", error_chain(&error));
        }
        let app = App::below(&engine, &suffix(), "012345");
        assert!(app.resources().is_empty(), "{moment}: {:?}", app.resources());
        engine.wait_until_idle();
        bystanders::nothing_else(&engine, &others, |_| false);
    }
    engine.end().expect("nothing is left of it");
}

#[test]
fn a_janitor_outlasts_an_engine_that_is_killed_and_restarted() {
    let Some(mut engine) = PrivateEngine::start("a_janitor_outlasts_an_engine_that_is_killed_and_restarted")
    else {
        return;
    };
    let world = World::on(&engine);
    let others = bystanders::make(&engine);
    // In the middle of the removal, and before the look that verifies it.
    for (number, kind) in [(1, "service"), (2, "network")] {
        let domain = orphan(&engine, &world.domain("app", number));
        let stack = domain.stack();
        until("the app runs", || engine.running(&format!("{stack}_app")) == 1);
        let removed = Events::follow(&engine, &[&format!("type={kind}"), "event=remove"]);
        let janitor = world.cc_ci(["janitor", "--format", "json"]).start();
        removed.first(&format!("a {kind}'s removal"), |event| stack.prefixes(Events::name(event)));
        engine.kill_daemon();
        let state = StatLine::read(janitor.pid()).expect("a child is there until it is waited for").state;
        assert_ne!(state, 'Z', "{kind}: the janitor was done already");
        engine.start_daemon();
        let report = janitor.wait().expect(0).json();
        assert_eq!(report["findings"][0]["decision"], "reaped", "{kind}: {report:#}");
        assert!(!world.lock_file(&domain).exists());
        until("it takes requests", || engine.try_docker(["service", "ls"]).code == 0);
        engine.wait_until_idle();
        bystanders::nothing_else(&engine, &others, |object| object.name.starts_with("cc-ci-lockspace-"));
    }
    engine.end().expect("nothing is left of it");
}

#[test]
fn an_engine_that_is_gone_for_good_ends_a_removal_with_its_limit() {
    let Some(mut engine) =
        PrivateEngine::start("an_engine_that_is_gone_for_good_ends_a_removal_with_its_limit")
    else {
        return;
    };
    let app = App::below(&engine, &suffix(), "012345");
    let known = swarm(&engine, &suffix()).with_call_limit(SHORT);
    block_on(known.inventory(None)).expect("it answers");
    let domain = app.domain.clone();
    drop(app);
    engine.kill_daemon();
    let began = Instant::now();
    let error = block_on(known.remove(&domain, SHORT * 4)).expect_err("nobody looked");
    assert!(error_chain(&error).contains("no Docker engine answers at"), "{}", error_chain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("systemctl start docker")));
    block_on(known.inventory(None)).expect_err("nobody looked");
    assert!(began.elapsed() < BOUNDED);
    engine.end().expect("nothing is left of it");
}

#[test]
fn an_engine_that_stands_still_is_said_to_and_never_reads_as_empty() {
    let Some(mut engine) =
        PrivateEngine::start("an_engine_that_stands_still_is_said_to_and_never_reads_as_empty")
    else {
        return;
    };
    let app = App::below(&engine, &suffix(), "012345");
    app.deploy_four();
    let (domain, known) = (app.domain.clone(), swarm(&engine, &suffix()).with_call_limit(SHORT));
    let unknown = swarm(&engine, &suffix()).with_call_limit(SHORT);
    drop(app);
    block_on(known.inventory(None)).expect("it answers");
    engine.freeze_daemon();
    let began = Instant::now();
    for swarm in [&known, &unknown] {
        let error =
            block_on(swarm.inventory(Some(std::slice::from_ref(&domain)))).expect_err("nobody looked");
        assert!(error_chain(&error).contains("did not answer within"), "{}", error_chain(&error));
        assert!(error.hint().is_some_and(|hint| hint.contains("journalctl")));
        let error = block_on(swarm.remove(&domain, SHORT * 3)).expect_err("nobody looked");
        assert!(error_chain(&error).contains(&format!("within {:?}", SHORT * 3)), "{}", error_chain(&error));
    }
    assert!(began.elapsed() < BOUNDED);
    engine.thaw_daemon();
    block_on(known.remove(&domain, LIMIT)).expect("it goes on");
    engine.end().expect("nothing is left of it");
}

#[test]
fn an_engine_without_a_swarm_is_said_to_have_none() {
    let Some(engine) = PrivateEngine::start("an_engine_without_a_swarm_is_said_to_have_none") else { return };
    engine.docker(["swarm", "leave", "--force"]);
    let swarm = swarm(&engine, &suffix());
    let error = block_on(swarm.inventory(None)).expect_err("there is no Swarm to look at");
    assert!(error_chain(&error).contains("is no Swarm manager"), "{}", error_chain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("docker swarm init")), "{:?}", error.hint());
    assert_eq!(error.fault(), Fault::Host);
    let facts = block_on(swarm.inspect()).expect("the engine answers");
    let error = facts.swarm.expect_err("it manages none");
    assert!(error.hint().is_some_and(|hint| hint.contains("docker swarm init")), "{:?}", error.hint());
    engine.end().expect("nothing is left of it");
}
