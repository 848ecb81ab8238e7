//! Output never fails a run and never keeps it: it ends, tears down, and `run.json` has the result.

use std::io;
use std::process::Stdio;

use cc_ci_tests::{World, pipes};
use nix::sys::signal::Signal;

use crate::paused_runs::{self, RUN};

#[test]
fn a_reader_of_stderr_that_died_costs_nothing() {
    let world = World::new();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let (recipe, pipe) = paused_runs::recipe(&world, "exit 0");
    let mut call = paused_runs::run(&world, &recipe).arg("--format").arg("json");
    call.command().stderr(Stdio::from(writer));
    let running = call.start();
    pipes::hear(&pipe);
    let end = running.wait().expect(0);
    assert_eq!(end.json(), world.record(RUN));
    world.assert_empty();
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
    let (recipe, pipe) = paused_runs::recipe(&world, "exit 0");
    let mut call = paused_runs::run(&world, &recipe).arg("--format").arg("json");
    call.command().stderr(Stdio::from(writer));
    let running = call.start();
    pipes::hear(&pipe);
    let end = running.wait().expect(0);
    assert_eq!(end.json(), world.record(RUN), "stdout has its reader");
    world.assert_empty();
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
