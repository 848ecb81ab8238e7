//! Paths from outside, kept inside a directory (I11).
//!
//! A recipe names files of its own tree, and a pull request may write anything there: `../../etc/passwd`, or a
//! symlink that leads to it. Here such a name is followed one component at a time, from the directory down, and
//! no symlink is ever followed: what is returned lies inside, or it is an error that names the component.
//!
//! # Limitations
//! [`resolve_beneath`] looks and returns a path: who can write to the directory can change it afterwards. Where the
//! content is untrusted *while* it is read, use [`open_beneath`], which hands out the file that it checked. A directory
//! mounted inside the tree is followed by the first and refused by the second.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::sys::blocking::blocks;
use crate::sys::files::Dir;

/// A path that can't be used inside its directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeneathError {
    /// The path is absolute, empty, or has a `..`.
    #[error("{path} would leave its directory: only plain relative paths are taken")]
    Escapes {
        /// The path as it came.
        path: PathBuf,
    },
    /// A component is a symlink.
    #[error("{path} is a symlink, and none is followed here")]
    Symlink {
        /// The component, from the directory on.
        path: PathBuf,
    },
    /// What is there is neither a regular file nor a directory, or the wrong one of the two.
    #[error("{path} is not {wanted}")]
    Kind {
        /// The component, from the directory on.
        path: PathBuf,
        /// What was wanted, in words.
        wanted: &'static str,
    },
    /// It is longer than what is read there can be.
    #[error("{path} has more than {limit} bytes")]
    TooLong {
        /// The file, relative to the directory.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The kernel refused.
    #[error("can't look at {path}")]
    Io {
        /// The component, from the directory on.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl BeneathError {
    /// Whether simply nothing is there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Resolves `relative` below `root`. Leading and inner `.` are skipped. The file or directory must exist; neither
/// it nor anything on the way may be a symlink.
pub fn resolve_beneath(root: &Path, relative: impl AsRef<Path>) -> Result<PathBuf, BeneathError> {
    blocks();
    let mut inside = PathBuf::new();
    let mut directory = true;
    for name in plain_components(relative.as_ref())? {
        if !directory {
            return Err(BeneathError::Kind { path: inside, wanted: "a directory" });
        }
        inside.push(name);
        let found = root.join(&inside).symlink_metadata();
        let metadata = found.map_err(|source| BeneathError::Io { path: inside.clone(), source })?;
        if metadata.is_symlink() {
            return Err(BeneathError::Symlink { path: inside });
        }
        directory = metadata.is_dir();
    }
    Ok(root.join(inside))
}

/// Opens the regular file `relative` below `root` for reading, each component below the one before and on the same mount,
/// so that a swap in between can't lead outside. A FIFO there is refused and never waited for, nor is what is mounted.
pub fn open_beneath(root: &Path, relative: impl AsRef<Path>) -> Result<File, BeneathError> {
    // A path that leads out is one wherever the root is.
    plain_components(relative.as_ref())?;
    let root = Dir::open(root).map_err(|source| BeneathError::Io { path: root.to_owned(), source })?;
    open_in(&root, relative)
}

/// The same in a directory that is held.
fn open_in(root: &Dir, relative: impl AsRef<Path>) -> Result<File, BeneathError> {
    let names = plain_components(relative.as_ref())?;
    let mut inside = PathBuf::new();
    let mut at = root.clone();
    let last = names.len() - 1;
    for name in &names[..last] {
        inside.push(name);
        at = at.sub(name.as_ref()).map_err(|error| refused(&inside, error))?;
    }
    inside.push(names[last]);
    let file =
        at.open_file(names[last].as_ref(), OFlags::RDONLY, 0).map_err(|error| refused(&inside, error))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(BeneathError::Kind { path: inside, wanted: "a regular file" }),
        Err(source) => Err(BeneathError::Io { path: inside, source }),
    }
}

/// What the kernel's answer says of `path`.
fn refused(path: &Path, source: io::Error) -> BeneathError {
    let path = path.to_owned();
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) => BeneathError::Symlink { path },
        Some(Errno::NOTDIR) => BeneathError::Kind { path, wanted: "a directory" },
        Some(Errno::XDEV) => BeneathError::Kind { path, wanted: "on the file system of its directory" },
        _ => BeneathError::Io { path, source },
    }
}

