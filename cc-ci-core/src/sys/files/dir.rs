//! A directory that is held by its descriptor, and what lies beneath it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, mkdirat, open, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::confined::{Identity, look, open_confined};
use super::new_id;
use super::remove::{Removal, RemoveError};
use crate::sys::blocking::blocks;

/// A directory, by its descriptor: whatever its path names later, this is the directory that was opened.
///
/// Paths that its methods take are relative to it, or begin with [`Dir::path`].
#[derive(Debug, Clone)]
pub(crate) struct Dir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Dir {
    /// Opens a root: the path may go through symbolic links, which are the operator's.
    pub fn open(path: &Path) -> io::Result<Self> {
        blocks();
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// Makes a root where it is missing, and those above it, and opens it.
    pub fn make(path: &Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        Self::open(path)
    }

    /// Opens the directory `path` beneath this one.
    pub fn sub(&self, path: &Path) -> io::Result<Self> {
        let relative = self.relative(path)?;
        let fd = self.open_at(relative, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(relative) })
    }

    /// Whether the kernel executes nothing that is in it.
    pub fn is_noexec(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstatvfs(&self.fd)?.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which directory it is, whatever it is called, as `stat` numbers it.
    pub fn device_and_inode(&self) -> io::Result<(u64, u64)> {
        let found = rustix::fs::fstat(&self.fd)?;
        Ok((found.st_dev, found.st_ino))
    }

    /// Who owns it.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(look(&self.fd, StatxFlags::UID)?.stx_uid)
    }

