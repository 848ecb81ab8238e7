//! Everything that ends a run goes through one teardown, with its own exit code.

use crate::probe::{Probe, UnixSignal};

fn a_signal_tears_down(signal: UnixSignal, code: u8) {
    let mut probe = Probe::start(&["wait"]);
    probe.expect("ready");
    probe.send(signal);
    probe.expect_teardown(signal.as_str(), code);
    assert_eq!(probe.code(), Some(code.into()));
}

#[test]
fn term_tears_down_and_ends_with_143() {
    a_signal_tears_down(UnixSignal::SIGTERM, 143);
}

#[test]
fn int_tears_down_and_ends_with_130() {
    a_signal_tears_down(UnixSignal::SIGINT, 130);
}

#[test]
fn hup_tears_down_and_ends_with_129() {
    a_signal_tears_down(UnixSignal::SIGHUP, 129);
}

#[test]
fn a_signal_before_anybody_listens_is_not_lost() {
    let mut probe = Probe::start(&["before=stdin", "wait"]);
    probe.expect("taken over");
    probe.send(UnixSignal::SIGTERM);
    probe.close_stdin();
    // The body may or may not begin first.
    let mut line = probe.line();
    if line == "ready" {
        line = probe.line();
    }
    assert_eq!(line, "cancelled: SIGTERM");
}

#[test]
fn the_deadline_tears_down_and_ends_with_142() {
    let mut probe = Probe::start(&["deadline=30", "script", "echo ready; exec sleep 1000"]);
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("exit:") && !line.is_empty()) {
        lines.push(probe.line());
    }
    assert!(lines.contains(&"cancelled: deadline".to_owned()), "{lines:?}");
    assert!(lines.contains(&"removing: 0 alive, 0 left".to_owned()), "{lines:?}");
    assert_eq!(probe.code(), Some(142));
}

#[test]
fn a_panic_tears_down_and_ends_with_3() {
    let mut probe = Probe::start(&["panic", "echo ready; exec sleep 1000"]);
    probe.expect("pid:");
    assert_eq!(probe.expect("removing:"), "0 alive, 0 left");
    assert_eq!(probe.expect("ended:"), "1 groups, 0 escaped");
    assert_eq!(probe.expect("exit:"), "3");
    assert_eq!(probe.code(), Some(3));
}

#[test]
fn a_second_and_a_third_signal_in_teardown_are_told_and_swallowed() {
    let mut probe = Probe::start(&["teardown=stdin", "wait"]);
    probe.expect("ready");
    probe.send(UnixSignal::SIGINT);
    assert_eq!(probe.expect("cancelled:"), "SIGINT");
    probe.expect_removal();
    for signal in [UnixSignal::SIGTERM, UnixSignal::SIGHUP] {
        probe.send(signal);
        assert_eq!(probe.expect("swallowed:"), signal.as_str());
    }
    probe.close_stdin();
    // The first cause decides.
    assert_eq!(probe.expect("exit:"), "130");
    assert_eq!(probe.code(), Some(130));
}

#[test]
fn a_signal_in_the_teardown_of_a_green_run_leaves_it_green() {
    let mut probe = Probe::start(&["teardown=stdin", "return"]);
    probe.expect("removing:");
    probe.expect("ended:");
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.expect("swallowed:"), "SIGTERM");
    probe.close_stdin();
    assert_eq!(probe.expect("exit:"), "0");
}

#[test]
fn a_running_process_can_be_asked_what_it_does() {
    let mut probe = Probe::start(&["script", "echo ready; exec sleep 1000"]);
    let child = probe.started().remove(0);
    probe.send(UnixSignal::SIGUSR1);
    let state = probe.expect("asked:");
    assert!(state.starts_with(&format!("sh (pid {}), running for ", child.pid)), "{state}");
}

#[test]
fn signals_that_came_ignored_are_obeyed() {
    // A background job of a shell has INT ignored, one under nohup HUP.
    for (signal, code) in [(UnixSignal::SIGINT, 130), (UnixSignal::SIGHUP, 129), (UnixSignal::SIGTERM, 143)] {
        let mut probe = Probe::shell(r#"trap '' INT HUP TERM; exec "$0" "$@""#, &["wait"]);
        probe.expect("ready");
        probe.send(signal);
        probe.expect_teardown(signal.as_str(), code);
    }
}

#[test]
fn a_closed_log_pipe_changes_nothing() {
    let mut probe = Probe::start(&["script", "echo ready; exec sleep 1000"]);
    let started = probe.started();
    probe.close_output();
    probe.send(UnixSignal::SIGTERM);
    assert_eq!(probe.code(), Some(143));
    crate::probe::all_go(&started);
}
