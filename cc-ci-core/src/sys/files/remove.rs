//! Removes a directory tree that hostile code may have written.
//!
//! Symbolic links are removed, never followed. Directories without permissions are opened up first. A mount point stays
//! with all that is on it, and so does what the kernel refuses to let go; both are named by their own paths, and the rest
//! goes. Depth costs neither stack, nor descriptors, nor long paths, and nothing is written: on a full disk it works as
//! on any other.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir as Entries, FileType, Mode, OFlags, ResolveFlags, chmodat, fstat, openat, openat2,
    unlinkat,
};
use rustix::io::Errno;

use super::confined::{Identity, open_confined};

/// How often a directory that was emptied may turn out to be filled again before it is given up.
const REFILLS: u32 = 8;

/// So many paths that stay are told by name.
pub(crate) const REMOVAL_SHOWN: usize = 8;

/// Why something stays.
#[derive(Debug)]
pub(crate) enum Why {
    /// Something is mounted there.
    Mount,
    /// The kernel refused.
    Refused(io::Error),
    /// It was told to stop.
    Stopped,
    /// It was moved elsewhere meanwhile.
    Moved,
}

/// What a removal leaves, and why.
#[derive(Debug)]
pub(crate) struct RemoveError {
    left: Vec<(PathBuf, Why)>,
    more: usize,
}

impl RemoveError {
    pub(super) fn of(path: &Path, error: io::Error) -> Self {
        Self { left: vec![(path.to_owned(), Why::Refused(error))], more: 0 }
    }

    /// Both.
    pub(super) fn and(mut first: Self, next: Self) -> Self {
        let room = REMOVAL_SHOWN.saturating_sub(first.left.len());
        first.more += next.more + next.left.len().saturating_sub(room);
        first.left.extend(next.left.into_iter().take(room));
        first
    }

    fn kind(&self) -> io::ErrorKind {
        match self.left.first() {
            Some((_, Why::Refused(error))) => error.kind(),
            Some((_, Why::Stopped)) => io::ErrorKind::Interrupted,
            _ => io::ErrorKind::ResourceBusy,
        }
    }
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, why)) in self.left.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            let path = path.display();
            match why {
                Why::Mount => write!(f, "{path} is a mount point, and was left alone (umount it first)")?,
                Why::Refused(error) => write!(f, "{path}: {error}")?,
                Why::Stopped => f.write_str("the removal was stopped")?,
                Why::Moved => write!(f, "{path} was moved while it was emptied")?,
            }
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for RemoveError {}

impl From<RemoveError> for io::Error {
    fn from(error: RemoveError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// One removal at work.
pub(super) struct Removal<'a> {
    base: BorrowedFd<'a>,
    /// The path of what is removed, for people.
    shown: &'a Path,
    stop: &'a dyn Fn() -> bool,
    /// From what is removed down to the directory that is worked on.
    levels: Vec<Level>,
    error: RemoveError,
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    identity: Identity,
    /// The directories in it that are still to be emptied.
    todo: Vec<CString>,
    refills: u32,
    /// Something in it can't go, so neither can it.
    keeps: HashSet<CString>,
}

/// What a name in a directory turned out to be.
enum Entry {
    Directory(OwnedFd),
    Other,
    Gone,
    Mount,
}

impl<'a> Removal<'a> {
    pub fn new(base: BorrowedFd<'a>, shown: &'a Path, stop: &'a dyn Fn() -> bool) -> Self {
        Self { base, shown, stop, levels: Vec::new(), error: RemoveError { left: Vec::new(), more: 0 } }
    }

    /// Removes `name` of the base.
    pub fn remove(mut self, name: &OsStr) -> Result<(), RemoveError> {
        let worked = CString::new(name.as_bytes()).map_err(io::Error::from).and_then(|name| self.work(name));
        match worked {
            Ok(()) if self.error.left.is_empty() => Ok(()),
            Ok(()) => Err(self.error),
            Err(error) => {
                let why = if (self.stop)() { Why::Stopped } else { Why::Refused(error) };
                let path = self.here(None);
                self.error.left.insert(0, (path, why));
                Err(self.error)
            }
        }
    }

    fn work(&mut self, name: CString) -> io::Result<()> {
        let Some(mut here) = self.enter(self.base, name)? else { return Ok(()) };
        loop {
            self.go_on()?;
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            if let Some(name) = level.todo.pop() {
                if let Some(inner) = self.enter(here.as_fd(), name)? {
                    here = inner;
                }
                continue;
            }
            match self.leave(&here)? {
                Some(above) => here = above,
                None if self.levels.is_empty() => return Ok(()),
                // It was filled again.
                None => self.read(&here)?,
            }
        }
    }

