//! Waits: seen, in order, bounded, cancelled, dropped.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::poll_immediate;
use tokio::time::sleep;

use super::super::{AcquireError, Holder, Wait};
use super::{Locks, Recorder, described, domain, granted, look, probe, queue_up, take, until};
use crate::model::cancellation::{Cancellation, Cause};
use crate::model::event::{Event, Silent};

pub(super) async fn a_wait_is_visible_from_its_first_moment(locks: Locks) {
    let domain = domain("visible");
    let guard = take(&locks, &domain);
    guard.describe(&described("recover"));
    let (recorder, mut events) = Recorder::new();
    let cancellation = Cancellation::new();
    {
        let wait = locks.acquire(&domain, Wait::Forever, &cancellation, &recorder);
        let holder = async {
            let waiting = events.recv().await;
            assert!(matches!(waiting, Some(Event::LockWaiting { .. })), "first: {waiting:?}");
            let holder = events.recv().await;
            let Some(Event::LockHolder { holder: Some(Holder { pid, description, since }), queue, .. }) =
                holder
            else {
                panic!("second: {holder:?}")
            };
            assert_eq!(pid, nix::unistd::getpid().as_raw());
            assert_eq!(description, Some(described("recover")));
            assert!(since.is_some() && queue >= 1, "{since:?}, {queue}");
            drop(guard);
        };
        let (taken, ()) = futures_util::future::join(wait, holder).await;
        assert!(taken.is_ok(), "{taken:?}");
    }
    let acquired = events.try_recv();
    assert!(matches!(acquired, Ok(Event::LockAcquired { .. })), "last: {acquired:?}");
    assert!(events.try_recv().is_err());
}

pub(super) async fn waiters_are_served_in_order(locks: Locks) {
    let domain = domain("queue");
    let guard = take(&locks, &domain);
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..8 {
        let task = queue_up(&locks, &domain, number, &Cancellation::new()).await;
        let served = Arc::clone(&served);
        waiting.push(tokio::spawn(async move {
            let guard = granted(task).await;
            served.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            drop(guard);
        }));
    }
    drop(guard);
    for task in waiting {
        assert!(task.await.is_ok());
    }
    let served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(served, (0..8).collect::<Vec<_>>(), "the queue was not served in order");
}

pub(super) async fn no_wait_returns_at_once(locks: Locks) {
    let domain = domain("unwaited");
    let _guard = take(&locks, &domain);
    let (recorder, mut events) = Recorder::new();
    let result = locks.acquire(&domain, Wait::No, &Cancellation::new(), &recorder).await;
    assert!(matches!(&result, Err(AcquireError::TimedOut { domain: of, .. }) if *of == domain), "{result:?}");
    assert!(events.try_recv().is_err(), "a wait that is none was reported");
}

pub(super) async fn a_bounded_wait_times_out(locks: Locks) {
    let domain = domain("bounded");
    let guard = take(&locks, &domain);
    let bound = Duration::from_millis(20);
    let result = locks.acquire(&domain, Wait::Until(bound), &Cancellation::new(), &Silent).await;
    match &result {
        Err(AcquireError::TimedOut { domain: of, waited }) => {
            assert!(*of == domain && *waited >= bound, "{result:?}");
        }
        _ => panic!("{result:?}"),
    }
    drop(guard);
    drop(take(&locks, &domain));
}

pub(super) async fn a_cancelled_wait_never_acquires(locks: Locks) {
    let domain = domain("cancelled");
    let guard = take(&locks, &domain);
    let cancellation = Cancellation::new();
    let waiting = queue_up(&locks, &domain, 0, &cancellation).await;
    cancellation.cancel(Cause::Int);
    let result = waiting.await;
    assert!(
        matches!(result, Ok(Err(AcquireError::Cancelled { cause: Cause::Int, .. }))),
        "cancelled: {result:?}"
    );
    assert_eq!(look(&locks, &domain).map(|view| view.waiting), Some(0), "a cancelled wait still waits");
    drop(guard);
    drop(take(&locks, &domain));
}

pub(super) async fn what_is_cancelled_already_never_acquires(locks: Locks) {
    let domain = domain("ended");
    let cancellation = Cancellation::new();
    cancellation.cancel(Cause::Term);
    let result = locks.acquire(&domain, Wait::Forever, &cancellation, &Silent).await;
    assert!(matches!(result, Err(AcquireError::Cancelled { cause: Cause::Term, .. })), "{result:?}");
}

pub(super) async fn a_dropped_wait_never_acquires(locks: Locks) {
    let domain = domain("abandoned");
    let guard = take(&locks, &domain);
    let cancellation = Cancellation::new();
    {
        let mut wait = pin!(locks.acquire(&domain, Wait::Forever, &cancellation, &Silent));
        // Polled until it is queued; then dropped without a word.
        until_polled(&mut wait, || look(&locks, &domain).is_some_and(|view| view.waiting > 0)).await;
    }
    until(|| look(&locks, &domain).is_some_and(|view| view.waiting == 0)).await;
    drop(guard);
    drop(take(&locks, &domain));
}

async fn until_polled<F: Future>(future: &mut Pin<&mut F>, mut condition: impl FnMut() -> bool) {
    while !condition() {
        assert!(poll_immediate(future.as_mut()).await.is_none(), "a wait for a held lock ended");
        sleep(Duration::from_millis(1)).await;
    }
}

pub(super) async fn a_wait_given_up_lets_the_next_one_through(locks: Locks) {
    let domain = domain("through");
    for lock_comes_first in [false, true] {
        let guard = take(&locks, &domain);
        let first = queue_up(&locks, &domain, 0, &Cancellation::new()).await;
        let second = queue_up(&locks, &domain, 1, &Cancellation::new()).await;
        if lock_comes_first {
            // Both at about the same time: either way it must not stay with the first.
            drop(guard);
            first.abort();
            drop(first.await);
        } else {
            first.abort();
            drop(first.await);
            drop(guard);
        }
        drop(granted(second).await);
    }
}

pub(super) async fn a_waiter_outlives_the_unlinking(locks: Locks) {
    let domain = domain("fresh");
    let guard = take(&locks, &domain);
    let waiting = queue_up(&locks, &domain, 0, &Cancellation::new()).await;
    let removed = guard.unlink();
    assert!(removed.is_ok(), "{removed:?}");
    let guard = granted(waiting).await;
    assert!(probe(&locks, &domain).is_none(), "the waiter ended up with a lock that keeps nobody out");
    assert!(locks.domains().is_ok_and(|all| all.contains(&domain)), "the waiter's lock is not listed");
    drop(guard);
}
