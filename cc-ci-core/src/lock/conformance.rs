//! What every [`AppLock`] promises, as tests that any implementation can run.
//!
//! Each [`Case`] uses a domain of its own, so all of them can share one lock space. A case panics with what it
//! saw when the promise is broken. It needs a tokio runtime with time.

mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{AcquireError, AppGuard, AppLock, Description, LockView, Wait};
use crate::model::cancellation::{Cancellation, Cause};
use crate::model::event::{Event, Reporter, Silent};
use crate::names::Domain;
use waiting::{
    a_bounded_wait_times_out, a_cancelled_wait_never_acquires, a_dropped_wait_never_acquires,
    a_wait_given_up_lets_the_next_one_through, a_wait_is_visible_from_its_first_moment,
    a_waiter_outlives_the_unlinking, no_wait_returns_at_once, waiters_are_served_in_order,
    what_is_cancelled_already_never_acquires,
};

/// The locks that a case tries.
pub type Locks = Arc<dyn AppLock>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    body: fn(Locks) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Case {
    /// Runs it.
    ///
    /// # Panics
    /// When the promise is broken, or when nothing moves for a minute.
    pub async fn run(&self, locks: Locks) {
        let ended = timeout(Duration::from_mins(1), (self.body)(locks)).await;
        assert!(ended.is_ok(), "{}: nothing moves any more", self.name);
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] =
            &[$(Case { name: stringify!($name), body: |locks| Box::pin($name(locks)) }),*];
    };
}

cases![
    a_lock_is_held_by_one_at_a_time,
    domains_do_not_wait_for_each_other,
    dropping_the_guard_gives_up_the_app,
    a_free_lock_is_taken_silently,
    a_wait_is_visible_from_its_first_moment,
    waiters_are_served_in_order,
    no_wait_returns_at_once,
    a_bounded_wait_times_out,
    a_cancelled_wait_never_acquires,
    what_is_cancelled_already_never_acquires,
    a_dropped_wait_never_acquires,
    a_wait_given_up_lets_the_next_one_through,
    a_look_takes_nothing,
    a_look_sees_holder_and_queue,
    a_new_holder_is_not_described_by_the_old_one,
    unlinking_removes_the_lock,
    a_waiter_outlives_the_unlinking,
    locks_are_listed_in_order,
    a_space_keeps_its_name,
];

/// Runs every case.
///
/// # Panics
/// When a promise is broken.
pub async fn run_all(locks: Locks) {
    for case in CASES {
        case.run(Arc::clone(&locks)).await;
    }
}

/// Keeps each event.
#[derive(Debug)]
struct Recorder(mpsc::UnboundedSender<Event>);

impl Recorder {
    fn new() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }
}

impl Reporter for Recorder {
    fn report(&self, event: &Event) {
        self.0.send(event.clone()).ok();
    }
}

fn domain(name: &str) -> Domain {
    #[expect(clippy::expect_used, reason = "only literals of this file come here")]
    format!("{name}.conformance.example").parse().expect("a domain")
}

fn described(phase: &str) -> Description {
    Description { run_id: None, recipe: None, phase: phase.to_owned() }
}

#[track_caller]
fn probe(locks: &Locks, domain: &Domain) -> Option<AppGuard> {
    match locks.try_acquire(domain) {
        Ok(guard) => guard,
        Err(error) => panic!("probing {domain}: {error}"),
    }
}

#[track_caller]
fn take(locks: &Locks, domain: &Domain) -> AppGuard {
    match probe(locks, domain) {
        Some(guard) => guard,
        None => panic!("the lock of {domain} is held, but nobody should hold it"),
    }
}

#[track_caller]
fn look(locks: &Locks, domain: &Domain) -> Option<LockView> {
    match locks.inspect(domain) {
        Ok(view) => view,
        Err(error) => panic!("looking at {domain}: {error}"),
    }
}

