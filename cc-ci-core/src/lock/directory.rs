//! Which file is a lock file: opening one by the rules, and knowing that it still is the one that its path names.
//!
//! An existing file is opened without `O_CREAT`, which the kernel refuses for another user's file in a sticky
//! directory; a missing one is created with `O_EXCL`. What is found must be a regular file with one link, owned
//! by somebody who is trusted; all else is refused by name, for a FIFO or a link there could block or mislead.
//!
//! # Limitations
//! Whoever may open a lock file may hold it: the rules keep foreign files out, not foreign holders.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, lstat};
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, fstatfs, statfs};
use nix::unistd::{AccessFlags, eaccess};
use rustix::fs::OFlags;

use super::LockError;
use crate::names::Domain;
use crate::sys::files::{Dir, parent_of, set_group, set_mode};

/// How often an operation starts over because the path changed under it.
pub(super) const ATTEMPTS: u32 = 32;
/// What the name of an app's lock file begins with, and that of a place's.
const APP: &str = "cc-ci-app-";
pub(super) const PLACE: &str = "cc-ci-place-";
const SUFFIX: &str = ".lock";

/// What identifies a file while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl From<&FileStat> for FileId {
    fn from(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// The directory of one lock space, and the rules for the files in it.
#[derive(Debug)]
pub(super) struct LockDirectory {
    pub(super) path: PathBuf,
    /// What the names of its lock files begin with.
    pub(super) prefix: &'static str,
    pub(super) group: Option<u32>,
    pub(super) trusted_owners: Vec<u32>,
    /// The filesystem on which flock is not one lock space.
    pub(super) refused_filesystem: FsType,
    /// The device that was last found not to be it.
    accepted_device: AtomicU64,
    /// The directory as it was last opened.
    opened: Mutex<Option<Arc<Dir>>>,
}

/// An open lock file. Whoever locked it gives it up by dropping it.
#[derive(Debug)]
pub(super) struct LockFile {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) path: PathBuf,
    /// Where it was opened, whatever the path of the directory names by now.
    directory: Arc<Dir>,
}

