//! The directory of a private engine: its socket, its log, and a lock that says whether it lives.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::PREFIX;

/// The engine's socket.
pub(super) const SOCKET: &str = "docker.sock";
/// What the daemon says.
pub(super) const LOG: &str = "dockerd.log";
const LOCK: &str = "lock";

/// An engine's directory, held by the process that keeps the engine alive, and by whoever removes it.
#[derive(Debug)]
pub(super) struct Lock {
    directory: PathBuf,
    _held: File,
}

impl Lock {
    /// Makes the directory and takes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        loop {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let path = directory.join(LOCK);
            let file = match OpenOptions::new().create(true).append(true).open(&path) {
                // A sweep took it for one that a dead engine left.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file?,
            };
            file.lock()?;
            if is_at(&file, &path) {
                return Ok(Self { directory: directory.to_owned(), _held: file });
            }
        }
    }

    /// Takes what a dead engine left; `None` when the engine lives, or when another one removes it.
    fn of_the_dead(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(LOCK);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The lock goes last: nothing is in there, or it is none of ours and stays.
                let _not_ours = fs::remove_dir(directory).is_err();
                return Ok(None);
            }
            file => file?,
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => Ok(Some(Self { directory: directory.to_owned(), _held: file })),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes the directory: the lock last, so that one that was half removed still says that it is dead.
    ///
    /// # Errors
    /// When something stays.
    pub(super) fn remove(self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name() == LOCK {
            } else if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(self.directory.join(LOCK))?;
        match fs::remove_dir(&self.directory) {
            // A sweep that found no lock any more was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Removes the directories of dead engines below `base`, and gives them.
///
/// # Errors
/// When one stays.
pub(super) fn sweep(base: &Path) -> io::Result<Vec<PathBuf>> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && remove_if_dead(&entry.path())?
        {
            swept.push(entry.path());
        }
    }
    Ok(swept)
}

/// Removes the directory of one engine if that is dead. Returns whether it did.
///
/// # Errors
/// When something of it stays.
pub(super) fn remove_if_dead(directory: &Path) -> io::Result<bool> {
    let Some(lock) = Lock::of_the_dead(directory)? else { return Ok(false) };
    lock.remove().map(|()| true)
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => identity(file) == identity(path),
        _ => false,
    }
}
