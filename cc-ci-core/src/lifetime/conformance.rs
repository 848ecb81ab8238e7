//! What every [`RunLifetime`] must do, as tests: an implementation runs each case with a way to make one.
//!
//! A case panics when the contract is broken. The lifetimes that it asks for live in its own process, several at
//! once in some, and on a runtime with I/O and time.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed case")]

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::timeout;

use super::{
    Bounds, Child, Command, Output, RunLifetime, RunLifetimeExt as _, ScopeEnd, SpawnError, Stage, Stream,
};
use crate::model::cancellation::Cause;
use crate::sys::process::{Marker, MarkerOwner, ProcessIdentity, Signal, kill_process};
use crate::sys::system_info::BootId;

/// What nothing here takes.
const FAR: Duration = Duration::from_mins(1);

/// Makes a lifetime.
pub type New<'a> = &'a (dyn Fn(Bounds) -> Box<dyn RunLifetime> + Sync);

/// One promise.
#[derive(Clone, Copy)]
pub struct Case {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    body: for<'a> fn(New<'a>) -> LocalBoxFuture<'a, ()>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

impl Case {
    /// Runs it.
    ///
    /// # Panics
    /// When the promise is broken.
    pub async fn run(&self, new: New<'_>) {
        (self.body)(new).await;
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] =
            &[$(Case { name: stringify!($name), body: |new| Box::pin($name(new)) }),*];
    };
}

cases![
    teardown_refuses_children_of_the_body,
    a_child_starts_clean,
    a_mark_replaces_the_outer_one,
    ending_leaves_nobody,
    a_leaders_exit_ends_its_group,
    an_exit_is_no_end_by_force,
    an_end_by_its_limit_is_told_at_the_end,
    an_end_by_a_signal_is_told_at_the_end,
    the_end_of_what_a_leader_left_is_told_at_the_end,
    two_lifetimes_end_their_own_children_only,
    the_hosts_own_children_are_untouched,
    the_deadline_stands_still_while_held,
    the_deadline_ends_with_the_body,
    a_detached_process_is_recorded_before_it_executes,
    a_detached_process_that_nobody_recorded_never_executes,
    blocking_work_is_waited_for,
    a_scope_ends_children_however_its_body_ends,
];

/// Once teardown has begun, only its own children start, and its budget runs from the first call.
async fn teardown_refuses_children_of_the_body(new: New<'_>) {
    let supervisor = new(Bounds::default());
    assert_eq!(supervisor.begin_teardown(), supervisor.begin_teardown());
    let refused = supervisor.spawn(sh("true")).await;
    assert!(matches!(refused, Err(SpawnError::TearingDown { .. })), "a body's child started in teardown");
    let mut child = supervisor.spawn(sh("exit 7").stage(Stage::Teardown)).await.unwrap();
    assert_eq!(child.wait().await.code, Some(7));
}

/// Empty mask, default dispositions, a group of its own, no inherited descriptor, no inherited variable.
async fn a_child_starts_clean(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let leak = tempfile::tempfile().unwrap();
    fcntl(leak.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let status = lines(&*supervisor, Command::new("/bin/cat", "/").arg("/proc/self/status")).await;
    for field in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let found = status.iter().find(|line| line.starts_with(field)).unwrap();
        assert_eq!(found.split_whitespace().nth(1), Some("0000000000000000"), "{found}");
    }
    let descriptors = lines(&*supervisor, Command::new("/bin/ls", "/").arg("/proc/self/fd")).await;
    // The fourth is the directory that ls reads.
    assert_eq!(descriptors, ["0", "1", "2", "3"]);
    let environment = lines(&*supervisor, Command::new("/usr/bin/env", "/tmp").env("ONLY", "this")).await;
    assert_eq!(environment, ["ONLY=this"]);
    let stat = lines(&*supervisor, Command::new("/bin/cat", "/").arg("/proc/self/stat")).await;
    let fields: Vec<&str> = stat[0].split_whitespace().collect();
    assert_eq!(fields[0], fields[4], "the child does not lead its group");
}

