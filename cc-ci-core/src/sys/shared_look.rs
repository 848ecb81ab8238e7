//! One look for all who want one.
//!
//! The apps of a batch are removed side by side, and each removal looks at everything that exists again and again. Who
//! asks while another one's look is under way waits for the next, which then serves all that came meanwhile: nobody is
//! given a look that began before it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Mutex;

/// The looks at one thing.
#[derive(Debug)]
pub struct SharedLook<T> {
    begun: AtomicU64,
    /// The number of the last one that succeeded, and what it saw, for as long as a removal is under way.
    last: Mutex<(u64, Option<Arc<T>>)>,
    removals: AtomicUsize,
}

/// A removal, until it is dropped.
#[derive(Debug)]
pub struct AtWork<'l, T>(&'l SharedLook<T>);

impl<T> Drop for AtWork<'_, T> {
    fn drop(&mut self) {
        if self.0.removals.fetch_sub(1, Ordering::Relaxed) == 1
            && let Ok(mut last) = self.0.last.try_lock()
        {
            last.1 = None;
        }
    }
}

impl<T> Default for SharedLook<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::default(), removals: AtomicUsize::new(0) }
    }
}

impl<T> SharedLook<T> {
    /// What exists, by a `look` that began after this call: this one's own, or another one's. Cancel-safe: whoever waits
    /// looks itself then.
    ///
    /// # Errors
    /// Those of its own look.
    pub async fn get<E>(&self, look: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.0 > asked
            && let Some(seen) = &last.1
        {
            return Ok(seen.clone());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let seen = Arc::new(look.await?);
        *last = (number, Some(seen.clone()));
        Ok(seen)
    }

    /// Counts a removal.
    pub fn begin_removal(&self) -> AtWork<'_, T> {
        self.removals.fetch_add(1, Ordering::Relaxed);
        AtWork(self)
    }

    /// Whether several removals are under way: then a look that they share is cheaper than what each would ask for.
    pub fn is_shared(&self) -> bool {
        self.removals.load(Ordering::Relaxed) > 1
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_asks_meanwhile_shares_the_next_look_and_is_given_no_earlier_one() {
        let (looks, begun, go) = (SharedLook::default(), AtomicU32::new(0), Notify::new());
        let look = || async {
            let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
            go.notified().await;
            Ok::<_, Infallible>(number)
        };
        let _at_work = looks.begin_removal();
        let first = looks.get(look());
        let others = async {
            // The first one's look has begun.
            assert_eq!(begun.load(Ordering::SeqCst), 1);
            go.notify_one();
            let another = async { looks.get(look()).await.unwrap() };
            let release = async {
                tokio::task::yield_now().await;
                go.notify_one();
            };
            let (one, two, ()) = tokio::join!(looks.get(look()), another, release);
            (*one.unwrap(), *two)
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!((*first.unwrap(), others), (1, (2, 2)));
        assert_eq!(begun.into_inner(), 2);
    }
}
