//! Waiting with real processes and threads.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use nix::sys::signal::SigSet;

use super::{Holder, domain, space, take};
use crate::lock::wait::Waiting;
use crate::lock::{AcquireError, AppGuard, AppLock, Description, FlockLocks, MemoryLocks, Wait};
use crate::model::cancellation::{Cancellation, Cause};
use crate::model::event::{Event, Reporter, Silent};
use crate::sys::blocking::Unblocked;

type Task = tokio::task::JoinHandle<Result<AppGuard, AcquireError>>;

fn waiting(locks: &dyn AppLock) -> usize {
    locks.inspect(&domain()).unwrap().map_or(0, |view| view.waiting)
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A wait that the kernel has queued behind so many others when this returns.
async fn queue_up(locks: &FlockLocks, ahead: usize, cancellation: &Cancellation) -> Task {
    // One that was just given up may still be there for a moment.
    until(|| waiting(locks) == ahead).await;
    let (ours, cancellation) = (locks.clone(), cancellation.clone());
    let task =
        tokio::spawn(async move { ours.acquire(&domain(), Wait::Forever, &cancellation, &Silent).await });
    until(|| waiting(locks) == ahead + 1).await;
    task
}

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Event>>);

impl Reporter for Kept {
    fn report(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[tokio::test]
async fn fifty_waiters_are_served_in_order() {
    let (_directory, locks) = space();
    let guard = take(&locks);
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..50 {
        let wait = queue_up(&locks, number, &Cancellation::new()).await;
        let served = Arc::clone(&served);
        tasks.push(tokio::spawn(async move {
            let guard = wait.await.unwrap().unwrap();
            served.lock().unwrap().push(number);
            drop(guard);
        }));
    }
    assert_eq!(waiting(&locks), 50);
    drop(guard);
    join_all(tasks).await;
    assert_eq!(*served.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn waits_that_are_cancelled_or_dropped_among_others_never_acquire() {
    let (_directory, locks) = space();
    let guard = take(&locks);
    let mut waits = Vec::new();
    for ahead in 0..30 {
        let cancellation = Cancellation::new();
        waits.push((queue_up(&locks, ahead, &cancellation).await, cancellation));
    }
    let mut served = Vec::new();
    for (number, (task, cancellation)) in waits.into_iter().enumerate() {
        match number % 3 {
            0 => served.push(task),
            1 => {
                cancellation.cancel(Cause::Term);
                let result = task.await.unwrap();
                assert!(matches!(result, Err(AcquireError::Cancelled { cause: Cause::Term, .. })));
            }
            _ => {
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
            }
        }
    }
    until(|| waiting(&locks) == 10).await;
    drop(guard);
    // Not by turns: a waiter whose neighbours in the queue give up may change its place.
    join_all(served.into_iter().map(async |task| drop(task.await.unwrap().unwrap()))).await;
    // Nothing of all that is left: no thread blocks, and the lock is free.
    until(|| waiting(&locks) == 0).await;
    take(&locks).unlink().unwrap();
}

#[tokio::test]
async fn a_wait_that_is_dropped_while_it_starts_never_acquires() {
    let (_directory, locks) = space();
    let (domain, cancellation) = (domain(), Cancellation::new());
    for _ in 0..1000 {
        let guard = take(&locks);
        // So a record of this very process stays, and what its thread may hold for a moment looks well confirmed.
        guard.describe(&Description { run_id: None, recipe: None, phase: "recover".into() });
        let mut wait = Box::pin(locks.acquire(&domain, Wait::Forever, &cancellation, &Silent));
        // The first poll starts the thread; it may be anywhere when the future goes.
        assert!(poll_immediate(&mut wait).await.is_none());
        drop(wait);
        drop(guard);
        drop(take(&locks));
    }
}

#[tokio::test]
async fn a_dropped_wait_leaves_the_queue_though_the_lock_stays_held() {
    let (_directory, locks) = space();
    let _guard = take(&locks);
    let (domain, cancellation) = (domain(), Cancellation::new());
    // An interrupt that falls just before the system call would leave the thread there.
    for _ in 0..500 {
        let mut wait = Box::pin(locks.acquire(&domain, Wait::Forever, &cancellation, &Silent));
        assert!(poll_immediate(&mut wait).await.is_none());
    }
    until(|| waiting(&locks) == 0 && !Waiting::any_ends()).await;
}

#[tokio::test]
async fn a_wait_can_be_given_up_where_every_signal_is_blocked() {
    let (_directory, locks) = space();
    let _guard = take(&locks);
    drop(queue_up(&locks, 0, &Cancellation::new()).await.abort_handle());
    SigSet::all().thread_block().unwrap();
    let wait = queue_up(&locks, 1, &Cancellation::new()).await;
    wait.abort();
    until(|| waiting(&locks) == 1).await;
}

#[tokio::test]
async fn a_lock_that_comes_while_the_wait_is_dropped_stays_with_nobody() {
    let (_directory, locks) = space();
    for _ in 0..200 {
        let guard = take(&locks);
        let wait = queue_up(&locks, 0, &Cancellation::new()).await;
        drop(guard);
        wait.abort();
        drop(wait.await);
        // A wait in the kernel's queue gets it: an orphan would keep it for ever.
        let next = locks.acquire(&domain(), Wait::Forever, &Cancellation::new(), &Silent).await;
        drop(next.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn the_holder_is_told_again_every_minute() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    drop(take(&locks));
    let holder = Holder::of(&path);
    let memory = MemoryLocks::new();
    let _held = memory.try_acquire(&domain()).unwrap();
    for (locks, pid) in
        [(&locks as &dyn AppLock, holder.pid()), (&memory as &dyn AppLock, nix::unistd::getpid().as_raw())]
    {
        let message = Kept::default();
        // Nothing else happens, so the clock jumps from one minute to the next.
        let bound = Duration::from_secs(150);
        let result = locks.acquire(&domain(), Wait::Until(bound), &Cancellation::new(), &message).await;
        assert!(
            matches!(&result, Err(AcquireError::TimedOut { waited, .. }) if waited.as_secs() == 150),
            "{result:?}"
        );
        let message = message.0.into_inner().unwrap();
        assert!(matches!(message[0], Event::LockWaiting { .. }), "{message:?}");
        let holders = message[1..].iter().map(|event| match event {
            Event::LockHolder { holder, queue, .. } => (holder.as_ref().map(|holder| holder.pid), *queue),
            other => panic!("{other:?}"),
        });
        assert_eq!(holders.collect::<Vec<_>>(), [(Some(pid), 1); 3], "{locks}");
    }
}

#[tokio::test]
async fn the_death_of_a_holder_frees_the_lock() {
    let (_directory, locks) = space();
    drop(take(&locks));
    let mut holder = Holder::of(&locks.path(&domain()));
    let wait = queue_up(&locks, 0, &Cancellation::new()).await;
    holder.0.kill().unwrap();
    drop(wait.await.unwrap().unwrap());
}

#[tokio::test]
async fn other_programs_take_part() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    // flock(1) makes the file, with a mode of its own, and holds it.
    let holder = Holder::of(&path);
    assert!(locks.try_acquire(&domain()).unwrap().is_none());
    drop(holder);

    // It finds ours held, and waits in our queue.
    let guard = take(&locks);
    let mut nonblocking = std::process::Command::new("flock");
    nonblocking.arg("--nonblock").arg(&path).arg("true");
    assert_eq!(nonblocking.status().unwrap().code(), Some(1));
    let before = queue_up(&locks, 0, &Cancellation::new()).await;
    let theirs = std::thread::spawn({
        let path = path.clone();
        move || Holder::of(&path)
    });
    until(|| waiting(&locks) == 2).await;
    let after = queue_up(&locks, 2, &Cancellation::new()).await;
    drop(guard);
    drop(before.await.unwrap().unwrap());
    let holder = theirs.join().unwrap();
    assert!(!after.is_finished());
    drop(holder);
    drop(after.await.unwrap().unwrap());

    // What Python's fcntl.flock does: open, flock, nothing else.
    let file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
    file.try_lock().unwrap();
    assert!(locks.try_acquire(&domain()).unwrap().is_none());
    drop(file);
    drop(take(&locks));
}

#[tokio::test]
async fn waiters_on_a_removed_file_go_on_with_the_fresh_one() {
    let (_directory, locks) = space();
    let path = locks.path(&domain());
    let guard = take(&locks);
    let old = fs::metadata(&path).unwrap().ino();
    let keeps_the_inode = fs::File::open(&path).unwrap();
    let first = queue_up(&locks, 0, &Cancellation::new()).await;
    let second = queue_up(&locks, 1, &Cancellation::new()).await;
    guard.unlink().unwrap();
    let guard = first.await.unwrap().unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), old);
    assert!(locks.try_acquire(&domain()).unwrap().is_none(), "the waiter holds another file");
    until(|| waiting(&locks) == 1).await;
    assert!(!second.is_finished());
    drop(guard);
    drop(second.await.unwrap().unwrap());
    drop(keeps_the_inode);
}

#[test]
fn a_removed_file_is_never_acquired() {
    let (_directory, locks) = space();
    let inside = std::sync::atomic::AtomicU32::new(0);
    let taken = std::sync::atomic::AtomicU32::new(0);
    // Four who take and remove the file all the time: no two ever own the path.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while taken.load(std::sync::atomic::Ordering::SeqCst) < 2000 {
                    let Some(guard) = locks.try_acquire(&domain()).unwrap() else { continue };
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two owners");
                    taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    guard.unlink().unwrap();
                }
            });
        }
    });
}

#[tokio::test]
async fn a_wait_keeps_the_thread_that_drives_the_runtime_free() {
    let (_directory, locks) = space();
    let guard = take(&locks);
    {
        let _unblocked = Unblocked::begin();
        let wait = Wait::Until(Duration::from_millis(50));
        let waited = locks.acquire(&domain(), wait, &Cancellation::new(), &Silent).await;
        assert!(matches!(waited, Err(AcquireError::TimedOut { .. })), "{waited:?}");
    }
    drop(guard);
}
