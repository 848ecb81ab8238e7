//! A run waits until the host has a place and room for it: visibly, within a bound, and in nobody's way.

use std::fs;
use std::time::{Duration, Instant};

use cc_ci_tests::{CcCi, Recipe, StartedCommand, World, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::paused_runs::{self, RUN};

fn limit(world: &World, limits: &str) {
    let config = fs::read_to_string(world.config()).expect("a configuration");
    fs::write(world.config(), format!("{config}janitor_budget = \"0s\"\n[limits]\n{limits}\n"))
        .expect("it is written");
}

/// A run of pull request `number`.
fn call(world: &World, recipe: &Recipe, id: &str, number: &str) -> CcCi {
    world.cc_ci(["run", "--run-id", id, "--pr", number]).arg(recipe.path())
}

/// A world with one place, and a run that has it and stands still in its test. Other runs of the recipe go through.
fn one_place(world: &World) -> (Recipe, StartedCommand, cc_ci_tests::Gate) {
    limit(world, "runs = 1");
    let (recipe, gate) = (world.recipe("plain"), world.gate("first"));
    let script = format!("[ \"$CCCI_RUN_ID\" != {RUN} ] || {{ {}; }}", gate.script());
    recipe.script("tests/custom-gate", &script).commit();
    let first = call(world, &recipe, RUN, "1").start();
    gate.wait();
    (recipe, first, gate)
}

#[test]
fn a_run_waits_for_its_place_and_says_who_has_it() {
    let world = World::new();
    let (recipe, first, gate) = one_place(&world);
    let mut second = call(&world, &recipe, "2", "2").arg("--deadline").arg("1h").start();
    second.wait_for("== admission: the one place of this host (limits.runs) — waiting ==");
    let holder = second.wait_for("held by ");
    assert!(holder.contains(&format!("pid {}, run 1 of plain", first.pid())), "{holder}");
    assert!(paused_runs::state(&mut second).contains("waits for the one place of this host"));
    let status = world.cc_ci(["status", "--format", "json"]).run().expect(0).json();
    let live =
        status["live"].as_array().unwrap().iter().find(|live| live["run_id"] == "2").expect("it is live");
    assert_eq!((&live["phase"], &live["exists"]), (&json!("admission"), &json!({})), "{live:#}");
    gate.open();
    first.wait().expect(0);
    let end = second.wait().expect(0);
    assert!(end.stderr.contains("== admission: admitted == (waited "), "{}", end.stderr);
    assert!(world.record(RUN)["lock_waited_seconds"].as_f64().unwrap() < 1.0);
    assert!(world.record("2")["lock_waited_seconds"].as_f64().unwrap() > 0.0);
    // The files of places are nobody's apps.
    assert_eq!(
        world.cc_ci(["locks", "--format", "json"]).run().expect(0).json()["locks"].as_array().unwrap().len(),
        2
    );
    world.assert_empty();
}

#[test]
fn who_waits_for_a_lock_has_no_place_and_who_has_a_place_waits_for_no_lock() {
    let world = World::new();
    let (recipe, first, gate) = one_place(&world);
    let mut same = call(&world, &recipe, "2", "1").start();
    same.wait_for("== app lock: ");
    let mut other = call(&world, &recipe, "3", "3").start();
    other.wait_for("== admission: ");
    gate.open();
    for run in [first, same, other] {
        run.wait().expect(0);
    }
    world.assert_empty();
}

#[test]
fn a_killed_run_frees_its_place() {
    let world = World::new();
    let (recipe, first, _gate) = one_place(&world);
    let mut second = call(&world, &recipe, "2", "2").start();
    second.wait_for("== admission: ");
    first.signal(Signal::SIGKILL);
    first.wait().expect(137);
    second.wait().expect(0);
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
}

#[test]
fn a_wait_that_is_too_long_ends_with_75_and_one_that_is_cancelled_at_once() {
    let world = World::new();
    let (recipe, first, gate) = one_place(&world);
    let end = call(&world, &recipe, "2", "2").arg("--lock-timeout").arg("1s").run().expect(75);
    assert!(
        end.stderr.contains("hint: see what goes on: cc-ci status; or wait longer: --lock-timeout"),
        "{}",
        end.stderr
    );
    let record = world.record("2");
    let evidence = record["digest"]["evidence"].as_str().unwrap();
    assert!(evidence.starts_with("this host had no place or no room"), "{evidence}");
    assert_eq!(
        (&record["verdict"], &record["deploy_count"]),
        (&json!("lock_timeout"), &json!(0)),
        "{record:#}"
    );
    assert!(record["digest"]["what"].as_str().unwrap().contains("(limits.runs)"), "{}", record["digest"]);
    assert_eq!(record["receipt"]["left"], json!([]));
    let mut third = call(&world, &recipe, "3", "3").start();
    third.wait_for("== admission: ");
    third.signal(Signal::SIGTERM);
    third.wait().expect(143);
    assert_eq!(world.record("3")["cancelled_by"], "term");
    gate.open();
    first.wait().expect(0);
    world.assert_empty();
}

#[test]
fn the_deadline_stands_still_while_it_waits() {
    let world = World::new();
    let (_, first, gate) = one_place(&world);
    // A red app is kept until the deadline: so that is told.
    let red = world.recipe("red");
    red.script("tests/custom-fails", "exit 1").commit();
    let args = ["--deadline", "10m", "--keep-on-red", "1h"];
    let mut second = call(&world, &red, "2", "2").args(args).start();
    second.wait_for("== admission: ");
    let began = Instant::now();
    until("it has waited for longer than a run takes to begin", || began.elapsed() > Duration::from_secs(5));
    gate.open();
    first.wait().expect(0);
    second.wait_for("red; kept until ");
    let record = world.record("2");
    let at = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let until = at(&record["kept"]["until"]).duration_since(at(&record["started"])).as_secs_f64();
    assert!(record["lock_waited_seconds"].as_f64().unwrap() > 5.0, "{record:#}");
    assert!(until > 600.0, "{until} s, though it had waited: {record:#}");
    second.signal(Signal::SIGTERM);
    second.wait().expect(1);
    world.assert_empty();
}

#[test]
fn a_run_waits_for_room_on_disk_and_for_memory() {
    for (limits, says) in [
        ("free_disk = \"8000000 TiB\"", "(limits.free_disk)"),
        ("free_memory = \"8000000 TiB\"", "(limits.free_memory)"),
    ] {
        let world = World::new();
        limit(&world, limits);
        let recipe = world.recipe("plain");
        recipe.commit();
        let mut run = call(&world, &recipe, RUN, "1").start();
        let line = run.wait_for("== admission: ");
        assert!(line.contains(says) && line.ends_with(" — waiting =="), "{line}");
        run.signal(Signal::SIGTERM);
        run.wait().expect(143);
        world.assert_empty();
    }
}
