//! The engine, or the whole host, goes away in the middle of a run and comes back.

use std::fs;

use cc_ci_tests::engine::PrivateEngine;
use cc_ci_tests::{CcCi, Gate, StartedCommand, World};
use nix::sys::signal::Signal;

use crate::support::{backup_service, call, is_work, left_below, light, nothing_left_on, statuses, tier};

/// The call in the network of an engine of the test's own, where its apps answer.
fn beside(engine: &PrivateEngine, call: CcCi) -> CcCi {
    let network = format!("--net=/proc/{}/ns/net", engine.host_pid());
    call.inside(&["nsenter", &network, "--"])
}

/// A run that stays in this tier.
fn held(engine: &PrivateEngine, world: &World, tier: &str) -> (StartedCommand, Gate) {
    let (recipe, gate) = (light(world, "light"), world.gate("held"));
    recipe.script(&format!("tests/{tier}-gate"), &gate.script()).commit();
    let running = beside(engine, call(world, &recipe, 1)).start();
    gate.wait();
    (running, gate)
}

/// Other tests would take their backups with it, so it has an engine of its own.
#[test]
fn the_backup_service_of_the_host_is_asked_where_there_is_one() {
    let test = "the_backup_service_of_the_host_is_asked_where_there_is_one";
    let Some(engine) = PrivateEngine::start(test) else { return };
    let world = World::on(&engine);
    backup_service(&engine);
    let recipe = light(&world, "light");
    let end = beside(&engine, call(&world, &recipe, 1)).run().expect(0);
    let record = end.json();
    assert_eq!(statuses(&record), ["passed", "passed", "passed", "passed", "skipped"]);
    for command in ["app backup create", "app restore"] {
        let asked = world.abra().calls().into_iter().filter(|call| call.is(command) && is_work(call));
        assert_eq!(asked.count(), 1, "{command}");
    }
    assert!(end.stderr.contains("keeps its snapshot"), "{}", end.stderr);
    // It takes what there is, and says nothing of what is not.
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let label = "        - \"backupbot.backup=true\"\n";
    let path = format!("{label}        - \"backupbot.backup.volumes.data.path=none\"\n");
    recipe.write("compose.yml", &compose.replace(label, &path)).commit();
    let record = beside(&engine, call(&world, &recipe, 2)).run().expect(1).json();
    let reason = tier(&record, "backup")["reason"].as_str().unwrap();
    assert!(reason.contains("takes none of volume") && reason.contains("nothing is there"), "{reason}");
    nothing_left_on(&engine, &world, || left_below(&engine, &world), None);
    drop(world);
    engine.end().expect("nothing is left of it");
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
    nothing_left_on(&engine, &world, || left_below(&engine, &world), None);
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
    nothing_left_on(&engine, &world, || left_below(&engine, &world), None);
    drop(world);
    engine.end().expect("nothing is left of it");
}
