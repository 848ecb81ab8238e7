//! What passes of the janitor can't reap is put aside for a while: it is told, it is never forgotten, and never taken for done.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cc_ci_core::CiHost;
use cc_ci_core::janitor::Decision;
use cc_ci_core::names::Domain;
use cc_ci_core::system_info::BootId;
use cc_ci_tests::{Recipe, World};
use jiff::SignedDuration;
use serde_json::Value;

use crate::doubles::{Elsewhere, of, pass};
use crate::eventful::Eventful;

/// A host on which something of every app stays, whatever is done, so many minutes ahead.
fn stuck(world: &World, minutes: i64) -> CiHost {
    let (real, boot) = (world.host(), BootId::current().unwrap());
    let host = Elsewhere { real, ahead: SignedDuration::from_mins(minutes), boot };
    CiHost { engine: Eventful::leaky(world, "secrets"), ..world.ci_host_on(Arc::new(host), []) }
}

/// A killed run's app, and three passes that could not reap it.
fn put_aside(world: &World, recipe: &Recipe) -> Domain {
    let domain = world.killed_run(recipe, 1);
    for _ in 0..3 {
        let report = pass(&stuck(world, 0), |_| ());
        assert_eq!(of(&report, &domain).decision, Decision::Failed);
        assert!(report.leaves_residue());
    }
    domain
}

fn record_of(world: &World, domain: &Domain) -> PathBuf {
    world.runs().join(".quarantine").join(format!("{domain}.json"))
}

/// What one real pass decided of `domain`.
fn decided(world: &World, args: &[&str], code: i32, domain: &Domain) -> String {
    let report = world.cc_ci(["janitor", "--format", "json"]).args(args).run().expect(code).json();
    let found =
        report["findings"].as_array().unwrap().iter().find(|found| found["domain"] == domain.as_str());
    found.map_or_else(|| "none".to_owned(), |found| found["decision"].as_str().unwrap().to_owned())
}

#[test]
fn what_failed_three_passes_is_told_by_all_who_look_until_somebody_has_it_tried() {
    let world = World::new();
    let domain = put_aside(&world, &world.recipe("aside"));
    let retry = format!("cc-ci janitor --retry {domain}");
    // Nothing is in its way any more, and nobody knows.
    assert_eq!(decided(&world, &[], 4, &domain), "quarantined");
    assert_eq!(decided(&world, &["--dry-run"], 4, &domain), "quarantined");
    let other = world.domain("aside", 2);
    assert_eq!(decided(&world, &["--retry", other.as_str()], 4, &domain), "quarantined");
    assert!(!world.resources().is_empty(), "it was tried");
    for (command, code) in [("janitor", 4), ("status", 0), ("audit", 4), ("doctor", 1)] {
        let told = world.cc_ci([command]).run().expect(code).stdout;
        assert!(told.contains(&retry) && told.contains("3 passes could not reap it"), "{command}: {told}");
    }
    let status = world.cc_ci(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!(status["left"][0]["quarantine"]["failures"], 3, "{status:#}");
    assert_eq!(decided(&world, &["--retry", domain.as_str()], 0, &domain), "reaped");
    world.assert_empty();
    assert!(!world.runs().join(".quarantine").exists(), "it is over");
    assert!(!world.lock_file(&domain).exists());
    let refused = world.cc_ci(["janitor", "--retry", "blog.example.org"]).run().expect(2).stderr;
    assert!(refused.contains("blog.example.org is no run app"), "{refused}");
}

#[test]
fn it_is_tried_again_after_a_pause_that_grows_and_in_another_boot_at_once() {
    let world = World::new();
    let domain = put_aside(&world, &world.recipe("again"));
    let decided = |ci_host: &CiHost| of(&pass(ci_host, |_| ()), &domain).decision;
    for (minutes, decision) in [
        (14, Decision::Quarantined),
        (16, Decision::Failed),
        // The pause after the fourth failure is half an hour.
        (16 + 29, Decision::Quarantined),
        (16 + 31, Decision::Failed),
        (16 + 31 + 59, Decision::Quarantined),
    ] {
        assert_eq!(decided(&stuck(&world, minutes)), decision, "after {minutes} min");
    }
    let boot = BootId::new("another");
    let rebooted = Elsewhere { real: world.host(), ahead: SignedDuration::from_mins(60), boot };
    world.kill_everything();
    assert_eq!(decided(&world.ci_host_on(Arc::new(rebooted), [])), Decision::Reaped);
    world.assert_empty();
    assert!(!record_of(&world, &domain).exists());
}

#[test]
fn a_record_that_says_nothing_keeps_nobody_from_trying() {
    let world = World::new();
    let domain = put_aside(&world, &world.recipe("torn"));
    let record = record_of(&world, &domain);
    let text = fs::read_to_string(&record).unwrap();
    // Of the future: a clock was put back, or somebody wants it left alone for ever.
    let mut future: Value = serde_json::from_str(&text).unwrap();
    future["last"] = "2999-01-01T00:00:00Z".into();
    for bad in ["", "{", &text[..text.len() / 2], &future.to_string()] {
        fs::write(&record, bad).unwrap();
        assert_eq!(of(&pass(&stuck(&world, 0), |_| ()), &domain).decision, Decision::Failed, "{bad}");
    }
    // What it is now, is what a first failure left.
    let first: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    assert_eq!(first["failures"], 1, "{first:#}");
    assert_eq!(decided(&world, &[], 0, &domain), "reaped");
    world.assert_empty();
}

#[test]
fn a_run_recovers_its_domain_whatever_passes_could_not_and_is_live_meanwhile() {
    let world = World::new();
    let recipe = world.recipe("mine");
    let domain = put_aside(&world, &recipe);
    let gate = world.gate("deployed");
    recipe.script("tests/custom-gate", &gate.script()).commit();
    let run = world.cc_ci(["run", "--pr", "1", "--run-id", "1"]).arg(recipe.path()).start();
    gate.wait();
    assert_eq!(decided(&world, &[], 0, &domain), "live");
    assert!(!record_of(&world, &domain).exists(), "it was recovered");
    gate.open();
    run.wait().expect(0);
    world.assert_empty();
}

#[test]
fn a_record_of_what_is_gone_goes_too() {
    let world = World::new();
    let domain = put_aside(&world, &world.recipe("gone"));
    let text = fs::read_to_string(record_of(&world, &domain)).unwrap();
    assert_eq!(decided(&world, &["--retry", domain.as_str()], 0, &domain), "reaped");
    fs::create_dir(world.runs().join(".quarantine")).unwrap();
    fs::write(record_of(&world, &domain), text).unwrap();
    assert_eq!(decided(&world, &[], 0, &domain), "stale_lock");
    assert!(!record_of(&world, &domain).exists() && !world.lock_file(&domain).exists());
}
