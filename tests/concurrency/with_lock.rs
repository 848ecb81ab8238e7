//! The contract of `with-lock`.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use cc_ci_tests::{CcCi, World};
use nix::sys::signal::Signal;

fn with_lock(world: &World, command: &[&str]) -> CcCi {
    let domain = world.domain("own", 1);
    command.iter().fold(world.cc_ci(["with-lock", domain.as_str(), "--"]), CcCi::arg)
}

#[test]
fn it_ends_with_its_commands_own_status() {
    let world = World::new();
    let file = world.path().join("no-program");
    fs::write(&file, "").unwrap();
    let cases: [(&[&str], i32); 6] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "exit 143"], 143),
        (&[file.to_str().unwrap()], 126),
        (&["there-is-no-such-command"], 127),
    ];
    for (command, code) in cases {
        // A directory of the caller's PATH that is closed to us would make "not found" a "not allowed".
        with_lock(&world, command).env("PATH", "/usr/bin:/bin").run().expect(code);
    }
    // Its own failures have a status of their own: nobody takes them for the command's.
    let nowhere = world.path().join("nowhere");
    with_lock(&world, &["true"]).env("CCCI_APP_LOCK_DIR", nowhere).run().expect(125);
}

#[test]
fn it_says_that_it_ended_what_its_command_left() {
    let world = World::new();
    let pid = world.path().join("pid");
    let daemon = r#"setsid -f sh -c 'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 1000' "$0" > /dev/null 2>&1
        until [ -s "$0" ]; do sleep 0.01; done"#;
    let end = with_lock(&world, &["sh", "-c", daemon, pid.to_str().unwrap()]).run().expect(0);
    assert!(end.stderr.contains("warning: the command left processes behind"), "{}", end.stderr);
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).join("exe").exists(), "{pid}");
    // The same of a job of the command's own group: it goes with that, when the command ends.
    let job = with_lock(&world, &["sh", "-c", "sleep 1000 > /dev/null 2>&1 &"]).run().expect(0);
    assert!(job.stderr.contains("warning: the command left processes behind"), "{}", job.stderr);
    let silent = with_lock(&world, &["sh", "-c", "true & wait"]).run().expect(0);
    assert_eq!(silent.stderr, "");
}

#[test]
fn its_command_reads_what_it_is_given() {
    let world = World::new();
    let mut call = with_lock(&world, &["cat"]);
    call.command().stdin(Stdio::piped());
    let mut child = call.command().spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a whole line\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a whole line\n");
}

#[test]
fn it_times_out_with_75_while_flock_of_util_linux_holds_the_file() {
    let world = World::new();
    let gate = world.gate("flock");
    let path = world.lock_file(&world.domain("own", 1));
    let mut holder = Command::new("flock").arg(&path).args(["-c", &gate.script()]).spawn().unwrap();
    gate.wait();
    let end = with_lock(&world, &["true"]).env("CCCI_LOCK_TIMEOUT", "50ms").run().expect(75);
    assert!(end.stderr.contains("in flight — waiting"), "{}", end.stderr);
    let mut waiting = with_lock(&world, &["echo", "mine"]).start();
    let message = waiting.wait_for("held by");
    assert!(message.contains("held by pid "), "the kernel names who took it: {message}");
    gate.open();
    assert!(holder.wait().unwrap().success());
    assert_eq!(waiting.wait().expect(0).stdout, "mine\n");
}

#[test]
fn flock_of_util_linux_is_kept_out_while_its_command_runs() {
    let world = World::new();
    let gate = world.gate("command");
    let path = world.lock_file(&world.domain("own", 1));
    let running = with_lock(&world, &["sh", "-c", &gate.script()]).start();
    gate.wait();
    let try_it = || Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap().code();
    assert_eq!(try_it(), Some(1));
    gate.open();
    running.wait().expect(0);
    assert_eq!(try_it(), Some(0));
}

#[test]
fn a_signal_ends_its_command_before_the_lock_is_free() {
    let world = World::new();
    let gate = world.gate("command");
    let ended = world.path().join("ended");
    let script = format!(
        "trap 'echo yes > {}; exit 0' TERM; {} & {}; wait",
        ended.display(),
        gate.hold(),
        gate.say("here")
    );
    let running = with_lock(&world, &["sh", "-c", &script]).start();
    gate.wait();
    let mut next = with_lock(&world, &["cat", ended.to_str().unwrap()]).start();
    next.wait_for("held by");
    running.signal(Signal::SIGTERM);
    running.wait().expect(143);
    assert_eq!(next.wait().expect(0).stdout, "yes\n");
}

#[test]
fn it_ends_what_a_dead_owner_left_running_and_removes_nothing() {
    let world = World::new();
    let recipe = world.recipe("kept");
    // A process that outlives the script and the run.
    let gate = world.gate("orphan");
    let orphan =
        format!("setsid sh -c '{}; sleep 1000' > /dev/null 2>&1 &", gate.say("$$").replace('\'', ""));
    let domain = world.killed_run_with(&recipe, 1, &orphan);
    let pid = gate.wait();
    let alive = || world.processes().iter().any(|found| found.process.pid.to_string() == pid);
    assert!(alive(), "the kill left it");
    let files = |world: &World| {
        let mut files = world.snapshot();
        files.retain(|path, _| !path.starts_with(world.locks()));
        files
    };
    let before = files(&world);
    let end = world
        .cc_ci([
            "with-lock",
            domain.as_str(),
            "--",
            "sh",
            "-c",
            &format!("[ -e /proc/{pid}/exe ] || echo gone"),
        ])
        .run();
    assert_eq!(end.expect(0).stdout, "gone\n");
    assert!(!alive());
    assert_eq!(files(&world), before, "its user may want to look");
    let services = world.processes();
    assert!(
        services.iter().any(|found| found.marker.to_string().contains("/service/")),
        "the app still runs: {services:?}"
    );
    world.cc_ci(["janitor"]).run().expect(0);
    world.assert_empty();
}