/// One variable holds the mark: a nested run's child carries the inner run's only.
async fn a_mark_replaces_the_outer_one(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let mark = mark(&*supervisor, "inner");
    let command = Command::new("/usr/bin/env", "/").env(Marker::VARIABLE, "outer").marker(mark.clone());
    assert_eq!(lines(&*supervisor, command).await, [format!("{}={mark}", Marker::VARIABLE)]);
}

/// Who ignores TERM, who is in the background, and who escaped with `setsid` and still carries the mark.
async fn ending_leaves_nobody(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let script = "trap '' TERM; sleep 1000 & echo $!; setsid sh -c 'echo $$; exec sleep 1000' & \
                  while :; do sleep 1000; done";
    let command = sh(script).marker(mark(&*supervisor, "ending")).grace(Duration::from_millis(20));
    let mut child = supervisor.spawn(command).await.unwrap();
    let mut processes = vec![identity(child.pid())];
    processes.push(identity(next_pid(&mut child).await));
    processes.push(identity(next_pid(&mut child).await));
    let ended = supervisor.end_children().await;
    let living: Vec<_> = processes.iter().filter(|process| is_alive(process)).collect();
    for process in &living {
        kill(process);
    }
    assert!(living.is_empty(), "still alive: {living:?}");
    assert_eq!((ended.groups, ended.left.len(), ended.tasks_left), (1, 0, 0));
    assert!(ended.escaped >= 1, "the escaped one was not counted");
}

/// What a child left in the background is gone once the children are ended, though the child itself ended long ago.
async fn a_leaders_exit_ends_its_group(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let mut child = supervisor.spawn(sh("sleep 1000 & echo $!")).await.unwrap();
    let background = identity(next_pid(&mut child).await);
    assert!(child.wait().await.success());
    supervisor.end_children().await;
    let alive = is_alive(&background);
    kill(&background);
    assert!(!alive, "the group outlived its leader");
}

/// An exit with a failure is an end of its own.
async fn an_exit_is_no_end_by_force(new: New<'_>) {
    assert!(!ends_by_force(new, "exit 1", FAR).await);
}

/// However long ago, and though it exits when it is asked to: what such a client had ordered may still be carried
/// out.
async fn an_end_by_its_limit_is_told_at_the_end(new: New<'_>) {
    assert!(ends_by_force(new, "trap 'exit 1' TERM; while :; do :; done", Duration::from_millis(100)).await);
}

/// Whoever sent it.
async fn an_end_by_a_signal_is_told_at_the_end(new: New<'_>) {
    assert!(ends_by_force(new, "kill -9 $$", FAR).await);
}

/// What it left in the background was at work.
async fn the_end_of_what_a_leader_left_is_told_at_the_end(new: New<'_>) {
    assert!(ends_by_force(new, "sleep 1000 & exit 0", FAR).await);
}

/// Whether the end of a child is told as one by force when it is long gone.
async fn ends_by_force(new: New<'_>, script: &str, limit: Duration) -> bool {
    let supervisor = new(Bounds::default());
    let ran = supervisor.run(sh(script), limit, &mut |_| {}).await;
    assert_eq!(ran.is_err(), limit < FAR);
    assert!(supervisor.run(sh("true"), FAR, &mut |_| {}).await.unwrap().success());
    let ended = supervisor.end_children().await;
    assert!(!ended.search_failed, "nobody was looked for");
    ended.by_force
}

/// Two runs in one process.
async fn two_lifetimes_end_their_own_children_only(new: New<'_>) {
    let (ours, theirs) = (new(Bounds::default()), new(Bounds::default()));
    let sleeper =
        |supervisor: &dyn RunLifetime, run| sh("echo up; exec sleep 1000").marker(mark(supervisor, run));
    let mut one = ours.spawn(sleeper(&*ours, "1")).await.unwrap();
    let mut other = theirs.spawn(sleeper(&*theirs, "2")).await.unwrap();
    assert_eq!(one.next_line().await.unwrap().text, "up");
    assert_eq!(other.next_line().await.unwrap().text, "up");
    let other = identity(other.pid());
    ours.begin_teardown();
    assert_eq!(ours.end_children().await.groups, 1);
    assert!(is_alive(&other), "ended the other run's child");
    assert_eq!(theirs.cancellation().cause(), None);
    theirs.end_children().await;
    assert!(!is_alive(&other));
}