    /// Removes `name` of `at`, or opens it and reads it where it is a directory that must be emptied first.
    fn enter(&mut self, at: BorrowedFd<'_>, name: CString) -> io::Result<Option<OwnedFd>> {
        let opened = match find(at, &name) {
            Ok(Entry::Gone) => return Ok(None),
            Ok(Entry::Mount) => {
                self.keep(name, Why::Mount);
                return Ok(None);
            }
            Ok(Entry::Other) => {
                self.unlink(at, name);
                return Ok(None);
            }
            Ok(Entry::Directory(found)) => open_up(&found),
            Err(errno) => Err(errno.into()),
        };
        match opened.and_then(|opened| Ok((Identity::of(&opened)?, opened))) {
            Ok((identity, opened)) => {
                self.levels.push(Level {
                    name,
                    identity,
                    todo: Vec::new(),
                    refills: 0,
                    keeps: HashSet::new(),
                });
                self.read(&opened)?;
                Ok(Some(opened))
            }
            Err(error) => {
                self.keep(name, Why::Refused(error));
                Ok(None)
            }
        }
    }

    /// Removes the files of the directory that is worked on, and notes its directories.
    fn read(&mut self, here: &OwnedFd) -> io::Result<()> {
        for entry in Entries::read_from(here)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.go_on()?;
            if self.levels.last().is_some_and(|level| level.keeps.contains(name)) {
                continue;
            }
            match entry.file_type() {
                FileType::Directory | FileType::Unknown => {
                    if let Some(level) = self.levels.last_mut() {
                        level.todo.push(name.to_owned());
                    }
                }
                _ => self.unlink(here.as_fd(), name.to_owned()),
            }
        }
        Ok(())
    }

    fn unlink(&mut self, at: BorrowedFd<'_>, name: CString) {
        match unlinkat(at, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // It became a directory meanwhile.
            Err(Errno::ISDIR) if !self.levels.is_empty() => {
                if let Some(level) = self.levels.last_mut() {
                    level.todo.push(name);
                }
            }
            Err(errno) => self.refused(at, name, errno),
        }
    }

    /// Removes the directory that was emptied and gives the one above it; none where that was the last one, or where it
    /// is to be read again.
    fn leave(&mut self, here: &OwnedFd) -> io::Result<Option<OwnedFd>> {
        let Some(level) = self.levels.pop() else { return Ok(None) };
        let above = match self.levels.last() {
            None => self.base.try_clone_to_owned()?,
            Some(parent) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let above = openat2(here, "..", flags, Mode::empty(), ResolveFlags::NO_XDEV)?;
                if Identity::of(&above)? != parent.identity {
                    let path = self.here(Some(&level.name));
                    self.error.left.push((path, Why::Moved));
                    self.levels.clear();
                    return Ok(None);
                }
                above
            }
        };
        let above = if self.levels.is_empty() { above } else { openat(&above, ".", READ, Mode::empty())? };
        if !level.keeps.is_empty() {
            self.keep_silently(level.name);
            return Ok(Some(above));
        }
        match unlinkat(&above, &level.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Some(above)),
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.refills < REFILLS => {
                self.levels.push(Level { refills: level.refills + 1, ..level });
                Ok(None)
            }
            Err(errno) => {
                self.refused(above.as_fd(), level.name, errno);
                Ok(Some(above))
            }
        }
    }

    fn refused(&mut self, at: BorrowedFd<'_>, name: CString, errno: Errno) {
        let mounted = errno == Errno::BUSY && matches!(find(at, &name), Ok(Entry::Mount));
        self.keep(name, if mounted { Why::Mount } else { Why::Refused(errno.into()) });
    }

    fn keep(&mut self, name: CString, why: Why) {
        if self.error.left.len() < REMOVAL_SHOWN {
            let path = self.here(Some(&name));
            self.error.left.push((path, why));
        } else {
            self.error.more += 1;
        }
        self.keep_silently(name);
    }

    fn keep_silently(&mut self, name: CString) {
        if let Some(level) = self.levels.last_mut() {
            level.keeps.insert(name);
        }
    }

    /// The path of what is worked on, or of `name` in it.
    fn here(&self, name: Option<&CStr>) -> PathBuf {
        let names = self.levels.iter().map(|level| level.name.as_c_str()).chain(name);
        // The first one is what is removed.
        names.skip(1).fold(self.shown.to_owned(), |path, name| path.join(OsStr::from_bytes(name.to_bytes())))
    }

    fn go_on(&self) -> io::Result<()> {
        if (self.stop)() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What `name` of `at` is. What is mounted there is not asked.
fn find(at: BorrowedFd<'_>, name: &CStr) -> Result<Entry, Errno> {
    match open_confined(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(found) => Ok(Entry::Directory(found)),
        Err(Errno::NOENT) => Ok(Entry::Gone),
        Err(Errno::XDEV) => Ok(Entry::Mount),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(Entry::Other),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory so that it can be read and emptied, whatever its mode was.
fn open_up(found: &OwnedFd) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(fstat(found)?.st_mode);
    let mut refused = None;
    if !mode.contains(Mode::RWXU) {
        // A path descriptor needs no permission on the directory itself, and names it for good.
        let same = format!("/proc/self/fd/{}", found.as_raw_fd());
        refused = chmodat(CWD, same, Mode::RWXU, AtFlags::empty()).err();
    }
    openat(found, ".", READ, Mode::empty()).map_err(|errno| refused.unwrap_or(errno).into())
}

#[cfg(test)]
#[path = "remove_tests.rs"]
mod tests;