/// Reads the regular file `relative` below `root`, whoever wrote it: it is opened as [`open_beneath`] does, and
/// has at most `limit` bytes.
pub fn read_beneath(root: &Path, relative: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, BeneathError> {
    read(open_beneath(root, &relative)?, relative.as_ref(), limit)
}

/// The same in a directory that is held.
pub(crate) fn read_in(root: &Dir, relative: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, BeneathError> {
    read(open_in(root, &relative)?, relative.as_ref(), limit)
}

fn read(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, BeneathError> {
    let path = path.to_owned();
    let mut content = Vec::new();
    match file.take(limit + 1).read_to_end(&mut content) {
        Ok(_) if content.len() as u64 > limit => Err(BeneathError::TooLong { path, limit }),
        Ok(_) => Ok(content),
        Err(source) => Err(BeneathError::Io { path, source }),
    }
}

/// The last whole lines of a file, `limit` bytes at the most, and whether there is more of it. It is opened as [`open_beneath`] does.
pub(crate) fn read_end_in(
    root: &Dir,
    relative: impl AsRef<Path>,
    limit: u64,
) -> Result<(String, bool), BeneathError> {
    let path = relative.as_ref().to_owned();
    end_of(open_in(root, &path)?, limit).map_err(|source| BeneathError::Io { path, source })
}

/// The last whole lines of an open file, `limit` bytes at the most, and whether there is more of it.
pub(crate) fn end_of(mut file: File, limit: u64) -> io::Result<(String, bool)> {
    let start = file.metadata()?.len().saturating_sub(limit);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.take(limit).read_to_end(&mut end)?;
    if start > 0 {
        let line = end.iter().position(|&byte| byte == b'\n').map_or(end.len(), |end| end + 1);
        end.drain(..line);
    }
    Ok((String::from_utf8_lossy(&end).into_owned(), start > 0))
}

/// The names that `path` goes through; at least one.
fn plain_components(path: &Path) -> Result<Vec<&std::ffi::OsStr>, BeneathError> {
    let escapes = || BeneathError::Escapes { path: path.to_owned() };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(escapes()),
        }
    }
    if names.is_empty() { Err(escapes()) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("tree");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(outside.path().join("secret"), "no").unwrap();
        fs::write(root.join("a/b/file"), "yes").unwrap();
        symlink("../secret", root.join("leaf")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("a/b", root.join("inner")).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        outside
    }

    #[test]
    fn what_lies_inside_is_found() {
        let outside = tree();
        let root = outside.path().join("tree");
        for path in ["a/b/file", "./a/b/file", "a/./b//file"] {
            assert_eq!(resolve_beneath(&root, path).unwrap(), root.join("a/b/file"));
            let mut text = String::new();
            open_beneath(&root, path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "yes");
        }
        assert_eq!(resolve_beneath(&root, "a/b").unwrap(), root.join("a/b"));
        assert!(resolve_beneath(&root, "a/none").unwrap_err().is_not_found());
        assert!(open_beneath(&root, "a/none").unwrap_err().is_not_found());
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let outside = tree();
        let root = outside.path().join("tree");
        for path in ["", ".", "..", "../secret", "/etc/passwd", "a/../../secret", "a/.."] {
            assert!(matches!(resolve_beneath(&root, path), Err(BeneathError::Escapes { .. })), "{path}");
            assert!(matches!(open_beneath(&root, path), Err(BeneathError::Escapes { .. })), "{path}");
        }
        for (path, culprit) in
            [("leaf", "leaf"), ("up/secret", "up"), ("up/tree/a/b/file", "up"), ("inner/file", "inner")]
        {
            for error in [
                resolve_beneath(&root, path).map(drop).unwrap_err(),
                open_beneath(&root, path).map(drop).unwrap_err(),
            ] {
                assert!(
                    matches!(&error, BeneathError::Symlink { path } if path == Path::new(culprit)),
                    "{path}: {error:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_long_is_not_read_whole() {
        let outside = tree();
        let root = outside.path().join("tree");
        assert_eq!(read_beneath(&root, "a/b/file", 3).unwrap(), b"yes");
        let error = read_beneath(&root, "a/b/file", 2).unwrap_err();
        assert!(matches!(error, BeneathError::TooLong { limit: 2, .. }), "{error:?}");
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        let outside = tree();
        let root = outside.path().join("tree");
        // A root that somebody put a FIFO in the place of is not waited for either.
        assert!(open_beneath(&root.join("fifo"), "file").is_err());
        for path in ["fifo", "a", "a/b/file/x"] {
            let error = open_beneath(&root, path).unwrap_err();
            assert!(matches!(error, BeneathError::Kind { .. }), "{path}: {error:?}");
        }
        let error = resolve_beneath(&root, "a/b/file/x").unwrap_err();
        assert!(matches!(error, BeneathError::Kind { .. }), "{error:?}");
    }
}
