//! One lock directory in one boot of one host.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::{BootId, Host};
use crate::lock::{AppLock, LockError};

/// What tells one lock space from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSpace {
    /// The machine.
    pub machine_id: String,
    /// Its name, for people.
    pub hostname: String,
    /// The boot.
    pub boot_id: BootId,
    /// The lock directory: device and inode.
    pub directory: String,
    /// Its path, for people.
    pub path: PathBuf,
}

impl LockSpace {
    /// That of `locks` on `host`.
    ///
    /// # Errors
    /// When the lock directory can't be used.
    pub fn of(host: &dyn Host, locks: &dyn AppLock) -> Result<Self, LockError> {
        Ok(Self {
            machine_id: host.machine_id(),
            hostname: host.hostname(),
            boot_id: host.boot_id(),
            directory: locks.space()?,
            path: locks.place(),
        })
    }

    /// Whose `held` is, where that is another space which may be alive: `another machine, …`, `another lock
    /// directory, …`. Only a claim of this machine's earlier boot is dead for certain.
    pub fn rival(&self, held: &Self) -> Option<String> {
        if held.machine_id != self.machine_id {
            Some(format!("another machine, {}", held.hostname))
        } else if held.boot_id == self.boot_id && held.directory != self.directory {
            Some(format!("another lock directory, {}", held.path.display()))
        } else {
            None
        }
    }
}
