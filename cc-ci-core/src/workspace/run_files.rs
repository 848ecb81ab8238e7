//! What a run's directory holds, for who looks and takes no lock.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::log_ends::log_ends;
use super::run_dir::RESIDUE;
use crate::model::record::RunRecord;
use crate::names::RunId;
use crate::report::Log;
use crate::sys::beneath::{BeneathError, read_in};
use crate::sys::files::{Dir, RUN_LOCK, RUN_RECORD};

/// A record names steps, and says why they failed: thousands of them fit. What is longer is no record of ours, and
/// its tree is nobody's residue, as with any other text that a recipe's test may have put there.
pub(crate) const RECORD_LIMIT: u64 = 4 << 20;

/// A run's directory, to be looked at: reached from the runs directory that is held, whatever its path names since.
#[derive(Debug, Clone)]
pub struct RunFiles {
    id: RunId,
    runs: Dir,
}

impl RunFiles {
    pub(crate) fn new(id: RunId, runs: Dir) -> Self {
        Self { id, runs }
    }

    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// By which path it was reached.
    pub fn path(&self) -> PathBuf {
        self.runs.path().join(self.id.as_str())
    }

    /// The text of its record. What was put or mounted in its place is not waited for.
    pub(crate) fn read_record(&self) -> Result<Vec<u8>, BeneathError> {
        read_in(&self.runs, self.inside(RUN_RECORD), RECORD_LIMIT)
    }

    /// All of its record; `None` where there is none, or what is there is no record. Whose it is, its directory says: it may be
    /// asked for by no other name.
    pub(crate) fn record(&self) -> Option<RunRecord> {
        let record: RunRecord = serde_json::from_slice(&self.read_record().ok()?).ok()?;
        Some(RunRecord { run_id: self.id.clone(), ..record })
    }

    /// The ends of its logs, as [`report::html`](crate::report::html) takes them.
    pub(crate) fn log_ends(&self, record: &RunRecord) -> Vec<Log> {
        log_ends(&self.runs, Path::new(self.id.as_str()), record)
    }

    /// Whether it says what it is. What can't be looked at is not called missing.
    pub(crate) fn has_record(&self) -> bool {
        self.runs.has(&self.inside(RUN_RECORD))
    }

    /// Whether something of the run's tree is there.
    pub(crate) fn has_tree(&self) -> bool {
        RESIDUE.iter().any(|part| self.runs.has(&self.inside(part)))
    }

    /// Its lock, opened and not taken.
    pub(crate) fn open_lock(&self) -> io::Result<File> {
        self.runs.open_file(&self.inside(RUN_LOCK), OFlags::RDONLY, 0)
    }

    /// What is mounted in it, by path; nothing where that can't be told.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        self.runs.mounts(Path::new(self.id.as_str())).unwrap_or_default()
    }

    fn inside(&self, name: &str) -> PathBuf {
        Path::new(self.id.as_str()).join(name)
    }
}
