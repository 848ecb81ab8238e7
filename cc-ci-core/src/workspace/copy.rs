//! Copies a directory tree as it is: symlinks stay symlinks and are never followed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::model::cancellation::Cancellation;
use crate::sys::files::{self, Dir, parent_of};

/// Copies the tree `from` to `to`, which must not exist. Looks at `cancellation` between two entries.
///
/// # Errors
/// The path that failed, and why: `Interrupted` when cancelled, `Unsupported` for what is neither a regular
/// file, nor a directory, nor a symlink.
pub(crate) fn copy_tree(
    from: &Path,
    to: &Path,
    cancellation: &Cancellation,
) -> Result<(), (PathBuf, io::Error)> {
    Copying { living: false, room: u64::MAX, cancellation }.tree(from, to)
}

/// Copies what is in the directory `from`, but for the entry `skipped`, into the directory `to`.
pub(crate) fn copy_entries(
    from: &Path,
    to: &Path,
    skipped: &str,
    cancellation: &Cancellation,
) -> io::Result<()> {
    Copying { living: false, room: u64::MAX, cancellation }.entries(from, to, skipped)
}

/// The same of `paths` of a directory that a process is at work in, where the empty one is all of it: what goes meanwhile was
/// never there, and a socket is left out, which its listener makes anew. At most `room` bytes are copied; holes are none.
///
/// # Errors
/// Also where nothing is at a path.
pub(crate) fn copy_living(
    from: &Path,
    paths: &[String],
    to: &Path,
    room: u64,
    cancellation: &Cancellation,
) -> io::Result<()> {
    let mut copying = Copying { living: true, room, cancellation };
    let paths: BTreeSet<&Path> = paths.iter().map(Path::new).collect();
    if paths.contains(Path::new("")) {
        return copying.entries(from, to, "");
    }
    let (from, to) = (Dir::open(from)?, Dir::open(to)?);
    // What is beneath another one comes with it.
    let is_own = |path: &&&Path| !paths.iter().any(|other| other != *path && path.starts_with(other));
    for path in paths.iter().filter(is_own) {
        let fail = |source: io::Error| at_path(path.to_path_buf(), source);
        if from.find(path).map_err(fail)?.is_none() {
            let missing = io::Error::new(io::ErrorKind::NotFound, "nothing is at this path of the backup");
            return Err(fail(missing));
        }
        if let Some(above) = path.parent() {
            to.make_all(above, 0o755).map_err(fail)?;
        }
        copying.beneath((&from, path), (&to, path)).map_err(|(path, source)| at_path(path, source))?;
    }
    Ok(())
}

fn at_path(path: PathBuf, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), AtPath { path, source })
}

/// Where a copy failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
struct AtPath {
    path: PathBuf,
    source: io::Error,
}

struct Copying<'a> {
    living: bool,
    /// So many bytes may yet be copied.
    room: u64,
    cancellation: &'a Cancellation,
}

impl Copying<'_> {
    fn entries(&mut self, from: &Path, to: &Path, skipped: &str) -> io::Result<()> {
        for name in Dir::open(from)?.names(Path::new("."))?.iter().filter(|name| *name != skipped) {
            self.tree(&from.join(name), &to.join(name)).map_err(|(path, source)| at_path(path, source))?;
        }
        Ok(())
    }

    fn tree(&mut self, from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        let (from_parent, name) = parent_of(from).map_err(fail(from))?;
        let (to_parent, copied) = parent_of(to).map_err(fail(to))?;
        self.beneath((&from_parent, name.as_ref()), (&to_parent, copied.as_ref()))
    }

    fn beneath(
        &mut self,
        (from, name): (&Dir, &Path),
        (to, copied): (&Dir, &Path),
    ) -> Result<(), (PathBuf, io::Error)> {
        let mut open = vec![(name.to_owned(), copied.to_owned())];
        while let Some((source, target)) = open.pop() {
            let path = from.path().join(&source);
            if self.cancellation.cause().is_some() {
                return Err((path, io::Error::new(io::ErrorKind::Interrupted, "the run was cancelled")));
            }
            match self.one((from, &source), (to, &target), &mut open) {
                Err(_) if self.living && !from.has(&source) => {}
                copied => copied.map_err(|error| (path, error))?,
            }
        }
        Ok(())
    }

    /// Copies one entry; what is in a directory is added to `open`. A mount point is an error: what is on it is not asked.
    fn one(
        &mut self,
        (from, source): (&Dir, &Path),
        (to, target): (&Dir, &Path),
        open: &mut Vec<(PathBuf, PathBuf)>,
    ) -> io::Result<()> {
        let found = from.find(source)?.ok_or(io::ErrorKind::NotFound)?;
        match found.kind {
            FileType::Symlink => to.link(&from.read_link(source)?, target),
            FileType::RegularFile => {
                let mut source = from.open_file(source, OFlags::RDONLY, 0)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let mut copied = to.open_file(target, flags, 0o600)?;
                self.content(&mut source, &mut copied)?;
                files::set_mode(&copied, found.mode & 0o777)
            }
            FileType::Directory => {
                // The copy must be writable for us, whatever the original is.
                to.make_new(target, 0o700)?;
                to.set_mode(target, found.mode & 0o777 | 0o700)?;
                for name in from.names(source)? {
                    open.push((source.join(&name), target.join(&name)));
                }
                Ok(())
            }
            FileType::Socket if self.living => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a file, a directory nor a symlink")),
        }
    }

    /// Copies what a file has now. Holes stay holes: a file may say that it is large and have next to nothing.
    fn content(&mut self, from: &mut File, to: &mut File) -> io::Result<()> {
        let size = from.metadata()?.len();
        let mut at = 0;
        while at < size {
            let start = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
                Ok(start) if start < size => start,
                // A hole up to the end.
                Ok(_) | Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let end = rustix::fs::seek(&*from, SeekFrom::Hole(start))?.min(size);
            let length = end.saturating_sub(start);
            self.room = self.room.checked_sub(length).ok_or_else(|| {
                io::Error::new(io::ErrorKind::FileTooLarge, "there is more than may be copied")
            })?;
            from.seek(io::SeekFrom::Start(start))?;
            to.seek(io::SeekFrom::Start(start))?;
            io::copy(&mut Read::by_ref(from).take(length), to)?;
            at = end;
        }
        to.set_len(size)
    }
}

