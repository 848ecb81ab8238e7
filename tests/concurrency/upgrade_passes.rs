//! `--upgrade-from`: each older release is deployed, once, and upgraded in place, in a pass of its own.

use cc_ci_tests::{CcCi, Recipe, World};
use serde_json::Value;

fn call(world: &World, recipe: &Recipe, from: &[&str]) -> CcCi {
    let mut call = world.cc_ci(["run", "--format", "json", "--pr", "1", "--run-id", "1"]);
    for from in from {
        call = call.arg("--upgrade-from").arg(from);
    }
    call.arg(recipe.path())
}

/// Each upgrade: where it began, and what became of it.
fn upgrades(record: &Value) -> Vec<(String, String)> {
    let tiers = record["tiers"].as_array().into_iter().flatten().filter(|tier| tier["name"] == "upgrade");
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    tiers.map(|tier| (text(&tier["from"]), text(&tier["status"]))).collect()
}

fn pass<'r>(record: &'r Value, from: &str) -> &'r Value {
    let mut tiers = record["tiers"].as_array().into_iter().flatten();
    tiers.find(|tier| tier["from"] == from).unwrap_or_else(|| panic!("no upgrade from {from}: {record:#}"))
}

/// Three releases and a commit on top.
fn recipe(world: &World) -> Recipe {
    let recipe = world.recipe("app");
    for (compose, version) in [("1", "1.0.0+1"), ("2", "1.1.0+1"), ("3", "1.2.0+1")] {
        recipe.compose(compose, "").release(version);
    }
    recipe.compose("4", "").commit();
    recipe
}

