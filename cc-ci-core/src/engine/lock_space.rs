//! One lock directory in one boot of one host, and whether it may have what another one claims.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::lock::{AppLock, LockError};
use crate::sys::system_info::{BootId, SystemInfo};

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
    /// A space for tests: of a machine, of one of its boots, and of a directory, which is at `/run/lock/<directory>`.
    #[cfg(any(test, feature = "conformance"))]
    pub fn made_up(machine: &str, boot: &str, directory: &str) -> Self {
        Self {
            machine_id: machine.to_owned(),
            hostname: format!("host-of-{machine}"),
            boot_id: BootId::new(boot),
            directory: directory.to_owned(),
            path: format!("/run/lock/{directory}").into(),
        }
    }

    /// That of `locks` on `host`.
    ///
    /// # Errors
    /// When the lock directory can't be used.
    pub fn of(host: &dyn SystemInfo, locks: &dyn AppLock) -> Result<Self, LockError> {
        Ok(Self {
            machine_id: host.machine_id(),
            hostname: host.hostname(),
            boot_id: host.boot_id(),
            directory: locks.space()?,
            path: locks.place(),
        })
    }

    /// Whether `other` is this lock space, whatever its paths and names are called.
    pub fn is_same(&self, other: &Self) -> bool {
        self.machine_id == other.machine_id
            && self.boot_id == other.boot_id
            && self.directory == other.directory
    }

    /// Whose claim `held` is, in words, where it keeps this lock space out. Only a claim of this machine's earlier
    /// boot is dead for certain; and which machine it was, a machine id tells only together with the host's name: clones
    /// of one image share the id, or have none.
    pub fn kept_out_by(&self, held: &Self) -> Option<String> {
        let host = &held.hostname;
        if held.machine_id != self.machine_id {
            Some(format!("another machine, {host}"))
        } else if held.boot_id == self.boot_id {
            let elsewhere = held.directory != self.directory;
            elsewhere.then(|| format!("another lock directory, {}", held.path.display()))
        } else if held.machine_id.is_empty() {
            Some(format!(
                "another boot of {host}, and without a machine id nobody knows whether that is this machine"
            ))
        } else if held.hostname != self.hostname {
            Some(format!("{host}, which has this machine's id and another name"))
        } else {
            None
        }
    }

    /// What helps this lock space, where `held` [keeps it out](Self::kept_out_by); `remove` is the command that removes
    /// the claim.
    pub fn way_in(&self, held: &Self, remove: &str) -> String {
        if held.boot_id == self.boot_id && held.machine_id == self.machine_id {
            return format!("use its lock directory: CCCI_APP_LOCK_DIR={}", held.path.display());
        }
        let id = if self.machine_id.is_empty() {
            "; give this machine an id of its own, in /etc/machine-id: systemd-machine-id-setup"
        } else if held.machine_id == self.machine_id {
            "; give each clone an id of its own: rm /etc/machine-id && systemd-machine-id-setup"
        } else {
            ""
        };
        format!("once no cc-ci of {} uses it any more, remove its claim: {remove}{id}", held.hostname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(machine: &str, boot: &str, directory: &str) -> LockSpace {
        LockSpace::made_up(machine, boot, directory)
    }

    #[test]
    fn only_an_earlier_boot_of_the_same_machine_gives_way() {
        let held = space("m1", "b1", "8:7");
        let keeps_out = |claim: LockSpace| claim.kept_out_by(&held);
        assert_eq!(keeps_out(space("m1", "b1", "8:7")), None);
        assert_eq!(keeps_out(space("m1", "b2", "8:7")), None);
        assert_eq!(keeps_out(space("m1", "b2", "8:9")), None);
        assert_eq!(keeps_out(space("m1", "b1", "8:9")).unwrap(), "another lock directory, /run/lock/8:7");
        assert_eq!(keeps_out(space("m2", "b2", "8:7")).unwrap(), "another machine, host-of-m1");
        // The same directory is seen in the same boot of the same machine only.
        assert_eq!(keeps_out(space("m2", "b1", "8:7")).unwrap(), "another machine, host-of-m1");
    }

    #[test]
    fn an_empty_or_cloned_machine_id_is_not_the_same_machine() {
        let cloned = space("m1", "b1", "8:7");
        let other = LockSpace { hostname: "other".into(), ..space("m1", "b2", "8:9") };
        assert_eq!(
            other.kept_out_by(&cloned).unwrap(),
            "host-of-m1, which has this machine's id and another name"
        );
        assert!(other.way_in(&cloned, "rm claim").contains("rm /etc/machine-id && systemd-machine-id-setup"));
        let (held, booted) = (space("", "b1", "8:7"), space("", "b2", "8:7"));
        assert!(booted.kept_out_by(&held).unwrap().contains("without a machine id"));
        let way_in = booted.way_in(&held, "rm claim");
        assert!(
            way_in.contains("remove its claim: rm claim; ") && way_in.contains("/etc/machine-id"),
            "{way_in}"
        );
        // The very same boot and directory need no id.
        assert!(held.kept_out_by(&held).is_none() && held.is_same(&held));
        let elsewhere = LockSpace { directory: "8:9".into(), ..held.clone() };
        assert_eq!(elsewhere.kept_out_by(&held).unwrap(), "another lock directory, /run/lock/8:7");
        assert_eq!(
            elsewhere.way_in(&held, "rm claim"),
            "use its lock directory: CCCI_APP_LOCK_DIR=/run/lock/8:7"
        );
    }

    #[test]
    fn a_lock_space_is_itself_by_any_name() {
        let one = space("m1", "b1", "8:7");
        let renamed = LockSpace { hostname: "x".into(), path: "/var/lock".into(), ..one.clone() };
        assert!(one.is_same(&renamed));
        for other in [space("m2", "b1", "8:7"), space("m1", "b2", "8:7"), space("m1", "b1", "8:8")] {
            assert!(!one.is_same(&other), "{other:?}");
        }
    }
}
