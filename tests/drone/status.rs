//! A step has the status of its run, whatever that is.

use std::os::unix::fs::symlink;

use cc_ci_tests::ci::host_program;

use crate::{BUILD, everywhere};

#[test]
fn green_is_0() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        ci.build(&recipe).start("parameters").wait().expect(0);
        let record = ci.recorded(BUILD, "green", 0);
        assert_eq!(record["domain"], ci.world.domain("plain", 7).as_str());
    });
}

#[test]
fn a_pull_request_is_tested_by_its_repository_and_commit() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let pull_request = ci.pull_request(&recipe);
        // Somebody pushes meanwhile.
        let newer = recipe.script("tests/custom-fails", "exit 3").commit();
        pull_request.start("pull-request").wait().expect(0);
        let record = ci.recorded(BUILD, "green", 0);
        // Two runners' workspaces have one name, and recipes don't.
        assert_eq!(record["domain"], ci.world.domain("plain", 7).as_str());
        assert_ne!(record["commit"], newer);
    });
}

#[test]
fn red_is_1() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        recipe.script("tests/custom-fails", "exit 3");
        ci.build(&recipe).start("parameters").wait().expect(1);
        ci.recorded(BUILD, "red", 1);
    });
}

#[test]
fn a_host_that_lacks_git_is_3() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let build = ci.build(&recipe);
        let bin = ci.world.path().join("bin");
        symlink(host_program("setsid"), bin.join("setsid")).expect("a link");
        let end = build.env("PATH", bin).start("parameters").wait().expect(3);
        assert!(end.stderr.contains("git"), "{}", end.stderr);
        ci.world.assert_empty();
    });
}

#[test]
fn a_wait_for_the_lock_that_took_too_long_is_75() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let (holder, gate) = crate::cancelled::hold(&ci.world);
        ci.build(&recipe).env("CCCI_LOCK_TIMEOUT", "1ms").start("parameters").wait().expect(75);
        gate.open();
        holder.wait().expect(0);
        ci.world.assert_empty();
    });
}

#[test]
fn a_log_that_nobody_reads_any_more_changes_nothing() {
    everywhere(|ci| {
        let recipe = ci.world.recipe("plain");
        let gate = ci.world.gate("gate");
        recipe.script("tests/custom-gate", &gate.script());
        let mut step = ci.build(&recipe).start("parameters");
        gate.wait();
        step.close_log();
        gate.open();
        step.wait().expect(0);
        ci.recorded(BUILD, "green", 0);
    });
}
