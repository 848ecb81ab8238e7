//! Each conformance case fails on locks that break its promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::lock::conformance::CASES;
use crate::lock::{
    AcquireError, AppGuard, AppLock, Description, HeldLock, LockError, LockView, MemoryLocks, OwnershipCheck,
    Wait,
};
use crate::model::cancellation::Cancellation;
use crate::model::event::{Event, Reporter, Silent};
use crate::names::Domain;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    GivesOutTwo,
    OneLockForAll,
    GuardLeaks,
    AnnouncesNoWait,
    Mute,
    LastComeFirstServed,
    WaitsAnyway,
    IgnoresCancellation,
    OrphanWaits,
    LookCreates,
    LookHolds,
    Blind,
    KeepsOldDescription,
    UnlinkKeepsFile,
    UnlinkStrandsWaiter,
    ListsBackwards,
    NamelessSpace,
}
use Fault::*;

const FAILS: &[(Fault, &[&str])] = &[
    (GivesOutTwo, &["a_lock_is_held_by_one_at_a_time"]),
    (OneLockForAll, &["domains_do_not_wait_for_each_other"]),
    (GuardLeaks, &["dropping_the_guard_gives_up_the_app"]),
    (AnnouncesNoWait, &["a_free_lock_is_taken_silently"]),
    (Mute, &["a_wait_is_visible_from_its_first_moment"]),
    (LastComeFirstServed, &["waiters_are_served_in_order"]),
    (WaitsAnyway, &["no_wait_returns_at_once", "a_bounded_wait_times_out"]),
    (IgnoresCancellation, &["a_cancelled_wait_never_acquires", "what_is_cancelled_already_never_acquires"]),
    (
        OrphanWaits,
        &[
            "a_cancelled_wait_never_acquires",
            "a_dropped_wait_never_acquires",
            "a_wait_given_up_lets_the_next_one_through",
        ],
    ),
    (LookCreates, &["a_look_takes_nothing"]),
    (LookHolds, &["a_look_takes_nothing"]),
    (Blind, &["a_look_sees_holder_and_queue"]),
    (KeepsOldDescription, &["a_new_holder_is_not_described_by_the_old_one"]),
    (UnlinkKeepsFile, &["unlinking_removes_the_lock"]),
    (UnlinkStrandsWaiter, &["a_waiter_outlives_the_unlinking"]),
    (ListsBackwards, &["locks_are_listed_in_order"]),
    (NamelessSpace, &["a_space_keeps_its_name"]),
];

/// Good locks with one fault.
#[derive(Debug, Clone)]
struct Broken {
    fault: Fault,
    good: MemoryLocks,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    stack: Vec<u32>,
    looked: Option<AppGuard>,
    described: BTreeMap<Domain, Description>,
    stranded: BTreeSet<Domain>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

impl Broken {
    fn wrap(&self, guard: AppGuard) -> AppGuard {
        AppGuard::new(BrokenGuard { guard: Some(guard), locks: self.clone() })
    }

    fn key(&self, domain: &Domain) -> Domain {
        if self.fault == OneLockForAll { "one.lock".parse().unwrap() } else { domain.clone() }
    }
}

struct BrokenGuard {
    guard: Option<AppGuard>,
    locks: Broken,
}

impl HeldLock for BrokenGuard {
    fn domain(&self) -> &Domain {
        self.guard.as_ref().unwrap().domain()
    }

    fn describe(&self, description: &Description) {
        let domain = self.domain().clone();
        self.locks.state.lock().unwrap().described.insert(domain, description.clone());
        self.guard.as_ref().unwrap().describe(description);
    }

    fn ownership(&self) -> OwnershipCheck {
        self.guard.as_ref().unwrap().ownership()
    }

    fn unlink(mut self: Box<Self>) -> Result<(), LockError> {
        let domain = self.domain().clone();
        let guard = self.guard.take().unwrap();
        match self.locks.fault {
            UnlinkKeepsFile => drop(guard),
            UnlinkStrandsWaiter => {
                self.locks.state.lock().unwrap().stranded.insert(domain);
                guard.unlink()?;
            }
            _ => guard.unlink()?,
        }
        Ok(())
    }
}

impl Drop for BrokenGuard {
    fn drop(&mut self) {
        if self.locks.fault == GuardLeaks {
            std::mem::forget(self.guard.take());
        }
    }
}

#[async_trait]
impl AppLock for Broken {
    fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError> {
        let stranded = self.state.lock().unwrap().stranded.contains(domain);
        let taken = match self.good.try_acquire(&self.key(domain))? {
            None if stranded || self.fault == GivesOutTwo => MemoryLocks::new().try_acquire(domain)?,
            taken => taken,
        };
        Ok(taken.map(|guard| self.wrap(guard)))
    }

