//! The `.env` files of a server's apps: `<servers>/<server>/<domain>.env`.
//!
//! The canonical `servers/` is the one writable path that runs share, and each writes only its own file there
//! (I7).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::names::Domain;

/// The `.env` files of one server.
#[derive(Debug, Clone)]
pub struct EnvFiles {
    directory: PathBuf,
}

impl EnvFiles {
    /// The files of `server` below the canonical `servers/`.
    pub fn new(servers: &Path, server: &str) -> Self {
        Self { directory: servers.join(server) }
    }

    /// The file of one app.
    pub fn path(&self, domain: &Domain) -> PathBuf {
        self.directory.join(format!("{domain}.env"))
    }

    /// The domains that have one. A server without a directory has none.
    ///
    /// # Errors
    /// When the directory is there and can't be read.
    pub fn domains(&self) -> io::Result<Vec<Domain>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut domains = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            // What is no domain is somebody's own file.
            domains.extend(
                name.to_str().and_then(|name| name.strip_suffix(".env")).and_then(|name| name.parse().ok()),
            );
        }
        Ok(domains)
    }

    /// Whether the app has one, be it a broken link.
    pub fn exists(&self, domain: &Domain) -> bool {
        self.path(domain).symlink_metadata().is_ok()
    }

    /// Removes the app's file, if it is there. A link is removed, not what it points to.
    ///
    /// # Errors
    /// When it is there and can't be removed.
    pub fn remove(&self, domain: &Domain) -> io::Result<()> {
        match fs::remove_file(self.path(domain)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_apps_file_is_removed() {
        let servers = tempfile::tempdir().unwrap();
        let files = EnvFiles::new(servers.path(), "local");
        assert_eq!(files.domains().unwrap(), []);
        fs::create_dir(servers.path().join("local")).unwrap();
        let (mine, theirs): (Domain, Domain) =
            ("note-012345.ci.example.org".parse().unwrap(), "blog.example.org".parse().unwrap());
        for domain in [&mine, &theirs] {
            fs::write(files.path(domain), "").unwrap();
        }
        fs::write(servers.path().join("local/README.env"), "").unwrap();
        files.remove(&mine).unwrap();
        files.remove(&mine).unwrap();
        assert!(!files.exists(&mine));
        assert_eq!(files.domains().unwrap(), [theirs]);
    }
}
