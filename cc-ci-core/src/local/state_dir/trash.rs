//! What is being removed: out of the way first, and then piece by piece.

use std::io;
use std::path::{Path, PathBuf};

use super::{StateDir, TRASH};
use crate::names::Domain;
use crate::sys::files::{is_full, new_id};

impl StateDir {
    /// Takes the app's files out of the way at once, so that a removal which outlives its caller can't touch what
    /// the next owner makes; what it gives is to be removed with [`StateDir::empty_trash`].
    pub fn trash_app(&self, domain: &Domain) -> io::Result<()> {
        self.discard(domain, &self.app(domain))
    }

    /// Takes one thing of the app's out of the way.
    pub fn trash_one(&self, domain: &Domain, kind: &str, name: &str) -> io::Result<()> {
        self.discard(domain, &self.of(domain, kind).join(name))
    }

    /// Moves `path` to the trash; what can't be moved stays, for [`StateDir::remove_app`]. That is so where the disk is
    /// full, where there is no trash for something else in its place, and where something is mounted beneath, which is to
    /// be found where it was mounted.
    fn discard(&self, domain: &Domain, path: &Path) -> io::Result<()> {
        let dir = self.dir()?;
        if !dir.has(path) || self.is_replaced(TRASH) || !dir.mounts(path)?.is_empty() {
            return Ok(());
        }
        let trash = self.trash(domain);
        let moved = dir.make_private(&trash).and_then(|_| dir.rename(path, &trash.join(new_id()?)));
        match moved {
            Err(error) if is_full(&error) => Ok(()),
            moved => not_found_is_fine(moved),
        }
    }

    /// Removes what [`StateDir::trash_app`] took away, and what it could not, until `stop` says so.
    pub fn remove_app(&self, domain: &Domain, stop: &dyn Fn() -> bool) -> io::Result<()> {
        let removed = self.dir()?.remove(&self.app(domain), stop).map_err(io::Error::from);
        self.empty_trash(domain, stop).and(removed)
    }

    /// Removes what [`StateDir::trash_one`] took away, until `stop` says so.
    pub fn empty_trash(&self, domain: &Domain, stop: &dyn Fn() -> bool) -> io::Result<()> {
        if self.is_replaced(TRASH) {
            return Ok(());
        }
        Ok(self.dir()?.remove(&self.trash(domain), stop)?)
    }

    /// Whether something of the app's is yet to go.
    pub(super) fn has_trash(&self, domain: &Domain) -> bool {
        !self.is_replaced(TRASH) && self.has(&self.trash(domain))
    }

    pub(super) fn trash(&self, domain: &Domain) -> PathBuf {
        self.root.join(TRASH).join(domain.as_str())
    }
}

fn not_found_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
