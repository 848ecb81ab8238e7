//! Whatever ends a run with abra, in whatever tier: nothing is left, by its own teardown or by one pass of the janitor
//! (I8). The pairs are chosen so that each way and each tier is there; each way of an end is one path of the code
//! whatever the tier, so not each pair.

use std::io;
use std::process::Stdio;

use cc_ci_tests::engine::TestEngine;
use cc_ci_tests::stand_in::Wrong;
use cc_ci_tests::{CcCi, Ended, Gate, Recipe, StartedCommand, World, pipes};
use nix::sys::signal::Signal;

use crate::support::{call, light, nothing_left, receipt_is_clean};

/// The run's id, and its pull request.
const RUN: u64 = 7;

/// A light recipe whose test in this tier says that it is there, and stays.
fn staying(world: &World, tier: &str) -> (Recipe, Gate) {
    let (recipe, gate) = (light(world, "light"), world.gate("held"));
    recipe.script(&format!("tests/{tier}-gate"), &gate.script()).commit();
    (recipe, gate)
}

/// A run that stays in this tier.
fn held(world: &World, tier: &str, with: impl FnOnce(CcCi) -> CcCi) -> StartedCommand {
    let (recipe, gate) = staying(world, tier);
    let running = with(call(world, &recipe, RUN)).start();
    gate.wait();
    running
}

/// The run tore itself down.
#[track_caller]
fn torn_down(engine: &TestEngine, running: StartedCommand, code: i32) -> Ended {
    let end = running.wait().expect(code);
    recorded(engine, code);
    end
}

/// So say its files, and so it is.
#[track_caller]
fn recorded(engine: &TestEngine, code: i32) {
    let record = engine.world().record(&RUN.to_string());
    assert_eq!((&record["verdict"], &record["exit_code"]), (&"cancelled".into(), &code.into()), "{record:#}");
    receipt_is_clean(&record);
    assert_ne!(record["receipt"]["removed"], serde_json::json!([]), "there was an app to remove");
    nothing_left(engine, None);
}

/// The run is dead, and one pass removes what it left.
#[track_caller]
fn reaped(engine: &TestEngine) {
    let world = engine.world();
    let domain = world.domain("light", RUN);
    let audit = world.cc_ci(["audit"]).run().expect(4);
    assert!(audit.stdout.contains(domain.as_str()), "{}", audit.stdout);
    world.cc_ci(["janitor"]).run().expect(0);
    nothing_left(engine, None);
    assert!(!world.lock_file(&domain).exists());
}

#[track_caller]
fn kill(running: StartedCommand) {
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
}

fn a_signal(test: &str, signal: Signal, tier: &str, code: i32) {
    let Some(engine) = TestEngine::shared(test) else { return };
    let running = held(engine.world(), tier, |call| call);
    running.signal(signal);
    let end = torn_down(&engine, running, code);
    assert!(end.stderr.contains(&format!("ended by {signal}")), "{}", end.stderr);
}

#[test]
fn term_in_install() {
    a_signal("term_in_install", Signal::SIGTERM, "install", 143);
}

#[test]
fn int_in_upgrade() {
    a_signal("int_in_upgrade", Signal::SIGINT, "upgrade", 130);
}

#[test]
fn hup_in_backup() {
    a_signal("hup_in_backup", Signal::SIGHUP, "backup", 129);
}

#[test]
fn term_in_restore() {
    a_signal("term_in_restore", Signal::SIGTERM, "restore", 143);
}

#[test]
fn the_deadline_while_abra_hangs_in_the_deploy() {
    let Some(engine) = TestEngine::shared("the_deadline_while_abra_hangs_in_the_deploy") else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    world.abra().does(&[Wrong::Hangs]);
    let running = call(world, &recipe, RUN).arg("--deadline").arg("12s").start();
    let hung = world.abra().wait_for("hangs");
    let end = torn_down(&engine, running, 142);
    assert!(end.stderr.contains("ended by deadline"), "{}", end.stderr);
    assert!(!std::path::Path::new(&format!("/proc/{}", hung.pid)).exists());
}

#[test]
fn term_while_abra_hangs_in_the_upgrade() {
    let Some(engine) = TestEngine::shared("term_while_abra_hangs_in_the_upgrade") else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    world.abra().does_at(&[(Wrong::Hangs, Some(2))]);
    let running = call(world, &recipe, RUN).start();
    world.abra().wait_for("hangs");
    running.signal(Signal::SIGTERM);
    torn_down(&engine, running, 143);
}

