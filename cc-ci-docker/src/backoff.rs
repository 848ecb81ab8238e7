//! A pause that grows.

use std::time::Duration;

/// A pause that grows.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits, for `least` at the least.
    pub(crate) async fn wait(&mut self, least: Duration) {
        tokio::time::sleep(self.next.max(least)).await;
        self.next = (self.next * 3 / 2).min(self.most);
    }
}
