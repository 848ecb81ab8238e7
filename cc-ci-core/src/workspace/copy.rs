//! Copies a directory tree as it is: symlinks stay symlinks and are never followed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

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
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let (from_parent, name) = parent_of(from).map_err(fail(from))?;
    let (to_parent, copied) = parent_of(to).map_err(fail(to))?;
    let mut open = vec![(PathBuf::from(name), PathBuf::from(copied))];
    while let Some((source, target)) = open.pop() {
        let path = from_parent.path().join(&source);
        if cancellation.cause().is_some() {
            return Err((path, io::Error::new(io::ErrorKind::Interrupted, "the run was cancelled")));
        }
        copy_one((&from_parent, &source), (&to_parent, &target), &mut open).map_err(fail(&path))?;
    }
    Ok(())
}

/// Copies what is in the directory `from`, but for the entry `skipped`, into the directory `to`.
pub(crate) fn copy_entries(
    from: &Path,
    to: &Path,
    skipped: &str,
    cancellation: &Cancellation,
) -> io::Result<()> {
    for name in Dir::open(from)?.names(Path::new("."))?.iter().filter(|name| *name != skipped) {
        copy_tree(&from.join(name), &to.join(name), cancellation)
            .map_err(|(path, error)| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Copies one entry; what is in a directory is added to `open`. A mount point is an error: what is on it is not asked.
fn copy_one(
    (from, source): (&Dir, &Path),
    (to, target): (&Dir, &Path),
    open: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    let found = from.find(source)?.ok_or(io::ErrorKind::NotFound)?;
    match found.kind {
        FileType::Symlink => to.link(&from.read_link(source)?, target),
        FileType::RegularFile => {
            let mut source = from.open_file(source, OFlags::RDONLY, 0)?;
            let mut copied = to.open_file(target, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o600)?;
            io::copy(&mut source, &mut copied)?;
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
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a file, a directory nor a symlink")),
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
}
