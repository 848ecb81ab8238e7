//! cc-ci itself is killed with SIGKILL: the audit names what is left, and one pass of the janitor removes it.

use std::net::TcpListener;

use cc_ci_tests::{StartedCommand, World, pipes};
use nix::sys::signal::Signal;

use crate::frozen::Frozen;
use crate::paused_runs::{self, RUN};

#[track_caller]
fn kill(running: StartedCommand) {
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
}

#[test]
fn killed_while_it_clones() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let running =
        world.cc_ci(["run", "--run-id", RUN, "--pr", "7"]).arg(format!("git://{address}/plain.git")).start();
    let silent = pipes::in_time("git connects", move || listener.accept());
    kill(running);
    paused_runs::reaped_by_one_pass(&world);
    drop(silent);
}

#[test]
fn killed_while_it_waits_for_its_lock() {
    let world = World::new();
    let (running, holder) = paused_runs::at_its_lock(&world);
    kill(running);
    // Its tree is left, and nobody touches it as long as the domain is somebody's.
    world.cc_ci(["janitor"]).run().expect(0);
    assert!(!world.resources().is_empty(), "reaped under another's lock");
    holder.release();
    paused_runs::reaped_by_one_pass(&world);
}

#[test]
fn killed_while_it_deploys() {
    let world = World::new();
    let started = world.fifo("started");
    let recipe = world.recipe("plain");
    recipe.compose("1", &format!("environment:\n        STARTED: {}", started.display())).commit();
    let running = paused_runs::run(&world, &recipe).start();
    pipes::hear(&started);
    kill(running);
    paused_runs::reaped_by_one_pass(&world);
}

#[test]
fn killed_while_it_probes() {
    let world = World::new();
    let probed = world.fifo("probed");
    let recipe = world.recipe("plain");
    recipe.compose("1", &format!("environment:\n        PROBED: {}", probed.display())).commit();
    let running = paused_runs::run(&world, &recipe).start();
    pipes::hear(&probed);
    kill(running);
    paused_runs::reaped_by_one_pass(&world);
}

#[test]
fn killed_while_a_test_runs_that_goes_on_without_it() {
    let world = World::new();
    let orphan = world.fifo("orphan");
    let body = format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1000; done' &\nwait",
        orphan.display()
    );
    let (running, _) = paused_runs::in_a_test(&world, &body);
    let orphan = pipes::process(pipes::hear(&orphan).parse().expect("a pid"));
    kill(running);
    paused_runs::reaped_by_one_pass(&world);
    assert!(!orphan.is_alive(&orphan.boot_id));
}

#[test]
fn killed_while_it_tears_down() {
    let world = World::new();
    let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
    let Some(service) = Frozen::keep("killed_while_it_tears_down", paused_runs::service(&world)) else {
        return;
    };
    running.signal(Signal::SIGTERM);
    service.wait_for_its_end();
    kill(running);
    service.let_go();
    paused_runs::reaped_by_one_pass(&world);
}
