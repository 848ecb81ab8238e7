//! The deadline's clock: it stands still while a run waits for its lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::event_fd::SharedEventFd;

/// Counts a run's time down, except while it is held.
#[derive(Debug)]
pub(super) struct Clock {
    state: Mutex<State>,
    event_fd: SharedEventFd,
}

#[derive(Debug)]
struct State {
    /// What was left at `since`; `None`: no deadline.
    left: Option<Duration>,
    /// From when `left` counts down, unless held.
    since: Instant,
    holds: usize,
}

impl State {
    fn account(&mut self, now: Instant) {
        if self.holds == 0 {
            self.left = self.left.map(|left| left.saturating_sub(now.saturating_duration_since(self.since)));
        }
        self.since = now;
    }
}

impl Clock {
    pub(super) fn new(limit: Option<Duration>, event_fd: SharedEventFd) -> Self {
        Self { state: Mutex::new(State { left: limit, since: Instant::now(), holds: 0 }), event_fd }
    }

    /// What is left; `None` while the clock stands still or where there is no deadline.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.account(Instant::now());
        if state.holds == 0 { state.left } else { None }
    }

    /// Ends the deadline for good, once it has fired.
    pub(super) fn stop(&self) {
        self.lock().left = None;
    }

    fn change_holds(&self, change: impl FnOnce(usize) -> usize) {
        {
            let mut state = self.lock();
            state.account(Instant::now());
            state.holds = change(state.holds);
        }
        self.event_fd.notify();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the deadline's clock until it is dropped.
#[derive(Debug)]
#[must_use = "the deadline's clock goes on when this is dropped"]
pub struct DeadlineHold(Option<Arc<Clock>>);

impl DeadlineHold {
    /// For a lifetime without a deadline.
    pub fn none() -> Self {
        Self(None)
    }

    pub(super) fn new(clock: Arc<Clock>) -> Self {
        clock.change_holds(|holds| holds + 1);
        Self(Some(clock))
    }
}

impl Drop for DeadlineHold {
    fn drop(&mut self) {
        if let Some(clock) = &self.0 {
            clock.change_holds(|holds| holds.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_under_a_hold_does_not_count() {
        let limit = Duration::from_mins(1);
        let before = Instant::now();
        let clock = Arc::new(Clock::new(Some(limit), SharedEventFd::new().unwrap()));
        let hold = DeadlineHold::new(Arc::clone(&clock));
        assert_eq!(clock.remaining(), None);
        let stands_still = Instant::now();
        while stands_still.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        let counted = stands_still - before;
        let released = Instant::now();
        drop(hold);
        let remaining = clock.remaining().unwrap();
        let counted = counted + released.elapsed();
        assert!(remaining + counted >= limit, "{remaining:?} left, though only {counted:?} counted");
    }
}
