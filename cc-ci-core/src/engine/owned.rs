//! A deployer and an engine that ask before each change whether the caller still owns the app (I16).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Deployer, DeployerLayer, Engine, EngineLayer, Failure};
use crate::lock::{AppGuard, LostOwnership, OwnershipCheck};
use crate::names::Domain;

/// The locks that somebody holds, by domain. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Owners(Arc<Mutex<BTreeMap<Domain, OwnershipCheck>>>);

impl Owners {
    /// Whoever holds `guards`.
    pub fn of<'g>(guards: impl IntoIterator<Item = &'g AppGuard>) -> Self {
        let owners = Self::default();
        owners.add(guards);
        owners
    }

    /// It holds these, too.
    pub fn add<'g>(&self, guards: impl IntoIterator<Item = &'g AppGuard>) {
        let of = |guard: &AppGuard| (guard.domain().clone(), guard.ownership());
        self.locked().extend(guards.into_iter().map(of));
    }

    /// Somebody else owns `domain` after all: from now on nothing of it is changed, whatever its lock says.
    pub fn give_up(&self, domain: &Domain, reason: &str) {
        let reason = reason.to_owned();
        let lost = OwnershipCheck::new(domain.clone(), None, move || Err(reason.clone()));
        self.locked().insert(domain.clone(), lost);
    }

    /// Whether the lock of `domain` is held, and is the one that its path names.
    ///
    /// # Errors
    /// When not.
    pub fn check(&self, domain: &Domain) -> Result<(), LostOwnership> {
        let ownership = self.locked().get(domain).cloned();
        match ownership {
            Some(ownership) => ownership.check(),
            None => Err(LostOwnership {
                domain: domain.clone(),
                reason: "it was never taken".to_owned(),
                path: None,
            }),
        }
    }

    /// The same of every domain; the first that is lost.
    ///
    /// # Errors
    /// When one is.
    pub fn check_all(&self) -> Result<(), LostOwnership> {
        let all: Vec<OwnershipCheck> = self.locked().values().cloned().collect();
        all.iter().try_for_each(OwnershipCheck::check)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Domain, OwnershipCheck>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changes an app only while its domain is owned.
#[derive(Debug)]
pub struct Owned<T: ?Sized> {
    owners: Owners,
    inner: Arc<T>,
}

impl<T: ?Sized> Owned<T> {
    /// `inner`, in the hands of `owners`.
    pub fn new(inner: Arc<T>, owners: Owners) -> Self {
        Self { owners, inner }
    }

    /// What may be changed.
    fn of(&self, domain: &Domain) -> Result<&T, Failure> {
        match self.owners.check(domain) {
            Ok(()) => Ok(&self.inner),
            Err(lost) => Err(Failure::host(lost.to_string()).with_hint(lost.hint())),
        }
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl DeployerLayer for Owned<dyn Deployer> {
    type Inner = dyn Deployer;

    fn inner(&self) -> &Self::Inner {
        self.inner.as_ref()
    }

    fn to_change(&self, domain: &Domain) -> Result<&Self::Inner, Failure> {
        self.of(domain)
    }
}

impl EngineLayer for Owned<dyn Engine> {
    type Inner = dyn Engine;

    fn inner(&self) -> &Self::Inner {
        self.inner.as_ref()
    }

    fn to_change(&self, domain: &Domain) -> Result<&Self::Inner, Failure> {
        self.of(domain)
    }
}
