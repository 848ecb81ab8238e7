//! The death of whoever a run was started for ends the run, and nothing less does.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use cc_ci_core::process::StatLine;
use cc_ci_tests::until;

use crate::probe::{PROGRAM, Probe, UnixSignal, end, identity, skipped};

const DEATH: &str = "death of the parent process";

#[test]
fn a_killed_parent_tears_down() {
    let mut shell = Probe::shell(r#""$0" "$@"; :"#, &["wait"]);
    shell.expect("ready");
    shell.send(UnixSignal::SIGKILL);
    shell.expect_teardown(DEATH, 143);
    assert_eq!(shell.line(), "");
}

#[test]
fn the_end_of_the_parents_thread_ends_nothing() {
    let (mut probe, task) = std::thread::spawn(|| {
        let mut probe = Probe::start(&["wait"]);
        probe.expect("ready");
        (probe, PathBuf::from(format!("/proc/self/task/{}", nix::unistd::gettid())))
    })
    .join()
    .unwrap();
    // Joined a moment before it is gone; the death signal is sent in between.
    until("the thread is gone", || !task.exists());
    probe.send(UnixSignal::SIGUSR1);
    assert_eq!(probe.expect("asked:"), "no child runs");
    probe.send(UnixSignal::SIGTERM);
    probe.expect_teardown("SIGTERM", 143);
}

#[test]
fn a_parent_that_died_before_anybody_listened_is_seen_at_once() {
    let mut shell = Probe::shell(r#"exec 3<&0; "$0" "$@" <&3 & wait"#, &["before=stdin", "wait"]);
    shell.expect("taken over");
    shell.send(UnixSignal::SIGKILL);
    shell.wait();
    shell.close_stdin();
    shell.expect_teardown(DEATH, 143);
}

#[test]
fn a_named_parent_that_is_dead_already_is_seen_at_once() {
    let mut child = Command::new("true").spawn().unwrap();
    let parent = format!("parent={}", child.id());
    child.wait().unwrap();
    let mut probe = Probe::start(&[&parent, "wait"]);
    probe.expect_teardown(DEATH, 143);
}

#[test]
fn a_reused_pid_is_not_the_named_parent() {
    let me = identity(std::process::id().cast_signed());
    let parent = format!("parent={}:{}", me.pid, me.start_time + 1);
    let mut probe = Probe::start(&[&parent, "wait"]);
    probe.expect_teardown(DEATH, 143);
}

#[test]
fn a_killed_parent_below_a_subreaper_tears_down() {
    let mut subreaper = Probe::command(Command::new(PROGRAM).args([
        "subreaper",
        "sh",
        "-c",
        r#"echo $$; "$0" wait; :"#,
        PROGRAM,
    ]));
    let parent = identity(subreaper.line().parse().unwrap());
    subreaper.expect("ready");
    end(&parent);
    subreaper.expect_teardown(DEATH, 143);
    subreaper.close_stdin();
    assert_eq!(subreaper.code(), Some(0));
}

#[test]
fn a_named_grandparent_is_watched_and_the_parent_is_not() {
    // The outer shell's descriptor 3 tells the inner shell's pid.
    let script = r#"sh -c 'echo $$; "$0" "parent=$1" wait; :' "$0" $$; read line"#;
    let mut grandparent = Probe::shell(script, &[]);
    let parent = identity(grandparent.line().parse().unwrap());
    grandparent.expect("ready");
    let probe = children(parent.pid)[0];
    end(&parent);
    until("the parent is gone", || StatLine::read(probe).unwrap().parent != parent.pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(probe), UnixSignal::SIGUSR1).unwrap();
    assert_eq!(grandparent.expect("asked:"), "no child runs");
    grandparent.send(UnixSignal::SIGKILL);
    grandparent.expect_teardown(DEATH, 143);
}

#[test]
fn a_parent_that_is_init_is_refused_unless_none_is_watched() {
    for (parent, message) in [("parent=none", "ready"), ("unwatched", "refused: the parent is pid 1")] {
        // The shell is gone before the probe begins.
        let script = r#"exec 3<&0; { read go <&3; exec "$0" "$1" wait; } & echo $!"#;
        let mut shell = Probe::shell(script, &[parent]);
        let probe = identity(shell.line().parse().unwrap());
        shell.wait();
        let adopter = StatLine::read(probe.pid).unwrap().parent;
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
        if adopter != 1 || namespace.as_os_str() != "pid:[4026531836]" {
            skipped(format_args!("orphans go to pid {adopter} of {namespace:?} here, not to the first init"));
            end(&probe);
            return;
        }
        writeln!(shell.stdin(), "go").unwrap();
        let line = shell.line();
        end(&probe);
        assert!(line.starts_with(message), "{parent}: {line:?}");
    }
}

#[test]
fn a_shell_may_be_pid_1_of_a_namespace() {
    let Some(mut probe) = in_a_pid_namespace(r#""$0" return; echo code $?"#) else { return };
    probe.expect("removing:");
    probe.expect("ended:");
    assert_eq!(probe.expect("exit:"), "0");
    assert_eq!(probe.line(), "code 0");
}

#[test]
fn a_process_entered_from_outside_of_its_namespace_has_no_parent_to_watch() {
    let Some(mut probe) = in_a_pid_namespace(r#"exec "$0" return"#) else { return };
    let message = probe.expect("note:");
    assert!(message.starts_with("no parent is watched"), "{message}");
    assert_eq!(probe.expect("removing:"), "0 alive, 0 left");
}

/// A script in a pid namespace of its own, or a visible skip where the kernel makes none for us.
fn in_a_pid_namespace(script: &str) -> Option<Probe> {
    let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        skipped("no pid namespace can be made here");
        return None;
    }
    Some(Probe::command(Command::new("unshare").args(unshare).args(["sh", "-c", script, PROGRAM])))
}

fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
