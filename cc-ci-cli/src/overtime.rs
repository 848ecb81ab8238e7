//! The last resort: whoever hangs in a call of the kernel must not keep the locks of apps.
//!
//! Every wait has a bound, but a call to a file system whose server is gone has none, and may hold up the very thread that
//! watches the bounds. So another one, which asks no file system, looks whether the time of a command is long over, says
//! so, and ends the process: as after a kill, the next run or janitor finishes what is left.
//!
//! # Limitations
//! A call that SIGKILL does not end either keeps the process, and with it the locks, until it returns. Then nothing else
//! could be done below that directory anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::RunLifetime;

use crate::terminal::Terminal;

/// So long past its bounds a command may still be at work: each of its domains gets a last look, and a busy host is slow.
pub const GRACE: Duration = Duration::from_mins(5);

/// It only waits, and says one thing: where memory is scarce, it costs little.
const STACK: usize = 256 << 10;

/// Does `work`, whose bounds are those of `lifetime` and, where there is one, `limit`.
pub fn bounded<T>(
    lifetime: &Arc<dyn RunLifetime>,
    limit: Option<Duration>,
    terminal: &Terminal,
    work: impl FnOnce() -> T,
) -> T {
    let (turns, at_work) = begin(lifetime.as_ref());
    let done = at_work.done.clone();
    let (lifetime, terminal) = (lifetime.clone(), terminal.clone());
    let watch = move || {
        if is_stuck(lifetime.as_ref(), limit, GRACE, &turns, &done) {
            give_up(&terminal);
        }
    };
    let thread = thread::Builder::new().name("cc-ci-overtime".into()).stack_size(STACK);
    if let Err(error) = thread.spawn(watch) {
        tracing::warn!(%error, "nobody watches whether the command hangs");
    }
    let value = work();
    drop(at_work);
    value
}

/// The work that is watched; the thread is told when it is over, however it ends.
struct AtWork {
    done: Arc<AtomicBool>,
    word: mpsc::Sender<()>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        // Nobody watches where the thread could not be started.
        let _unheard = self.word.send(()).is_err();
    }
}

/// Gives what has a word for each change of the bounds, and for the end of the work.
fn begin(lifetime: &dyn RunLifetime) -> (Receiver<()>, AtWork) {
    let (word, turns) = mpsc::channel();
    lifetime.tell_turns(word.clone());
    (turns, AtWork { done: Arc::default(), word })
}

/// Waits until the work is done, or until it is `grace` past its bounds; gives whether it is.
fn is_stuck(
    lifetime: &dyn RunLifetime,
    limit: Option<Duration>,
    grace: Duration,
    turns: &Receiver<()>,
    done: &AtomicBool,
) -> bool {
    let after = |from: Instant, time| from.checked_add(time);
    let limit = limit.and_then(|limit| after(Instant::now(), limit));
    let mut cancelled = None;
    while !done.load(Ordering::Acquire) {
        if lifetime.cancellation().cause().is_some() {
            cancelled.get_or_insert_with(Instant::now);
        }
        // A cancellation is followed by the teardown at once.
        let ended = lifetime.teardown().map_or(cancelled, |teardown| Some(teardown.until));
        let until = ended.into_iter().chain(limit).min().and_then(|until| after(until, grace));
        let word = match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) if left.is_zero() => return true,
            Some(left) => turns.recv_timeout(left),
            None => turns.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if word == Err(RecvTimeoutError::Disconnected) {
            return false;
        }
    }
    false
}

#[expect(clippy::exit, reason = "the thread that would return hangs")]
fn give_up(terminal: &Terminal) {
    let failure = Failure::host("the command hangs, long after its time was over, and is ended where it is")
        .with_hint(
            "look what does not answer, as the file system of the runs directory or the local root: cc-ci doctor; then \
             remove what is left: cc-ci janitor",
        );
    terminal.error(&failure);
    terminal.close();
    std::process::exit(Exit::Harness.code().into());
}

#[cfg(test)]
mod tests {
    use cc_ci_core::event::Silent;
    use cc_ci_core::lifetime::{Bounds, EmbeddedMode};

    use super::*;

    fn lifetime(teardown: Duration) -> EmbeddedMode {
        EmbeddedMode::new(Bounds { deadline: None, teardown }, Arc::new(Silent)).unwrap()
    }

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_hours(1);

    /// Whether the work is stuck that `lifetime` bounds, and that ends once `work` has returned.
    fn stuck_at(
        lifetime: &EmbeddedMode,
        limit: Option<Duration>,
        grace: Duration,
        work: impl FnOnce(&mpsc::Receiver<bool>),
    ) -> bool {
        let (turns, at_work) = begin(lifetime);
        let (done, (tell, message)) = (at_work.done.clone(), mpsc::channel());
        thread::scope(|scope| {
            scope.spawn(move || tell.send(is_stuck(lifetime, limit, grace, &turns, &done)));
            work(&message);
            drop(at_work);
            message.recv().unwrap_or(true)
        })
    }

    /// Waits until the watch says that the work is stuck, which tells it once.
    fn until_stuck(message: &mpsc::Receiver<bool>) {
        assert_eq!(message.recv_timeout(Duration::from_secs(20)), Ok(true), "nobody told the watch");
    }

    #[test]
    fn work_that_is_done_in_time_is_not_stuck() {
        let lifetime = lifetime(LATE);
        lifetime.begin_teardown();
        assert!(!stuck_at(&lifetime, Some(LATE), LATE, |_| ()));
        assert!(!stuck_at(&self::lifetime(LATE), None, LATE, |_| ()), "it has no bound at all");
    }

    #[test]
    fn what_hangs_past_any_of_its_bounds_is_stuck() {
        stuck_at(&lifetime(LATE), Some(SOON), SOON, until_stuck);
        let torn_down = lifetime(SOON);
        torn_down.begin_teardown();
        stuck_at(&torn_down, None, SOON, until_stuck);
        let cancelled = lifetime(LATE);
        cancelled.cancel();
        stuck_at(&cancelled, Some(LATE), SOON, until_stuck);
    }

    #[test]
    fn bounds_that_begin_while_it_hangs_are_told() {
        let torn_down = lifetime(SOON);
        stuck_at(&torn_down, None, SOON, |message| {
            assert!(message.recv_timeout(SOON).is_err(), "it has no bound yet");
            torn_down.begin_teardown();
            until_stuck(message);
        });
        let cancelled = lifetime(LATE);
        stuck_at(&cancelled, None, SOON, |message| {
            assert!(message.recv_timeout(SOON).is_err(), "it has no bound yet");
            cancelled.cancel();
            until_stuck(message);
        });
    }

    #[test]
    fn a_budget_that_is_not_spent_is_left_to_the_teardown() {
        let lifetime = lifetime(LATE);
        lifetime.cancel();
        lifetime.begin_teardown();
        let work = |message: &mpsc::Receiver<bool>| {
            assert!(message.recv_timeout(SOON).is_err(), "it was given up with its budget before it");
        };
        assert!(!stuck_at(&lifetime, None, Duration::ZERO, work));
    }
}
