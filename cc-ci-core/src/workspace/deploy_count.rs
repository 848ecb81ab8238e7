//! How many times a run has deployed: a file in its directory, which children read through `CCCI_DEPLOY_COUNT_FILE`.
//!
//! # Limitations
//! A recipe's scripts can write the file. So it is read with a bound, nothing but a regular file is opened, and no promise
//! rests on its content alone.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::sys::beneath::{BeneathError, open_beneath};
use crate::sys::files::Dir;

/// The environment variable that names the file for children.
pub(super) const VARIABLE: &str = "CCCI_DEPLOY_COUNT_FILE";

const FILE: &str = "deploy-count";

/// More than any number needs.
const MAX_BYTES: u64 = 64;

/// The count could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployCountError {
    /// The kernel refused.
    #[error("can't write the deploy count {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It can't be opened as a regular file inside the run directory.
    #[error("can't open the deploy count {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BeneathError,
    },
    /// It does not hold a number.
    #[error("the deploy count {path} holds something else: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The deploy count of one run. Each write replaces the file whole, so that a reader never sees half of one.
#[derive(Debug)]
pub struct DeployCount {
    run: Dir,
    directory: PathBuf,
    writing: Mutex<()>,
}

impl DeployCount {
    /// The one in `directory` of a run's own directory.
    pub(super) fn new(run: Dir, directory: &Path) -> Self {
        let directory = run.path().join(directory);
        Self { run, directory, writing: Mutex::new(()) }
    }

    /// Returns where the file is, whether it exists or not.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Returns the count; 0 where there is no file.
    pub fn get(&self) -> Result<u64, DeployCountError> {
        let path = self.path();
        let opened = match open_beneath(&self.directory, FILE) {
            Ok(opened) => opened,
            Err(error) if error.is_not_found() && self.directory.is_dir() => return Ok(0),
            Err(source) => return Err(DeployCountError::Open { path, source }),
        };
        let content = |reason: String| DeployCountError::Content { path, reason };
        let mut text = String::new();
        let read = opened.take(MAX_BYTES + 1).read_to_string(&mut text);
        match (read, text.trim().parse()) {
            (Ok(_), Ok(count)) if text.len() as u64 <= MAX_BYTES => Ok(count),
            (Ok(_), _) => Err(content("not a number".to_owned())),
            (Err(error), _) => Err(content(error.to_string())),
        }
    }

    /// Counts one more deploy; returns the new count.
    pub fn increment(&self) -> Result<u64, DeployCountError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.get()?.saturating_add(1);
        let path = self.path();
        let written = self.run.write(&path, format!("{count}\n").as_bytes(), 0o600);
        written.map(|()| count).map_err(|source| DeployCountError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn count() -> (tempfile::TempDir, DeployCount) {
        let directory = tempfile::tempdir().unwrap();
        let count = DeployCount::new(Dir::open(directory.path()).unwrap(), Path::new("."));
        (directory, count)
    }

    #[test]
    fn deploys_are_counted_also_from_several_threads() {
        let (_directory, count) = count();
        assert_eq!(count.get().unwrap(), 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!((0..25).all(|_| count.increment().unwrap() > 0)));
            }
        });
        assert_eq!(count.get().unwrap(), 100);
        assert_eq!(fs::read_to_string(count.path()).unwrap(), "100\n");
        assert_eq!(fs::read_dir(&count.directory).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_hostile_file_is_an_error_and_never_written_through() {
        let (_directory, count) = count();
        let path = count.path();
        for bytes in [&b"-1"[..], b"", b"\xff", &vec![b'1'; 2 << 20], &[b"1", &[b' '; 100][..]].concat()] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(count.get(), Err(DeployCountError::Content { .. })), "{}", bytes.len());
        }
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(count.get(), Err(DeployCountError::Open { .. })));
        fs::remove_file(&path).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "7").unwrap();
        symlink(outside.path(), &path).unwrap();
        assert!(matches!(count.increment(), Err(DeployCountError::Open { .. })));
        assert_eq!(fs::read_to_string(outside.path()).unwrap(), "7");
    }

    #[test]
    fn a_run_directory_that_is_gone_is_an_error() {
        let (directory, count) = count();
        drop(directory);
        assert!(matches!(count.increment(), Err(DeployCountError::Open { .. })));
    }
}
