//! Copies a directory tree as it is: symlinks stay symlinks and are never followed.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::cancellation::Cancellation;

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
    let mut open = vec![(from.to_owned(), to.to_owned())];
    while let Some((source, target)) = open.pop() {
        if cancellation.cause().is_some() {
            return Err((source, io::Error::new(io::ErrorKind::Interrupted, "the run was cancelled")));
        }
        copy_one(&source, &target, &mut open).map_err(|error| (source, error))?;
    }
    Ok(())
}

fn copy_one(source: &Path, target: &Path, open: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    let metadata = source.symlink_metadata()?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    if metadata.is_file() {
        return fs::copy(source, target).map(drop);
    }
    if !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a file, a directory nor a symlink"));
    }
    fs::create_dir(target)?;
    // The copy must be writable for us, whatever the original is.
    fs::set_permissions(target, fs::Permissions::from_mode(metadata.permissions().mode() & 0o777 | 0o700))?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        open.push((entry.path(), target.join(entry.file_name())));
    }
    Ok(())
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
    use super::*;
    use crate::cancellation::Cause;

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
