//! Output never fails a run and never keeps it: it ends, tears down, and `run.json` has the result.

use std::io;
use std::process::Stdio;

use cc_ci_tests::{World, pipes};
use nix::sys::signal::Signal;

use crate::paused_runs::{self, RUN};

/// A run with this for its stderr is green, and tells its result to the reader of stdout.
#[track_caller]
fn is_green_all_the_same(world: &World, stderr: Stdio) {
    let (recipe, pipe) = paused_runs::recipe(world, "exit 0");
    let mut call = paused_runs::run(world, &recipe).arg("--format").arg("json");
    call.command().stderr(stderr);
    let running = call.start();
    pipes::hear(&pipe);
    let end = running.wait().expect(0);
    assert_eq!(end.json(), world.record(RUN));
    world.assert_empty();
}

#[test]
fn a_reader_of_stderr_that_died_costs_nothing() {
    let world = World::new();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    is_green_all_the_same(&world, writer.into());
}

#[test]
fn a_reader_of_stderr_that_died_is_no_reason_to_skip_teardown() {
    let world = World::new();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let (running, _) = paused_runs::in_a_test_with(&world, "exec sleep 1000", |mut call| {
        call.command().stderr(Stdio::from(writer));
        call
    });
    running.signal(Signal::SIGTERM);
    running.wait().expect(143);
    paused_runs::recorded(&world, 143);
}

#[test]
fn a_reader_of_stderr_that_stopped_delays_neither_the_run_nor_its_result() {
    let world = World::new();
    let (reader, writer) = pipes::full();
    is_green_all_the_same(&world, writer.into());
    drop(reader);
}

#[test]
fn a_reader_of_both_that_stopped_does_not_keep_a_cancelled_run() {
    let world = World::new();
    let (errors, results) = (pipes::full(), pipes::full());
    let (running, _) = paused_runs::in_a_test_with(&world, "exec sleep 1000", |mut call| {
        call.command().stderr(Stdio::from(errors.1)).stdout(Stdio::from(results.1));
        call
    });
    running.signal(Signal::SIGTERM);
    running.wait().expect(143);
    paused_runs::recorded(&world, 143);
    drop((errors.0, results.0));
}

#[test]
fn the_stdout_of_with_lock_is_its_commands_alone() {
    let world = World::new();
    let domain = world.domain("plain", 7);
    let call = |words: &[&str]| {
        let line = ["with-lock", domain.as_str()].into_iter().chain(words.iter().copied());
        world.cc_ci(line).env("CCCI_FORMAT", "ndjson").run()
    };
    assert_eq!(call(&["--", "echo", "mine"]).expect(0).stdout, "mine\n");
    assert_eq!(call(&["--", "/nowhere/x"]).expect(127).stdout, "");
    assert_eq!(call(&["--lock-timeout", "soon", "--", "true"]).expect(2).stdout, "");
    let usage = world.cc_ci(["locks", "--nope", "--format", "json"]).run().expect(2);
    assert!(usage.json()["error"].as_str().unwrap().contains("--nope"), "{}", usage.stdout);
}

#[test]
fn a_host_without_threads_is_told() {
    let test = "a_host_without_threads_is_told";
    if !nix::unistd::geteuid().is_root() {
        return cc_ci_tests::skip(test, "needs root, to become another user");
    }
    let world = World::new();
    // A user of its own: the kernel counts a user's processes over the whole host.
    let program = world.path().join("cc-ci");
    let words = world.cc_ci([""; 0]).words();
    let copied = std::process::Command::new("cp").arg(&words[0]).arg(&program).status().unwrap();
    assert!(copied.success());
    let status = |limit| {
        let user = ["setpriv", "--reuid", "12347", "--regid", "12347", "--clear-groups"];
        let script = format!("exec {} \"$@\"", program.display());
        let outer = [&["prlimit", limit][..], &user, &["sh", "-c", &script]].concat();
        world.cc_ci(["status"]).inside(&outer).run()
    };
    for limit in ["--nproc=1", "--nproc=2"] {
        let end = status(limit).expect(3);
        assert!(end.stderr.contains("ulimit -u"), "{limit}: {end:?}");
    }
    // Where none is left for what is written, it is written all the same.
    let end = status("--nproc=3").expect(0);
    assert!(end.stdout.contains("nothing is left behind"), "{end:?}");
}
