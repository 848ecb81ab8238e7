//! One look at the engine for all who want one.
//!
//! The stacks of a batch are removed side by side, and each removal looks at everything that exists again and again. Who
//! asks while another one's look is under way waits for the next, which then serves all that came meanwhile: nobody is
//! given a look that began before it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Mutex;

use crate::client::{ApiError, Client};
use crate::snapshot::Snapshot;

/// The looks of one engine.
#[derive(Debug, Default)]
pub(crate) struct SharedLook {
    begun: AtomicU64,
    /// The number of the last one that succeeded, and what it saw, for as long as a removal is under way.
    last: Mutex<(u64, Option<Arc<Snapshot>>)>,
    removals: AtomicUsize,
}

/// A removal, until it is dropped.
#[derive(Debug)]
pub(crate) struct AtWork<'l>(&'l SharedLook);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if self.0.removals.fetch_sub(1, Ordering::Relaxed) == 1
            && let Ok(mut last) = self.0.last.try_lock()
        {
            last.1 = None;
        }
    }
}

impl SharedLook {
    /// What exists, by a look that began after this call. Cancel-safe: whoever waits looks itself then.
    pub(crate) async fn snapshot(&self, client: &Client) -> Result<Arc<Snapshot>, ApiError> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.0 > asked
            && let Some(snapshot) = &last.1
        {
            return Ok(snapshot.clone());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let snapshot = Arc::new(Snapshot::read(client).await?);
        *last = (number, Some(snapshot.clone()));
        Ok(snapshot)
    }

    /// Counts a removal.
    pub(crate) fn begin_removal(&self) -> AtWork<'_> {
        self.removals.fetch_add(1, Ordering::Relaxed);
        AtWork(self)
    }

    /// Whether several removals are under way: then a look that they share is cheaper than what each would ask for.
    pub(crate) fn is_shared(&self) -> bool {
        self.removals.load(Ordering::Relaxed) > 1
    }
}