/// A process that the host started by itself is neither ended nor waited for.
async fn the_hosts_own_children_are_untouched(new: New<'_>) {
    let mut host = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut ended_host = std::process::Command::new("true").spawn().unwrap();
    let supervisor = new(Bounds::default());
    supervisor.spawn(sh("exec sleep 1000")).await.unwrap();
    supervisor.begin_teardown();
    supervisor.end_children().await;
    assert!(is_alive(&identity(host.id().cast_signed())), "ended the host's child");
    assert!(ended_host.wait().unwrap().success(), "reaped the host's child");
    host.kill().unwrap();
    host.wait().unwrap();
}

/// A run that waits for its lock does not age.
async fn the_deadline_stands_still_while_held(new: New<'_>) {
    let supervisor = new(Bounds { deadline: Some(Duration::from_millis(100)), ..Bounds::default() });
    let hold = supervisor.hold_deadline();
    let second = supervisor.hold_deadline();
    drop(second);
    let early = timeout(Duration::from_millis(300), supervisor.cancellation().cancelled()).await;
    assert!(early.is_err(), "the deadline fired while it was held");
    drop(hold);
    assert_eq!(supervisor.cancellation().cancelled().await, Cause::Deadline);
}

/// The teardown has its own budget.
async fn the_deadline_ends_with_the_body(new: New<'_>) {
    let supervisor =
        new(Bounds { deadline: Some(Duration::from_millis(200)), teardown: Duration::from_secs(90) });
    assert!(supervisor.begin_teardown().remaining() > Duration::from_mins(1));
    let late = timeout(Duration::from_millis(400), supervisor.cancellation().cancelled()).await;
    assert!(late.is_err(), "the deadline fired in teardown");
}

/// It runs on after the end of the children, in a session of its own.
async fn a_detached_process_is_recorded_before_it_executes(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let dir = tempfile::tempdir().unwrap();
    let (record, log) = (dir.path().join("record"), dir.path().join("log"));
    let command = sh("cat record; echo up > ran; exec sleep 1000")
        .marker(Marker {
            domain: "note-000001.conformance.test".parse().unwrap(),
            owner: MarkerOwner::Service { service: "app".into(), state_dir: "conformance".into() },
        })
        .output(Output::File(log.clone()));
    let command = Command { cwd: dir.path().to_owned(), ..command };
    let ran = dir.path().join("ran");
    mkfifo(&ran, Mode::S_IRWXU).unwrap();
    let write = Box::new(move |process: &ProcessIdentity| std::fs::write(record, process.pid.to_string()));
    let process = supervisor.spawn_detached(command, write).await.unwrap();
    // Returns when the program has written to it.
    tokio::task::spawn_blocking(move || std::fs::read(ran)).await.unwrap().unwrap();
    supervisor.begin_teardown();
    let ended = supervisor.end_children().await;
    let alive = is_alive(&process);
    let group = crate::sys::process::StatLine::read(process.pid).map(|stat| (stat.group, stat.parent));
    kill(&process);
    assert!(alive, "the end of the children ended a detached process");
    assert_eq!((ended.groups, ended.escaped, ended.left), (0, 0, Vec::new()));
    let (group, parent) = group.unwrap();
    assert_eq!(group, process.pid, "it does not lead its group");
    assert_ne!(parent, 0);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.starts_with(&process.pid.to_string()), "not recorded when it executed: {log:?}");
}

/// Nothing runs that nobody knows of.
async fn a_detached_process_that_nobody_recorded_never_executes(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let dir = tempfile::tempdir().unwrap();
    let witness = dir.path().join("witness");
    let command = sh("echo executed").output(Output::File(witness.clone()));
    let seen = Arc::new(std::sync::Mutex::new(None));
    let record = Box::new({
        let seen = Arc::clone(&seen);
        move |process: &ProcessIdentity| {
            *seen.lock().unwrap() = Some(process.clone());
            Err(io::Error::other("no space"))
        }
    });
    let error = supervisor.spawn_detached(command, record).await.err();
    let process = seen.lock().unwrap().take().unwrap();
    crate::sys::process::wait_gone(&process, &process.boot_id, far()).await.unwrap();
    assert!(matches!(error, Some(SpawnError::Io { .. })), "a failed record was not told");
    assert_eq!(std::fs::read_to_string(witness).unwrap_or_default(), "");
    let missing = Command::new("/does/not/exist", "/").output(Output::File(dir.path().join("log")));
    let error = supervisor.spawn_detached(missing, Box::new(|_| Ok(()))).await;
    assert!(error.is_err(), "a program that can't be executed was not told");
}

