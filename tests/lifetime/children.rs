//! Children end with their run, whatever they do, and nobody else does.

use std::io::Write as _;
use std::process::Command;

use cc_ci_core::lifetime::conformance::CASES;
use cc_ci_core::process::ProcessIdentity;
use cc_ci_tests::until;

use crate::probe::{PROGRAM, Probe, UnixSignal, all_go, end, identity, is_alive};

#[test]
fn a_child_that_ignores_term_is_gone_before_anything_is_removed() {
    let mut probe = Probe::start(&["script", "trap '' TERM; echo ready; while :; do sleep 1000; done"]);
    let started = probe.started();
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("cancelled:"), "SIGTERM");
    assert_eq!(probe.expect_removal(), "1 groups, 0 escaped");
    assert_eq!(probe.expect("exit:"), "143");
    assert!(!started.iter().any(is_alive));
}

#[test]
fn a_grandchild_that_escaped_without_its_mark_is_gone_before_anything_is_removed() {
    let script = "setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$; while :; do /bin/sleep 1000; done' & \
                  setsid env -i /bin/sh -c '(echo ready; exec /bin/sleep 1000) & exit' & \
                  wait";
    let mut probe = Probe::start(&["script", script]);
    let started = probe.started();
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("cancelled:"), "SIGTERM");
    let ended = probe.expect_removal();
    assert!(ended.starts_with("1 groups, ") && !ended.ends_with(" 0 escaped"), "{ended}");
    assert_eq!(probe.expect("exit:"), "143");
    assert!(!started.iter().any(is_alive));
}

#[test]
fn a_descendant_that_says_of_itself_that_it_is_a_service_is_ended_all_the_same() {
    let script = "CCCI_MARKER=v1/service/nobody.example.org/w/app setsid sh -c 'echo $$; echo ready; exec sleep 1000' & wait";
    let mut probe = Probe::start(&["script", script]);
    let started = probe.started();
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("cancelled:"), "SIGTERM");
    let ended = probe.expect_removal();
    assert!(!ended.ends_with(" 0 escaped"), "{ended}");
    assert!(!started.iter().any(is_alive));
}

#[test]
fn children_that_fork_on_are_swept_all_the_same() {
    let script = "setsid env -i /bin/sh -c 'echo ready; n=0; while [ $n -lt 500 ]; do n=$((n+1)); /bin/sleep 60 & /bin/sleep 0.001; done' & \
                  wait";
    let mut probe = Probe::start(&["script", script]);
    probe.started();
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("cancelled:"), "SIGTERM");
    probe.expect_removal();
}

#[test]
fn children_die_with_a_killed_owner() {
    // What ignores TERM still does so after exec; a grandchild would be left to whoever recovers the domain.
    let script = "trap '' TERM HUP; echo ready; exec sleep 1000";
    let mut probe = Probe::start(&["script", script]);
    let started = probe.started();
    probe.send(UnixSignal::SIGKILL);
    all_go(&started);
}

/// The probe is told to end, and ends nobody else: not `stranger`, who is ended here.
#[track_caller]
fn spares(mut probe: Probe, stranger: &ProcessIdentity) {
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("cancelled:"), "SIGTERM");
    let ended = probe.expect_removal();
    let alive = is_alive(stranger);
    end(stranger);
    assert_eq!(ended, "0 groups, 0 escaped");
    assert!(alive, "ended {stranger}, who is not ours");
}

#[test]
fn children_of_an_embedded_lifetime_beside_it_are_that_ones() {
    let mut probe = Probe::start(&["teardown=stdin", "beside=sleep", "wait"]);
    let pids = probe.expect("beside:");
    let beside: Vec<ProcessIdentity> = pids.split(' ').map(|pid| identity(pid.parse().unwrap())).collect();
    probe.expect("ready");
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("cancelled:"), "SIGTERM");
    assert_eq!(probe.expect_removal(), "0 groups, 0 escaped");
    let [leader, below] = &beside[..] else { panic!("{beside:?}") };
    let alive = [leader, below].map(is_alive);
    probe.close_stdin();
    assert_eq!(probe.expect("exit:"), "143");
    all_go(std::slice::from_ref(leader));
    end(below);
    assert_eq!(alive, [true, true], "ended what is another lifetime's");
}

#[test]
fn background_jobs_of_an_execed_shell_are_not_ours() {
    let mut probe = Probe::shell(r#"sleep 1000 & echo $!; exec "$0" "$@""#, &["wait"]);
    let job = identity(probe.line().parse().unwrap());
    probe.expect("ready");
    spares(probe, &job);
}

#[test]
fn an_owning_lifetime_keeps_the_contract() {
    // They ask for several lifetimes, bounds of their own, or other children: an embedded lifetime has these.
    let embedded = [
        "two_lifetimes_end_their_own_children_only",
        "the_hosts_own_children_are_untouched",
        "the_deadline_stands_still_while_held",
        "the_deadline_ends_with_the_body",
        "a_scope_ends_children_however_its_body_ends",
    ];
    let cases: Vec<_> = CASES.iter().map(|case| case.name).filter(|name| !embedded.contains(name)).collect();
    assert_eq!(cases.len(), CASES.len() - embedded.len());
    for case in cases {
        // Ignored signals come with exec: children must not have them.
        let output = Command::new("env")
            .args(["--ignore-signal=HUP,PIPE,USR2,CHLD", PROGRAM, "conformance", case])
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {message}{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn an_orphan_of_a_background_job_is_not_ours_either() {
    // Once we are the subreaper, the job leaves a process behind: the kernel gives it to us.
    let script = r#"exec 3<&0; { read go; sh -c 'sleep 1000 & echo $!'; read end; } <&3 & exec "$0" "$@""#;
    let mut probe = Probe::shell(script, &["wait"]);
    probe.expect("ready");
    writeln!(probe.stdin(), "go").unwrap();
    let orphan = identity(probe.line().parse().unwrap());
    until("the orphan is ours", || {
        cc_ci_core::process::StatLine::read(orphan.pid).unwrap().parent == probe.pid()
    });
    spares(probe, &orphan);
}

#[test]
fn a_background_job_that_leaves_its_group_is_still_not_ours() {
    let script = r#"exec 3<&0; { read go; exec setsid sleep 1000; } <&3 & echo $!; exec "$0" "$@""#;
    let mut probe = Probe::shell(script, &["wait"]);
    let job = identity(probe.line().parse().unwrap());
    probe.expect("ready");
    writeln!(probe.stdin(), "go").unwrap();
    until("the job has left its group", || {
        cc_ci_core::process::StatLine::read(job.pid).unwrap().group == job.pid
    });
    spares(probe, &job);
}
