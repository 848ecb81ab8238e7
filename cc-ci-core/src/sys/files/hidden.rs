//! A directory that has no name anywhere.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::TemporaryDirectory;
use crate::sys::blocking;

/// A new, small directory for processes of this user alone, that have its [path](Self::path) as long as this one has it.
///
/// Root gets a file system of its own that is mounted nowhere: nothing of it is left, whatever kills this process. Anybody else
/// gets a [`TemporaryDirectory`], which stays where this process is killed.
#[derive(Debug)]
pub struct HiddenDirectory {
    fd: OwnedFd,
    on_disk: Option<TemporaryDirectory>,
}

impl HiddenDirectory {
    /// Makes one. Where it must have a name, that begins with `prefix`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(prefix: &str) -> io::Result<Self> {
        match mounted() {
            Ok(fd) => Ok(Self { fd, on_disk: None }),
            Err(_) => Self::on_disk(prefix),
        }
    }

    fn on_disk(prefix: &str) -> io::Result<Self> {
        let directory = TemporaryDirectory::new(prefix)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(directory.path(), flags, Mode::empty())?;
        Ok(Self { fd, on_disk: Some(directory) })
    }

    /// Where it is for any process of this user.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// What is there as `name`, and no link: it can be used when the directory is gone.
    ///
    /// # Errors
    /// When there is nothing of that name.
    pub fn hold(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?)
    }
}

impl Drop for HiddenDirectory {
    fn drop(&mut self) {
        // Whoever gives up on it may drive a runtime, and there is one file in it at the most.
        blocking::briefly(|| drop(self.on_disk.take()));
    }
}

/// A file system in memory, mounted nowhere.
fn mounted() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", "64k")?;
    fsconfig_set_string(&context, "mode", "0700")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use super::*;

    #[test]
    fn another_process_works_in_it_and_nothing_of_it_is_left() {
        let directories = [HiddenDirectory::new("cc-ci-test-"), HiddenDirectory::on_disk("cc-ci-test-")];
        for directory in directories.map(Result::unwrap) {
            let named = directory.on_disk.as_ref().map(|directory| directory.path().to_owned());
            assert!(named.is_some() || nix::unistd::geteuid().is_root());
            let path = directory.path();
            assert!(Command::new("touch").arg(path.join("file")).status().unwrap().success());
            let listener = UnixListener::bind(path.join("socket")).unwrap();
            let held = directory.hold("socket".as_ref()).unwrap();
            drop(directory);
            assert!(!path.join("file").exists());
            assert!(named.is_none_or(|named| !named.exists()));
            // What is held is there all the same.
            let client = UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap();
            drop(listener.accept().unwrap());
            drop(client);
        }
    }

    #[test]
    fn where_it_must_have_a_name_nobody_else_comes_in() {
        use std::os::unix::fs::PermissionsExt as _;
        for directory in [HiddenDirectory::new("cc-ci-test-"), HiddenDirectory::on_disk("cc-ci-test-")] {
            let directory = directory.unwrap();
            assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }
}
