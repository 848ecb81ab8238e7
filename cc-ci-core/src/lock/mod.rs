//! Ownership of an app's domain (I1, I2).
//!
//! Owning a domain is holding `flock(LOCK_EX)` on the inode that the lock path names *now*. The kernel gives it
//! up when the process ends, however it ends: so there is no unlock code path, no stale lock, no stealing and no
//! age fallback. Any program that does `flock(2)` on the path takes part.
//!
//! # Limitations
//! A lock is worth as much as its directory is shared: two hosts, or two mount namespaces with different
//! directories, are two lock spaces. The executors' lock-space claim keeps those apart.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod directory;
mod flock;
mod holder;
mod interrupt;
mod left_clean;
#[cfg(any(test, feature = "conformance"))]
mod memory;
mod ownership;
mod record;
#[cfg(test)]
mod tests;
mod wait;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::model::cancellation::{Cancellation, Cause};
use crate::model::error_chain;
use crate::model::event::Reporter;
use crate::model::failure::{Failure, Fault};
use crate::names::Domain;

pub use crate::model::holder::{Description, Holder};
pub use flock::FlockLocks;
pub(crate) use holder::{holds, takers_of};
#[cfg(any(test, feature = "conformance"))]
pub use memory::MemoryLocks;
pub use ownership::{LostOwnership, OwnershipCheck};

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// So long at the most.
    Until(Duration),
    /// Until it comes or the wait is cancelled.
    Forever,
}

impl Wait {
    fn limit(self) -> Option<Duration> {
        match self {
            Self::No => Some(Duration::ZERO),
            Self::Until(limit) => Some(limit),
            Self::Forever => None,
        }
    }
}

/// The locks of one lock space.
#[async_trait]
pub trait AppLock: fmt::Debug + fmt::Display + Send + Sync {
    /// Takes the lock if it is free; `None` when somebody holds it. A few system calls, never a wait for the
    /// holder; where nobody can be found who holds it, it looks again for some 50 ms. Whoever keeps what it
    /// took [describes](AppGuard::describe) it, for until then the holder is known by its pid at best.
    fn try_acquire(&self, domain: &Domain) -> Result<Option<AppGuard>, LockError>;

    /// Takes the lock, waiting visibly: it tries silently first; then it reports
    /// [`Event::LockWaiting`](crate::model::event::Event) at once, the holder right after and every 60 s, and
    /// `LockAcquired` at the end. Waiters are served in the order in which they came.
    ///
    /// Cancel-safe: once the future is dropped or cancelled, the wait never acquires.
    async fn acquire(
        &self,
        domain: &Domain,
        wait: Wait,
        cancellation: &Cancellation,
        reporter: &dyn Reporter,
    ) -> Result<AppGuard, AcquireError>;

    /// Returns what the lock is like, without taking it: nobody else sees it as held because of that. `None` when there is no
    /// lock file.
    fn inspect(&self, domain: &Domain) -> Result<Option<LockView>, LockError>;

    /// Returns the domains that have a lock file, held or not, in order. Names that are no domain are left out.
    fn domains(&self) -> Result<Vec<Domain>, LockError>;

    /// What tells this lock space from another on the same boot: for directories, device and inode.
    fn space(&self) -> Result<String, LockError>;

    /// Returns where the locks are, as people would name the place to another command: the path of a directory.
    fn place(&self) -> PathBuf {
        self.to_string().into()
    }
}

/// What a look at a lock showed.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LockView {
    /// The domain whose lock this is.
    pub domain: Domain,
    /// Whether somebody holds it, as the kernel says.
    pub held: bool,
    /// The holder, where it left a record *and* the kernel confirmed it.
    pub holder: Option<Holder>,
    /// How many wait for it, at least.
    pub waiting: usize,
    /// The processes that were seen to wait, by pid.
    pub waiters: Vec<i32>,
    /// Since when it is held: the confirmed record's stamp, else the file's modification time.
    pub since: Option<Timestamp>,
}

/// A held lock. Dropping it is giving up the app.
///
/// The lints `let_underscore_drop` and `unused_must_use` find a guard that is dropped by mistake:
///
/// ```compile_fail
/// #![deny(let_underscore_drop, unused_must_use)]
/// use cc_ci_core::lock::{AppLock, LockError};
/// # use cc_ci_core::names::Domain;
/// fn deploy(locks: &dyn AppLock, domain: &Domain) -> Result<(), LockError> {
///     let _ = locks.try_acquire(domain)?; // dropped here
///     Ok(())
/// }
/// ```
/// ```
/// #![deny(let_underscore_drop, unused_must_use)]
/// use cc_ci_core::lock::{AppLock, LockError};
/// # use cc_ci_core::names::Domain;
/// fn deploy(locks: &dyn AppLock, domain: &Domain) -> Result<(), LockError> {
///     let _guard = locks.try_acquire(domain)?;
///     Ok(())
/// }
/// ```
/// ```compile_fail
/// #![deny(let_underscore_drop, unused_must_use)]
/// use cc_ci_core::cancellation::Cancellation;
/// use cc_ci_core::event::Silent;
/// use cc_ci_core::lock::{AcquireError, AppLock, Wait};
/// # use cc_ci_core::names::Domain;
/// async fn deploy(locks: &dyn AppLock, domain: &Domain) -> Result<(), AcquireError> {
///     locks.acquire(domain, Wait::Forever, &Cancellation::new(), &Silent).await?; // dropped here
///     Ok(())
/// }
/// ```
/// ```
/// #![deny(let_underscore_drop, unused_must_use)]
/// use cc_ci_core::cancellation::Cancellation;
/// use cc_ci_core::event::Silent;
/// use cc_ci_core::lock::{AcquireError, AppLock, Wait};
/// # use cc_ci_core::names::Domain;
/// async fn deploy(locks: &dyn AppLock, domain: &Domain) -> Result<(), AcquireError> {
///     let _guard = locks.acquire(domain, Wait::Forever, &Cancellation::new(), &Silent).await?;
///     Ok(())
/// }
/// ```
#[must_use = "dropping the guard gives up the app at once"]
pub struct AppGuard(Box<dyn HeldLock>);

