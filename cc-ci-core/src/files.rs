//! Small things with files that more than one part needs.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A fresh id.
pub(crate) fn new_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(id.trim().replace('-', "").chars().take(16).collect())
}

/// What is longer is no record of ours.
const REGULAR_LIMIT: u64 = 16 << 20;

/// Reads a regular file of at most 16 MiB. What else somebody put there is refused: a FIFO would be waited for.
pub(crate) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut content = Vec::new();
    (&mut file).take(REGULAR_LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > REGULAR_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    Ok(content)
}

/// Makes a directory, and those above it, for nobody else's eyes.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that is there whole or not at all. Whoever is killed in the middle leaves a file with a name that
/// nobody can know: where that matters, choose one with `write_whole_by`.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_whole_by(&path.with_extension(format!("{}.tmp", new_id()?)), path, content, mode)
}

/// The same by way of the file `temporary`, which is not there yet.
pub(crate) fn write_whole_by(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The write's own error is the one to tell.
        drop(fs::remove_file(temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_neither_waited_for_nor_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (fifo, long) = (directory.path().join("fifo"), directory.path().join("long"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_regular(&fifo).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        fs::File::create(&long).unwrap().set_len(REGULAR_LIMIT + 1).unwrap();
        assert_eq!(read_regular(&long).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
