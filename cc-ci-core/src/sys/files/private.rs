//! Files that hold secrets of the operator's.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file of secrets can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't use the secret in {path}")]
pub struct PrivateFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
    is_open: bool,
}

impl PrivateFileError {
    /// What helps, where that is known.
    pub fn hint(&self) -> Option<String> {
        self.is_open.then(|| format!("chmod o= {}", self.path.display()))
    }
}

/// Reads a file of secrets, of `limit` bytes at the most. One that everybody may read or write is refused.
///
/// # Errors
/// When it can't be read, is no plain file, is longer, is no text, or is everybody's.
pub fn read_private(path: &Path, limit: u64) -> Result<String, PrivateFileError> {
    let fail = |source, is_open| PrivateFileError { path: path.to_owned(), source, is_open };
    let failed = |source| fail(source, false);
    // A pipe that nobody writes to is not waited for.
    let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = opened.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o007 != 0 {
        return Err(fail(io::Error::other("everybody may read or write it"), true));
    }
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no plain file")));
    }
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limit {
        return Err(failed(io::Error::other(format!("it has more than {limit} bytes"))));
    }
    Ok(text)
}