impl AppGuard {
    /// Wraps an implementation's own guard.
    pub fn new(held: impl HeldLock + 'static) -> Self {
        Self(Box::new(held))
    }

    /// Returns the domain whose lock this is.
    pub fn domain(&self) -> &Domain {
        self.0.domain()
    }

    /// Writes what the holder does now. A failure is logged, never told: a full disk must not end a run.
    pub fn describe(&self, description: &Description) {
        self.0.describe(description);
    }

    /// Whether the holder before [left the app clean](Self::leave_clean), as far as this lock can tell.
    pub fn was_left_clean(&self) -> bool {
        self.0.was_left_clean()
    }

    /// Tells the next holder that no process is left that this one, or one before it, started for the app: it was looked
    /// for, and the lock is given up right after.
    pub fn leave_clean(&self) {
        self.0.leave_clean();
    }

    /// Asks, now or later, whether this is still the lock of its app.
    pub fn ownership(&self) -> OwnershipCheck {
        self.0.ownership()
    }

    /// Whether the held lock is still the one that its path names: to be asked before each change of the app (I16).
    ///
    /// # Errors
    /// When not, or when it can't be told.
    pub fn still_owns(&self) -> Result<(), LostOwnership> {
        self.ownership().check()
    }

    /// Removes the lock file, then gives the lock up. Only a janitor does this, after a verified reap.
    pub fn unlink(self) -> Result<(), LockError> {
        self.0.unlink()
    }
}

impl fmt::Debug for AppGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AppGuard").field(&self.domain().as_str()).finish()
    }
}

/// What an implementation of [`AppLock`] keeps while a lock is held. Dropping it releases.
pub trait HeldLock: Send + Sync {
    /// See [`AppGuard::domain`].
    fn domain(&self) -> &Domain;
    /// See [`AppGuard::describe`].
    fn describe(&self, description: &Description);
    /// See [`AppGuard::was_left_clean`]. Nobody is believed unless an implementation says so.
    fn was_left_clean(&self) -> bool {
        false
    }
    /// See [`AppGuard::leave_clean`].
    fn leave_clean(&self) {}
    /// See [`AppGuard::ownership`].
    fn ownership(&self) -> OwnershipCheck;
    /// See [`AppGuard::unlink`].
    fn unlink(self: Box<Self>) -> Result<(), LockError>;
}

/// Why a lock could not be asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// What is at the path is not a lock file that can be trusted.
    #[error("refused the lock file {path}: {reason}")]
    Refused {
        /// The path.
        path: PathBuf,
        /// The rule that it breaks.
        reason: String,
    },
    /// The lock directory can't be used.
    #[error("can't use the lock directory {path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why it can't be used.
        reason: String,
    },
    /// A system call failed.
    #[error("can't {doing} {path}")]
    Io {
        /// What was being done, in words.
        doing: &'static str,
        /// The path that it was done to.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The path changed under us too many times in a row.
    #[error("the lock file {path} was replaced {attempts} times while it was being taken")]
    Unstable {
        /// The path.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::host(error_chain(&error))
    }
}

/// Why a wait for a lock brought none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Somebody held it: at once with [`Wait::No`], else until the time of [`Wait::Until`] was over.
    #[error("the lock of {domain} is held, after waiting {waited:?}")]
    TimedOut {
        /// The domain whose lock this is.
        domain: Domain,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The run ended first.
    #[error("the wait for the lock of {domain} was ended by {cause}")]
    Cancelled {
        /// The domain whose lock this is.
        domain: Domain,
        /// What ended the run.
        cause: Cause,
    },
    /// The lock could not be asked for.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        match &error {
            AcquireError::TimedOut { domain, .. } => {
                let hint = format!("see who holds it: cc-ci locks {domain}; or wait longer: --lock-timeout");
                Self::new(Fault::LockTimeout, error.to_string()).with_hint(hint)
            }
            AcquireError::Cancelled { cause, .. } => Self::new(Fault::Cancelled(*cause), error.to_string()),
            AcquireError::Lock(_) => Self::host(error_chain(&error)),
        }
    }
}
