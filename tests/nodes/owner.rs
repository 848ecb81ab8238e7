//! The owner of the nodes: whatever becomes of it, they go with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cc_ci_core::process::ProcessIdentity;
use cc_ci_core::system_info::BootId;
use cc_ci_tests::engine::{self, Nodes, until};
use cc_ci_tests::{StartedCommand, World, pipes};
use nix::sys::signal::Signal;

/// `private-engine run --nodes 2` with its files in `world`, without bystanders.
fn run(world: &World, script: &str) -> StartedCommand {
    let child = Command::new(env!("CARGO_BIN_EXE_private-engine"))
        .args(["run", "--bare", "--nodes", "2", "--", "sh", "-c", script])
        .env("TMPDIR", world.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    StartedCommand::new(child.expect("private-engine starts"))
}

/// Every process below `pid`: each child's children too.
fn below(pid: i32, found: &mut Vec<i32>) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            found.push(child);
            below(child, found);
        }
    }
}

#[test]
fn nodes_and_what_joins_them_are_gone_when_their_owner_is_killed() {
    let test = "nodes_and_what_joins_them_are_gone_when_their_owner_is_killed";
    let Some(_alone) = Nodes::shared(test) else { return };
    let world = World::new();
    let here = world.fifo("here");
    let script = format!("echo \"${}\" > '{}'; exec sleep 1000", engine::NODES, here.display());
    let running = run(&world, &script);
    let nodes = pipes::hear(&here);
    let directories: Vec<PathBuf> = nodes
        .split(' ')
        .map(|pair| Path::new(pair.split_once('=').expect("NAME=SOCKET").1).with_file_name(""))
        .collect();
    assert_eq!(directories.len(), 2, "{nodes}");
    let mut pids = Vec::new();
    below(running.pid(), &mut pids);
    let boot = BootId::current().expect("a boot id");
    let processes: Vec<ProcessIdentity> =
        pids.iter().filter_map(|&pid| ProcessIdentity::of(pid, boot.clone()).ok()).collect();
    let switches = processes.iter().filter(|process| {
        let words = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        words.ends_with(b"private-engine\0switch\0")
    });
    assert_eq!(switches.count(), 2, "unshare, and the bridge's process");
    assert!(processes.len() > 8, "two engines: {processes:?}");

    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    for process in &processes {
        assert!(pipes::ends(process), "{process} lives on");
    }
    for directory in &directories {
        until("nothing is left", || engine::left_of(directory).expect("one can look").is_empty());
    }
}

#[test]
fn a_command_that_leaves_something_on_a_worker_has_failed() {
    let Some(_alone) = Nodes::shared("a_command_that_leaves_something_on_a_worker_has_failed") else {
        return;
    };
    let world = World::new();
    let node = format!("{} node", env!("CARGO_BIN_EXE_private-engine"));
    let script = format!(
        "docker -H unix://${{{}##*=}} volume create left-volume && {node} pause worker-1 && ! {node} pause worker-1",
        engine::NODES
    );
    let ended = run(&world, &script).wait().expect(1);
    for found in
        ["not empty, and gone:", "left on worker-1: volume left-volume", "worker-1 was not brought back"]
    {
        assert!(ended.stderr.contains(found), "no {found:?} in {}", ended.stderr);
    }
}
