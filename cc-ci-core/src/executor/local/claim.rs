//! The claim of a local root for one lock space.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::world::World;
use crate::executor::{EngineError, LockSpace};
use crate::files::{RootError, read_regular};

/// Claims `world`, or says who has it. Two that claim at once are served one after the other.
pub(super) fn claim(world: &World, claim: &LockSpace) -> Result<(), EngineError> {
    // Before anything is made: a root of somebody else's is left as it is.
    world.check().and_then(|()| world.dir().map(drop)).map_err(|error| refused(world, error))?;
    let _serialized = exclusive(world).map_err(|error| unusable(world, error))?;
    match claimed(world)? {
        Some(held) if held.is_same(claim) => return Ok(()),
        Some(held) => refuse_living(&held, claim, world)?,
        None => {}
    }
    let text = serde_json::to_vec_pretty(claim).map_err(|error| unusable(world, error))?;
    world.write(&path(world), &text, 0o600).map_err(|error| unusable(world, error))
}

/// Who has claimed `world`, if anybody has.
pub(super) fn claimed(world: &World) -> Result<Option<LockSpace>, EngineError> {
    let path = path(world);
    match read_regular(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            EngineError::configuration(format!("{} is no lock-space claim", path.display()))
                .because(error)
                .with_hint(format!("if no cc-ci uses this root, remove it: rm {}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(world, error)),
    }
}

fn path(world: &World) -> PathBuf {
    world.root().join("lock-space.json")
}

fn unusable(world: &World, error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::configuration(format!("can't use the local root {}", world.root().display()))
        .because(error)
        .with_hint("choose a directory that you can write: CCCI_LOCAL_ROOT")
}

fn refused(world: &World, error: RootError) -> EngineError {
    let hint = error.hint();
    let unusable = unusable(world, error);
    match hint {
        Some(hint) => unusable.with_hint(hint),
        None => unusable,
    }
}

fn refuse_living(held: &LockSpace, claim: &LockSpace, world: &World) -> Result<(), EngineError> {
    let Some(whose) = claim.kept_out_by(held) else { return Ok(()) };
    Err(EngineError::configuration(format!(
        "this local root belongs to {whose}: two lock spaces would own one domain"
    ))
    .with_hint(format!(
        "use its lock directory (CCCI_APP_LOCK_DIR={}) or another root (CCCI_LOCAL_ROOT); the claim is {}",
        held.path.display(),
        path(world).display()
    )))
}

fn exclusive(world: &World) -> io::Result<File> {
    let path = world.root().join("lock-space.lock");
    let file = world.dir()?.open_file(&path, OFlags::RDWR | OFlags::CREATE, 0o600)?;
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
        assert_eq!(claimed(&world).unwrap(), None);
        assert!(!world.root().exists(), "a look made something");
        claim(&world, &first).unwrap();
        claim(&world, &first).unwrap();
        assert_eq!(claimed(&world).unwrap().as_ref(), Some(&first));
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
