//! Removes a directory tree that hostile code may have written.
//!
//! Symlinks are removed, never followed. Directories without permissions are opened up first. Depth costs neither
//! stack nor descriptors: a directory inside a directory is moved to the top and emptied there.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};

/// How often a directory that was emptied may turn out to be filled again before we give up.
const REFILLS: u32 = 8;

/// Removes `path`, whatever it is. Nothing there is fine.
///
/// # Errors
/// The first failure; what could be removed until then is gone.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_until(path, &|| false)
}

/// The same, until `stop` says so: it is asked before each entry.
pub(super) fn remove_tree_until(path: &Path, stop: &dyn Fn() -> bool) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(path),
        Ok(_) => {}
    }
    let top = open_directory(CWD, path.as_os_str())?;
    let mut refills = 0;
    loop {
        empty(&top, &mut refills, stop)?;
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && refills < REFILLS => {
                refills += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result,
        }
    }
}

fn go_on(stop: &dyn Fn() -> bool) -> io::Result<()> {
    if stop() { Err(io::Error::new(io::ErrorKind::Interrupted, "the removal was stopped")) } else { Ok(()) }
}

/// Empties the directory `top`.
fn empty(top: &OwnedFd, refills: &mut u32, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let mut moved = 0u64;
    // Directories that were moved up are found by the next look at the top.
    loop {
        let mut directories = Vec::new();
        for entry in Dir::read_from(top)? {
            go_on(stop)?;
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if is_directory(top.as_fd(), name)? {
                directories.push(name.to_owned());
            } else {
                unlink(top, name)?;
            }
        }
        if directories.is_empty() {
            return Ok(());
        }
        for name in directories {
            flatten(top, &name, &mut moved, stop)?;
            match unlinkat(top, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(rustix::io::Errno::NOTEMPTY) if *refills < REFILLS => *refills += 1,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Empties the directory `name` of `top`: the directories in it move to `top`.
fn flatten(top: &OwnedFd, name: &CString, moved: &mut u64, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let directory = open_directory(top, OsStr::from_bytes(name.to_bytes()))?;
    for entry in Dir::read_from(&directory)? {
        go_on(stop)?;
        let entry = entry?;
        let inner = entry.file_name();
        if matches!(inner.to_bytes(), b"." | b"..") {
            continue;
        }
        if !is_directory(directory.as_fd(), inner)? {
            unlink(&directory, inner)?;
            continue;
        }
        // A directory that moves gets another `..`, so it must be writable itself.
        drop(open_directory(&directory, OsStr::from_bytes(inner.to_bytes()))?);
        loop {
            *moved += 1;
            match renameat(&directory, inner, top, format!(".removing-{moved}")) {
                // Somebody called something that.
                Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST | rustix::io::Errno::NOTDIR) => {}
                result => break result?,
            }
        }
    }
    Ok(())
}

fn unlink(at: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn is_directory(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<bool> {
    match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the directory `name` so that it can be read and emptied, whatever its mode was.
fn open_directory(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let follow_nothing = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    // A path descriptor needs no permission on the directory itself, and names it for good.
    let found = openat(at, name, OFlags::PATH | follow_nothing, Mode::empty())?;
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mode = fs::metadata(&same)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        fs::set_permissions(&same, Permissions::from_mode(0o700))?;
    }
    Ok(File::open(same)?.into())
}

#[cfg(test)]
mod tests {
    use std::fs::DirBuilder;
    use std::os::unix::fs::{DirBuilderExt, symlink};

    use super::*;

    #[test]
    fn symlinks_go_and_what_they_name_stays() {
        let world = tempfile::tempdir().unwrap();
        let (outside, tree) = (world.path().join("outside"), world.path().join("tree"));
        fs::create_dir_all(outside.join("inner")).unwrap();
        fs::write(outside.join("inner/file"), "stays").unwrap();
        fs::create_dir_all(tree.join("a")).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("nowhere", tree.join("a/dangling")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(tree.symlink_metadata().is_err());
        assert_eq!(fs::read_to_string(outside.join("inner/file")).unwrap(), "stays");

        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(tree.symlink_metadata().is_err());
        assert!(outside.join("inner/file").exists());
        remove_tree(&tree).unwrap();
    }

    /// A tree whose owner took all permissions away.
    fn closed_tree(tree: &Path) {
        fs::create_dir_all(tree.join("locked/inner")).unwrap();
        fs::write(tree.join("locked/inner/file"), "").unwrap();
        fs::write(tree.join("locked/.removing-1"), "").unwrap();
        DirBuilder::new().mode(0o000).create(tree.join("closed")).unwrap();
        fs::set_permissions(tree.join("locked/inner"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(tree.join("locked"), Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(tree, Permissions::from_mode(0o500)).unwrap();
    }

    /// Root passes every mode, so under root a thread of its own becomes an ordinary user first.
    #[test]
    fn a_directory_without_permissions_is_removed() {
        let world = tempfile::tempdir().unwrap();
        let tree = world.path().join("tree");
        if nix::unistd::geteuid().is_root() {
            let nobody = 65534;
            std::os::unix::fs::chown(world.path(), Some(nobody), Some(nobody)).unwrap();
            let ordinary = || {
                let uid = rustix::thread::Uid::from_raw(nobody);
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                if fs::create_dir(&tree).is_err() {
                    println!("skipped: an ordinary user can't reach {}", world.path().display());
                    return;
                }
                closed_tree(&tree);
                assert!(fs::remove_dir_all(&tree).is_err(), "this user passes every mode too");
                remove_tree(&tree).unwrap();
            };
            std::thread::scope(|scope| scope.spawn(ordinary).join()).unwrap();
        } else {
            fs::create_dir(&tree).unwrap();
            closed_tree(&tree);
            remove_tree(&tree).unwrap();
        }
        assert!(tree.symlink_metadata().is_err());
    }

    #[test]
    fn a_removal_stops_between_two_entries_and_a_later_one_goes_on() {
        let world = tempfile::tempdir().unwrap();
        let tree = world.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        for number in 0..10 {
            fs::write(tree.join(format!("inner/{number}")), "").unwrap();
        }
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 6
        };
        let stopped = remove_tree_until(&tree, &stop).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        let left = fs::read_dir(tree.join("inner")).unwrap().count();
        assert!(0 < left && left < 10, "{left}");
        remove_tree(&tree).unwrap();
        assert!(tree.symlink_metadata().is_err());
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let world = tempfile::tempdir().unwrap();
        let tree = world.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at: OwnedFd = File::open(&tree).unwrap().into();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(tree.symlink_metadata().is_err());
    }
}
