//! A directory for what nobody needs afterwards.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::{Dir, new_id};

/// A new directory below the system's temporary one, for nobody else's eyes. It goes when this is dropped, with what is in
/// it: by the same removal as all else.
#[derive(Debug)]
#[must_use = "dropping it removes the directory"]
pub struct TemporaryDirectory {
    /// The directory that it is in, and its name there; `None` once it is given away or gone.
    place: Option<(Dir, OsString)>,
    path: PathBuf,
}

impl TemporaryDirectory {
    /// Makes one whose name begins with `prefix`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(prefix: &str) -> io::Result<Self> {
        let parent = std::path::absolute(std::env::temp_dir())?;
        let name = OsString::from(format!("{prefix}{}", new_id()?));
        let (parent, path) = (Dir::open(&parent)?, parent.join(&name));
        parent.make_new(name.as_ref(), 0o700)?;
        Ok(Self { place: Some((parent, name)), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it there.
    pub fn keep(mut self) -> PathBuf {
        self.place = None;
        std::mem::take(&mut self.path)
    }

    /// Removes it now.
    ///
    /// # Errors
    /// What stays, and why.
    pub fn close(mut self) -> io::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> io::Result<()> {
        match self.place.take() {
            Some((parent, name)) => Ok(parent.remove(OsStr::as_ref(&name), &|| false)?),
            None => Ok(()),
        }
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if let Err(error) = self.remove() {
            tracing::warn!(%error, path = %path.display(), "a temporary directory stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::sys::files::testing::{alone, mount, unmount};

    #[test]
    fn it_is_private_and_goes_with_its_owner_or_stays_where_that_says_so() {
        let directory = TemporaryDirectory::new("cc-ci-test-").unwrap();
        let path = directory.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join("file"), "").unwrap();
        drop(directory);
        assert!(!path.exists());
        let kept = TemporaryDirectory::new("cc-ci-test-").unwrap().keep();
        fs::remove_dir(kept).unwrap();
    }

    #[test]
    fn what_is_mounted_in_it_is_named_and_stays() {
        if !alone("sys::files::temporary::tests::what_is_mounted_in_it_is_named_and_stays") {
            return;
        }
        let precious = tempfile::tempdir().unwrap();
        fs::write(precious.path().join("file"), "").unwrap();
        let directory = TemporaryDirectory::new("cc-ci-test-").unwrap();
        let path = directory.path().to_owned();
        fs::create_dir(path.join("there")).unwrap();
        mount(&["--bind"], precious.path(), &path.join("there"));
        let error = directory.close().unwrap_err().to_string();
        assert!(error.contains("there is a mount point"), "{error}");
        assert!(precious.path().join("file").exists());
        unmount(&path.join("there"));
        fs::remove_dir(path.join("there")).unwrap();
        fs::remove_dir(path).unwrap();
    }
}
