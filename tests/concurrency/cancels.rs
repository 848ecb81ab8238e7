//! `cc-ci cancel` ends a run as SIGTERM does, and nothing that is not proved to be one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use cc_ci_tests::{World, built, pipes};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::paused_runs::{self, RUN};

#[test]
fn a_run_that_is_cancelled_is_torn_down_before_the_command_says_so() {
    let world = World::new();
    let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
    let end = world.cc_ci(["cancel", RUN]).run().expect(0);
    // No wait: what is told has happened.
    paused_runs::recorded(&world, 143);
    let told = format!("== run {RUN}: pid {} was told to end (SIGTERM) — waiting", running.pid());
    assert!(end.stderr.starts_with(&told) && end.stderr.contains("--teardown-budget"), "{}", end.stderr);
    assert!(end.stdout.starts_with("run 1 ended: cancelled; removed "), "{}", end.stdout);
    assert!(end.stdout.ends_with(", left nothing\n"), "{}", end.stdout);
    paused_runs::torn_down(&world, running, 143);
    let again = world.cc_ci(["cancel", RUN]).run().expect(2).stderr;
    assert!(again.contains("error: run 1 has ended: cancelled\n\nhint: cc-ci report 1 "), "{again}");
}

#[test]
fn a_run_that_waits_for_its_lock_is_cancelled() {
    let world = World::new();
    let (running, holder) = paused_runs::at_its_lock(&world);
    let json = world.cc_ci(["cancel", RUN, "--format", "json"]).run().expect(0).json();
    assert_eq!((&json["verdict"], &json["cancelled_by"]), (&json!("cancelled"), &json!("term")));
    paused_runs::torn_down(&world, running, 143);
    holder.release();
}

#[test]
fn what_is_no_live_run_is_refused_and_nobody_is_signalled() {
    let world = World::new();
    let refused = |id: &str, code: i32| world.cc_ci(["cancel", id]).run().expect(code).stderr;
    assert!(refused("9", 2).contains("there is no run 9"));
    let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    let dead = refused(RUN, 2);
    assert!(dead.contains("error: run 1 is dead: pid ") && dead.contains("hint: cc-ci janitor"), "{dead}");
    // Its record says that somebody else runs it.
    let mut stranger = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleep(1)");
    let mut record = world.record(RUN);
    record["owner"] = json!(pipes::process(stranger.id().cast_signed()));
    fs::write(world.runs().join(RUN).join("run.json"), record.to_string()).expect("a record");
    assert!(refused(RUN, 3).contains("does not hold the lock of the run"));
    assert!(stranger.try_wait().expect("a child").is_none(), "a stranger was signalled");
    record["owner"]["boot_id"] = json!("before");
    fs::write(world.runs().join(RUN).join("run.json"), record.to_string()).expect("a record");
    assert!(refused(RUN, 2).contains("is dead: it began in another boot of this host"));
    stranger.kill().and_then(|()| stranger.wait()).expect("a child");
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
}

#[test]
fn another_users_run_is_named_as_theirs() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can ask as somebody else");
        return;
    }
    let world = World::new();
    let (running, _) = paused_runs::in_a_test(&world, "exec sleep 1000");
    let program = world.path().join("cc-ci");
    fs::copy(built("cc-ci"), &program).expect("a copy");
    fs::set_permissions(world.path(), Permissions::from_mode(0o755)).expect("a mode");
    let mut ask = Command::new("setpriv");
    ask.args(["--reuid", "65534", "--clear-groups"]).arg(program).args(["cancel", RUN]);
    let asked = ask.env_clear().envs(world.environment()).output().expect("setpriv(1)");
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!(asked.status.code(), Some(2), "{said}");
    let expected =
        "error: run 1 is another user's (uid 0)\n\nhint: ask as that user: sudo -u '#0' cc-ci cancel 1";
    assert!(said.contains(expected), "{said}");
    world.cc_ci(["cancel", RUN]).run().expect(0);
    paused_runs::torn_down(&world, running, 143);
}