#[test]
fn each_selected_release_is_deployed_once_and_upgraded_in_place() {
    let world = World::new();
    let recipe = recipe(&world);
    // Each pass has tests of its own, which find nothing of the others', in the places that they can write either.
    recipe.script(
        "tests/install-state",
        "test -z \"$(ls \"$CCCI_STATE_DIR\")\"; test \"$CCCI_TIER\" = install\n\
         test ! -e \"$CCCI_SECRETS_DIR/mine\"; echo mine > \"$CCCI_SECRETS_DIR/mine\"\n\
         echo \"$CCCI_VERSION\" > \"$CCCI_STATE_DIR/from\"; cat \"$CCCI_SECRETS_DIR/key\" > \"$CCCI_STATE_DIR/key\"",
    );
    recipe.script(
        "tests/upgrade-state",
        "cmp \"$CCCI_SECRETS_DIR/key\" \"$CCCI_STATE_DIR/key\"; cat \"$CCCI_STATE_DIR/from\" \"$CCCI_DEPLOY_COUNT_FILE\"",
    );
    recipe.commit();
    let end = call(&world, &recipe, &["all"]).run().expect(0);
    let record = end.json();
    let passed = |from: &str| (from.to_owned(), "passed".to_owned());
    assert_eq!(upgrades(&record), [passed("1.2.0+1"), passed("1.1.0+1"), passed("1.0.0+1")]);
    assert_eq!(record["deploy_count"], 3);
    let removed = record["receipt"]["removed"].as_array().unwrap();
    assert_eq!(removed.iter().filter(|thing| thing["kind"] == "service").count(), 3, "{removed:#?}");
    let read = |path: &str| std::fs::read_to_string(world.runs().join("1").join(path)).unwrap();
    assert_eq!(read("state/deploy-count"), "3\n");
    assert_eq!(read("logs/upgrade-recipe-upgrade-state.log"), "1.2.0+1\n1\n");
    assert_eq!(read("logs/from-1.0.0+1-upgrade-recipe-upgrade-state.log"), "1.0.0+1\n3\n");
    let steps: Vec<&str> = pass(&record, "1.0.0+1")["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["name"].as_str())
        .collect();
    for step in
        ["install: deploy", "install: recipe/install-state", "upgrade", "generic/data", "generic/in-place"]
    {
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
    let phases: Vec<Value> = world.events("1").into_iter().map(|event| event["phase"].clone()).collect();
    assert!(phases.contains(&"upgrade from 1.0.0+1".into()), "{phases:?}");
    world.assert_empty();
}

#[test]
fn releases_are_chosen_by_number_and_by_name() {
    for (choice, expected) in [
        (&[][..], &["1.2.0+1"][..]),
        (&["2"], &["1.2.0+1", "1.1.0+1"]),
        (&["1.0.0+1"], &["1.0.0+1"]),
        (&["1.0.0+1", "1.1.0+1"], &["1.1.0+1", "1.0.0+1"]),
    ] {
        let world = World::new();
        let record = call(&world, &recipe(&world), choice).run().expect(0).json();
        let from: Vec<String> = upgrades(&record).into_iter().map(|(from, _)| from).collect();
        assert_eq!(from, expected, "{choice:?}");
        world.assert_empty();
    }
}

#[test]
fn a_red_pass_is_named_and_hides_no_other() {
    let world = World::new();
    let recipe = recipe(&world);
    recipe.script("tests/install-state", "echo \"$CCCI_VERSION\" > \"$CCCI_STATE_DIR/from\"");
    recipe.script("tests/upgrade-fails", "! grep -q 1.1.0 \"$CCCI_STATE_DIR/from\"").commit();
    let run = world.cc_ci(["run", "--pr", "1", "--upgrade-from", "all"]).arg(recipe.path());
    let end = run.run().expect(1);
    let line = |from: &str| end.stdout.lines().find(|line| line.contains(from)).unwrap_or_default();
    assert!(line("upgrade from 1.1.0+1 ").contains("failed"), "{}", end.stdout);
    assert!(line("upgrade from 1.1.0+1 ").contains("recipe/upgrade-fails failed"), "{}", end.stdout);
    for from in ["upgrade from 1.2.0+1 ", "upgrade from 1.0.0+1 "] {
        assert!(line(from).contains("passed"), "{}", end.stdout);
    }
    world.assert_empty();
}

#[test]
fn a_red_main_lane_hides_no_pass_and_a_red_install_is_no_upgrade() {
    let world = World::new();
    let recipe = recipe(&world);
    recipe.script("tests/install-fails", "case \"$CCCI_VERSION\" in 1.1.0*) ;; *) exit 1;; esac").commit();
    let record = call(&world, &recipe, &["all"]).run().expect(1).json();
    let statuses: Vec<String> = upgrades(&record).into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, ["not_run", "passed", "failed"]);
    let red = pass(&record, "1.0.0+1");
    assert_eq!(red["reason"], "install: recipe/install-fails failed: exit status 1");
    assert!(!red["steps"].to_string().contains("\"upgrade\""), "{red:#}");
    assert_eq!(record["deploy_count"], 3);
    world.assert_empty();
}

#[test]
fn what_is_no_release_of_the_commits_ancestry_is_refused_before_anything_is_deployed() {
    let world = World::new();
    let recipe = recipe(&world);
    recipe.git(["tag", "1.1.5+1"]);
    recipe.git(["checkout", "-q", "-b", "side"]);
    recipe.release("2.0.0+1");
    recipe.git(["checkout", "-q", "main"]);
    for unknown in ["1.1.5+1", "2.0.0+1", "3.0.0+1"] {
        let end = call(&world, &recipe, &["1.0.0+1", unknown]).run().expect(2);
        assert!(end.json()["errors"].to_string().contains(unknown), "{unknown}");
        assert!(end.stderr.contains("it builds on: 1.2.0+1, 1.1.0+1, 1.0.0+1"), "{unknown}: {}", end.stderr);
        assert_eq!(end.json()["deploy_count"], 0);
    }
    for (args, says) in
        [(&["all", "1.0.0+1"][..], "alone"), (&["0"], "--fresh"), (&["newest"], "all or a number")]
    {
        let end = call(&world, &recipe, args).run().expect(2);
        assert!(end.stderr.contains(says), "{args:?}: {}", end.stderr);
    }
    let end = call(&world, &recipe, &["all"]).arg("--fresh").run().expect(2);
    assert!(end.stderr.contains("leave one of the two out"), "{}", end.stderr);
    let end = call(&world, &recipe, &["all"]).env("CCCI_FRESH", "0").run().expect(0);
    assert!(end.stderr.contains("tags that are not annotated are no releases: 1.1.5+1"), "{}", end.stderr);
    world.assert_empty();
}
