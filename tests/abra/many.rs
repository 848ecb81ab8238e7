//! Several runs on one host and one Swarm.

use cc_ci_tests::engine::TestEngine;

use crate::support::{call, is_work, light, nothing_left, receipt_is_clean, statuses};

#[test]
fn two_recipes_at_once_are_green() {
    let Some(engine) = TestEngine::shared("two_recipes_at_once_are_green") else { return };
    let world = engine.world();
    // Neither is done before the other one has come up.
    let gates = ["one", "two"].map(|name| (world.gate(name), light(world, name)));
    let runs: Vec<_> = gates
        .iter()
        .zip(1..)
        .map(|((gate, recipe), number)| {
            recipe.script("tests/upgrade-gate", &gate.script()).commit();
            call(world, recipe, number).start()
        })
        .collect();
    for (gate, _) in &gates {
        gate.wait();
    }
    for (gate, _) in &gates {
        gate.open();
    }
    for run in runs {
        let record = run.wait().expect(0).json();
        assert_eq!(statuses(&record), ["passed", "passed", "passed", "passed", "skipped"]);
        receipt_is_clean(&record);
    }
    nothing_left(&engine, None);
}

#[test]
fn one_pull_request_twice_at_once_is_green_twice_one_after_the_other() {
    let test = "one_pull_request_twice_at_once_is_green_twice_one_after_the_other";
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let (recipe, gate) = (light(world, "light"), world.gate("held"));
    recipe.script("tests/install-gate", &gate.script()).commit();
    let first = call(world, &recipe, 1).start();
    gate.wait();
    let mut second = call(world, &recipe, 1).start();
    let domain = world.domain("light", 1);
    second.wait_for(&format!("== app lock: {domain} in flight — waiting =="));
    // The second one has done nothing to the app yet.
    let calls = world.abra().calls();
    let made = calls.iter().filter(|call| call.is("app new") && is_work(call));
    assert_eq!(made.count(), 1);
    gate.open();
    gate.open();
    let first = first.wait().expect(0).json();
    second.wait_for("== app lock: acquired ==");
    let second = second.wait().expect(0).json();
    assert_ne!(first["run_id"], second["run_id"]);
    for record in [first, second] {
        assert_eq!(record["deploy_count"], 1);
        assert_eq!(statuses(&record), ["passed", "passed", "passed", "passed", "skipped"]);
        receipt_is_clean(&record);
    }
    nothing_left(&engine, None);
}
