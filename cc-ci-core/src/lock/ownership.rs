//! Ownership is checked, not remembered (I16).
//!
//! A held lock is worth something only while its path names the file that is held: whoever opens the path next would
//! lock another file, and own the app as well.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::failure::Failure;
use crate::names::Domain;

/// A held lock is no longer the one that its path names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lock of {domain} is lost: {reason}; nothing more is changed there")]
pub struct LostOwnership {
    /// Whose lock.
    pub domain: Domain,
    /// What was found in its place.
    pub reason: String,
    /// Where the lock file was, where there is one.
    pub path: Option<PathBuf>,
}

impl LostOwnership {
    /// What helps.
    pub fn hint(&self) -> String {
        let domain = &self.domain;
        let who = match &self.path {
            Some(path) => {
                format!("find out who removes {}: only a janitor may, while it holds it", path.display())
            }
            None => "find out who removes lock files: only a janitor may, while it holds one".to_owned(),
        };
        format!(
            "{who}; see who owns the app now: cc-ci locks {domain}; what is left, `cc-ci janitor` removes"
        )
    }
}

impl From<LostOwnership> for Failure {
    fn from(lost: LostOwnership) -> Self {
        Self::host(lost.to_string()).with_hint(lost.hint())
    }
}

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

/// Asks whether a held lock still owns its app. It keeps nothing: the answer is worth something only while the
/// [guard](super::AppGuard) that gave it lives.
#[derive(Clone)]
pub struct OwnershipCheck {
    domain: Domain,
    path: Option<PathBuf>,
    check: Arc<Check>,
}

impl OwnershipCheck {
    /// Of the lock of `domain`; `check` says what is wrong.
    pub fn new(
        domain: Domain,
        path: Option<PathBuf>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { domain, path, check: Arc::new(check) }
    }

    /// Whose lock it is.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the held lock is still the one that the path names: one system call.
    ///
    /// # Errors
    /// When not, or when it can't be told.
    pub fn check(&self) -> Result<(), LostOwnership> {
        (self.check)().map_err(|reason| LostOwnership {
            domain: self.domain.clone(),
            reason,
            path: self.path.clone(),
        })
    }
}

impl fmt::Debug for OwnershipCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnershipCheck").field(&self.domain.as_str()).finish()
    }
}
