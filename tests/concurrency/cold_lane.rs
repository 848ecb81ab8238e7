//! The main job, through the built command.

use cc_ci_tests::World;

#[test]
fn a_recipe_without_a_release_is_green_and_its_upgrade_skipped_with_the_reason() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let end = world.cc_ci(["run", "--format", "json", "--run-id", "1"]).arg(recipe.path()).run().expect(0);
    let record = end.json();
    assert_eq!(record["verdict"], "green");
    let upgrade = &record["tiers"][1];
    assert_eq!(upgrade["status"], "skipped");
    assert!(upgrade["reason"].as_str().unwrap().contains("no previous release"), "{upgrade}");
    assert_eq!(world.record("1"), record, "stdout and run.json say the same");
    world.assert_empty();
}

#[test]
fn a_service_that_ends_at_once_makes_install_red_and_leaves_nothing() {
    let world = World::new();
    let recipe = world.recipe("broken");
    recipe.compose("1", "environment:\n        EXIT: \"7\"").commit();
    let end = world.cc_ci(["run", "--format", "json"]).arg(recipe.path()).run().expect(1);
    let record = end.json();
    assert_eq!(record["verdict"], "red");
    assert_eq!(record["tiers"][0]["status"], "failed");
    assert_eq!(record["tiers"][1]["status"], "not_run");
    assert!(end.stderr.contains("told to exit with 7"), "the service's own last words: {}", end.stderr);
    world.assert_empty();
}
