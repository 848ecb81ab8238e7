//! The engine, or the whole host, goes away in the middle of a run and comes back.

use std::fs;

use cc_ci_tests::engine::{Engine, Object, PrivateEngine};
use cc_ci_tests::{Gate, Running, World};
use nix::sys::signal::Signal;

use crate::support::{call, light, nothing_left_on};

fn left(engine: &Engine, world: &World) -> Vec<Object> {
    let mut left = engine.objects();
    left.retain(|object| object.is_below(world.suffix().as_str()));
    left
}

/// A run that stays in this tier. The engine's network is its own, so the run is in it.
fn held(engine: &PrivateEngine, world: &World, tier: &str) -> (Running, Gate) {
    let (recipe, gate) = (light(world, "light"), world.gate("held"));
    recipe.script(&format!("tests/{tier}-gate"), &gate.script()).commit();
    let network = format!("--net=/proc/{}/ns/net", engine.host_pid());
    let running = call(world, &recipe, 1).inside(&["nsenter", &network, "--"]).start();
    gate.wait();
    (running, gate)
}

#[test]
fn an_engine_that_restarts_under_a_run_leaves_nothing_after_one_pass() {
    let test = "an_engine_that_restarts_under_a_run_leaves_nothing_after_one_pass";
    let Some(mut engine) = PrivateEngine::start(test) else { return };
    let world = World::on(&engine);
    let (running, gate) = held(&engine, &world, "upgrade");
    engine.kill_daemon();
    engine.start_daemon();
    gate.open();
    let end = running.wait();
    // Whether its services outlived it is Swarm's affair; that it is never green with something left is ours.
    assert!([0, 1, 3, 4].contains(&end.code), "{}: {}", end.code, end.stderr);
    let after = world.cc_ci(["janitor"]).run();
    assert_eq!(after.code, 0, "{}", after.stderr);
    nothing_left_on(&engine, &world, || left(&engine, &world), None);
    drop(world);
    engine.end().expect("nothing is left of it");
}

/// Everything dies at once, and the locks are forgotten. The boot id stays: only a kernel changes it.
#[test]
fn what_a_reboot_leaves_goes_in_one_pass() {
    let Some(mut engine) = PrivateEngine::start("what_a_reboot_leaves_goes_in_one_pass") else { return };
    let world = World::on(&engine);
    let (running, _gate) = held(&engine, &world, "custom");
    engine.kill_daemon();
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    world.kill_everything();
    for lock in fs::read_dir(world.locks()).expect("the locks") {
        fs::remove_file(lock.expect("a lock file").path()).expect("a lock file goes");
    }
    engine.start_daemon();
    world.cc_ci(["janitor"]).run().expect(0);
    nothing_left_on(&engine, &world, || left(&engine, &world), None);
    drop(world);
    engine.end().expect("nothing is left of it");
}
