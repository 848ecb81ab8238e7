//! Red, with the right tier's name, and nothing left.

use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::stand_in::Wrong;

use crate::support::{call, deploys, light, nothing_left, receipt_is_clean, run, statuses, tier};

/// The recipe's own test of this tier fails, and then what stands on it is not run.
#[track_caller]
fn is_red(test: &str, red: &str, wanted: [&str; 5]) {
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    recipe.script(&format!("tests/{red}-fails"), "echo the reason is here; exit 3");
    recipe.script("tests/custom-passes", "true").commit();
    let end = run(world, &recipe, 1).expect(1);
    let record = end.json();
    assert_eq!(statuses(&record), wanted);
    assert_eq!(tier(&record, red)["reason"], format!("recipe/{red}-fails failed: exit status 3"));
    assert!(end.stderr.contains("the reason is here"), "{}", end.stderr);
    receipt_is_clean(&record);
    nothing_left(&engine, None);
}

#[test]
fn install_is_red() {
    is_red("install_is_red", "install", ["failed", "not_run", "not_run", "not_run", "not_run"]);
}

#[test]
fn upgrade_is_red() {
    is_red("upgrade_is_red", "upgrade", ["passed", "failed", "not_run", "not_run", "not_run"]);
}

#[test]
fn backup_is_red() {
    is_red("backup_is_red", "backup", ["passed", "passed", "failed", "not_run", "passed"]);
}

#[test]
fn restore_is_red() {
    is_red("restore_is_red", "restore", ["passed", "passed", "passed", "failed", "passed"]);
}

#[test]
fn custom_is_red() {
    is_red("custom_is_red", "custom", ["passed", "passed", "passed", "passed", "failed"]);
}

#[test]
fn an_upgrade_that_does_not_come_up_is_red_by_what_the_engine_says() {
    let test = "an_upgrade_that_does_not_come_up_is_red_by_what_the_engine_says";
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    let compose = std::fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    recipe.write("compose.yml", &compose.replace("exec httpd", "echo no more; exit 7; httpd")).commit();
    let record = run(world, &recipe, 1).expect(1).json();
    assert_eq!(statuses(&record), ["passed", "failed", "not_run", "not_run", "not_run"]);
    let reason = tier(&record, "upgrade")["reason"].as_str().unwrap();
    assert!(reason.contains("app"), "{reason}");
    receipt_is_clean(&record);
    nothing_left(&engine, None);
}

#[test]
fn what_a_deployer_adds_to_what_was_judged_is_red_and_taken_down() {
    let test = "what_a_deployer_adds_to_what_was_judged_is_red_and_taken_down";
    let Some(engine) = TestEngine::shared(test) else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    let abra = world.abra();
    for (number, file, at, field) in [
        (1, "services: {app: {volumes: ['/tmp:/host']}}", 1, "Mounts./host was not ordered"),
        (2, "services: {app: {cap_add: [SYS_ADMIN]}}", 2, "CapabilityAdd was not ordered"),
    ] {
        abra.does_at(&[(Wrong::Overlay(file.to_owned()), Some(deploys(world) + at))]);
        // Nobody keeps it for a look.
        let call = call(world, &recipe, number).env("CCCI_KEEP_ON_RED", "1h");
        let record = call.run().expect(1).json();
        assert_eq!(record["kept"], serde_json::Value::Null, "{record:#}");
        let red = if at == 1 { "install" } else { "upgrade" };
        let reason = tier(&record, red)["reason"].as_str().unwrap();
        assert!(reason.contains("is not deployed as its files were judged"), "{reason}");
        assert!(reason.contains(&format!("service app: {field}")), "{reason}");
        assert_eq!(statuses(&record)[2..], ["not_run", "not_run", "not_run"], "{record:#}");
        receipt_is_clean(&record);
        nothing_left(&engine, None);
    }
}
