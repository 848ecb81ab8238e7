use super::super::{ChildError, RunLifetimeExt as _, ScopeEnd};
use super::*;
use crate::event::Silent;

fn sh(script: &str) -> Command {
    Command::new("sh", "/").env("PATH", "/usr/bin:/bin").args(["-c", script])
}

fn lifetime() -> Embedded {
    Embedded::new(Bounds::default(), Arc::new(Silent)).unwrap()
}

#[tokio::test]
async fn a_child_runs_to_its_end_and_tells_both_streams() {
    let life = lifetime();
    let mut lines = Vec::new();
    let ended = life
        .run(sh("echo one; echo two >&2; exit 3"), Duration::from_secs(60), &mut |line| {
            lines.push(line.text.clone());
        })
        .await
        .unwrap();
    assert_eq!(ended.code, Some(3));
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(life.end_children().await, ChildrenEnded::default());
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_ended() {
    let life = lifetime();
    let command = sh("echo up; sleep 1000").grace(Duration::ZERO);
    let error = life.run(command, Duration::from_millis(50), &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    assert!(life.0.children.pids().is_empty());
}

#[tokio::test]
async fn a_scope_ends_children_that_ignore_term_before_it_returns() {
    let life = lifetime();
    let (end, children) = life
        .scope(async {
            let command =
                sh("trap '' TERM; echo up; while :; do sleep 1000; done").grace(Duration::from_millis(50));
            let mut child = life.spawn(command).await.unwrap();
            assert_eq!(child.next_line().await.unwrap().text, "up");
            let pid = child.pid();
            life.cancel();
            child.wait().await;
            pid
        })
        .await;
    assert!(matches!(end, ScopeEnd::Cancelled(Cause::Embedder)));
    assert_eq!((children.groups, children.left), (1, Vec::new()));
    assert!(children.signalled_after.unwrap() < Duration::from_millis(100));
    let refused = life.spawn(sh("true")).await.unwrap_err();
    assert!(matches!(refused, SpawnError::TearingDown { .. }));
}
