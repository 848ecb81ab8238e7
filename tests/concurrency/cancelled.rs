//! Cancelled wherever it waits, a run's children are signalled at once, and nothing is removed before they ended.

use std::fs;
use std::net::TcpListener;

use cc_ci_tests::{World, executable, pipes};
use nix::sys::signal::Signal;

use crate::paused_runs::{self, RUN};

#[test]
fn cancelled_while_it_waits_for_a_lock() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let path = world.lock_file(&world.domain("plain", 7));
    let holder = paused_runs::Foreign::lock(&path);
    let mut running = paused_runs::run(&world, &recipe).start();
    running.wait_for("in flight — waiting");
    running.signal(Signal::SIGTERM);
    paused_runs::torn_down(&world, running, 143);
    holder.release();
    // A cancelled wait never acquires.
    paused_runs::Foreign::lock(&path).release();
}

#[test]
fn cancelled_while_it_clones_from_a_host_that_says_nothing() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let running = world.cc_ci(["run", "--run-id", RUN]).arg(format!("git://{address}/plain.git")).start();
    let silent = pipes::in_time("git connects", move || listener.accept());
    running.signal(Signal::SIGTERM);
    paused_runs::torn_down(&world, running, 143);
    assert_eq!(paused_runs::children_ended(&world.events(RUN))["left"], serde_json::json!([]));
    drop(silent);
}

#[test]
fn cancelled_while_it_probes_a_service_that_is_not_healthy() {
    let world = World::new();
    let (probed, sick) = (world.fifo("probed"), world.path().join("sick"));
    fs::write(&sick, "").expect("a file");
    let environment = format!(
        "environment:\n        PROBED: {}\n        UNHEALTHY_WHILE: {}",
        probed.display(),
        sick.display()
    );
    let recipe = world.recipe("plain");
    recipe.compose("1", &environment).commit();
    let running = paused_runs::run(&world, &recipe).start();
    pipes::hear(&probed);
    running.signal(Signal::SIGTERM);
    paused_runs::torn_down(&world, running, 143);
}

#[test]
fn cancelled_while_a_test_with_a_child_that_ignores_term_runs() {
    let world = World::new();
    let (running, pid) = paused_runs::in_a_test(&world, "trap '' TERM HUP INT\nwhile :; do sleep 1000; done");
    let test = pipes::process(pid);
    running.signal(Signal::SIGTERM);
    paused_runs::torn_down(&world, running, 143);
    assert!(!test.is_alive(&test.boot_id));
}

#[test]
fn cancelled_with_a_grandchild_that_escaped_from_its_group_and_lost_its_mark() {
    let world = World::new();
    let escaped = world.fifo("escaped");
    let body = format!(
        "setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$ > {}; while :; do /bin/sleep 1000; done' &\nwait",
        escaped.display()
    );
    let (running, _) = paused_runs::in_a_test(&world, &body);
    let grandchild = pipes::process(pipes::hear(&escaped).parse().expect("a pid"));
    running.signal(Signal::SIGTERM);
    paused_runs::torn_down(&world, running, 143);
    assert!(!grandchild.is_alive(&grandchild.boot_id));
    let ended = paused_runs::children_ended(&world.events(RUN)).clone();
    // Its own sleep may be seen beside it.
    assert!(ended["escaped"].as_u64() >= Some(1), "{ended}");
}

#[test]
fn nothing_is_removed_before_a_child_has_ended_in_its_own_time() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let [started, asked, go] = ["started", "asked", "go"].map(|name| world.fifo(name));
    let found = world.path().join("found");
    // git as an operator may have it: it ends in order when it is asked to, and tells what it finds on its way
    // out. The pause is no synchronisation: it gives a removal that doesn't wait the time to show.
    let git = world.path().join("bin/git");
    fs::create_dir(world.path().join("bin")).expect("a directory");
    let script = format!(
        "#!/bin/sh\ntrap 'echo > {}; read go < {}; sleep 0.3; ls -d \"$HOME\" > {}; exit 1' TERM\n\
         echo > {}\nwhile :; do sleep 1000 & wait; done\n",
        asked.display(),
        go.display(),
        found.display(),
        started.display()
    );
    executable(&git, &script);
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", git.parent().expect("a directory").display());
    let mut running = paused_runs::run(&world, &recipe).env("PATH", path).start();
    pipes::hear(&started);
    // A child is killed at once when the run ends in the middle of its start.
    let state = paused_runs::state(&mut running);
    assert!(state.starts_with("   fetch ") && state.contains("git (pid "), "{state}");
    running.signal(Signal::SIGTERM);
    pipes::hear(&asked);
    pipes::tell(&go);
    paused_runs::torn_down(&world, running, 143);
    let found = fs::read_to_string(&found).expect("it had time to tell");
    assert!(found.trim().ends_with("/home"), "its home was gone before it was: {found:?}");
}