/// A wait in a task of its own, queued behind so many others when this returns.
async fn queue_up(
    locks: &Locks,
    domain: &Domain,
    ahead: usize,
    cancellation: &Cancellation,
) -> tokio::task::JoinHandle<Result<AppGuard, AcquireError>> {
    let waiting = || look(locks, domain).map_or(0, |view| view.waiting);
    // One that was just given up may still be shown for a moment.
    until(|| waiting() == ahead).await;
    let task = tokio::spawn({
        let (locks, domain, cancellation) = (Arc::clone(locks), domain.clone(), cancellation.clone());
        async move { locks.acquire(&domain, Wait::Forever, &cancellation, &Silent).await }
    });
    until(|| task.is_finished() || waiting() == ahead + 1).await;
    assert!(!task.is_finished(), "a wait for the held lock of {domain} ended");
    task
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn granted(task: tokio::task::JoinHandle<Result<AppGuard, AcquireError>>) -> AppGuard {
    match task.await {
        Ok(Ok(guard)) => guard,
        other => panic!("the wait brought no lock: {other:?}"),
    }
}

async fn a_lock_is_held_by_one_at_a_time(locks: Locks) {
    let domain = domain("one");
    let guard = take(&locks, &domain);
    assert_eq!(guard.domain(), &domain);
    assert!(probe(&locks, &domain).is_none(), "a second guard of {domain} was given out");
    drop(guard);

    // Many at once, by both ways: a counter that only an owner touches never sees two.
    let inside = Arc::new(Mutex::new(0));
    join_all((0..8).map(|number| {
        let (locks, domain, inside) = (Arc::clone(&locks), domain.clone(), Arc::clone(&inside));
        async move {
            let cancellation = Cancellation::new();
            for _ in 0..4 {
                let guard = if number % 2 == 0 {
                    probe(&locks, &domain)
                } else {
                    locks.acquire(&domain, Wait::Forever, &cancellation, &Silent).await.ok()
                };
                let enter = |by: i32| {
                    let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
                    *inside += by;
                    assert!(*inside <= 1, "{domain} has two owners");
                };
                if let Some(guard) = guard {
                    enter(1);
                    tokio::task::yield_now().await;
                    enter(-1);
                    drop(guard);
                }
            }
        }
    }))
    .await;
}

async fn domains_do_not_wait_for_each_other(locks: Locks) {
    let held = take(&locks, &domain("here"));
    let other = take(&locks, &domain("there"));
    drop(held);
    assert!(probe(&locks, other.domain()).is_none(), "releasing one lock freed another");
}

async fn dropping_the_guard_gives_up_the_app(locks: Locks) {
    let domain = domain("dropped");
    for _ in 0..3 {
        drop(take(&locks, &domain));
    }
    let guard = take(&locks, &domain);
    let waiting = queue_up(&locks, &domain, 0, &Cancellation::new()).await;
    drop(guard);
    drop(granted(waiting).await);
}

async fn a_free_lock_is_taken_silently(locks: Locks) {
    let (recorder, mut events) = Recorder::new();
    for wait in [Wait::No, Wait::Until(Duration::from_secs(5)), Wait::Forever] {
        let taken = locks.acquire(&domain("silent"), wait, &Cancellation::new(), &recorder).await;
        assert!(taken.is_ok(), "{wait:?}: {taken:?}");
        drop(taken);
        assert!(events.try_recv().is_err(), "taking a free lock was reported");
    }
}

async fn a_look_takes_nothing(locks: Locks) {
    let domain = domain("look");
    assert_eq!(look(&locks, &domain), None);
    assert!(locks.domains().is_ok_and(|all| !all.contains(&domain)), "a look made a lock");
    drop(take(&locks, &domain));
    let view = look(&locks, &domain);
    assert!(view.as_ref().is_some_and(|view| !view.held && view.holder.is_none()), "{view:?}");
    // A looker that never pauses, beside one who takes the lock again and again.
    let stop = Cancellation::new();
    let mut looker = tokio::task::JoinSet::new();
    looker.spawn({
        let (locks, domain, stop) = (Arc::clone(&locks), domain.clone(), stop.clone());
        async move {
            while stop.cause().is_none() {
                drop(look(&locks, &domain));
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..200 {
        let guard = probe(&locks, &domain);
        assert!(guard.is_some(), "a look made a free lock seem held");
        drop(guard);
        tokio::task::yield_now().await;
    }
    stop.cancel(Cause::Embedder);
    assert!(matches!(looker.join_next().await, Some(Ok(()))), "the looker failed");
}

async fn a_look_sees_holder_and_queue(locks: Locks) {
    let domain = domain("seen");
    let guard = take(&locks, &domain);
    let view = look(&locks, &domain);
    assert!(view.is_some_and(|view| view.held && view.waiting == 0), "a held lock is not seen as held");
    let full = Description {
        run_id: "1204.2".parse().ok(),
        recipe: "immich".parse().ok(),
        phase: "install".to_owned(),
    };
    for description in [described("recover"), full] {
        guard.describe(&description);
        let view = look(&locks, &domain);
        let Some(LockView { holder: Some(holder), since: Some(since), .. }) = view else {
            panic!("no holder: {view:?}")
        };
        assert_eq!(holder.pid, nix::unistd::getpid().as_raw());
        assert_eq!(holder.description, Some(description));
        assert_eq!(holder.since, Some(since));
    }
    let waiting = queue_up(&locks, &domain, 0, &Cancellation::new()).await;
    assert_eq!(look(&locks, &domain).map(|view| view.waiting), Some(1));
    drop(guard);
    drop(granted(waiting).await);
}

async fn a_new_holder_is_not_described_by_the_old_one(locks: Locks) {
    let domain = domain("succession");
    let old = take(&locks, &domain);
    old.describe(&described("install"));
    let waiting = queue_up(&locks, &domain, 0, &Cancellation::new()).await;
    drop(old);
    let mut guard = granted(waiting).await;
    for phase in ["backup", "restore"] {
        let description = look(&locks, &domain).and_then(|view| view.holder?.description);
        assert_eq!(description, None, "the former holder's words were shown for the new one");
        guard.describe(&described(phase));
        drop(guard);
        guard = take(&locks, &domain);
    }
    drop(guard);
}

async fn unlinking_removes_the_lock(locks: Locks) {
    let domain = domain("unlinked");
    let guard = take(&locks, &domain);
    assert!(locks.domains().is_ok_and(|all| all.contains(&domain)));
    let removed = guard.unlink();
    assert!(removed.is_ok(), "{removed:?}");
    assert_eq!(look(&locks, &domain), None, "the lock is still there");
    assert!(locks.domains().is_ok_and(|all| !all.contains(&domain)), "the lock is still listed");
    drop(take(&locks, &domain));
}

async fn locks_are_listed_in_order(locks: Locks) {
    let names = ["list-c", "list-a", "list-b"].map(domain);
    let held = names.each_ref().map(|domain| take(&locks, domain));
    let [first, ..] = held;
    drop(first);
    let listed = locks.domains().unwrap_or_default();
    assert!(names.iter().all(|name| listed.contains(name)), "{listed:?}");
    assert!(listed.is_sorted(), "{listed:?}");
}

async fn a_space_keeps_its_name(locks: Locks) {
    let name = locks.space().unwrap_or_default();
    assert!(!name.is_empty());
    drop(take(&locks, &domain("space")));
    assert_eq!(locks.space().unwrap_or_default(), name);
}
