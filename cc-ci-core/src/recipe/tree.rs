//! Reading a file of a recipe's tree, which comes from a pull request.
//!
//! The kernel resolves the whole path below the tree's directory (openat2, Linux 5.6): a link that leads out is refused,
//! whoever swaps it in and when. Links inside a recipe are its own affair; [`crate::sys::beneath`] follows none.
//!
//! # Limitations
//! An absolute link is refused even when it leads inside: the tree may be elsewhere tomorrow.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How long a file may be.
const MAX_LEN: u64 = 1 << 20;
/// How often a path is tried whose directories are being moved.
const ATTEMPTS: usize = 16;

/// A file of a recipe can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not there.
    #[error("it does not exist")]
    Missing,
    /// It leads out of the recipe.
    #[error("it leads out of the recipe")]
    Outside,
    /// It is a directory, a pipe or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is too long.
    #[error("it has more than {MAX_LEN} bytes")]
    TooLong,
    /// It is no text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// The system refuses.
    #[error("the system refuses to read it")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

/// The text of the file at `path` below `root`.
pub(super) fn read_text(root: &Path, path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read(root, path)?).map_err(|_| ReadError::NotText)
}

/// The content of the file at `path` below `root`, wherever symbolic links lead, as long as they stay below.
pub(super) fn read(root: &Path, path: &Path) -> Result<Vec<u8>, ReadError> {
    let file = open(root, path)?;
    if !file.metadata()?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(ReadError::TooLong);
    }
    Ok(bytes)
}

/// Opens what is at `path` below `root`, wherever symbolic links lead, as long as they stay below.
pub(super) fn open(root: &Path, path: &Path) -> Result<File, ReadError> {
    let root = File::open(root)?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // A pipe with no writer would block the open.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match openat2(&root, path, flags, Mode::empty(), resolve) {
            Ok(opened) => return Ok(opened.into()),
            Err(Errno::XDEV) => return Err(ReadError::Outside),
            // A socket, or a device that nobody serves.
            Err(Errno::NXIO) => return Err(ReadError::NotAFile),
            // Something moved meanwhile, so the kernel can't tell whether `..` stayed inside.
            Err(Errno::AGAIN) if left > 0 => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_inside_the_recipe_are_read() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("recipe");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("inside"), "in").unwrap();
        fs::write(home.path().join("outside"), "out").unwrap();
        symlink("../inside", root.join("sub/link")).unwrap();
        symlink("../outside", root.join("leaves")).unwrap();
        symlink(home.path(), root.join("up")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::write(root.join("binary"), [0xff]).unwrap();
        fs::write(root.join("long"), vec![b'x'; 1 << 20]).unwrap();
        fs::write(root.join("longer"), vec![b'x'; (1 << 20) + 1]).unwrap();

        assert_eq!(super::read(&root, Path::new("binary")).unwrap(), [0xff]);
        let read = |path: &str| read_text(&root, Path::new(path));
        assert_eq!(read("inside").unwrap(), "in");
        assert_eq!(read("sub/link").unwrap(), "in");
        assert_eq!(read("long").unwrap().len(), 1 << 20);
        let absolute = home.path().join("outside");
        for path in ["leaves", "../outside", "up/outside", absolute.to_str().unwrap()] {
            assert!(matches!(read(path), Err(ReadError::Outside)), "{path}");
        }
        for path in ["pipe", "sub", ""] {
            assert!(matches!(read(path), Err(ReadError::NotAFile)), "{path}");
        }
        assert!(matches!(read("longer"), Err(ReadError::TooLong)));
        assert!(matches!(read("binary"), Err(ReadError::NotText)));
        assert!(matches!(read("nothing"), Err(ReadError::Missing)));
        assert!(matches!(read("a\0b"), Err(ReadError::Io(_))));
    }
}
