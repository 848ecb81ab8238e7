//! Run directories kept apart by the kernel: an exclusive `mkdir`, and a lock that ends with its holder.
//!
//! A directory is made before its lock can be taken, so a janitor can come in between. Whoever takes a lock
//! therefore looks whether the path still names what was locked, and a run that lost its new directory this way
//! makes another one.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::{AbraWorkspace, Pruned, QuarantineDir, RunDir, RunFiles, Settings, WorkspaceError};
use crate::names::RunId;
use crate::sys::files::{Dir, RUN_LOCK, RootError, RootKind, check_root, claim_root, is_run_directory, user};

/// How many directories of one run id there may be.
const MAX_SUFFIX: u32 = 10_000;
/// Somebody who merely reads `/proc`, or a child before its exec, can keep a closing descriptor alive for a moment: looks
/// before "held" counts, with pauses that double, some 50 ms in all. On a busy machine an exec takes that long.
const LOOKS: u32 = 9;
/// Doubled after each look.
const PAUSE: Duration = Duration::from_micros(200);

/// The kernel-backed [`AbraWorkspace`].
#[derive(Debug, Clone)]
pub struct KernelWorkspace {
    settings: Settings,
    /// The runs directory, once it is known to be ours.
    claimed: Arc<OnceLock<Dir>>,
}

impl fmt::Display for KernelWorkspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run directories in {}", self.settings.runs_dir.display())
    }
}

impl KernelWorkspace {
    /// Changes nothing: the runs directory is made when it is first needed.
    ///
    /// # Errors
    /// None today.
    pub fn new(settings: Settings) -> Result<Self, WorkspaceError> {
        Ok(Self { settings, claimed: Arc::default() })
    }

    /// The runs directory, to be changed: it is ours.
    fn runs(&self) -> Result<&Dir, WorkspaceError> {
        if self.claimed.get().is_none() {
            let dir = claim_root(&self.settings.runs_dir, RootKind::Runs, 0o755)?;
            // Whoever was faster opened the same one.
            let _same = self.claimed.set(dir);
        }
        self.claimed.get().ok_or_else(|| RootError::missing(&self.settings.runs_dir).into())
    }

    /// The very runs directory that is changed, whatever its path names since; `None` where there is none yet.
    fn existing(&self) -> Result<Option<Dir>, WorkspaceError> {
        let path = &self.settings.runs_dir;
        match self.claimed.get().map_or_else(|| Dir::open(path), |runs| Ok(runs.clone())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(WorkspaceError::io("list the runs directory", path)),
        }
    }

    fn directory(&self, run_id: &RunId) -> std::path::PathBuf {
        self.settings.runs_dir.join(run_id.as_str())
    }

    /// Makes the directory of exactly this id; `None` when it is taken, or was lost to a janitor.
    fn make(&self, run_id: &RunId) -> Result<Option<RunDir>, WorkspaceError> {
        let (runs, path) = (self.runs()?, self.directory(run_id));
        // Found out here it is the host's fault; found out by a test it would look like the recipe's.
        if runs.is_noexec().map_err(WorkspaceError::io("look at", &self.settings.runs_dir))? {
            return Err(WorkspaceError::NotExecutable { runs_dir: self.settings.runs_dir.clone() });
        }
        match runs.make_new(&path, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made.map_err(WorkspaceError::io("make the run directory", &path))?,
        }
        let lock_path = path.join(RUN_LOCK);
        let opened = match open_lock(runs, &lock_path, OFlags::CREATE | OFlags::EXCL) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(None);
            }
            opened => opened.map_err(WorkspaceError::io("make the run's lock", &lock_path))?,
        };
        match self.lock(run_id, opened)? {
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
    fn lock(&self, run_id: &RunId, file: File) -> Result<Option<RunDir>, WorkspaceError> {
        let path = self.directory(run_id).join(RUN_LOCK);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(WorkspaceError::io("lock", &path)(error)),
        }
        let runs = self.runs()?;
        let held = file.metadata().map_err(WorkspaceError::io("look at", &path))?;
        let named = runs.sub(&self.directory(run_id)).and_then(|dir| {
            let named = open_lock(&dir, Path::new(RUN_LOCK), OFlags::empty())?.metadata()?;
            Ok(((named.dev(), named.ino()) == (held.dev(), held.ino()) && named.is_file()).then_some(dir))
        });
        let Ok(Some(dir)) = named else { return Ok(None) };
        Ok(Some(RunDir::new(run_id.clone(), &self.settings, runs.clone(), dir, file)))
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

    fn run_files(&self) -> Result<Vec<RunFiles>, WorkspaceError> {
        let fail = |error| WorkspaceError::io("list the runs directory", &self.settings.runs_dir)(error);
        let Some(runs) = self.existing()? else { return Ok(Vec::new()) };
        let owner = runs.owner().map_err(fail)?;
        let mut ids: Vec<RunId> = Vec::new();
        for name in runs.names(Path::new(".")).map_err(fail)? {
            let id = name.to_str().and_then(|name| name.parse().ok());
            // Gone in the meantime, or not ours: either way no run's directory.
            ids.extend(id.filter(|_| is_run_directory(&runs, name.as_ref(), owner)));
        }
        ids.sort();
        Ok(ids.into_iter().map(|id| RunFiles::new(id, runs.clone())).collect())
    }

    fn quarantine(&self) -> Result<QuarantineDir, WorkspaceError> {
        self.existing().map(QuarantineDir::new)
    }

    fn check(&self) -> Result<(), WorkspaceError> {
        Ok(check_root(&self.settings.runs_dir, RootKind::Runs)?)
    }

    fn prepare(&self) -> Result<(), WorkspaceError> {
        self.runs().map(drop)
    }

    fn try_lock_dead(&self, run_id: &RunId) -> Result<Option<RunDir>, WorkspaceError> {
        let path = self.directory(run_id).join(RUN_LOCK);
        let runs = self.runs()?;
        for look in 1.. {
            // Neither another user's, nor one that no run made.
            if !is_run_directory(runs, Path::new(run_id.as_str()), user()) {
                return Ok(None);
            }
            // A run that died between mkdir and its lock has none: whoever cleans up makes it.
            let file = match open_lock(runs, &path, OFlags::CREATE) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(WorkspaceError::io("open the run's lock", &path))?,
            };
            if let Some(run) = self.lock(run_id, file)? {
                return Ok(Some(run));
            }
            if look == LOOKS {
                break;
            }
            std::thread::sleep(PAUSE * (1 << look) / 2);
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
        modified(&directory.join(RUN_LOCK))
            .or_else(|_| modified(&directory))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn open_lock(dir: &Dir, path: &Path, flags: OFlags) -> io::Result<File> {
    dir.open_file(path, OFlags::RDWR | flags, 0o600)
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
