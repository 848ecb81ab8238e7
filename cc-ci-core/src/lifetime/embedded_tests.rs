use super::super::{ChildError, RunLifetimeExt as _, ScopeEnd, Stage};
use super::*;
use crate::model::event::Silent;
use crate::sys::process::wait_gone;
use std::time::Instant;

fn sh(script: &str) -> Command {
    Command::new("sh", "/").env("PATH", "/usr/bin:/bin").args(["-c", script])
}

fn lifetime() -> EmbeddedMode {
    EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap()
}

#[tokio::test]
async fn a_child_runs_to_its_end_and_tells_both_streams() {
    let supervisor = lifetime();
    let mut lines = Vec::new();
    let ended = supervisor
        .run(sh("echo one; echo two >&2; exit 3"), Duration::from_mins(1), &mut |line| {
            lines.push(line.text.clone());
        })
        .await
        .unwrap();
    assert_eq!(ended.code, Some(3));
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(supervisor.end_children().await, ChildrenEnded::default());
}

#[tokio::test]
async fn a_child_that_takes_too_long_is_ended() {
    let supervisor = lifetime();
    let command = sh("echo up; sleep 1000").grace(Duration::ZERO);
    let error = supervisor.run(command, Duration::from_millis(50), &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    assert!(supervisor.0.children.pids().is_empty());
}

#[tokio::test]
async fn a_body_that_returns_the_error_of_a_cancelled_wait_was_cancelled() {
    let supervisor = lifetime();
    let body = async {
        // In one poll, so that nobody sees the cancellation before the wait does.
        supervisor.cancel();
        supervisor.run(sh("true"), Duration::from_mins(1), &mut |_| {}).await
    };
    let (end, _) = supervisor.scope(body).await;
    assert!(matches!(end, ScopeEnd::Cancelled(Cause::Embedder)), "{end:?}");
}

#[tokio::test]
async fn a_scope_ends_children_that_ignore_term_before_it_returns() {
    let supervisor = lifetime();
    let (end, children) = supervisor
        .scope(async {
            let command =
                sh("trap '' TERM; echo up; while :; do sleep 1000; done").grace(Duration::from_millis(50));
            let mut child = supervisor.spawn(command).await.unwrap();
            assert_eq!(child.next_line().await.unwrap().text, "up");
            let pid = child.pid();
            supervisor.cancel();
            child.wait().await;
            pid
        })
        .await;
    assert!(matches!(end, ScopeEnd::Cancelled(Cause::Embedder)));
    assert_eq!((children.groups, children.left), (1, Vec::new()));
    assert!(children.signalled_after.unwrap() < Duration::from_millis(100));
    let refused = supervisor.spawn(sh("true")).await.unwrap_err();
    assert!(matches!(refused, SpawnError::TearingDown { .. }));
}

#[tokio::test]
async fn a_cancelled_run_returns_at_once_and_leaves_the_child_to_the_end() {
    let supervisor = lifetime();
    let mut message = false;
    let command = sh("trap '' TERM; echo up; while :; do sleep 1000; done").grace(Duration::ZERO);
    let outcome = supervisor
        .run(command, Duration::from_mins(1), &mut |_| {
            message = true;
            supervisor.cancel();
        })
        .await;
    assert!(matches!(outcome, Err(ChildError::Cancelled { cause: Cause::Embedder, .. })), "{outcome:?}");
    assert!(message);
    assert_eq!(supervisor.end_children().await.groups, 1);
    // The teardown's own children listen to their limit only.
    let ended =
        supervisor.run(sh("exit 5").stage(Stage::Teardown), Duration::from_mins(1), &mut |_| {}).await;
    assert_eq!(ended.unwrap().code, Some(5));
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_starts_nothing_that_stays() {
    let supervisor = lifetime();
    // The spawner may be faster than the poll: then the child is handed over, and this start proves nothing.
    loop {
        let start = supervisor.spawn(sh("exec sleep 1000"));
        tokio::pin!(start);
        match futures_util::poll!(start.as_mut()) {
            std::task::Poll::Pending => break,
            std::task::Poll::Ready(child) => child.unwrap().end().await,
        };
    }
    supervisor.0.all_started().await;
    supervisor.0.children.all_reaped().await;
}

#[tokio::test]
async fn children_of_a_dropped_lifetime_are_killed() {
    let supervisor = lifetime();
    let mut child =
        supervisor.spawn(sh("trap '' TERM; echo up; while :; do sleep 1000; done")).await.unwrap();
    assert_eq!(child.next_line().await.unwrap().text, "up");
    drop(supervisor);
    assert_eq!(child.wait().await.signal, Some(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_child_outlives_the_thread_that_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let supervisor = lifetime();
    let command = Command { cwd: dir.path().to_owned(), ..sh("read line < gate; echo $line") };
    // A thread with a runtime of its own, which ends as an idle worker does.
    let (mut child, task) = std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let command = command.output(super::super::Output::File(dir.path().join("out")));
            let child = runtime.block_on(supervisor.spawn(command)).unwrap();
            (child, std::path::PathBuf::from(format!("/proc/self/task/{}", nix::unistd::gettid())))
        });
        asks.join().unwrap()
    });
    while task.exists() {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || std::fs::write(gate, "still here\n")).await.unwrap().unwrap();
    assert_eq!(child.wait().await.code, Some(0));
    assert_eq!(std::fs::read_to_string(dir.path().join("out")).unwrap(), "still here\n");
}

