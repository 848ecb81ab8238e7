//! A run's state files, which children see through `CCCI_*_FILE`.
//!
//! They live in the run's own directory: two runs of one domain each see their own (I7).
//!
//! # Limitations
//! A recipe's scripts can write these files. So they are read with a bound, nothing but a regular file is opened,
//! and no promise rests on their content alone.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::beneath::{BeneathError, open_beneath};
use crate::sys::files::Dir;

/// More than any state file needs; what is longer was not written by us.
const MAX_BYTES: u64 = 1 << 20;

/// One of a run's state files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateFile {
    /// How many times the run deployed: a decimal number.
    DeployCount,
    /// What the tiers tell each other, JSON.
    Operation,
    /// The apps that the recipe depends on, JSON.
    Dependencies,
}

impl StateFile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DeployCount, Self::Operation, Self::Dependencies];

    /// The environment variable that names it for children.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::DeployCount => "CCCI_DEPLOY_COUNT_FILE",
            Self::Operation => "CCCI_OP_STATE_FILE",
            Self::Dependencies => "CCCI_DEPS_FILE",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::DeployCount => "deploy-count",
            Self::Operation => "op-state.json",
            Self::Dependencies => "deps.json",
        }
    }
}

/// A state file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The kernel refused.
    #[error("can't write the state file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It can't be opened as a regular file inside the run directory.
    #[error("can't open the state file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BeneathError,
    },
    /// It does not hold what it should.
    #[error("the state file {path} holds something else: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The state files of one run. Each write replaces a file whole, so that a reader never sees half of one.
#[derive(Debug)]
pub struct State {
    run: Dir,
    directory: PathBuf,
    writing: Mutex<()>,
}

impl State {
    /// Those in `directory` of a run's own directory.
    pub(super) fn new(run: Dir, directory: &Path) -> Self {
        let directory = run.path().join(directory);
        Self { run, directory, writing: Mutex::new(()) }
    }

    /// Where the file is, whether it exists or not.
    pub fn path(&self, file: StateFile) -> PathBuf {
        self.directory.join(file.name())
    }

    /// How many times this run has deployed.
    pub fn deploy_count(&self) -> Result<u64, StateError> {
        let Some(bytes) = self.bytes(StateFile::DeployCount)? else { return Ok(0) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_ascii().parse().ok());
        number.ok_or_else(|| self.content(StateFile::DeployCount, "not a number"))
    }

    /// Counts one more deploy of this run; returns the new count.
    pub fn count_deploy(&self) -> Result<u64, StateError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.deploy_count()?.saturating_add(1);
        self.replace(StateFile::DeployCount, format!("{count}\n").as_bytes())?;
        Ok(count)
    }

    /// The JSON in `file`; `None` when it was never written.
    pub fn read<T: DeserializeOwned>(&self, file: StateFile) -> Result<Option<T>, StateError> {
        let Some(bytes) = self.bytes(file)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.content(file, error.to_string()))
    }

    /// Replaces `file` by `value` as JSON.
    pub fn write<T: Serialize>(&self, file: StateFile, value: &T) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(value).map_err(|error| self.content(file, error.to_string()))?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(file, &bytes)
    }

    fn bytes(&self, file: StateFile) -> Result<Option<Vec<u8>>, StateError> {
        let opened = match open_beneath(&self.directory, file.name()) {
            Ok(opened) => opened,
            Err(error) if error.is_not_found() && self.directory.is_dir() => return Ok(None),
            Err(source) => return Err(StateError::Open { path: self.path(file), source }),
        };
        let mut bytes = Vec::new();
        opened
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.content(file, error.to_string()))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(self.content(file, "longer than 1 MiB"));
        }
        Ok(Some(bytes))
    }

    fn replace(&self, file: StateFile, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path(file);
        self.run.write(&path, bytes, 0o600).map_err(|source| StateError::Write { path, source })
    }

    fn content(&self, file: StateFile, reason: impl Into<String>) -> StateError {
        StateError::Content { path: self.path(file), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(Dir::open(directory.path()).unwrap(), Path::new("."));
        (directory, state)
    }

    #[test]
    fn deploys_are_counted_also_from_several_threads() {
        let (_directory, state) = state();
        assert_eq!(state.deploy_count().unwrap(), 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!((0..25).all(|_| state.count_deploy().unwrap() > 0)));
            }
        });
        assert_eq!(state.deploy_count().unwrap(), 100);
        assert_eq!(fs::read_to_string(state.path(StateFile::DeployCount)).unwrap(), "100\n");
        assert_eq!(fs::read_dir(&state.directory).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn json_comes_back_and_hostile_files_are_errors() {
        let (directory, state) = state();
        assert_eq!(state.read::<Vec<String>>(StateFile::Dependencies).unwrap(), None);
        state.write(StateFile::Dependencies, &["a"]).unwrap();
        assert_eq!(state.read::<Vec<String>>(StateFile::Dependencies).unwrap(), Some(vec!["a".to_owned()]));

        let path = state.path(StateFile::DeployCount);
        for bytes in [&b"-1"[..], b"", b"\xff", &vec![b'1'; 2 << 20]] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(state.deploy_count(), Err(StateError::Content { .. })));
        }
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(state.deploy_count(), Err(StateError::Open { .. })));
        fs::remove_file(&path).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "7").unwrap();
        symlink(outside.path(), &path).unwrap();
        assert!(matches!(state.deploy_count(), Err(StateError::Open { .. })));
        symlink(outside.path(), directory.path().join(".new-op-state.json")).unwrap();
        state.write(StateFile::Operation, &1).unwrap();
        assert_eq!(fs::read_to_string(outside.path()).unwrap(), "7", "never written through a symlink");
    }

    #[test]
    fn a_run_directory_that_is_gone_is_an_error() {
        let (directory, state) = state();
        drop(directory);
        assert!(matches!(state.count_deploy(), Err(StateError::Open { .. })));
        assert!(matches!(state.write(StateFile::Operation, &1), Err(StateError::Write { .. })));
    }
}
