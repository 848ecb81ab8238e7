//! Small things with files that more than one part needs.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::dir::parent_of;
use crate::sys::blocking::blocks;

/// A fresh id.
pub(crate) fn new_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(id.trim().replace('-', "").chars().take(16).collect())
}

/// Removes `path`, whatever it is; the directories on the way to it are trusted. Nothing there is fine.
///
/// # Errors
/// What stays, and why; everything else is gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_until(path, &|| false)
}

/// The same, until `stop` says so: it is asked before each entry.
pub(crate) fn remove_tree_until(path: &Path, stop: &dyn Fn() -> bool) -> io::Result<()> {
    match parent_of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok((parent, name)) => Ok(parent.remove(name.as_ref(), stop)?),
    }
}

/// Removes a file or link. Nothing there is fine. The directory that it is in is trusted.
pub fn remove_file(path: &Path) -> io::Result<()> {
    let (parent, name) = match parent_of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    parent.unlink(name.as_ref())
}

/// Makes the symbolic link `path`. The directory that it is in is trusted.
pub fn link(target: &Path, path: &Path) -> io::Result<()> {
    let (parent, name) = parent_of(path)?;
    parent.link(target, name.as_ref())
}

/// Makes a file for nobody else's eyes in the place of what is there. The directory that it is in is trusted.
pub fn new_file(path: &Path) -> io::Result<File> {
    let (parent, name) = parent_of(path)?;
    parent.unlink(name.as_ref())?;
    parent.open_file(name.as_ref(), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)
}

/// Opens a file to append to, which is made where it is missing. The directory that it is in is trusted.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    let (parent, name) = parent_of(path)?;
    let log = parent.open_file(name.as_ref(), OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE, 0o600)?;
    // What writes there waits as it would for any file.
    rustix::fs::fcntl_setfl(&log, OFlags::APPEND)?;
    Ok(log)
}

/// Makes a directory, and those above it, for nobody else's eyes. The directories on the way to it are trusted.
pub fn private_directory(path: &Path) -> io::Result<()> {
    blocks();
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that is there whole or not at all. Whoever is killed in the middle leaves a file with a name that
/// nobody can know: where that matters, choose one with `write_whole_by`. The directory that it is in is trusted.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (parent, name) = parent_of(path)?;
    parent.write(name.as_ref(), content, mode)
}

/// The same for nobody else's eyes.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    write_whole(path, content, 0o600)
}

/// The same by way of the file `temporary` beside it, which is not there yet.
pub(crate) fn write_whole_by(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (parent, name) = parent_of(path)?;
    let beside = temporary.file_name().unwrap_or_default().as_ref();
    parent.write_by(beside, name.as_ref(), content, mode)
}
