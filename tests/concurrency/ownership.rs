//! Ownership is checked, not remembered (I16): whose lock file is removed changes nothing more, and is left alone.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;

use cc_ci_tests::World;

use crate::warmed::Warmed;

#[test]
fn a_live_run_without_its_lock_file_is_left_by_all_and_ends_with_3_hands_off() {
    let world = World::new();
    let (recipe, gate) = (world.recipe("lost"), world.gate("custom"));
    recipe.script("tests/custom", &gate.script()).commit();
    let first = world.cc_ci(["run", "--pr", "1", "--run-id", "1"]).arg(recipe.path()).start();
    gate.wait();
    let (domain, left) = (world.domain("lost", 1), world.resources());
    fs::remove_file(world.lock_file(&domain)).unwrap();
    let report = world.cc_ci(["janitor", "--format", "json"]).run().expect(0).json();
    assert_eq!(report["findings"][0]["decision"], "live", "{report}");
    let second = world.cc_ci(["run", "--pr", "1", "--run-id", "2"]).arg(recipe.path()).run().expect(3);
    let message = format!("run 1 (pid {}) still works on {domain}", first.pid());
    let shown = second.stdout + &second.stderr;
    assert!(shown.contains(&message), "{shown}");
    assert_eq!(world.record("1")["owned"], true);
    gate.open();
    let ended = first.wait().expect(3);
    let shown = ended.stdout + &ended.stderr;
    assert!(shown.contains("is lost: ") && shown.contains("cc-ci locks"), "{shown}");
    // Its own children ended with it.
    let now = world.resources();
    let gone: Vec<_> = left.difference(&now).filter(|line| !line.contains(" v1/run/")).collect();
    assert!(gone.is_empty(), "a run that lost its lock tore the app down: {gone:#?}");
    assert_eq!(world.record("1")["verdict"], "harness_failed");
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
}

#[test]
fn a_quick_run_that_lost_the_warm_app_leaves_it_as_it_stands() {
    let warmed = Warmed::new();
    let (before, gate) = (warmed.persistent(), warmed.gate("custom"));
    warmed.change().script("tests/custom-gate", &gate.script()).commit();
    let run = warmed.quick("lost").start();
    gate.wait();
    let upgraded = warmed.persistent();
    assert_ne!(upgraded, before);
    fs::remove_file(warmed.lock_file(&warmed.domain)).unwrap();
    gate.open();
    let ended = run.wait().expect(3);
    assert!(ended.json()["errors"].to_string().contains("is lost: "), "{}", ended.stdout);
    assert_eq!(warmed.persistent(), upgraded, "a run that lost its lock rolled the app back");
    assert_eq!(warmed.record("lost")["dirty"], true, "nobody is told that it must be restored");
    assert_eq!(warmed.reconciled()["outcome"], "restored");
    assert_eq!(warmed.persistent(), before);
}

#[test]
fn a_reconcile_that_lost_the_warm_app_removes_nothing_more() {
    let sick = std::env::temp_dir().join(format!("cc-ci-lost-sick-{}", std::process::id()));
    let warmed = Warmed::with(&format!("environment:\n        UNHEALTHY_WHILE: {}", sick.display()));
    let before = warmed.persistent();
    warmed.killed();
    let added = warmed.app("volumes").join(format!("{}_extra", warmed.stack()));
    assert!(added.exists());
    fs::write(&sick, "").unwrap();
    let mut reconcile = warmed.reconcile().start();
    // It waits for the app's health.
    reconcile.wait_for("is restored to");
    fs::remove_file(warmed.lock_file(&warmed.domain)).unwrap();
    fs::remove_file(&sick).unwrap();
    let ended = reconcile.wait().expect(3);
    assert!(ended.stdout.contains("is lost: "), "{}", ended.stdout);
    assert!(added.exists(), "what others may own by now was removed");
    assert_eq!(warmed.reconciled()["outcome"], "restored");
    assert_eq!(warmed.persistent(), before);
}

#[test]
fn a_janitor_waits_no_longer_than_it_is_told_for_a_claim_and_for_all() {
    let world = World::new();
    fs::create_dir_all(world.local_root()).unwrap();
    let mut options = fs::OpenOptions::new();
    let held = options.write(true).create(true).truncate(false).mode(0o600);
    let held = held.open(world.local_root().join("lock-space.lock")).unwrap();
    held.lock().unwrap();
    let ended = world.cc_ci(["janitor", "--claim-timeout", "1s"]).run().expect(3);
    assert!(ended.stderr.contains("lock-space.lock was held for 1s by "), "{}", ended.stderr);
    let ended = world.cc_ci(["janitor", "--deadline", "1s"]).run().expect(3);
    assert!(ended.stderr.contains("the janitor's time is over, after 1s"), "{}", ended.stderr);
    drop(held);
    world.cc_ci(["janitor", "--deadline", "1m"]).run().expect(0);
}
