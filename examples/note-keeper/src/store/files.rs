//! Files that are replaced whole or not at all, and the lock of a directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces `dir/name`. Whoever reads sees the old content or the new; after a return the new one is on disk.
///
/// Two writers must not meet here: they would share the temporary file.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync(dir)
}

/// Removes `dir/name`, for good.
pub(crate) fn remove(dir: &Path, name: &str) -> io::Result<()> {
    fs::remove_file(dir.join(name))?;
    sync(dir)
}

/// The content of `dir/name`, or none if there is no such file.
pub(crate) fn read(dir: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(dir.join(name)) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until no other process changes what is in `dir`. Dropping the lock frees it.
pub(crate) fn lock(dir: &Path) -> io::Result<DirLock> {
    let directory = File::open(dir)?;
    directory.lock()?;
    Ok(DirLock { _directory: directory })
}

/// The right to change what is in a directory; ends when dropped.
#[must_use = "dropping it at once frees the directory"]
pub(crate) struct DirLock {
    _directory: File,
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
