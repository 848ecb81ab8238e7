//! Locks that live in this process only, for tests of what stands on them.
//!
//! # Limitations
//! There is no kernel: the holder is always this process, and its death frees nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at, sleep};

use super::{
    AcquireError, AppGuard, AppLock, Description, HeldLock, Holder, LockError, LockView, OwnershipCheck, Wait,
};
use crate::model::cancellation::Cancellation;
use crate::model::event::{Event, Reporter};
use crate::names::Domain;

/// A lock space in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryLocks(Arc<Mutex<BTreeMap<Domain, Entry>>>);

/// What stands for a lock file.
#[derive(Debug, Default)]
struct Entry {
    /// Its holder, with what it said of itself.
    held: Option<(Timestamp, Option<Description>)>,
    /// What stands for its inode.
    file: Arc<()>,
    waiting: VecDeque<oneshot::Sender<Held>>,
}

impl MemoryLocks {
    /// A space without locks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes what stands for the lock file, held or not, as an operator's `rm` does.
    pub fn forget(&self, domain: &Domain) {
        self.entries().remove(domain);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Domain, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it, or queues up.
    fn take_or_queue(&self, domain: &Domain, queue: bool) -> Result<Held, Option<oneshot::Receiver<Held>>> {
        let mut entries = self.entries();
        let entry = entries.entry(domain.clone()).or_default();
        if entry.held.is_none() {
            entry.held = Some((Timestamp::now(), None));
            let file = entry.file.clone();
            return Ok(Held { locks: self.clone(), domain: domain.clone(), file, released: false });
        }
        if !queue {
            return Err(None);
        }
        let (grant, granted) = oneshot::channel();
        entry.waiting.push_back(grant);
        Err(Some(granted))
    }

    /// Gives the lock to the first who still waits; removes it first where that is asked for.
    fn release(&self, domain: &Domain, file: &Arc<()>, remove: bool) {
        loop {
            let next = {
                let mut entries = self.entries();
                let Some(entry) = entries.get_mut(domain) else { return };
                if !Arc::ptr_eq(&entry.file, file) {
                    return;
                }
                let next = entry.waiting.pop_front();
                entry.held = next.is_some().then(|| (Timestamp::now(), None));
                if next.is_none() && remove {
                    entries.remove(domain);
                }
                next
            };
            let Some(next) = next else { return };
            // The map is not locked here: what comes back, or is never looked at, is released by its own drop.
            let held =
                Held { locks: self.clone(), domain: domain.clone(), file: file.clone(), released: false };
            match next.send(held) {
                Ok(()) => return,
                Err(mut unwanted) => unwanted.released = true,
            }
        }
    }

    fn tell_holder(&self, domain: &Domain, reporter: &dyn Reporter) {
        let view = self.view(domain);
        let (holder, waiting) = view.map_or((None, 0), |view| (view.holder, view.waiting));
        reporter.report(&Event::LockHolder { domain: domain.clone(), holder, queue: waiting.max(1) });
    }

    fn view(&self, domain: &Domain) -> Option<LockView> {
        let entries = self.entries();
        let entry = entries.get(domain)?;
        let holder = entry.held.as_ref().map(|(since, description)| Holder {
            pid: nix::unistd::getpid().as_raw(),
            description: description.clone(),
            since: Some(*since),
        });
        let waiting = entry.waiting.iter().filter(|waiter| !waiter.is_closed()).count();
        Some(LockView {
            domain: domain.clone(),
            held: holder.is_some(),
            waiting,
            // All in this process.
            waiters: (waiting > 0).then(|| nix::unistd::getpid().as_raw()).into_iter().collect(),
            since: holder.as_ref().and_then(|holder| holder.since),
            holder,
        })
    }
}

impl fmt::Display for MemoryLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("locks in memory")
    }
}

#[async_trait]
impl AppLock for MemoryLocks {
    fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError> {
        Ok(self.take_or_queue(domain, false).ok().map(AppGuard::new))
    }

    async fn acquire(
        &self,
        domain: &Domain,
        wait: Wait,
        cancellation: &Cancellation,
        reporter: &dyn Reporter,
    ) -> Result<AppGuard, AcquireError> {
        let begun = Instant::now();
        let cancelled = |cause| AcquireError::Cancelled { domain: domain.clone(), cause };
        let timed_out = || AcquireError::TimedOut { domain: domain.clone(), waited: begun.elapsed() };
        if let Some(cause) = cancellation.cause() {
            return Err(cancelled(cause));
        }
        let mut granted = match self.take_or_queue(domain, wait != Wait::No) {
            Ok(held) => return Ok(AppGuard::new(held)),
            Err(None) => return Err(timed_out()),
            Err(Some(granted)) => granted,
        };
        reporter.report(&Event::LockWaiting { domain: domain.clone(), limit: wait.limit() });
        self.tell_holder(domain, reporter);
        let timeout = async {
            match wait {
                Wait::Until(bound) => sleep(bound).await,
                Wait::No | Wait::Forever => pending().await,
            }
        };
        tokio::pin!(timeout);
        let minute = Duration::from_mins(1);
        let mut ticks = interval_at(Instant::now() + minute, minute);
        loop {
            tokio::select! {
                biased;
                cause = cancellation.cancelled() => return Err(cancelled(cause)),
                Ok(held) = &mut granted => {
                    reporter.report(&Event::LockAcquired { domain: domain.clone(), waited: begun.elapsed() });
                    return Ok(AppGuard::new(held));
                }
                () = &mut timeout => return Err(timed_out()),
                _ = ticks.tick() => self.tell_holder(domain, reporter),
            }
        }
    }

    fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError> {
        Ok(self.view(domain))
    }

    fn domains(&self) -> Result<Vec<Domain>, LockError> {
        Ok(self.entries().keys().cloned().collect())
    }

    fn space(&self) -> Result<String, LockError> {
        Ok(format!("memory:{:p}", Arc::as_ptr(&self.0)))
    }
}

#[derive(Debug)]
struct Held {
    locks: MemoryLocks,
    domain: Domain,
    file: Arc<()>,
    released: bool,
}

impl HeldLock for Held {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn describe(&self, description: &Description) {
        if let Some(Entry { held: Some((_, described)), .. }) = self.locks.entries().get_mut(&self.domain) {
            *described = Some(description.clone());
        }
    }

    fn ownership(&self) -> OwnershipCheck {
        let (locks, domain, file) = (self.locks.clone(), self.domain.clone(), self.file.clone());
        OwnershipCheck::new(self.domain.clone(), None, move || {
            let named = locks.entries().get(&domain).is_some_and(|entry| Arc::ptr_eq(&entry.file, &file));
            if named { Ok(()) } else { Err("it is no longer the one that is held".to_owned()) }
        })
    }

    fn unlink(mut self: Box<Self>) -> Result<(), LockError> {
        self.released = true;
        self.locks.release(&self.domain, &self.file, true);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released {
            self.locks.release(&self.domain, &self.file, false);
        }
    }
}