/// A symlink in the tree `root`, if there is one.
pub(super) fn find_symlink(root: &Path) -> io::Result<Option<PathBuf>> {
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                return Ok(Some(entry.path()));
            }
            if kind.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::model::cancellation::Cause;

    #[test]
    fn symlinks_are_kept_and_modes_too() {
        let world = tempfile::tempdir().unwrap();
        let (from, to) = (world.path().join("from"), world.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/run.sh"), "x").unwrap();
        fs::set_permissions(from.join("inner/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/etc/passwd", from.join("leak")).unwrap();
        symlink("inner", from.join("directory")).unwrap();
        copy_tree(&from, &to, &Cancellation::new()).unwrap();
        assert_eq!(fs::read_link(to.join("leak")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_link(to.join("directory")).unwrap(), Path::new("inner"));
        assert_eq!(to.join("inner/run.sh").metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn names_that_are_no_text_are_copied() {
        use std::os::unix::ffi::OsStrExt as _;
        let world = tempfile::tempdir().unwrap();
        let (from, to) = (world.path().join("from"), world.path().join("to"));
        let names = [&b"caf\xe9"[..], b"a\nb", b"\x1b[2J", b"-rf", b" "].map(std::ffi::OsStr::from_bytes);
        for name in names {
            fs::create_dir_all(from.join(name)).unwrap();
            fs::write(from.join(name).join(name), "x").unwrap();
        }
        copy_tree(&from, &to, &Cancellation::new()).unwrap();
        assert!(names.iter().all(|name| to.join(name).join(name).is_file()));
    }

    #[test]
    fn a_cancelled_copy_stops_and_a_fifo_is_named() {
        let world = tempfile::tempdir().unwrap();
        let from = world.path().join("from");
        fs::create_dir(&from).unwrap();
        nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (path, error) = copy_tree(&from, &world.path().join("a"), &Cancellation::new()).unwrap_err();
        assert_eq!((path, error.kind()), (from.join("pipe"), io::ErrorKind::Unsupported));
        let cancelled = Cancellation::new();
        cancelled.cancel(Cause::Term);
        let (_, error) = copy_tree(&from, &world.path().join("b"), &cancelled).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert!(!world.path().join("b").exists());
    }

    #[test]
    fn holes_stay_holes_and_what_is_between_them_is_copied() {
        use std::os::unix::fs::{FileExt as _, MetadataExt as _};
        let world = tempfile::tempdir().unwrap();
        let (from, to) = (world.path().join("from"), world.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 1 << 29).unwrap();
        copy_tree(&from, &to, &Cancellation::new()).unwrap();
        let copied = to.metadata().unwrap();
        assert!(copied.len() == 1 << 30 && copied.blocks() * 512 < 1 << 21, "{} blocks", copied.blocks());
        let read = |at, length| {
            let mut read = vec![0; length];
            File::open(&to).unwrap().read_exact_at(&mut read, at).unwrap();
            read
        };
        assert_eq!((read(0, 6), read(1 << 29, 6)), (b"begin\0".to_vec(), b"middle".to_vec()));
    }

    #[test]
    fn of_what_lives_sockets_are_left_out_and_all_is_bounded() {
        let world = tempfile::tempdir().unwrap();
        let (from, to) = (world.path().join("from"), world.path().join("to"));
        for directory in [&from, &to] {
            fs::create_dir(directory).unwrap();
        }
        let _listener = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        fs::write(from.join("file"), "12345678").unwrap();
        File::create(from.join("hole")).unwrap().set_len(1 << 30).unwrap();
        let copy_to = |to: &Path, paths: &[&str], room| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            copy_living(&from, &paths, to, room, &Cancellation::new())
        };
        let copy = |paths: &[&str], room| copy_to(&to, paths, room);
        copy(&[""], 8).unwrap();
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "12345678");
        assert!(to.join("hole").exists() && !to.join("socket").exists());
        fs::remove_file(to.join("file")).unwrap();
        fs::remove_file(to.join("hole")).unwrap();
        let error = copy(&[""], 7).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let to = world.path().join("paths");
        fs::create_dir(&to).unwrap();
        let copy = |paths: &[&str], room| copy_to(&to, paths, room);
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/er/file"), "1").unwrap();
        symlink("deep", from.join("link")).unwrap();
        copy(&["deep/er/file", "deep/er", "deep/er/"], 1).unwrap();
        assert!(to.join("deep/er/file").exists() && !to.join("file").exists());
        assert_eq!(copy(&["deep/none"], 8).unwrap_err().kind(), io::ErrorKind::NotFound);
        for path in ["link/er", "../to"] {
            assert!(copy(&[path], 8).is_err() && !to.join("link").exists(), "{path}");
        }
    }
}
