//! Whatever ends a step leaves nothing: not the app, not a process, not a lock.

use std::path::Path;

use cc_ci_tests::{Gate, StartedCommand, World};
use nix::sys::signal::Signal;

use crate::{BUILD, everywhere};

/// Somebody who works on the app of pull request 7 until the gate opens.
pub fn hold(world: &World) -> (StartedCommand, Gate) {
    let gate = world.gate("held");
    let domain = world.domain("plain", 7);
    let call = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c"]).arg(gate.script());
    let holder = call.start();
    gate.wait();
    (holder, gate)
}

#[test]
fn term_is_passed_on_and_is_143() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let gate = ci.world.gate("gate");
        recipe.script("tests/custom-gate", &gate.script());
        for (event, step) in ["parameters", "pull-request"].into_iter().enumerate() {
            let build = if event == 0 { ci.build(&recipe) } else { ci.pull_request(&recipe) };
            let step = build.start(step);
            gate.wait();
            step.signal(Signal::SIGTERM);
            step.wait().expect(143);
            let run = if event == 0 { BUILD } else { "41.2" };
            let record = ci.recorded(run, "cancelled", 143);
            assert_eq!(record["cancelled_by"], "term", "it was told so, and did not have to find out");
        }
    });
}

#[test]
fn a_cancelled_step_leaves_nothing_although_its_workspace_and_home_and_log_are_gone() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let gate = ci.world.gate("gate");
        recipe.script("tests/custom-gate", &gate.script());
        let mut runs = [BUILD, "41.2", "41.3", "41.4"].into_iter();
        for whom in ci.cancels() {
            for step in ["parameters", "pull-request"] {
                let build = if step == "parameters" { ci.build(&recipe) } else { ci.pull_request(&recipe) };
                let step = build.start(step);
                gate.wait();
                assert!(!ci.world.resources().is_empty(), "there is an app to remove");
                step.cancel(*whom);
                let record = ci.recorded(runs.next().expect("a run"), "cancelled", 143);
                assert_ne!(record["receipt"]["removed"], serde_json::json!([]), "{record:#}");
            }
        }
        ci.world.cc_ci(["audit"]).run().expect(0);
    });
}

#[test]
fn a_step_that_is_cancelled_in_any_phase_leaves_nothing() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        recipe.release("1.0.0+1");
        recipe.compose("2", "");
        for whom in ci.cancels() {
            // The shell's own echo: cc-ci is about to start, or has, or has not.
            for phase in ["+ ", "-- fetch", "-- install", "-- upgrade", "-- backup", "-- teardown"] {
                let mut step = ci.build(&recipe).start("parameters");
                step.wait_for(phase);
                step.cancel(*whom);
                ci.world.assert_empty();
            }
        }
        ci.world.cc_ci(["audit"]).run().expect(0);
    });
}

#[test]
fn a_step_that_is_cancelled_before_it_says_anything_leaves_nothing() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        for whom in ci.cancels() {
            ci.build(&recipe).start("parameters").cancel(*whom);
            ci.world.assert_empty();
        }
    });
}

#[test]
fn a_step_that_is_cancelled_while_it_waits_for_the_lock_leaves_the_holder_alone() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let (holder, gate) = hold(&ci.world);
        let held = |path: &Path| std::fs::File::open(path).expect("a lock file").try_lock().is_err();
        let lock = ci.world.lock_file(&ci.world.domain("plain", 7));
        for whom in ci.cancels() {
            let mut step = ci.build(&recipe).start("parameters");
            step.wait_for("in flight — waiting");
            step.cancel(*whom);
            assert!(held(&lock), "the lock is the holder's");
        }
        gate.open();
        holder.wait().expect(0);
        // A cancelled wait never acquires.
        assert!(!held(&lock), "somebody has the lock");
        ci.world.assert_empty();
    });
}