#[tokio::test]
async fn output_is_cut_dropped_and_counted() {
    let supervisor = lifetime();
    let mut lines = Vec::new();
    let script =
        "head -c 100000 /dev/zero | tr '\\0' x; echo; for i in 1 2 3 4; do echo $i; done; printf end";
    let command = sh(script).output_limit(super::super::Line::MAX + 1 + 2 * 2);
    supervisor.run(command, Duration::from_mins(1), &mut |line| lines.push(line.text.clone())).await.unwrap();
    assert_eq!(lines[0].len(), super::super::Line::MAX);
    assert_eq!(lines[1..], ["1", "2", "(3 more lines were dropped: too much output)"]);
}

#[tokio::test]
async fn a_line_is_as_long_as_the_command_asks_for() {
    let supervisor = lifetime();
    let mut lines = Vec::new();
    let command = sh("head -c 100000 /dev/zero | tr '\\0' x").line_limit(90_000);
    supervisor.run(command, Duration::from_mins(1), &mut |line| lines.push(line.text.len())).await.unwrap();
    assert_eq!(lines, [90_000]);
}

#[tokio::test]
async fn an_escaped_process_cannot_keep_the_end_of_the_output_from_coming() {
    let supervisor = lifetime();
    let mut child =
        supervisor.spawn(sh("setsid sh -c 'echo $$; exec sleep 1000' & wait $!; :")).await.unwrap();
    let pid = child.next_line().await.unwrap().text.parse().unwrap();
    let escaped = ProcessIdentity::of(pid, BootId::current().unwrap()).unwrap();
    crate::sys::process::kill_process(
        &ProcessIdentity::of(child.pid(), escaped.boot_id.clone()).unwrap(),
        &escaped.boot_id,
        crate::sys::process::Signal::Kill,
    )
    .unwrap();
    assert_eq!(child.next_line().await, None);
    assert!(escaped.is_alive(&escaped.boot_id));
    crate::sys::process::kill_process(&escaped, &escaped.boot_id, crate::sys::process::Signal::Kill).unwrap();
    let far = Instant::now() + Duration::from_mins(1);
    assert!(wait_gone(&escaped, &escaped.boot_id, far).await.unwrap());
}

#[tokio::test]
async fn the_last_line_is_told_though_the_child_has_ended() {
    let supervisor = lifetime();
    for _ in 0..20 {
        let mut child = supervisor.spawn(sh("echo one; printf two")).await.unwrap();
        // Ended, and nobody has read.
        supervisor.0.children.all_reaped().await;
        assert_eq!(child.next_line().await.unwrap().text, "one");
        assert_eq!(child.next_line().await.unwrap().text, "two");
        assert_eq!(child.next_line().await, None);
    }
}

#[test]
fn a_process_with_threads_is_not_taken_over() {
    // The test's own thread is the second one.
    let refused = super::super::ProcessMode::take_over();
    assert!(matches!(refused, Err(super::super::TakeOverError::Threads { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_job_that_does_not_return_is_told_when_the_budget_is_spent() {
    let bounds = Bounds { teardown: Duration::from_millis(50), ..Bounds::default() };
    let supervisor = EmbeddedMode::new(bounds, Arc::new(Silent)).unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    {
        let job = supervisor.blocking_tasks().run(move || blocked.recv());
        tokio::pin!(job);
        assert!(futures_util::poll!(job.as_mut()).is_pending());
    }
    supervisor.begin_teardown();
    assert_eq!(supervisor.end_children().await.tasks_left, 1);
    release.send(()).unwrap();
    supervisor.blocking_tasks().idle().await;
    assert_eq!(supervisor.end_children().await.tasks_left, 0);
}

#[tokio::test]
async fn a_detached_process_that_is_recorded_after_teardown_began_never_executes() {
    let supervisor = Arc::new(lifetime());
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let command = sh("echo executed").output(super::super::Output::File(log.clone()));
    let tears_down = Arc::clone(&supervisor);
    let (message, recorded) = std::sync::mpsc::channel();
    let record = Box::new(move |process: &ProcessIdentity| {
        tears_down.begin_teardown();
        message.send(process.clone()).map_err(io::Error::other)
    });
    assert!(supervisor.spawn_detached(command, record).await.is_err());
    let process = recorded.recv().unwrap();
    let far = Instant::now() + Duration::from_mins(1);
    assert!(wait_gone(&process, &process.boot_id, far).await.unwrap());
    assert_eq!(std::fs::read_to_string(log).unwrap_or_default(), "");
}

#[tokio::test]
async fn an_end_by_a_signal_is_told_whichever_it_was() {
    let supervisor = lifetime();
    for signal in [nix::libc::SIGUSR2, nix::libc::SIGRTMIN() + 1] {
        let mut child = supervisor.spawn(sh(&format!("kill -{signal} $$"))).await.unwrap();
        assert_eq!(
            child.wait().await,
            super::super::Ended { code: None, signal: Some(signal), unstarted: false }
        );
        assert_eq!(
            crate::sys::process::StatLine::read(child.pid()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}

#[tokio::test]
async fn for_ever_is_a_bound_like_any_other() {
    let bounds = Bounds { deadline: Some(Duration::MAX), teardown: Duration::MAX };
    let supervisor = EmbeddedMode::new(bounds, Arc::new(Silent)).unwrap();
    // The watcher's thread still watches: it sees the end of a child.
    let command = sh("exit 3").grace(Duration::MAX);
    let ended = supervisor.run(command, Duration::MAX, &mut |_| {}).await.unwrap();
    assert_eq!(ended.code, Some(3));
    assert!(supervisor.begin_teardown().remaining() > Duration::from_hours(24));
    assert_eq!(supervisor.end_children().await, ChildrenEnded::default());
}
