//! Whatever ends a run goes through one teardown, with its own exit code.

use cc_ci_tests::World;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::frozen::Frozen;
use crate::paused_runs::{self, RUN};

const SLEEP: &str = "exec sleep 1000";

fn a_signal_ends_the_run(signal: Signal, code: i32) {
    let world = World::new();
    let (running, _) = paused_runs::in_a_test(&world, SLEEP);
    running.signal(signal);
    let (end, record) = paused_runs::torn_down(&world, running, code);
    assert!(end.stderr.contains(&format!("ended by {signal}")), "{}", end.stderr);
    assert_ne!(record["receipt"]["removed"], serde_json::json!([]), "there was an app to remove");
    let custom = &record["tiers"][4];
    assert_eq!(custom["status"], "not_run", "red and green are both untrue: {custom}");
}

#[test]
fn term_tears_down_and_ends_with_143() {
    a_signal_ends_the_run(Signal::SIGTERM, 143);
}

#[test]
fn int_tears_down_and_ends_with_130() {
    a_signal_ends_the_run(Signal::SIGINT, 130);
}

#[test]
fn hup_tears_down_and_ends_with_129() {
    a_signal_ends_the_run(Signal::SIGHUP, 129);
}

#[test]
fn the_deadline_tears_down_and_ends_with_142_and_the_log_says_so() {
    let world = World::new();
    let (recipe, _pipe) = paused_runs::recipe(&world, SLEEP);
    // Nobody hears the test: wherever the run is by then, it stays there.
    let running = paused_runs::run(&world, &recipe).arg("--deadline").arg("2s").start();
    let (end, _) = paused_runs::torn_down(&world, running, 142);
    assert!(end.stderr.contains("ended by deadline"), "{}", end.stderr);
}

#[test]
fn a_killed_parent_tears_down() {
    let world = World::new();
    // The shell has something left to do, so it does not become the command.
    let (shell, _) =
        paused_runs::in_a_test_with(&world, SLEEP, |call| call.inside(&["sh", "-c", r#""$0" "$@"; :"#]));
    shell.signal(Signal::SIGKILL);
    // Until the last one that could write to stderr is gone.
    let end = shell.wait().expect(137);
    assert!(end.stderr.contains("ended by death of the parent process"), "{}", end.stderr);
    paused_runs::recorded(&world, 143);
}

#[test]
fn a_second_and_a_third_signal_are_told_and_teardown_goes_on() {
    let world = World::new();
    let (mut running, _) = paused_runs::in_a_test(&world, SLEEP);
    let test = "a_second_and_a_third_signal_are_told_and_teardown_goes_on";
    let Some(service) = Frozen::keep(test, paused_runs::service(&world)) else { return };
    running.signal(Signal::SIGINT);
    service.wait_for_its_end();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        running.signal(signal);
        running.wait_for(&format!("{signal} came during teardown"));
    }
    service.let_go();
    // The first cause decides.
    paused_runs::torn_down(&world, running, 130);
}

#[test]
fn when_the_budget_is_spent_the_receipt_names_what_is_left_and_the_janitor_finishes() {
    let world = World::new();
    let (running, _) =
        paused_runs::in_a_test_with(&world, SLEEP, |call| call.arg("--teardown-budget").arg("1ms"));
    let test = "when_the_budget_is_spent_the_receipt_names_what_is_left_and_the_janitor_finishes";
    let pid = paused_runs::service(&world);
    let Some(service) = Frozen::keep(test, pid) else { return };
    running.signal(Signal::SIGTERM);
    service.wait_for_its_end();
    let end = running.wait().expect(4);
    assert!(end.stdout.contains(&pid.to_string()), "{}", end.stdout);
    let record = world.record(RUN);
    assert_eq!(record["verdict"], "residue");
    assert_eq!(record["cancelled_by"], "term");
    let left = record["receipt"]["left"].to_string();
    assert!(
        left.contains(&pid.to_string()) && left.contains("volume"),
        "files stay with their process: {left}"
    );
    service.let_go();
    paused_runs::reaped_by_one_pass(&world);
}

#[test]
fn a_running_command_can_be_asked_what_it_does() {
    let world = World::new();
    let (mut running, pid) = paused_runs::in_a_test(&world, SLEEP);
    running.wait_for("-- custom");
    let state = paused_runs::state(&mut running);
    let (who, for_how_long) = (format!("custom.sh (pid {pid})"), ", running for ");
    assert!(state.starts_with("   custom ") && state.contains("recipe/custom.sh "), "{state}");
    assert!(state.contains(&who) && state.contains(for_how_long), "{state}");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the test runs");
    // The question ended nothing: the run goes on to its verdict.
    running.wait().expect(1);
    world.assert_empty();
}
