//! The main job with abra on a real Swarm: green in all five tiers, nothing left, nothing else touched.

use std::fs;

use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::{Recipe, World, confined};
use serde_json::Value;

use crate::support::{Canonical, call, light, nothing_left, receipt_is_clean, run, statuses, tier, warnings};

/// Both of the releases are tested, each as it should be.
#[track_caller]
fn is_green(world: &World, recipe: &Recipe, releases: [&str; 2]) -> Value {
    fs::write(world.config(), confined(world)).unwrap();
    let record = run(world, recipe, 1).expect(0).json();
    assert_eq!(record["recipe_code"], "confined");
    assert_eq!(statuses(&record), ["passed"; 5], "{record:#}");
    assert_eq!(tier(&record, "install")["version"], releases[0]);
    assert_eq!(tier(&record, "upgrade")["version"], releases[1]);
    assert_eq!(record["deploy_count"], 1);
    // E.g. that abra moved the tree.
    assert!(warnings(&record).is_empty(), "{record:#}");
    assert_eq!(record["executor"], "abra");
    receipt_is_clean(&record);
    record
}

#[test]
fn the_example_app_beside_a_canonical_one() {
    let Some(engine) = TestEngine::shared("the_example_app_beside_a_canonical_one") else { return };
    let world = engine.world();
    let recipe = world.note_keeper();
    let canonical = Canonical::deploy(&engine, &light(world, "light"));
    is_green(world, &recipe, ["1.0.0+1.0.0", "1.1.0+1.1.0"]);
    nothing_left(&engine, Some(&canonical));
    canonical.is_untouched(&engine);
    engine.bystanders_unchanged();
    canonical.remove(&engine);
}

#[test]
fn four_services_with_an_overlay_templates_and_hooks() {
    let Some(engine) = TestEngine::shared("four_services_with_an_overlay_templates_and_hooks") else {
        return;
    };
    let world = engine.world();
    let recipe = world.four_services();
    let record = is_green(world, &recipe, ["1.0.0+1.35.0", "1.1.0+1.36.0"]);
    let removed = record["receipt"]["removed"].as_array().unwrap();
    let count = |kind: &str| removed.iter().filter(|thing| thing["kind"] == kind).count();
    for (kind, number) in [("service", 4), ("volume", 2), ("secret", 2), ("env_file", 1)] {
        assert_eq!(count(kind), number, "{kind}: {removed:#?}");
    }
    nothing_left(&engine, None);
}

#[test]
fn abra_is_called_alone_in_its_tree_and_never_told_a_secret() {
    let Some(engine) = TestEngine::shared("abra_is_called_alone_in_its_tree_and_never_told_a_secret") else {
        return;
    };
    let world = engine.world();
    let recipe = light(world, "light");
    let message = world.path().join("told");
    recipe.script("tests/custom-tells", &format!("cat \"$CCCI_SECRETS_DIR/key\" > {}", message.display()));
    recipe.script("tests/custom-shows", "cat \"$CCCI_SECRETS_DIR/key\"; exit 1").commit();
    let end = call(world, &recipe, 1).env("NOT_FOR_ABRA", "x").run().expect(1);
    let secret = fs::read_to_string(&message).unwrap();
    assert_eq!(secret.len(), 24);
    for text in [&end.stdout, &end.stderr] {
        assert!(!text.contains(&secret), "{text}");
    }
    for (path, content) in world.snapshot_of(&world.runs()) {
        let content = String::from_utf8_lossy(&content);
        assert!(!content.contains(&secret), "{}", path.display());
    }
    let calls = world.abra().calls();
    assert!(calls.iter().any(|call| call.is("app deploy")) && calls.iter().any(|call| call.is("app new")));
    let asks = |arg: &String| arg == "--help" || arg == "--version";
    for call in calls {
        assert!(!call.args.concat().contains(&secret), "{call:?}");
        assert_eq!(call.stdin.to_str(), Some("/dev/null"), "{call:?}");
        assert!(call.own_group && call.ended.is_some(), "{call:?}");
        assert!(!call.environment.iter().any(|name| name == "NOT_FOR_ABRA"), "{call:?}");
        if !call.args.iter().any(asks) {
            assert!(call.args.iter().any(|arg| arg == "-n" || arg == "--no-input"), "{call:?}");
            let tree = call.abra_dir.as_ref().expect("it has a tree");
            assert!(tree.starts_with(world.runs().join("1")), "{call:?}");
        }
    }
    nothing_left(&engine, None);
}
