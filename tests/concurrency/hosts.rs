//! Hosts that fail in the middle of a run, and the shells that call it.

use std::fs;
use std::process::Command;

use cc_ci_tests::{World, pipes, skip};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::held::{self, RUN};

/// What makes a mount namespace of its own; a visible skip of `test` where the kernel makes none for us.
fn private_mounts(test: &str) -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    let works = |way: &&&[&str]| {
        let output =
            Command::new(way[0]).args(&way[1..]).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let way = ways.iter().find(works).copied();
    if way.is_none() {
        skip(test, "needs a mount namespace");
    }
    way
}

/// The shell that the CI runner has, and the one that many write for.
fn shells(test: &str) -> Vec<&'static str> {
    let there = |shell: &&str| {
        let there = Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success());
        if !there {
            skip(test, &format!("there is no {shell}"));
        }
        there
    };
    ["/bin/sh", "bash"].into_iter().filter(there).collect()
}

/// The step of a pipeline: the command in a session of its own, and a TERM that is passed on.
const WRAPPER: &str = r#"setsid "$0" "$@" & PID=$!
trap 'kill -s TERM -- -$PID 2>/dev/null || :' TERM EXIT
wait $PID"#;

#[test]
fn a_disk_that_is_full_when_the_result_is_written_never_looks_green() {
    let test = "a_disk_that_is_full_when_the_result_is_written_never_looks_green";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    let directory = world.runs().join(RUN);
    fs::create_dir(world.runs()).expect("a directory");
    let recipe = world.recipe("plain");
    // Teardown must not make room for the result.
    let fill = format!("cd {}; rm -rf abra home tmp; cat /dev/zero > logs/full || :", directory.display());
    recipe.script("tests/custom.sh", &fill).commit();
    let left = world.path().join("left");
    let script = format!(
        r#"mount -t tmpfs -o size=4m none {} || exit 99; "$0" "$@"; code=$?; ls {} > {}; exit $code"#,
        world.runs().display(),
        directory.display(),
        left.display()
    );
    let outer = [unshare, &["sh", "-c", &script]].concat();
    let end = held::run(&world, &recipe).arg("--format").arg("json").inside(&outer).run().expect(3);
    assert_eq!(end.json()["verdict"], "harness_failed", "{}", end.stdout);
    assert!(end.stderr.contains("the result could not be written"), "{}", end.stderr);
    world.assert_empty();
    let left = fs::read_to_string(left).expect("a list of the run's directory");
    assert!(!left.lines().any(|name| ["abra", "home", "tmp"].contains(&name)), "{left}");
}

#[test]
fn a_runs_directory_from_which_nothing_is_executed_is_the_hosts_fault() {
    let test = "a_runs_directory_from_which_nothing_is_executed_is_the_hosts_fault";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    fs::create_dir(world.runs()).expect("a directory");
    let recipe = world.recipe("plain");
    recipe.script("tests/custom.sh", ":").commit();
    let script = format!(r#"mount -t tmpfs -o noexec none {} || exit 99; "$0" "$@""#, world.runs().display());
    let outer = [unshare, &["sh", "-c", &script]].concat();
    let end = held::run(&world, &recipe).inside(&outer).run().expect(3);
    let said = end.stdout + &end.stderr;
    assert!(said.contains("is mounted noexec") && said.contains("hint: name another one"), "{said}");
    world.assert_empty();
}

#[test]
fn a_read_only_lock_directory_is_refused_before_anything_is_changed() {
    let test = "a_read_only_lock_directory_is_refused_before_anything_is_changed";
    let Some(unshare) = private_mounts(test) else { return };
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let locks = world.locks();
    let script = format!(
        r#"mount --bind {0} {0} && mount -o remount,bind,ro {0} || exit 99; exec "$0" "$@""#,
        locks.display()
    );
    let outer = [unshare, &["sh", "-c", &script]].concat();
    let end = held::run(&world, &recipe).inside(&outer).run().expect(2);
    assert!(end.stdout.contains("it is read-only"), "{}", end.stdout);
    assert!(end.stderr.contains("hint: ") && end.stderr.contains("CCCI_APP_LOCK_DIR"), "{}", end.stderr);
    assert!(!world.runs().join(RUN).exists() && !world.local_root().exists(), "something was changed");
}

#[test]
fn a_run_directory_that_is_gone_in_mid_run_costs_the_result_and_leaves_nothing() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.script("tests/custom.sh", &format!("rm -rf {}", world.runs().join(RUN).display())).commit();
    let end = held::run(&world, &recipe).arg("--format").arg("json").run().expect(3);
    assert_eq!(end.json()["verdict"], "harness_failed", "{}", end.stdout);
    assert_eq!(end.json()["receipt"]["left"], json!([]), "{}", end.stdout);
    world.assert_empty();
}

#[test]
fn green_stays_green_and_red_stays_red_below_a_wrapper() {
    for shell in shells("green_stays_green_and_red_stays_red_below_a_wrapper") {
        for code in [0, 1] {
            let world = World::new();
            let recipe = world.recipe("plain");
            recipe.script("tests/custom.sh", &format!("exit {code}")).commit();
            held::run(&world, &recipe).inside(&[shell, "-e", "-c", WRAPPER]).run().expect(code);
            assert_eq!(world.record(RUN)["exit_code"], code, "{shell}");
            world.assert_empty();
        }
    }
}

#[test]
fn a_wrapper_that_is_told_to_end_passes_it_on() {
    for shell in shells("a_wrapper_that_is_told_to_end_passes_it_on") {
        let world = World::new();
        let (wrapper, _) = held::in_a_test_with(&world, "exec sleep 1000", |call| {
            call.inside(&[shell, "-e", "-c", WRAPPER])
        });
        wrapper.signal(Signal::SIGTERM);
        // Until the command is gone too: it outlives its wrapper by its teardown.
        let end = wrapper.wait().expect(143);
        assert!(end.stderr.contains("ended by SIGTERM"), "{shell}: {}", end.stderr);
        held::recorded(&world, 143);
    }
}

#[test]
fn a_killed_shell_and_a_workspace_that_is_deleted_leave_nothing() {
    let world = World::new();
    let (recipe, pipe) = held::recipe(&world, "exec sleep 1000");
    // The runner's workspace, with the recipe and the home in it.
    let workspace = recipe.path().parent().expect("a directory").to_owned();
    let mut call = held::run(&world, &recipe).env("HOME", workspace.join("home")).inside(&[
        "/bin/sh",
        "-e",
        "-c",
        &format!("{WRAPPER}; :"),
    ]);
    call.command().current_dir(&workspace);
    let shell = call.start();
    pipes::hear(&pipe);
    shell.signal(Signal::SIGKILL);
    fs::remove_dir_all(&workspace).expect("the runner may");
    let end = shell.wait().expect(137);
    assert!(end.stderr.contains("ended by death of the parent process"), "{}", end.stderr);
    held::recorded(&world, 143);
}

#[test]
fn a_caller_whose_directory_and_home_are_gone_gets_its_result() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let gone = world.path().join("gone");
    fs::create_dir(&gone).expect("a directory");
    let mut call = held::run(&world, &recipe).env("HOME", &gone).inside(&[
        "sh",
        "-c",
        r#"rmdir "$PWD"; exec "$0" "$@""#,
    ]);
    call.command().current_dir(&gone);
    call.run().expect(0);
    world.assert_empty();
}