impl LockDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            prefix: APP,
            group: None,
            trusted_owners: Vec::new(),
            refused_filesystem: NFS_SUPER_MAGIC,
            accepted_device: AtomicU64::new(u64::MAX),
            opened: Mutex::default(),
        }
    }

    pub(super) fn file_of(&self, domain: &Domain) -> PathBuf {
        let (directory, domain) = (self.path.as_os_str(), domain.as_str());
        let mut path = std::ffi::OsString::with_capacity(
            directory.len() + 1 + self.prefix.len() + domain.len() + SUFFIX.len(),
        );
        path.push(directory);
        for part in ["/", self.prefix, domain, SUFFIX] {
            path.push(part);
        }
        path.into()
    }

    /// The domain whose lock file has this name, if it is one.
    pub(super) fn domain_of(&self, name: &OsStr) -> Option<Domain> {
        name.to_str()?.strip_prefix(self.prefix)?.strip_suffix(SUFFIX)?.parse().ok()
    }

    /// Device and inode of the directory itself, where this user can make lock files in it.
    pub(super) fn id(&self) -> Result<FileId, LockError> {
        let access = AccessFlags::W_OK | AccessFlags::X_OK;
        eaccess(&self.path, access).map_err(|errno| self.unusable(errno))?;
        let found = nix::sys::stat::stat(&self.path).map_err(|errno| self.unusable(errno))?;
        Ok(FileId::from(&found))
    }

    /// Everything that must be so for locks to be worth something here: it can be used, whoever can replace its files
    /// is trusted, and its file system keeps locks. Makes nothing.
    pub(super) fn check_directory(&self) -> Result<(), LockError> {
        let stat = nix::sys::stat::stat(&self.path).map_err(|errno| self.unusable(errno))?;
        if !is(&stat, SFlag::S_IFDIR) {
            return Err(self.unusable(Errno::ENOTDIR));
        }
        self.id()?;
        let broken = |reason: String| LockError::Directory { path: self.path.clone(), reason };
        if !self.trusts_owner(stat.st_uid) {
            return Err(broken(format!("it is owned by user {}, who is not trusted", stat.st_uid)));
        }
        let (others, sticky) = (Mode::S_IWOTH.bits(), Mode::S_ISVTX.bits());
        if stat.st_mode & others != 0 && stat.st_mode & sticky == 0 {
            return Err(broken(
                "everybody may remove and replace the files in it: it is not sticky".to_owned(),
            ));
        }
        let filesystem = statfs(&self.path).map_err(|errno| self.unusable(errno))?;
        if filesystem.filesystem_type() == self.refused_filesystem {
            return Err(self.on_nfs());
        }
        Ok(())
    }

    /// Opens a lock file that is there in the directory as it was last opened, for whoever takes many. It may have been
    /// replaced since, so what is found is worth something only while it [is current](LockFile::is_current), and
    /// `None` says nothing: [`open`](Self::open) does. Makes nothing.
    pub(super) fn open_as_before(&self, path: &Path) -> Option<LockFile> {
        let directory = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let file = directory.open_file(path.file_name()?.as_ref(), OFlags::RDWR, 0).ok()?;
        Some(self.check((file, directory), path).ok()??.0)
    }

    /// Opens the lock file, creating it if it is missing.
    pub(super) fn open(&self, path: &Path) -> Result<LockFile, LockError> {
        for _ in 0..ATTEMPTS {
            let found = match open(path, OFlags::RDWR, 0) {
                Ok(found) => found,
                Err(Errno::ENOENT) => match self.create(path)? {
                    Some(found) => found,
                    None => continue,
                },
                Err(errno) => return Err(self.cannot_open(path, errno)),
            };
            if let Some((opened, _)) = self.check(found, path)? {
                *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened.directory.clone());
                return Ok(opened);
            }
        }
        Err(LockError::Unstable { path: path.to_owned(), attempts: ATTEMPTS })
    }

    /// Opens it for a look: read-only, and `None` if it is missing. The file is none where this user may not
    /// read it.
    pub(super) fn open_to_look(&self, path: &Path) -> Result<Option<(Option<File>, FileStat)>, LockError> {
        match open(path, OFlags::RDONLY, 0) {
            Ok(found) => Ok(self.check(found, path)?.map(|(opened, stat)| (Some(opened.file), stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EACCES) => match lstat(path) {
                Ok(stat) => self.trusts(path, &stat).map(|()| Some((None, stat))),
                Err(Errno::ENOENT) => Ok(None),
                Err(errno) => Err(self.unusable(errno)),
            },
            Err(errno) => Err(self.cannot_open(path, errno)),
        }
    }

    /// `None` when somebody else was first.
    fn create(&self, path: &Path) -> Result<Option<(File, Arc<Dir>)>, LockError> {
        let mode = if self.group.is_some() { 0o660 } else { 0o600 };
        let (file, directory) = match open(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode) {
            Ok(created) => created,
            Err(Errno::EEXIST) => return Ok(None),
            Err(found @ (Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EPERM | Errno::EROFS)) => {
                return Err(self.unusable(found));
            }
            Err(errno) => return Err(failed("create the lock file", path, errno)),
        };
        if let Some(group) = self.group {
            set_group(&file, group)
                .map_err(|error| failed("give its group to the lock file", path, errno(&error)))?;
            // The mode that was asked for has lost what the umask takes away.
            set_mode(&file, mode)
                .map_err(|error| failed("give its mode to the lock file", path, errno(&error)))?;
        }
        Ok(Some((file, directory)))
    }

    /// `None` when the file was unlinked after it had been opened.
    fn check(
        &self,
        (file, directory): (File, Arc<Dir>),
        path: &Path,
    ) -> Result<Option<(LockFile, FileStat)>, LockError> {
        let stat = fstat(&file).map_err(|errno| failed("look at the lock file", path, errno))?;
        if stat.st_nlink == 0 {
            return Ok(None);
        }
        self.trusts(path, &stat)?;
        if self.accepted_device.load(Ordering::Relaxed) != stat.st_dev {
            let filesystem =
                fstatfs(&file).map_err(|errno| failed("look at the filesystem of", path, errno))?;
            if filesystem.filesystem_type() == self.refused_filesystem {
                return Err(self.on_nfs());
            }
            self.accepted_device.store(stat.st_dev, Ordering::Relaxed);
        }
        let opened = LockFile { file, id: FileId::from(&stat), path: path.to_owned(), directory };
        Ok(Some((opened, stat)))
    }

    fn on_nfs(&self) -> LockError {
        let reason = "it is on NFS, where a lock may span hosts or none".to_owned();
        LockError::Directory { path: self.path.clone(), reason }
    }

    fn trusts_owner(&self, owner: u32) -> bool {
        owner == 0 || owner == nix::unistd::geteuid().as_raw() || self.trusted_owners.contains(&owner)
    }

    fn trusts(&self, path: &Path, stat: &FileStat) -> Result<(), LockError> {
        let owner = stat.st_uid;
        let reason = if !is(stat, SFlag::S_IFREG) {
            let kinds = [
                (SFlag::S_IFLNK, "it is a symbolic link"),
                (SFlag::S_IFDIR, "it is a directory"),
                (SFlag::S_IFIFO, "it is a FIFO"),
                (SFlag::S_IFSOCK, "it is a socket"),
            ];
            let kind = kinds.into_iter().find(|(kind, _)| is(stat, *kind));
            kind.map_or("it is not a regular file", |(_, reason)| reason).to_owned()
        } else if stat.st_nlink > 1 {
            format!("it has {} links, so it is some other file too", stat.st_nlink)
        } else if !self.trusts_owner(owner) {
            format!("it is owned by user {owner}, who is not trusted")
        } else {
            return Ok(());
        };
        Err(LockError::Refused { path: path.to_owned(), reason })
    }

    fn cannot_open(&self, path: &Path, errno: Errno) -> LockError {
        match lstat(path) {
            // Not a lock file at all: named for what it is.
            Ok(stat) if let Err(refused) = self.trusts(path, &stat) => refused,
            Ok(_) if errno == Errno::EACCES => {
                LockError::Refused { path: path.to_owned(), reason: "this user may not open it".to_owned() }
            }
            Ok(_) if errno != Errno::EROFS => failed("open the lock file", path, errno),
            _ => self.unusable(errno),
        }
    }

    fn unusable(&self, errno: Errno) -> LockError {
        let reason = match errno {
            Errno::ENOENT => "it does not exist",
            Errno::ENOTDIR => "it is not a directory",
            Errno::EROFS => "it is read-only",
            Errno::EACCES | Errno::EPERM => "this user may not write to it",
            other => other.desc(),
        };
        LockError::Directory { path: self.path.clone(), reason: reason.to_owned() }
    }
}

impl LockFile {
    /// Whether the path still names this file.
    pub(super) fn is_current(&self) -> Result<bool, LockError> {
        names(&self.path, self.id)
    }

    /// Removes it from where it was opened; whoever does holds it, and knows that it is current.
    pub(super) fn unlink(&self) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        self.directory.unlink(name.as_ref())
    }
}

/// Whether `path` names the file `id`.
pub(super) fn names(path: &Path, id: FileId) -> Result<bool, LockError> {
    match lstat(path) {
        Ok(stat) => Ok(FileId::from(&stat) == id),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(failed("look again at the lock file", path, errno)),
    }
}

/// A failed system call, as an error.
pub(super) fn failed(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> LockError {
    LockError::Io { doing, path: path.to_owned(), source: source.into() }
}

/// Opens what is at `path`, beneath the directory that it is in now: a lock is one of those who open the same path.
fn open(path: &Path, flags: OFlags, mode: u32) -> Result<(File, Arc<Dir>), Errno> {
    let opened = parent_of(path).and_then(|(parent, name)| {
        let file = parent.open_file(name.as_ref(), flags, mode)?;
        Ok((file, Arc::new(parent)))
    });
    opened.map_err(|error| errno(&error))
}

fn errno(error: &io::Error) -> Errno {
    // A path with a NUL byte has no errno: it is no valid argument.
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}