    async fn acquire(
        &self,
        domain: &Domain,
        wait: Wait,
        cancellation: &Cancellation,
        reporter: &dyn Reporter,
    ) -> Result<AppGuard, AcquireError> {
        let fresh = Cancellation::new();
        let domain = &self.key(domain);
        let (wait, cancellation, reporter): (_, _, &dyn Reporter) = match self.fault {
            WaitsAnyway => (Wait::Forever, cancellation, reporter),
            IgnoresCancellation => (wait, &fresh, reporter),
            Mute => (wait, cancellation, &Silent),
            _ => (wait, cancellation, reporter),
        };
        match self.fault {
            AnnouncesNoWait => reporter.report(&Event::LockWaiting { domain: domain.clone(), limit: None }),
            LastComeFirstServed => {
                let me = {
                    let mut state = self.state.lock().unwrap();
                    let me = u32::try_from(state.stack.len()).unwrap();
                    state.stack.push(me);
                    me
                };
                loop {
                    if self.state.lock().unwrap().stack.last() == Some(&me)
                        && let Some(guard) = self.try_acquire(domain)?
                    {
                        self.state.lock().unwrap().stack.pop();
                        return Ok(guard);
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            OrphanWaits => {
                let (good, domain) = (self.good.clone(), domain.clone());
                let (result, wanted) = tokio::sync::oneshot::channel();
                tokio::spawn({
                    let domain = domain.clone();
                    async move {
                        let taken = good.acquire(&domain, Wait::Forever, &Cancellation::new(), &Silent).await;
                        // Nobody wants it any more: so it stays held.
                        result.send(taken).unwrap_or_else(std::mem::forget);
                    }
                });
                return tokio::select! {
                    cause = cancellation.cancelled() => Err(AcquireError::Cancelled { domain, cause }),
                    taken = wanted => taken.unwrap(),
                };
            }
            _ => (),
        }
        let guard = self.good.acquire(domain, wait, cancellation, reporter).await?;
        Ok(self.wrap(guard))
    }

    fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError> {
        if self.fault == LookCreates {
            drop(self.good.try_acquire(domain)?);
        }
        let mut view = self.good.inspect(domain)?;
        let mut state = self.state.lock().unwrap();
        if let Some(view) = &mut view {
            view.waiting += state.stack.len();
            if self.fault == LookHolds && !view.held {
                state.looked = self.good.try_acquire(domain)?;
            }
            if self.fault == Blind {
                (view.held, view.holder) = (false, None);
            }
            if self.fault == KeepsOldDescription
                && let Some(holder) = &mut view.holder
            {
                holder.description = holder.description.take().or(state.described.get(domain).cloned());
            }
        }
        Ok(view)
    }

    fn domains(&self) -> Result<Vec<Domain>, LockError> {
        let mut domains = self.good.domains()?;
        if self.fault == ListsBackwards {
            domains.reverse();
        }
        Ok(domains)
    }

    fn space(&self) -> Result<String, LockError> {
        if self.fault == NamelessSpace { Ok(String::new()) } else { self.good.space() }
    }
}

// The clock jumps when nothing moves, so that a case which hangs ends at once.
#[tokio::test(start_paused = true)]
async fn every_case_fails_on_locks_that_break_its_promise() {
    let mut seen = BTreeSet::new();
    for (fault, names) in FAILS {
        for name in *names {
            let case = *CASES.iter().find(|case| case.name == *name).expect("a case of that name");
            let locks = Broken { fault: *fault, good: MemoryLocks::new(), state: Arc::default() };
            let result = tokio::spawn(async move { case.run(Arc::new(locks)).await }).await;
            assert!(result.is_err_and(|error| error.is_panic()), "{name} does not notice {fault:?}");
            seen.insert(*name);
        }
    }
    let unproved: Vec<_> = CASES.iter().map(|case| case.name).filter(|name| !seen.contains(name)).collect();
    assert!(unproved.is_empty(), "never seen to fail: {unproved:?}");
}