#[test]
fn the_death_of_the_parent_in_custom() {
    let Some(engine) = TestEngine::shared("the_death_of_the_parent_in_custom") else { return };
    // The shell has something left to do, so it does not become the command.
    let shell = held(engine.world(), "custom", |call| call.inside(&["sh", "-c", r#""$0" "$@" & wait; :"#]));
    shell.signal(Signal::SIGTERM);
    let end = shell.wait();
    assert!(end.stderr.contains("ended by death of the parent process"), "{}", end.stderr);
    recorded(&engine, 143);
}

#[test]
fn the_shell_above_is_killed_in_install() {
    let Some(engine) = TestEngine::shared("the_shell_above_is_killed_in_install") else { return };
    // As a pipeline's step has it: in a session of its own.
    let step =
        r#"setsid "$0" "$@" & PID=$!; trap 'kill -s TERM -- -$PID 2>/dev/null || :' TERM EXIT; wait $PID; :"#;
    let shell = held(engine.world(), "install", |call| call.inside(&["/bin/sh", "-e", "-c", step]));
    shell.signal(Signal::SIGKILL);
    let end = shell.wait().expect(137);
    assert!(end.stderr.contains("ended by death of the parent process"), "{}", end.stderr);
    recorded(&engine, 143);
}

fn killed_in(test: &str, tier: &str) {
    let Some(engine) = TestEngine::shared(test) else { return };
    kill(held(engine.world(), tier, |call| call));
    reaped(&engine);
}

#[test]
fn killed_in_install() {
    killed_in("killed_in_install", "install");
}

#[test]
fn killed_in_upgrade() {
    killed_in("killed_in_upgrade", "upgrade");
}

#[test]
fn killed_in_backup() {
    killed_in("killed_in_backup", "backup");
}

#[test]
fn killed_in_restore() {
    killed_in("killed_in_restore", "restore");
}

#[test]
fn killed_in_custom() {
    killed_in("killed_in_custom", "custom");
}

#[test]
fn killed_while_abra_deploys() {
    let Some(engine) = TestEngine::shared("killed_while_abra_deploys") else { return };
    let world = engine.world();
    let recipe = light(world, "light");
    world.abra().does(&[Wrong::Hangs]);
    let running = call(world, &recipe, RUN).start();
    world.abra().wait_for("hangs");
    kill(running);
    reaped(&engine);
}

#[test]
fn a_closed_log_pipe_in_upgrade() {
    let Some(engine) = TestEngine::shared("a_closed_log_pipe_in_upgrade") else { return };
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let running = held(engine.world(), "upgrade", |mut call| {
        call.command().stderr(Stdio::from(writer));
        call
    });
    running.signal(Signal::SIGTERM);
    torn_down(&engine, running, 143);
}

#[test]
fn a_stuck_log_pipe_in_backup() {
    let Some(engine) = TestEngine::shared("a_stuck_log_pipe_in_backup") else { return };
    let (errors, results) = (pipes::full(), pipes::full());
    let running = held(engine.world(), "backup", |mut call| {
        call.command().stderr(Stdio::from(errors.1)).stdout(Stdio::from(results.1));
        call
    });
    running.signal(Signal::SIGTERM);
    torn_down(&engine, running, 143);
    drop((errors.0, results.0));
}

#[test]
fn a_full_disk_in_backup() {
    let Some(engine) = TestEngine::shared("a_full_disk_in_backup") else { return };
    let world = engine.world();
    std::fs::create_dir(world.runs()).unwrap();
    let recipe = light(world, "light");
    recipe.script("tests/backup-fills", "cat /dev/zero > \"$CCCI_STATE_DIR/full\" || :").commit();
    // The disk of the runs alone, and of this run alone: the engine has its own.
    let script =
        format!(r#"mount -t tmpfs -o size=8m none {} || exit 99; "$0" "$@""#, world.runs().display());
    let end = call(world, &recipe, RUN).inside(&["unshare", "--mount", "sh", "-c", &script]).run().expect(3);
    let record = end.json();
    assert_eq!(record["verdict"], "harness_failed", "{record:#}");
    receipt_is_clean(&record);
    nothing_left(&engine, None);
}