    /// Whether `path` is this very directory now, and no link to it.
    pub fn is_at(&self, parent: &Self, path: &Path) -> io::Result<bool> {
        let named = match parent.sub(path) {
            Ok(named) => named,
            // Nothing, a link, a file, or a mount point.
            Err(error)
                if [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::XDEV]
                    .iter()
                    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        Ok(Identity::of(&named.fd)? == Identity::of(&self.fd)?)
    }

    /// What is at `path`, which is not followed where it is a link. `None` where nothing is. A mount point is an error:
    /// whatever is mounted is not asked.
    pub fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        match self.open_at(self.relative(path)?, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Found::of(&fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether anything is at `path`. What can't be looked at is not called gone.
    pub fn has(&self, path: &Path) -> bool {
        !matches!(self.find(path), Ok(None))
    }

    /// The names in the directory `path`, in order; none where it is missing.
    pub fn names(&self, path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let opened =
            match self.open_at(self.relative(path)?, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                Ok(opened) => opened,
                Err(Errno::NOENT) => return Ok(Vec::new()),
                Err(errno) => return Err(errno.into()),
            };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes the directory `path`, which must be new.
    pub fn make_new(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(mkdirat(&parent, name, Mode::from_raw_mode(mode))?)
    }

    /// Makes the directory `path` and those above it where they are missing, for nobody else's eyes.
    pub fn make_private(&self, path: &Path) -> io::Result<Self> {
        self.make_all(path, 0o700)
    }

    /// The same with other permissions.
    pub fn make_all(&self, path: &Path, mode: u32) -> io::Result<Self> {
        let relative = self.relative(path)?;
        let mut above = PathBuf::new();
        for name in relative.components().filter(|part| matches!(part, Component::Normal(_))) {
            above.push(name);
            match self.make_new(&above, mode) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        self.sub(relative)
    }

    /// Opens or makes a file at `path`. Neither a link nor the other end of a FIFO is followed.
    pub fn open_file(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // The kernel refuses a mode where nothing can be made.
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
        Ok(self.open_at(self.relative(path)?, flags, mode)?.into())
    }

    /// Writes a file that is there whole or not at all. Whoever is killed in the middle leaves a file with a name that
    /// nobody can know.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        self.write_by(&path.with_file_name(format!(".new-{}", new_id()?)), path, content, mode)
    }

    /// The same by way of the file `temporary` beside it, which is not there yet.
    pub fn write_by(&self, temporary: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let temporary = temporary.file_name().ok_or_else(|| outside(temporary))?;
        let parent = Self { fd: parent, path: PathBuf::new() };
        let mut file =
            parent.open_file(temporary.as_ref(), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?;
        let written =
            file.write_all(content).and_then(|()| Ok(renameat(&parent.fd, temporary, &parent.fd, name)?));
        if written.is_err() {
            // The write's own error is the one to tell.
            let _told_already = unlinkat(&parent.fd, temporary, AtFlags::empty());
        }
        written
    }

    /// What the symbolic link `path` names.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let (parent, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
        Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
    }

    /// Gives the directory `path` these permissions.
    pub fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let opened = self.open_at(self.relative(path)?, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(rustix::fs::fchmod(opened, Mode::from_raw_mode(mode))?)
    }

    /// Gives the directory itself, and the regular files in it, to `user`; all beneath too with `deep`, and where it was
    /// somebody else's. What is mounted there stays whose it is.
    pub fn give_to(&self, user: u32, deep: bool) -> io::Result<()> {
        let deep = deep || self.owner()? != user;
        chown(&self.fd, user)?;
        for name in self.names(Path::new("."))? {
            let opened = match self.open_at(name.as_ref(), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(opened) => opened,
                // Mounted, or gone.
                Err(Errno::XDEV | Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            match Found::of(&opened)?.kind {
                FileType::RegularFile => chown(&opened, user)?,
                FileType::Directory if deep => match self.sub(name.as_ref()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    sub => sub?.give_to(user, deep)?,
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the symbolic link `path`.
    pub fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(symlinkat(target, &parent, name)?)
    }

    /// Listens at the socket `path`, which must be new.
    pub fn listen(&self, path: &Path) -> io::Result<UnixListener> {
        let (parent, name) = self.parent(path)?;
        // By a short name, whatever the path is: a socket's has 107 bytes at the most.
        let mut short = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
        short.push(name);
        UnixListener::bind(short)
    }

    /// Moves what is at `from` to `to`, both beneath this directory.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_parent, from), (to_parent, to)) = (self.parent(from)?, self.parent(to)?);
        Ok(renameat(&from_parent, from, &to_parent, to)?)
    }

    /// Removes the file or link `path`. Nothing there is fine.
    pub fn unlink(&self, path: &Path) -> io::Result<()> {
        let parent = match self.parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        match unlinkat(&parent.0, parent.1, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes the directory `path`, which must be empty. Gives whether it was.
    pub fn remove_empty(&self, path: &Path) -> io::Result<bool> {
        let (parent, name) = self.parent(path)?;
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes `path`, whatever it is, until `stop` says so, which is asked before each entry. Nothing there is fine. All
    /// that can go goes; the error names what stays.
    pub fn remove(&self, path: &Path, stop: &dyn Fn() -> bool) -> Result<(), RemoveError> {
        let shown = self.path.join(path);
        let parent = match self.relative(path).and_then(|_| self.parent(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| RemoveError::of(&shown, error))?,
        };
        Removal::new(parent.0.as_fd(), &shown, stop).remove(parent.1)
    }

    /// Removes what is in it, until `stop` says so, and stays itself.
    pub fn clear(&self, stop: &dyn Fn() -> bool) -> Result<(), RemoveError> {
        let names = self.names(Path::new(".")).map_err(|error| RemoveError::of(&self.path, error))?;
        let mut cleared = Ok(());
        for name in names {
            let removed = self.remove(name.as_ref(), stop);
            cleared = match (cleared, removed) {
                (Err(first), Err(next)) => Err(RemoveError::and(first, next)),
                (first, next) => first.and(next),
            };
            if stop() {
                break;
            }
        }
        cleared
    }

    /// The path that the kernel has for it by now.
    pub fn real_path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// The mount points beneath `path`, as the kernel names them.
    pub fn mounts(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        // By the name that the kernel has for it: the operator's may go through links.
        let real = self.real_path()?;
        let top = real.join(self.relative(path)?);
        let table = std::fs::read("/proc/self/mountinfo")?;
        let points =
            table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        let mut mounts: Vec<PathBuf> = points.map(unescape).filter(|point| point.starts_with(&top)).collect();
        mounts.sort();
        mounts.dedup();
        Ok(mounts
            .into_iter()
            .map(|point| match point.strip_prefix(&real) {
                Ok(inner) => self.path.join(inner),
                Err(_) => point,
            })
            .collect())
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let relative = self.relative(path)?;
        let name = relative.file_name().ok_or_else(|| outside(path))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = match relative.parent() {
            Some(parent) if parent != Path::new("") => {
                Arc::new(self.open_at(parent, flags, Mode::empty())?)
            }
            // This very directory is open already.
            _ => Arc::clone(&self.fd),
        };
        Ok((parent, name))
    }

    /// `path` as it is named from here; nothing that leads out.
    fn relative<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        let relative =
            if path.is_absolute() { path.strip_prefix(&self.path).map_err(|_| outside(path))? } else { path };
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(outside(path));
        }
        Ok(if relative == Path::new("") { Path::new(".") } else { relative })
    }

    fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        open_confined(self.fd.as_fd(), path.as_os_str(), flags, mode)
    }
}

/// What was found at a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub kind: FileType,
    pub owner: u32,
    pub links: u32,
    pub mode: u32,
    /// What it takes of the disk.
    pub bytes: u64,
}

impl Found {
    fn of(fd: &OwnedFd) -> io::Result<Self> {
        let found = look(fd, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            kind: FileType::from_raw_mode(found.stx_mode.into()),
            owner: found.stx_uid,
            links: found.stx_nlink,
            mode: found.stx_mode.into(),
            bytes: found.stx_blocks * 512,
        })
    }

    /// Whether it is a regular file of `owner` that has no other name.
    pub fn is_own_file(&self, owner: u32) -> bool {
        self.kind == FileType::RegularFile && self.owner == owner && self.links == 1
    }

    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }
}

fn chown(opened: &OwnedFd, user: u32) -> io::Result<()> {
    let (owner, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(user));
    Ok(rustix::fs::chownat(opened, "", Some(owner), Some(group), AtFlags::EMPTY_PATH)?)
}

/// Gives `path`, which is a directory, a file or a socket and no link, to `user`: see [`Dir::give_to`].
pub(crate) fn give_to(path: &Path, user: u32, deep: bool) -> io::Result<()> {
    let (parent, name) = parent_of(path)?;
    let opened = parent.open_at(name.as_ref(), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    match Found::of(&opened)?.kind {
        FileType::Directory => Dir { fd: Arc::new(opened), path: path.to_owned() }.give_to(user, deep),
        FileType::RegularFile | FileType::Socket => chown(&opened, user),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a file nor a directory")),
    }
}

fn outside(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} leads out of its directory", path.display()))
}

/// A path of `/proc/self/mountinfo`: space, tab, newline and backslash are octal there.
fn unescape(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if byte == b'\\' => {
                plain.push(code);
                rest = &after[3..];
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

/// Gives an open file these permissions.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Gives an open file to this group.
pub(crate) fn set_group(file: &File, group: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, None, Some(rustix::fs::Gid::from_raw(group)))?)
}

/// Opens the directory that `path` is in, through the operator's links.
pub(crate) fn parent_of(path: &Path) -> io::Result<(Dir, &OsStr)> {
    blocks();
    let name = path.file_name().ok_or_else(|| outside(path))?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let fd =
        rustix::fs::openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((Dir { fd: Arc::new(fd), path: parent.to_owned() }, name))
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
