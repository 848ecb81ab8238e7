//! What an operator's test makes on the engine beside the app: it is nobody's to remove, and it is named.

use std::time::{Duration, Instant};

use cc_ci_tests::Recipe;
use cc_ci_tests::engine::{BUSYBOX, TestEngine};

use crate::support::{call, light, nothing_left, receipt_is_clean};

/// A teardown that waits for what only others hold would spend all of it.
const BUDGET: Duration = Duration::from_mins(5);

/// A recipe, and a directory with a test of the operator's for it.
fn recipe_with_operators(engine: &TestEngine, script: &str) -> Recipe {
    let world = engine.world();
    let operators = world.path().join("operator/light");
    std::fs::create_dir_all(&operators).unwrap();
    cc_ci_tests::executable(&operators.join("custom-makes"), &format!("#!/bin/sh\nset -e\n{script}\n"));
    light(world, "light")
}

#[test]
fn what_an_operators_test_leaves_on_the_engine_is_named_and_stays() {
    let test = "what_an_operators_test_leaves_on_the_engine_is_named_and_stays";
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    // Names of no app: whoever reads them in the result knows them.
    let name = format!("made-{}", world.suffix().as_str().replace('.', "-"));
    let recipe = recipe_with_operators(
        &engine,
        &format!(
            "docker volume create {name}-v
            docker run --detach --name {name}-c --network none {BUSYBOX} sleep 1000
            docker service create --detach --no-resolve-image --name {name}-s --replicas=0 {BUSYBOX} sleep 1000
            docker volume create {name}-gone; docker volume rm {name}-gone"
        ),
    );
    let run = call(world, &recipe, 1).arg("--tests-dir").arg(world.path().join("operator"));
    let record = run.run().expect(0).json();
    let warnings = record["warnings"].to_string();
    for made in [format!("volume {name}-v"), format!("container {name}-c"), format!("service {name}-s")] {
        assert!(warnings.contains(&format!("{made} (operator/custom-makes)")), "{made}: {warnings}");
    }
    assert!(!warnings.contains("gone"), "{warnings}");
    receipt_is_clean(&record);
    // They are somebody's: nobody has touched them.
    engine.docker(["rm", "--force", &format!("{name}-c")]);
    engine.docker(["service", "rm", &format!("{name}-s")]);
    engine.docker(["volume", "rm", &format!("{name}-v")]);
    nothing_left(&engine, None);
}

#[test]
fn a_teardown_that_only_a_strangers_container_holds_up_ends_early_with_its_name() {
    let test = "a_teardown_that_only_a_strangers_container_holds_up_ends_early_with_its_name";
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let holder = format!("holder-{}", world.suffix().as_str().replace('.', "-"));
    let recipe = recipe_with_operators(
        &engine,
        &format!(
            "docker run --detach --name {holder} --volume \"${{CCCI_STACK}}_data:/data\" {BUSYBOX} sleep 1000"
        ),
    );
    let budget = format!("{}s", BUDGET.as_secs());
    let run = call(world, &recipe, 1).arg("--teardown-budget").arg(&budget);
    let began = Instant::now();
    let end = run.arg("--tests-dir").arg(world.path().join("operator")).run().expect(4);
    assert!(began.elapsed() < BUDGET, "what others hold is not waited for");
    let record = end.json();
    let volume = format!("{}_data", world.domain("light", 1).stack());
    // The run's tree goes when all else has.
    let left = record["receipt"]["left"].as_array().unwrap();
    let kinds: Vec<&str> = left.iter().filter_map(|left| left["kind"].as_str()).collect();
    assert_eq!((kinds.as_slice(), left[0]["name"].as_str()), (&["volume", "run_tree"][..], Some(&*volume)));
    assert!(record.to_string().contains(&format!("used by the container {holder}")), "{record:#}");
    // Once it is gone, the janitor finishes.
    engine.docker(["rm", "--force", &holder]);
    world.cc_ci(["janitor"]).run().expect(0);
    nothing_left(&engine, None);
}
