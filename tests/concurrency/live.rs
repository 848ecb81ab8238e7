//! What a run tells while it goes on, and to whom.

use std::path::PathBuf;

use cc_ci_tests::{Recipe, World, pipes};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::on_terminal::Typist;
use crate::paused_runs::{self, RUN};

/// A recipe whose last test tells its pid through the first pipe, and ends once it reads something from the second.
fn stopping(world: &World) -> (Recipe, PathBuf, PathBuf) {
    let go = world.fifo("go");
    let (recipe, told) = paused_runs::recipe(world, &format!("read line < {}", go.display()));
    (recipe, told, go)
}

#[test]
fn a_terminal_shows_what_goes_on_below_what_was_told() {
    let world = World::new();
    let (recipe, told, go) = stopping(&world);
    let call = paused_runs::run(&world, &recipe).env("TERM", "xterm");
    let (typist, mut child) = Typist::start(call.inside(&["setsid", "--ctty", "--wait"]));
    pipes::hear(&told);
    let typist =
        typist.sees("run 1 of plain ").sees("install passed ").sees("recipe/custom.sh ").sees(" of 5m");
    // The next turn of the clock.
    let typist = typist.sees("\x1b[2K").sees(" of 5m");
    pipes::tell(&go);
    let _typist = typist.sees("passed  recipe/custom.sh (").sees("left nothing");
    assert!(child.wait().unwrap().success());
    world.assert_empty();
}

#[test]
fn a_dumb_terminal_is_written_to_line_by_line() {
    let world = World::new();
    let (recipe, told, go) = stopping(&world);
    let call = paused_runs::run(&world, &recipe).env("TERM", "dumb");
    let (typist, mut child) = Typist::start(call.inside(&["setsid", "--ctty", "--wait"]));
    pipes::hear(&told);
    pipes::tell(&go);
    let shown = typist.sees("left nothing").seen;
    assert!(!shown.contains('\x1b'), "{shown}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_run_that_awaits_its_lock_can_be_asked_and_names_the_holder() {
    let world = World::new();
    let (recipe, told, go) = stopping(&world);
    let first = paused_runs::run(&world, &recipe).start();
    pipes::hear(&told);
    let mut second = world.cc_ci(["run", "--run-id", "2", "--pr", "7"]).arg(recipe.path()).start();
    second.wait_for("held by");
    second.signal(Signal::SIGUSR1);
    let state = second.wait_for("waits for the lock of ");
    let (domain, pid) = (world.domain("plain", 7), first.pid());
    assert!(state.starts_with("   lock "), "{state}");
    assert!(state.contains(&format!("{domain} ")) && state.contains(" of 1h, held by "), "{state}");
    assert!(state.contains(&format!("pid {pid}, run {RUN} of plain")), "{state}");
    second.signal(Signal::SIGTERM);
    second.wait().expect(143);
    pipes::tell(&go);
    first.wait().expect(0);
}

#[test]
fn a_program_reads_each_event_and_then_the_result_line_by_line() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let end = paused_runs::run(&world, &recipe).arg("--format").arg("ndjson").run().expect(0);
    let mut lines: Vec<Value> = end.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.pop().unwrap(), world.record(RUN));
    assert!(
        lines.iter().all(|line| line["schema"] == "cc-ci.event/v1" && line["at"].is_string()),
        "{lines:?}"
    );
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("run_started").len(), 1);
    let (begun, ended) = (of("step_started"), of("step"));
    assert_eq!(begun.len(), ended.len(), "{lines:?}");
    assert!(ended.iter().all(|step| step["took"].is_f64()), "{ended:?}");
    let up = of("converging");
    assert!(up.iter().any(|look| look["up"] == look["of"] && look["limit"].is_f64()), "{lines:?}");
}

#[test]
fn an_error_is_a_result_for_whoever_reads_results_by_program() {
    let world = World::new();
    for format in ["json", "ndjson"] {
        let call = world.cc_ci(["status", "--format", format]).env("CCCI_CONFIG", "/nowhere/config.toml");
        let error = call.run().expect(2).json();
        assert_eq!((&error["schema"], &error["exit_code"]), (&"cc-ci.error/v1".into(), &2.into()), "{error}");
        assert!(error["error"].as_str().unwrap().contains("/nowhere/config.toml"), "{error}");
        assert!(!error["causes"].as_array().unwrap().is_empty(), "{error}");
    }
    let error = world.cc_ci(["jantor", "--format", "json"]).run().expect(2).json();
    assert_eq!((&error["schema"], &error["exit_code"]), (&"cc-ci.error/v1".into(), &2.into()), "{error}");
    let domain = world.domain("plain", 1);
    let call = world.cc_ci(["with-lock", "--format", "json", domain.as_str(), "--", "/nowhere/command"]);
    assert_eq!(call.run().expect(127).stdout, "", "its stdout is its command's");
}

#[test]
fn a_quiet_run_tells_its_result_and_a_verbose_one_names_what_it_removed() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let quiet = paused_runs::run(&world, &recipe).arg("-q").run().expect(0);
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains("left nothing"), "{}", quiet.stdout);
    let verbose = world.cc_ci(["run", "-v", "--run-id", "2", "--pr", "7"]).arg(recipe.path()).run().expect(0);
    assert!(verbose.stderr.contains("   begins  deploy\n"), "{}", verbose.stderr);
    assert!(verbose.stdout.contains("    removed process "), "{}", verbose.stdout);
}
