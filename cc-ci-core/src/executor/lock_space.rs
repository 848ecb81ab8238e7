//! Which lock space may have what another one claims.

use super::LockSpace;

impl LockSpace {
    /// Whether `other` is this lock space, whatever its paths and names are called.
    pub fn is_same(&self, other: &Self) -> bool {
        self.machine_id == other.machine_id
            && self.boot_id == other.boot_id
            && self.directory == other.directory
    }

    /// Whose claim `held` is, in words, where it keeps this lock space out. Only a claim of this machine's earlier
    /// boot is dead for certain.
    pub fn kept_out_by(&self, held: &Self) -> Option<String> {
        if held.machine_id != self.machine_id {
            Some(format!("another machine, {}", held.hostname))
        } else if held.boot_id == self.boot_id && held.directory != self.directory {
            Some(format!("another lock directory, {}", held.path.display()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::BootId;

    fn space(machine: &str, boot: &str, directory: &str) -> LockSpace {
        LockSpace {
            machine_id: machine.to_owned(),
            hostname: format!("host-of-{machine}"),
            boot_id: BootId::new(boot),
            directory: directory.to_owned(),
            path: "/run/lock".into(),
        }
    }

    #[test]
    fn only_an_earlier_boot_of_the_same_machine_gives_way() {
        let held = space("m1", "b1", "8:7");
        let keeps_out = |claim: LockSpace| claim.kept_out_by(&held);
        assert_eq!(keeps_out(space("m1", "b1", "8:7")), None);
        assert_eq!(keeps_out(space("m1", "b2", "8:7")), None);
        assert_eq!(keeps_out(space("m1", "b2", "8:9")), None);
        assert_eq!(keeps_out(space("m1", "b1", "8:9")).unwrap(), "another lock directory, /run/lock");
        assert_eq!(keeps_out(space("m2", "b2", "8:7")).unwrap(), "another machine, host-of-m1");
        // The same directory is seen in the same boot of the same machine only.
        assert_eq!(keeps_out(space("m2", "b1", "8:7")).unwrap(), "another machine, host-of-m1");
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
