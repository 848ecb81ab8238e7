//! The claim of a local root for one lock space.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use super::world::World;
use crate::executor::{EngineError, LockSpace};
use crate::files::{private_directory, read_regular, write_whole};

/// Claims `world`, or says who has it. Two that claim at once are served one after the other.
pub(super) fn claim(world: &World, claim: &LockSpace) -> Result<(), EngineError> {
    let io = |error: io::Error| {
        EngineError::configuration(format!("can't use the local root {}", world.root().display()))
            .because(error)
            .with_hint("choose a directory that you can write: CCCI_LOCAL_ROOT")
    };
    private_directory(world.root()).map_err(io)?;
    let _serialized = exclusive(world).map_err(io)?;
    let path = world.root().join("lock-space.json");
    match read_regular(&path) {
        Ok(text) => {
            let held: LockSpace = serde_json::from_slice(&text).map_err(|error| {
                EngineError::configuration(format!("{} is no lock-space claim", path.display()))
                    .because(error)
                    .with_hint(format!("if no cc-ci uses this root, remove it: rm {}", path.display()))
            })?;
            if held.is_same(claim) {
                return Ok(());
            }
            if let Some(whose) = claim.kept_out_by(&held) {
                return Err(refused(&whose, &held, &path));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let text = serde_json::to_vec_pretty(claim).map_err(|error| io(error.into()))?;
    write_whole(&path, &text, 0o600).map_err(io)
}

fn refused(whose: &str, held: &LockSpace, path: &std::path::Path) -> EngineError {
    EngineError::configuration(format!(
        "this local root belongs to {whose}: two lock spaces would own one domain"
    ))
    .with_hint(format!(
        "use its lock directory (CCCI_APP_LOCK_DIR={}) or another root (CCCI_LOCAL_ROOT); the claim is {}",
        held.path.display(),
        path.display()
    ))
}

fn exclusive(world: &World) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(world.root().join("lock-space.lock"))?;
    // Held for a few file operations only.
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Fault;
    use crate::host::BootId;

    #[test]
    fn a_second_lock_space_of_the_same_boot_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let world = World::new(root.path().join("local"));
        let first = LockSpace {
            machine_id: "m1".into(),
            hostname: "host".into(),
            boot_id: BootId::new("b1"),
            directory: "8:1:7".into(),
            path: "/run/lock".into(),
        };
        claim(&world, &first).unwrap();
        claim(&world, &first).unwrap();
        let elsewhere = LockSpace { directory: "8:1:8".into(), ..first.clone() };
        let error = claim(&world, &elsewhere).unwrap_err();
        assert_eq!(error.fault(), Fault::Configuration);
        assert!(error.hint().unwrap().contains("CCCI_APP_LOCK_DIR=/run/lock"), "{:?}", error.hint());
        let other_machine =
            LockSpace { machine_id: "m2".into(), boot_id: BootId::new("b2"), ..first.clone() };
        assert!(claim(&world, &other_machine).is_err());
        // A reboot of the same machine takes over, whatever the directory's inode is now.
        let rebooted = LockSpace { boot_id: BootId::new("b2"), ..elsewhere };
        claim(&world, &rebooted).unwrap();
        assert!(claim(&world, &first).is_ok(), "another boot of this machine again");
    }
}
