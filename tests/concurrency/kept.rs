//! `--keep-on-red`: a red app stays up for a person to look, and its run stays its live owner.

use std::fs;

use cc_ci_tests::{Recipe, StartedCommand, World, unconfined};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::paused_runs::{self, RUN};

/// A recipe whose last test fails.
fn red(world: &World) -> Recipe {
    let recipe = world.recipe("plain");
    recipe.script("tests/custom-fails", "exit 1").commit();
    recipe
}

/// A red run that keeps its app, and the line that says so.
fn kept(world: &World) -> (StartedCommand, String) {
    let recipe = red(world);
    let mut running = paused_runs::run(world, &recipe).arg("--keep-on-red").arg("1h").start();
    let line = running.wait_for("red; kept until ");
    (running, line)
}

/// The run ended as red as it was, tore down, and left nothing; gives what is recorded of the look.
#[track_caller]
fn still_red(world: &World, ended_by: Option<&str>) -> Value {
    world.assert_empty();
    let record = world.record(RUN);
    assert_eq!((&record["verdict"], &record["exit_code"]), (&json!("red"), &json!(1)), "{record:#}");
    assert_eq!(record["cancelled_by"], Value::Null);
    assert_eq!(record["digest"]["step"], "recipe/custom-fails", "{:#}", record["digest"]);
    assert_eq!(record["receipt"]["left"], json!([]));
    assert_ne!(record["receipt"]["verified"], json!([]));
    assert_eq!(record["kept"]["ended_by"], json!(ended_by), "{:#}", record["kept"]);
    record["kept"].clone()
}

#[test]
fn a_red_app_is_kept_for_its_time_and_then_taken_down() {
    let world = World::new();
    let recipe = red(&world);
    // A file says it, too.
    fs::write(world.config(), unconfined("keep_on_red = \"2s\"\n")).unwrap();
    let end = paused_runs::run(&world, &recipe).run().expect(1);
    assert!(end.stderr.contains("== red; kept until "), "{}", end.stderr);
    let kept = still_red(&world, None);
    let seconds = kept["seconds"].as_f64().unwrap();
    assert!((1.9..30.0).contains(&seconds), "{kept}");
    assert!(end.stdout.contains("  kept up for a look: 2s of 2s\n"), "{}", end.stdout);
    let page = fs::read_to_string(world.runs().join(RUN).join("report.html")).unwrap();
    assert!(page.contains("Kept up for a look"), "the page says nothing of it");
    // The flag takes it back.
    let end = paused_runs::run(&world, &recipe).env("CCCI_KEEP_ON_RED", "0s").run().expect(1);
    assert!(!end.stderr.contains("kept until"), "{}", end.stderr);
}

#[test]
fn while_it_is_kept_the_run_is_live_and_the_app_can_be_looked_at_until_it_is_cancelled() {
    let world = World::new();
    let (running, line) = kept(&world);
    assert!(line.ends_with("; end it with `cc-ci cancel 1` =="), "{line}");
    assert!(line.contains(", cc-ci logs 1, "), "{line}");
    // What it names is there: the address answers, the directory is the app's.
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    std::net::TcpStream::connect(address).expect("the app answers");
    let place = line.split(", ").find(|part| part.contains("/apps/")).expect("a directory");
    assert!(std::path::Path::new(place.split(';').next().unwrap()).is_dir(), "{line}");
    let status = world.cc_ci(["status", "--format", "json"]).run().expect(0).json();
    let shown = &status["live"][0];
    assert!(shown["phase"].as_str().unwrap().starts_with("red: kept until "), "{shown:#}");
    assert_eq!((&shown["run_id"], &shown["holder"]), (&json!(RUN), &json!(running.pid())));
    let runs = world.cc_ci(["runs", "--verdict", "live"]).run().expect(0).stdout;
    assert!(runs.contains("red: kept until "), "{runs}");
    assert!(world.cc_ci(["report", RUN]).run().expect(0).stdout.contains("kept up for a look: until "));
    // Nobody else takes it: neither a janitor nor another run of the pull request.
    let janitor = world.cc_ci(["janitor"]).run().expect(0).stdout;
    assert!(janitor.contains("live concurrent run, leaving it"), "{janitor}");
    let recipe = world.recipe_at(&world.path().join("recipes/plain"));
    let mut second = world.cc_ci(["run", "--run-id", "2", "--pr", "7"]).arg(recipe.path()).start();
    second.wait_for("in flight — waiting");
    let holder = second.wait_for("held by ");
    assert!(holder.contains("run 1 of plain, red: kept until "), "{holder}");
    second.signal(Signal::SIGTERM);
    second.wait().expect(143);
    assert!(!world.processes().is_empty(), "the kept app is gone");

    let end = world.cc_ci(["cancel", RUN]).run().expect(0);
    assert!(end.stdout.starts_with("run 1 ended: red; removed "), "{}", end.stdout);
    let end = running.wait().expect(1);
    assert!(end.stderr.contains("== ended by SIGTERM: tearing down =="), "{}", end.stderr);
    still_red(&world, Some("term"));
}

