//! What a run waits for before it begins its lane, and the places of a host.
//!
//! A place is a lock of its own, which the kernel frees with its holder, however that ends. Among those that wait for one, the
//! first alone looks for a place; the kernel keeps the others in order behind it.

use futures_util::future::select_all;

use crate::lock::{AcquireError, AppGuard, AppLock as _, FlockLocks, Wait};
use crate::model::cancellation::Cancellation;
use crate::model::event::Silent;
use crate::model::failure::Failure;
use crate::model::holder::Holder;
use crate::names::Domain;

/// The phase in which it does.
pub(super) const ADMISSION: &str = "admission";

/// What a run waits for before its lane; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// At most so many runs at once.
    pub places: Option<Places>,
    /// So many bytes are free where runs, and the engine, keep their data.
    pub free_disk: u64,
    /// So many bytes of memory are available.
    pub free_memory: u64,
}

/// The places of a host: a lock each, in the directory of the apps' locks.
#[derive(Debug, Clone)]
pub struct Places {
    locks: FlockLocks,
    pub(super) count: u8,
}

impl Places {
    /// So many places beside the locks of `apps`, whoever shares those.
    pub fn beside(apps: &FlockLocks, count: u8) -> Self {
        Self { locks: apps.places(), count }
    }

    /// The lock that keeps those who wait in order, and then one of each place.
    fn names(&self) -> Result<(Domain, Vec<Domain>), Failure> {
        let name = |label: &str| {
            let name = format!("{label}.cc-ci-places");
            name.parse().map_err(|error| Failure::host("no name of a place").with_source(error))
        };
        let places = (1..=self.count).map(|number| name(&number.to_string())).collect::<Result<_, _>>()?;
        Ok((name("queue")?, places))
    }

    /// Who has which, as far as it can be told.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let names = self.names().map(|(_, places)| places).unwrap_or_default();
        names.iter().filter_map(|place| self.locks.inspect(place).ok().flatten()?.holder).collect()
    }

    /// Takes one, in order of arrival; `waits` is called where it does not come at once.
    pub(super) async fn take(
        &self,
        cancellation: &Cancellation,
        waits: impl Fn(),
    ) -> Result<AppGuard, Failure> {
        let (queue, places) = self.names()?;
        let acquire = |name, wait| self.locks.acquire(name, wait, cancellation, &Silent);
        let first = match acquire(&queue, Wait::No).await {
            Err(AcquireError::TimedOut { .. }) => {
                waits();
                acquire(&queue, Wait::Forever).await.map_err(refused)?
            }
            first => first.map_err(refused)?,
        };
        for place in &places {
            match acquire(place, Wait::No).await {
                Err(AcquireError::TimedOut { .. }) => {}
                taken => return taken.map_err(refused),
            }
        }
        waits();
        // Whichever comes first; the waits for the others are given up, and acquire nothing any more.
        let taken = select_all(places.iter().map(|place| Box::pin(acquire(place, Wait::Forever))))
            .await
            .0
            .map_err(refused)?;
        // Who comes next may look now.
        drop(first);
        Ok(taken)
    }
}

/// A place may be another user's, as an app's lock seldom is: all users of a host share the places.
fn refused(error: AcquireError) -> Failure {
    let is_refused = matches!(error, AcquireError::Lock(_));
    let failure = Failure::from(error);
    if !is_refused {
        return failure;
    }
    failure.with_hint(
        "users who share the lock directory have one lock_group, or name each other in trusted_lock_owners",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sys::system_info::KernelSystemInfo;

    fn places(directory: &std::path::Path, count: u8) -> Places {
        let apps = FlockLocks::new(directory, Arc::new(KernelSystemInfo::new().unwrap()));
        Places::beside(&apps, count)
    }

    #[tokio::test]
    async fn places_are_taken_until_there_is_none_and_come_to_those_who_wait_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (places, cancellation) = (places(directory.path(), 2), Cancellation::new());
        let take =
            || async { places.take(&cancellation, || panic!("a free place was waited for")).await.unwrap() };
        let (first, second) = (take().await, take().await);
        assert_ne!(first.domain(), second.domain());
        let told = Arc::new(tokio::sync::Notify::new());
        let served = Arc::new(AtomicUsize::new(0));
        let waiting = |number: usize| {
            let (places, cancellation) = (places.clone(), cancellation.clone());
            let (told, served) = (told.clone(), served.clone());
            tokio::spawn(async move {
                let guard = places.take(&cancellation, || told.notify_one()).await.unwrap();
                assert_eq!(served.fetch_add(1, Ordering::SeqCst), number);
                guard
            })
        };
        // One after the other: each waits before the next one comes.
        let third = waiting(0);
        told.notified().await;
        let fourth = waiting(1);
        told.notified().await;
        assert_eq!(places.holders().len(), 2);
        // Whichever place it is that comes free.
        drop(second);
        let third = third.await.unwrap();
        assert_eq!(served.load(Ordering::SeqCst), 1);
        drop(first);
        drop((third, fourth.await.unwrap()));
        // Nobody's wait that was given up has one now.
        drop((take().await, take().await));
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_trusted_is_refused_with_what_those_do_who_share_them() {
        for place in ["queue", "1"] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir(directory.path().join(format!("cc-ci-place-{place}.cc-ci-places.lock")))
                .unwrap();
            let places = places(directory.path(), 1);
            let error = places.take(&Cancellation::new(), || ()).await.unwrap_err();
            assert!(error.to_string().contains(&format!("cc-ci-place-{place}.")), "{error}");
            assert!(error.hint().unwrap().contains("lock_group"), "{:?}", error.hint());
        }
    }

    #[test]
    fn the_locks_of_places_are_no_apps() {
        let directory = tempfile::tempdir().unwrap();
        let apps = FlockLocks::new(directory.path(), Arc::new(KernelSystemInfo::new().unwrap()));
        let places = Places::beside(&apps, 1);
        let (_, names) = places.names().unwrap();
        let guard = places.locks.try_acquire(&names[0]).unwrap().unwrap();
        assert_eq!(apps.domains().unwrap(), []);
        assert_eq!(places.locks.domains().unwrap(), names);
        drop(guard);
    }
}
