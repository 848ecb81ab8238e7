//! The claim of a local root for one lock space.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::state_dir::StateDir;
use crate::engine::{Failure, LockSpace};
use crate::lock::takers_of;
use crate::sys::files::RootError;

/// The longest claim that is read, in bytes.
const CLAIM_LIMIT: u64 = 64 << 10;
/// Between two looks at a claim that goes on.
const PAUSE: Duration = Duration::from_millis(10);

/// Claims `state_dir`, or says who has it. Two that claim at once are served one after the other, within
/// `limit`.
pub(super) fn claim(state_dir: &StateDir, claim: &LockSpace, limit: Duration) -> Result<(), Failure> {
    // Before anything is made: a root of somebody else's is left as it is.
    state_dir.check().and_then(|()| state_dir.dir().map(drop)).map_err(|error| refused(state_dir, error))?;
    let _serialized = exclusive(state_dir, limit)?;
    match claimed(state_dir)? {
        Some(held) if held.is_same(claim) => return Ok(()),
        Some(held) => refuse_living(&held, claim, state_dir)?,
        None => {}
    }
    let text = serde_json::to_vec_pretty(claim).map_err(|error| unusable(state_dir, error))?;
    state_dir.write(&path(state_dir), &text, 0o600).map_err(|error| unusable(state_dir, error))
}

/// Who has claimed `state_dir`, if anybody has.
pub(super) fn claimed(state_dir: &StateDir) -> Result<Option<LockSpace>, Failure> {
    let path = path(state_dir);
    match state_dir.read(&path, CLAIM_LIMIT) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            Failure::configuration(format!("{} is no lock-space claim", path.display()))
                .with_source(error)
                .with_hint(format!("if no cc-ci uses this root, remove it: rm {}", path.display()))
        }),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(unusable(state_dir, error)),
    }
}

fn path(state_dir: &StateDir) -> PathBuf {
    state_dir.root().join("lock-space.json")
}

fn unusable(state_dir: &StateDir, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::configuration(format!("can't use the local root {}", state_dir.root().display()))
        .with_source(error)
        .with_hint("choose a directory that you can write: CCCI_LOCAL_ROOT")
}

fn refused(state_dir: &StateDir, error: RootError) -> Failure {
    let hint = error.hint();
    let unusable = unusable(state_dir, error);
    match hint {
        Some(hint) => unusable.with_hint(hint),
        None => unusable,
    }
}

fn refuse_living(held: &LockSpace, claim: &LockSpace, state_dir: &StateDir) -> Result<(), Failure> {
    let Some(whose) = claim.kept_out_by(held) else { return Ok(()) };
    Err(Failure::configuration(format!(
        "this local root belongs to {whose}: two lock spaces would own one domain"
    ))
    .with_hint(format!(
        "{}; or use another root: CCCI_LOCAL_ROOT",
        claim.way_in(held, &format!("rm {}", path(state_dir).display()))
    )))
}

/// cc-ci holds it for a few file operations only; but anybody who can open it can hold it.
fn exclusive(state_dir: &StateDir, limit: Duration) -> Result<File, Failure> {
    let path = state_dir.root().join("lock-space.lock");
    let root = state_dir.dir().map_err(|error| unusable(state_dir, error))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
    let file = root.open_file(&path, flags, 0o600).map_err(|error| unusable(state_dir, error))?;
    let until = crate::sys::after(Instant::now(), limit);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(unusable(state_dir, error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(held_too_long(&file, &path, limit));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
}

fn held_too_long(file: &File, path: &Path, limit: Duration) -> Failure {
    let takers = takers_of(file).unwrap_or_default();
    let who = match takers.first() {
        Some(pid) => format!("pid {pid}"),
        None => "somebody whom the kernel does not name".to_owned(),
    };
    let end = takers.first().map(|pid| format!("end it: kill {pid}; or ")).unwrap_or_default();
    Failure::host(format!("{} was held for {limit:?} by {who}", path.display()))
        .with_hint(format!("{end}wait longer: --claim-timeout, CCCI_CLAIM_TIMEOUT"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Fault;
    use crate::sys::system_info::BootId;

    const LIMIT: Duration = Duration::from_mins(1);

    #[test]
    fn a_claim_that_somebody_holds_is_not_waited_for_for_ever_and_its_holder_is_named() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().to_owned());
        let held = exclusive(&state_dir, Duration::ZERO).unwrap();
        let error = exclusive(&state_dir, Duration::ZERO).unwrap_err();
        assert_eq!(error.fault(), Fault::Host);
        assert!(error.to_string().contains("lock-space.lock was held"), "{error}");
        assert!(error.hint().unwrap().contains("CCCI_CLAIM_TIMEOUT"), "{:?}", error.hint());
        let named = format!("by pid {}", std::process::id());
        assert!(error.to_string().ends_with(&named) || takers_of(&held).unwrap().is_empty(), "{error}");
        drop(held);
        // A child of another test has a copy until it executes.
        exclusive(&state_dir, LIMIT).unwrap();
    }

    #[test]
    fn a_second_lock_space_of_the_same_boot_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(root.path().join("local"));
        let first = LockSpace {
            machine_id: "m1".into(),
            hostname: "host".into(),
            boot_id: BootId::new("b1"),
            directory: "8:1:7".into(),
            path: "/run/lock".into(),
        };
        assert_eq!(claimed(&state_dir).unwrap(), None);
        assert!(!state_dir.root().exists(), "a look made something");
        claim(&state_dir, &first, LIMIT).unwrap();
        claim(&state_dir, &first, LIMIT).unwrap();
        assert_eq!(claimed(&state_dir).unwrap().as_ref(), Some(&first));
        let elsewhere = LockSpace { directory: "8:1:8".into(), ..first.clone() };
        let error = claim(&state_dir, &elsewhere, LIMIT).unwrap_err();
        assert_eq!(error.fault(), Fault::Configuration);
        assert!(error.hint().unwrap().contains("CCCI_APP_LOCK_DIR=/run/lock"), "{:?}", error.hint());
        let other_machine =
            LockSpace { machine_id: "m2".into(), boot_id: BootId::new("b2"), ..first.clone() };
        assert!(claim(&state_dir, &other_machine, LIMIT).is_err());
        // A reboot of the same machine takes over, whatever the directory's inode is now.
        let rebooted = LockSpace { boot_id: BootId::new("b2"), ..elsewhere };
        claim(&state_dir, &rebooted, LIMIT).unwrap();
        assert!(claim(&state_dir, &first, LIMIT).is_ok(), "another boot of this machine again");
    }
}
