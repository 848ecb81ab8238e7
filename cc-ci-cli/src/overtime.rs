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
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::RunLifetime;

use crate::terminal::Terminal;

/// So long past its bounds a command may still be at work: each of its domains gets a last look, and a busy host is slow.
const GRACE: Duration = Duration::from_mins(5);

/// How often it is looked whether the bounds run by now.
const TICK: Duration = Duration::from_secs(1);

/// It only waits, and says one thing: where memory is scarce, it costs little.
const STACK: usize = 256 << 10;

/// Does `work`, whose bounds are those of `lifetime` and, where there is one, `limit`.
pub fn bounded<T>(
    lifetime: &Arc<dyn RunLifetime>,
    limit: Option<Duration>,
    terminal: &Terminal,
    work: impl FnOnce() -> T,
) -> T {
    let (at_work, done) = mpsc::channel::<()>();
    let (lifetime, terminal) = (lifetime.clone(), terminal.clone());
    let watch = move || {
        if is_stuck(lifetime.as_ref(), limit, GRACE, &done) {
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

/// Waits until the work is done, or until it is `grace` past its bounds; gives whether it is.
fn is_stuck(
    lifetime: &dyn RunLifetime,
    limit: Option<Duration>,
    grace: Duration,
    done: &Receiver<()>,
) -> bool {
    let after = |from: Instant, time| from.checked_add(time);
    let limit = limit.and_then(|limit| after(Instant::now(), limit));
    let mut cancelled = None;
    loop {
        if lifetime.cancellation().cause().is_some() {
            cancelled.get_or_insert_with(Instant::now);
        }
        // A cancellation is followed by the teardown at once.
        let ended = lifetime.teardown().map_or(cancelled, |teardown| Some(teardown.until));
        let until = ended.into_iter().chain(limit).min().and_then(|until| after(until, grace));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return true;
        }
        match done.recv_timeout(left.map_or(TICK, |left| left.min(TICK))) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
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

    #[test]
    fn work_that_is_done_in_time_is_not_stuck() {
        let (at_work, done) = mpsc::channel();
        let lifetime = lifetime(LATE);
        lifetime.begin_teardown();
        drop(at_work);
        assert!(!is_stuck(&lifetime, Some(LATE), LATE, &done));
    }

    #[test]
    fn what_hangs_past_any_of_its_bounds_is_stuck() {
        // Kept: the work is never done.
        let (_at_work, done) = mpsc::channel();
        assert!(is_stuck(&lifetime(LATE), Some(SOON), SOON, &done), "past its limit");
        let torn_down = lifetime(SOON);
        torn_down.begin_teardown();
        assert!(is_stuck(&torn_down, None, SOON, &done), "past the teardown's budget");
        let cancelled = lifetime(LATE);
        cancelled.cancel();
        assert!(is_stuck(&cancelled, Some(LATE), SOON, &done), "cancelled, and never torn down");
    }

    #[test]
    fn a_budget_that_is_not_spent_is_left_to_the_teardown() {
        let (at_work, done) = mpsc::channel();
        let lifetime = lifetime(LATE);
        lifetime.cancel();
        lifetime.begin_teardown();
        let watched = thread::scope(|scope| {
            let lifetime = &lifetime;
            let watch = scope.spawn(move || is_stuck(lifetime, None, Duration::ZERO, &done));
            let until = Instant::now() + SOON;
            while Instant::now() < until && !watch.is_finished() {
                thread::yield_now();
            }
            drop(at_work);
            watch.join().unwrap()
        });
        assert!(!watched, "it was given up with its budget before it");
    }
}
