//! An engine in trouble, the real one: it dies, stands still, is no manager.

use std::thread;
use std::time::{Duration, Instant};

use cc_ci_core::error_chain;
use cc_ci_core::executor::{Engine as _, Fault};
use cc_ci_core::names::Suffix;
use cc_ci_tests::engine::{PrivateEngine, until};

use crate::support::{App, LIMIT, block_on, swarm};

/// What a call may take where the engine is known to hang.
const SHORT: Duration = Duration::from_millis(500);

/// So long may a bounded failure take here, however busy the machine is.
const BOUNDED: Duration = Duration::from_secs(30);

fn suffix() -> Suffix {
    "trouble.test".parse().expect("a suffix")
}

#[test]
fn a_removal_outlasts_an_engine_that_is_killed_and_restarted() {
    let Some(mut engine) = PrivateEngine::start("a_removal_outlasts_an_engine_that_is_killed_and_restarted")
    else {
        return;
    };
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
                engine.docker(["ps", "--all", "--quiet"]).lines().count() < 4
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
        assert!(app.residue().is_empty(), "{moment}: {:?}", app.residue());
        engine.settle();
        assert_eq!(engine.objects(), [], "{moment}");
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
        assert!(error_chain(&error).contains("within 1.5s"), "{}", error_chain(&error));
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
    let facts = block_on(swarm.examine()).expect("the engine answers");
    let error = facts.swarm.expect_err("it manages none");
    assert!(error.hint().is_some_and(|hint| hint.contains("docker swarm init")), "{:?}", error.hint());
    engine.end().expect("nothing is left of it");
}