/// A job whose waiter is gone still ends before the end of the children does.
async fn blocking_work_is_waited_for(new: New<'_>) {
    let supervisor = new(Bounds::default());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let done = Arc::new(AtomicBool::new(false));
    {
        let done = Arc::clone(&done);
        let job = supervisor.blocking_tasks().run(move || {
            // Either way the job may end.
            let _released = blocked.recv().is_ok();
            done.store(true, Ordering::SeqCst);
        });
        tokio::pin!(job);
        assert!(futures_util::poll!(job.as_mut()).is_pending());
    }
    let end = supervisor.end_children();
    tokio::pin!(end);
    let early = timeout(Duration::from_millis(50), end.as_mut()).await.is_ok();
    release.send(()).unwrap();
    assert!(!early, "the end of the children did not wait for a job");
    end.await;
    assert!(done.load(Ordering::SeqCst));
}

/// Return, panic and cancellation: in each the children are gone when the scope is.
async fn a_scope_ends_children_however_its_body_ends(new: New<'_>) {
    for how in ["return", "panic", "cancel"] {
        let supervisor = new(Bounds::default());
        let started = std::sync::Mutex::new(None);
        let (end, ended) = supervisor
            .scope(async {
                let mut child = supervisor.spawn(sh("echo up; exec sleep 1000")).await.unwrap();
                assert_eq!(child.next_line().await.unwrap().text, "up");
                *started.lock().unwrap() = Some(identity(child.pid()));
                match how {
                    "return" => {}
                    "panic" => std::panic::resume_unwind(Box::new("on purpose")),
                    _ => {
                        supervisor.cancellation().cancel(Cause::Embedder);
                        child.wait().await;
                    }
                }
            })
            .await;
        let child = started.lock().unwrap().take().unwrap();
        let alive = is_alive(&child);
        kill(&child);
        assert!(!alive, "{how}: the child outlived the scope");
        assert_eq!(ended.groups, 1, "{how}");
        let as_it_ended = match end {
            ScopeEnd::Returned(()) => how == "return",
            ScopeEnd::Panicked(_) => how == "panic",
            ScopeEnd::Cancelled(cause) => how == "cancel" && cause == Cause::Embedder,
        };
        assert!(as_it_ended, "{how} was told as something else");
    }
}

fn sh(script: &str) -> Command {
    Command::new("sh", "/").env("PATH", "/usr/bin:/bin").args(["-c", script])
}

fn mark(supervisor: &dyn RunLifetime, run: &str) -> Marker {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    Marker {
        domain: "note-000001.conformance.test".parse().unwrap(),
        owner: MarkerOwner::Run {
            // Unique, whoever else runs the suite in this process.
            run_id: format!("{run}-{}", COUNT.fetch_add(1, Ordering::Relaxed)).parse().unwrap(),
            owner: supervisor.owner().clone(),
        },
    }
}

async fn lines(supervisor: &dyn RunLifetime, command: Command) -> Vec<String> {
    let mut lines = Vec::new();
    let mut take = |line: &super::Line| {
        assert_eq!(line.stream, Stream::Stdout, "{}", line.text);
        lines.push(line.text.clone());
    };
    let ended = supervisor.run(command, FAR, &mut take).await.unwrap();
    assert!(ended.success(), "{ended}");
    lines
}

async fn next_pid(child: &mut Child) -> i32 {
    child.next_line().await.unwrap().text.parse().unwrap()
}

fn identity(pid: i32) -> ProcessIdentity {
    ProcessIdentity::of(pid, BootId::current().unwrap()).unwrap()
}

fn is_alive(process: &ProcessIdentity) -> bool {
    process.is_alive(&process.boot_id)
}

fn kill(process: &ProcessIdentity) {
    kill_process(process, &process.boot_id, Signal::Kill).unwrap();
}

fn far() -> std::time::Instant {
    std::time::Instant::now() + FAR
}
