//! `cc-ci rerun` asks for what a run was asked for, at the commit that it tested.

use std::fs;

use cc_ci_tests::{World, unconfined};
use serde_json::json;

#[test]
fn a_rerun_tests_the_recorded_commit_of_the_recorded_source_with_the_recorded_flags() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.compose("1", "").release("1.0.0+1");
    recipe.compose("2", "").commit();
    let mut first =
        world.cc_ci(["run", "--run-id", "1", "--pr", "7", "--fresh", "--deadline", "50m", "./plain"]);
    first.command().current_dir(recipe.path().parent().expect("a directory"));
    first.run().expect(0);
    // What its HEAD names since is not meant, whatever the environment of the call says.
    recipe.compose("3", "").commit();
    let again =
        world.cc_ci(["rerun", "1", "--run-id", "2"]).env("CCCI_COMMIT", "1.0.0+1").env("CCCI_QUICK", "1");
    let end = again.run().expect(0);
    let (one, two) = (world.record("1"), world.record("2"));
    for same in ["commit", "subject", "domain", "executor", "lane", "recipe"] {
        assert_eq!(one[same], two[same], "{same}");
    }
    let upgrade = two["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == "upgrade").unwrap();
    assert_eq!(upgrade["status"], "skipped", "{upgrade}");
    assert_eq!(two["asked"]["deadline_seconds"], 3000.0);
    let commit = one["commit"].as_str().unwrap();
    let told = format!(
        "== again what run 1 did: {} at {}, as pr-7, --executor local --fresh --deadline 50m ==",
        recipe.path().display(),
        &commit[..10]
    );
    assert!(end.stderr.starts_with(&told), "{told}\n{}", end.stderr);
    // And once more, from what that one has written, where calls are for another executor by now.
    let config = world.path().join("abra.toml");
    fs::write(&config, unconfined("executor = \"abra\"\n")).expect("a configuration");
    let mut once_more = world.cc_ci(["rerun", "2", "--run-id", "3"]).env("CCCI_CONFIG", config);
    once_more.command().env_remove("CCCI_EXECUTOR");
    once_more.run().expect(0);
    assert_eq!(world.record("3")["commit"], one["commit"]);
    world.assert_empty();
}

#[test]
fn a_record_that_does_not_say_what_was_asked_for_is_refused_and_so_is_none() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    world.cc_ci(["run", "--run-id", "1"]).arg(recipe.path()).run().expect(0);
    let refused = |id: &str| world.cc_ci(["rerun", id]).run().expect(2).stderr;
    assert!(refused("9").contains("there is no run 9"));
    let mut record = world.record("1");
    record["asked"] = json!(null);
    fs::write(world.runs().join("1/run.json"), record.to_string()).expect("a record");
    let said = refused("1");
    assert!(
        said.contains("does not say what it was asked for\n\nhint: name its recipe again: cc-ci run"),
        "{said}"
    );
    world.assert_empty();
}
