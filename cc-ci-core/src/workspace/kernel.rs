//! Run directories kept apart by the kernel: an exclusive `mkdir`, and a lock that ends with its holder.
//!
//! A directory is made before its lock can be taken, so a janitor can come in between. Whoever takes a lock
//! therefore looks whether the path still names what was locked, and a run that lost its new directory this way
//! makes another one.

use std::fmt;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::{AbraWorkspace, Pruned, RunDir, Settings, WorkspaceError};
use crate::names::RunId;

/// How many directories of one run id there may be.
const MAX_SUFFIX: u32 = 10_000;
/// Somebody who merely reads `/proc` can keep a closing descriptor alive for a moment: looks before "held" counts.
const LOOKS: u32 = 5;

/// The kernel-backed [`AbraWorkspace`].
#[derive(Debug, Clone)]
pub struct KernelWorkspace {
    settings: Settings,
}

impl fmt::Display for KernelWorkspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run directories in {}", self.settings.runs_dir.display())
    }
}

impl KernelWorkspace {
    /// Makes the runs directory where it is missing.
    pub fn new(settings: Settings) -> Result<Self, WorkspaceError> {
        let path = &settings.runs_dir;
        let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.map_err(WorkspaceError::io("make the runs directory", path))?;
        Ok(Self { settings })
    }

    fn directory(&self, run_id: &RunId) -> std::path::PathBuf {
        self.settings.runs_dir.join(run_id.as_str())
    }

    /// Makes the directory of exactly this id; `None` when it is taken, or was lost to a janitor.
    fn make(&self, run_id: &RunId) -> Result<Option<RunDir>, WorkspaceError> {
        let path = self.directory(run_id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made.map_err(WorkspaceError::io("make the run directory", &path))?,
        }
        let lock_path = path.join("run.lock");
        let opened = match lock_options().create_new(true).open(&lock_path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(None);
            }
            opened => opened.map_err(WorkspaceError::io("make the run's lock", &lock_path))?,
        };
        match self.lock(run_id, opened, &lock_path)? {
            Some(run) => {
                let populated = run.populate();
                match populated {
                    Ok(()) => Ok(Some(run)),
                    Err(error) => {
                        if let Err(left) = run.discard(&|| false) {
                            tracing::warn!(
                                error = &left as &dyn std::error::Error,
                                "a half-made run directory stays"
                            );
                        }
                        Err(error)
                    }
                }
            }
            None => Ok(None),
        }
    }

    /// Locks what was opened, and makes sure that the path still names it.
    fn lock(&self, run_id: &RunId, file: File, path: &Path) -> Result<Option<RunDir>, WorkspaceError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(WorkspaceError::io("lock", path)(error)),
        }
        let held = file.metadata().map_err(WorkspaceError::io("look at", path))?;
        let same = path
            .symlink_metadata()
            .is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()) && named.is_file());
        Ok(same.then(|| RunDir::new(run_id.clone(), &self.settings, file)))
    }
}

impl AbraWorkspace for KernelWorkspace {
    fn create(&self, wanted: &RunId) -> Result<RunDir, WorkspaceError> {
        if let Some(run) = self.make(wanted)? {
            return Ok(run);
        }
        for n in 2..=MAX_SUFFIX {
            if let Some(run) = self.make(&wanted.with_suffix(n))? {
                return Ok(run);
            }
        }
        let runs_dir = self.settings.runs_dir.clone();
        Err(WorkspaceError::Taken { run_id: wanted.clone(), tried: MAX_SUFFIX, runs_dir })
    }

    fn run_ids(&self) -> Result<Vec<RunId>, WorkspaceError> {
        let fail = |error| WorkspaceError::io("list the runs directory", &self.settings.runs_dir)(error);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.settings.runs_dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            // Gone in the meantime, or not ours: either way no run's directory.
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            ids.extend(id.filter(|_| is_directory));
        }
        ids.sort();
        Ok(ids)
    }

    fn try_lock_dead(&self, run_id: &RunId) -> Result<Option<RunDir>, WorkspaceError> {
        let directory = self.directory(run_id);
        if !directory.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(None);
        }
        let path = directory.join("run.lock");
        for look in 1.. {
            // A run that died between mkdir and its lock has none: whoever cleans up makes it.
            let file = match lock_options().create(true).truncate(false).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(WorkspaceError::io("open the run's lock", &path))?,
            };
            if let Some(run) = self.lock(run_id, file, &path)? {
                return Ok(Some(run));
            }
            if look == LOOKS {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    fn prune(&self, keep: usize, stop: &dyn Fn() -> bool) -> Result<Pruned, WorkspaceError> {
        let mut by_age: Vec<(SystemTime, RunId)> =
            self.run_ids()?.into_iter().map(|id| (self.made_at(&id), id)).collect();
        // The newest first.
        by_age.sort_by(|one, other| other.cmp(one));
        let mut pruned = Pruned::default();
        for (_, id) in by_age.into_iter().skip(keep) {
            if stop() {
                break;
            }
            match self.try_lock_dead(&id) {
                Ok(None) => {}
                Ok(Some(run)) if !run.leftover().is_empty() => pruned.with_residue.push(id),
                Ok(Some(run)) => match run.discard(stop) {
                    Ok(()) => pruned.removed.push(id),
                    Err(_) if stop() => break,
                    Err(error) => pruned.failed.push((id, error)),
                },
                Err(error) => pruned.failed.push((id, error)),
            }
        }
        Ok(pruned)
    }

    fn runs_dir(&self) -> &Path {
        &self.settings.runs_dir
    }
}

impl KernelWorkspace {
    /// When the run was made: nobody writes its lock afterwards.
    fn made_at(&self, run_id: &RunId) -> SystemTime {
        let directory = self.directory(run_id);
        let modified = |path: &Path| path.symlink_metadata().and_then(|metadata| metadata.modified());
        modified(&directory.join("run.lock"))
            .or_else(|_| modified(&directory))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn lock_options() -> fs::OpenOptions {
    let mut options = File::options();
    // Neither through a symlink nor waiting for the other end of a FIFO.
    options.read(true).write(true).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    options
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