/// Somebody removes its lock file: the run owns its app still (I16), is shown so, and who ends it is told that it could not
/// tell what it left.
#[test]
fn one_whose_lock_file_was_removed_is_live_and_its_cancel_is_no_success() {
    let world = World::new();
    let (running, _) = kept(&world);
    for file in fs::read_dir(world.locks()).unwrap().flatten() {
        fs::remove_file(file.path()).unwrap();
    }
    let status = world.cc_ci(["status", "--format", "json"]).run().expect(0).json();
    assert_eq!((&status["left"], &status["waiting"]), (&json!([]), &json!([])), "{status:#}");
    assert_eq!(
        (&status["live"][0]["run_id"], &status["live"][0]["holder"]),
        (&json!(RUN), &json!(running.pid()))
    );
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(warning.ends_with("run 1 owns it, and its lock file was removed"), "{warning}");
    world.cc_ci(["audit"]).run().expect(0);
    let end = world.cc_ci(["cancel", RUN]).run().expect(3);
    assert!(end.stdout.contains("could not tell what is left"), "{}", end.stdout);
    running.wait().expect(3);
    assert!(!world.processes().is_empty(), "it removed what it did not own any more");
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
}

#[test]
fn one_that_is_killed_meanwhile_still_says_why_it_was_red() {
    let world = World::new();
    let (running, _) = kept(&world);
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
    let record = world.record(RUN);
    let digest = &record["digest"];
    assert_eq!((&record["verdict"], &digest["step"]), (&json!("killed"), &json!("recipe/custom-fails")));
    let what = digest["what"].as_str().unwrap();
    assert!(what.starts_with("custom failed: recipe/custom-fails failed"), "{what}");
    assert!(what.ends_with("; killed while its app was kept up"), "{what}");
    assert_eq!(digest["next"], json!(["cc-ci logs 1 custom-fails"]));
}

#[test]
fn the_deadline_bounds_it() {
    let world = World::new();
    let recipe = red(&world);
    let args = ["--keep-on-red", "1h", "--deadline", "10m"];
    let mut running = paused_runs::run(&world, &recipe).args(args).start();
    running.wait_for("red; kept until ");
    let record = world.record(RUN);
    let at = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let until = at(&record["kept"]["until"]).duration_since(at(&record["started"]));
    assert!((1..=600).contains(&until.as_secs()), "{record:#}");
    running.signal(Signal::SIGINT);
    running.wait().expect(1);
    still_red(&world, Some("int"));
}

#[test]
fn a_parent_that_dies_ends_it() {
    let world = World::new();
    let recipe = red(&world);
    let call = paused_runs::run(&world, &recipe).env("CCCI_KEEP_ON_RED", "1h");
    let mut shell = call.inside(&["sh", "-c", r#""$0" "$@"; :"#]).start();
    shell.wait_for("red; kept until ");
    shell.signal(Signal::SIGKILL);
    shell.wait().expect(137);
    still_red(&world, Some("parent_died"));
}

#[test]
fn what_a_killed_run_had_kept_is_reaped() {
    let world = World::new();
    let (running, _) = kept(&world);
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    paused_runs::reaped_by_one_pass(&world);
    assert_eq!(world.record(RUN)["verdict"], "killed");
}

#[test]
fn what_is_green_or_was_never_up_is_not_kept_and_a_warm_app_never() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let run = |code: i32| paused_runs::run(&world, &recipe).env("CCCI_KEEP_ON_RED", "1h").run().expect(code);
    run(0);
    assert_eq!(world.record(RUN)["kept"], Value::Null);
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    recipe
        .write("compose.yml", &compose.replace("x-cc-ci-local", "privileged: true\n    x-cc-ci-local"))
        .commit();
    let end = run(1);
    assert!(end.stderr.contains("the red app is not kept: nothing of it was deployed"), "{}", end.stderr);
    let end = world.cc_ci(["run", "--quick", "--keep-on-red", "1h"]).arg(recipe.path()).run().expect(2);
    assert!(end.stderr.contains("it is not kept as the commit under test left it"), "{}", end.stderr);
    world.assert_empty();
}

#[test]
fn older_releases_are_not_tried_in_the_place_of_what_is_kept() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.compose("1", "").release("1.0.0+1");
    recipe.compose("2", "").release("1.1.0+1");
    recipe.compose("3", "").script("tests/upgrade-fails", "exit 1").commit();
    let args = ["--upgrade-from", "all", "--keep-on-red", "1h"];
    let mut running = paused_runs::run(&world, &recipe).args(args).start();
    running.wait_for("red; kept until ");
    world.cc_ci(["cancel", RUN]).run().expect(0);
    running.wait().expect(1);
    world.assert_empty();
    let record = world.record(RUN);
    let tiers = record["tiers"].as_array().unwrap();
    let older = tiers.iter().find(|tier| tier["from"] == "1.0.0+1").expect("a tier");
    assert_eq!((&older["status"], &record["deploy_count"]), (&json!("not_run"), &json!(1)), "{record:#}");
    assert!(older["reason"].as_str().unwrap().contains("--keep-on-red"), "{older}");
}
