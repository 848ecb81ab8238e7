//! The `.env` files of a server's apps: `<servers>/<server>/<domain>.env`.
//!
//! The canonical `servers/` is the one writable path that runs share, and each writes only its own file there
//! (I7): by way of `<domain>.env.new` beside it, which stays when the writer is killed, and is the app's like the other.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::engine::{ENV_LIMIT, Failure, StackSource, UNFINISHED, unfinished};
use crate::names::{Domain, Stack};
use crate::sys::beneath::{BeneathError, read_beneath};
use crate::sys::blocking;
use crate::workspace::remove_tree;

/// The `.env` files of one server.
#[derive(Debug, Clone)]
pub struct EnvFiles {
    servers: PathBuf,
    directory: PathBuf,
}

impl EnvFiles {
    /// The files of `server` below the canonical `servers/`.
    pub fn new(servers: &Path, server: &str) -> Self {
        Self { servers: servers.to_owned(), directory: servers.join(server) }
    }

    /// The file of one app.
    pub fn path(&self, domain: &Domain) -> PathBuf {
        self.directory.join(format!("{domain}.env"))
    }

    /// What is there of the app's file: itself, be it a broken link, and one that was not finished.
    pub(crate) fn found(&self, domain: &Domain) -> Vec<PathBuf> {
        let path = self.path(domain);
        let mut found = vec![unfinished(&path), path];
        found.retain(|path| path.symlink_metadata().is_ok());
        found
    }

    /// The server's name.
    pub(crate) fn server(&self) -> &str {
        self.directory.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
    }

    /// The app's file, as it is. What else somebody put there, be it a link, is refused.
    ///
    /// # Errors
    /// When it is not there, or can't be read as a regular file.
    pub fn read(&self, domain: &Domain) -> Result<Vec<u8>, BeneathError> {
        read_beneath(&self.directory, format!("{domain}.env"), ENV_LIMIT)
    }

    /// The domains that have one. A server without a directory has none.
    ///
    /// # Errors
    /// When the directory is there and can't be read.
    pub fn domains(&self) -> io::Result<Vec<Domain>> {
        domains_in(&self.directory)
    }

    /// The domains that have one on any server. Without `servers/` there is none.
    ///
    /// # Errors
    /// When `servers/` or a server's directory is there and can't be read.
    pub fn domains_of_every_server(&self) -> io::Result<Vec<Domain>> {
        let mut domains = Vec::new();
        for server in entries(&self.servers)? {
            match domains_in(&self.servers.join(server)) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                found => domains.extend(found?),
            }
        }
        Ok(domains)
    }

    /// Whether the app has one, be it a broken link.
    pub fn exists(&self, domain: &Domain) -> bool {
        self.path(domain).symlink_metadata().is_ok()
    }

    /// Removes the app's file, and one that was not finished, if they are there. A link is removed, not what it points
    /// to. Blocks: a recipe's script may have put a directory in the place of one.
    ///
    /// # Errors
    /// When it is there and can't be removed.
    pub fn remove(&self, domain: &Domain) -> io::Result<()> {
        let path = self.path(domain);
        remove_tree(&unfinished(&path)).and(remove_tree(&path))
    }
}

impl fmt::Display for EnvFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the .env files in {}", self.servers.display())
    }
}

#[async_trait]
impl StackSource for EnvFiles {
    async fn stacks(&self) -> Result<Vec<Stack>, Failure> {
        let files = self.clone();
        let listed = blocking::run(move || files.domains_of_every_server()).await;
        listed
            .map(|domains| domains.iter().map(Domain::stack).collect())
            .map_err(|error| Failure::host(format!("can't list {self}")).with_source(error))
    }
}

fn domains_in(directory: &Path) -> io::Result<Vec<Domain>> {
    // What is no domain is somebody's own file.
    let domain = |name: &String| {
        name.strip_suffix(UNFINISHED).unwrap_or(name).strip_suffix(".env")?.parse::<Domain>().ok()
    };
    let mut domains: Vec<Domain> = entries(directory)?.iter().filter_map(domain).collect();
    domains.sort();
    domains.dedup();
    Ok(domains)
}

/// The names in a directory that are text; none without a directory.
fn entries(directory: &Path) -> io::Result<Vec<String>> {
    blocking::blocks();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
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

    #[test]
    fn what_a_killed_writer_left_is_its_apps_whatever_it_is() {
        let servers = tempfile::tempdir().unwrap();
        let files = EnvFiles::new(servers.path(), "local");
        let domain: Domain = "note-012345.ci.example.org".parse().unwrap();
        let left = servers.path().join("local/note-012345.ci.example.org.env.new");
        fs::create_dir_all(left.join("inner")).unwrap();
        fs::write(servers.path().join("local/notes.new"), "").unwrap();
        assert_eq!(files.domains().unwrap(), std::slice::from_ref(&domain));
        assert_eq!(files.found(&domain), [left]);
        fs::write(files.path(&domain), "").unwrap();
        assert_eq!((files.domains().unwrap().len(), files.found(&domain).len()), (1, 2));
        files.remove(&domain).unwrap();
        assert_eq!((files.domains().unwrap(), files.found(&domain)), (Vec::new(), Vec::new()));
        assert!(servers.path().join("local/notes.new").exists(), "somebody's own");
    }

    #[tokio::test]
    async fn the_apps_of_every_server_are_known_stacks() {
        let servers = tempfile::tempdir().unwrap();
        let files = EnvFiles::new(servers.path(), "default");
        for (server, domain) in [("default", "a.example.org"), ("elsewhere", "b.example.org")] {
            fs::create_dir(servers.path().join(server)).unwrap();
            fs::write(servers.path().join(server).join(format!("{domain}.env")), "").unwrap();
        }
        fs::write(servers.path().join("notes.txt"), "").unwrap();
        let mut stacks = files.stacks().await.unwrap();
        stacks.sort();
        assert_eq!(stacks.iter().map(Stack::as_str).collect::<Vec<_>>(), ["a_example_org", "b_example_org"]);
        let nowhere = EnvFiles::new(&servers.path().join("none"), "default");
        assert_eq!(nowhere.stacks().await.unwrap(), []);
        // Not to be listed is no reason to call an object nobody's.
        let no_directory = EnvFiles::new(&servers.path().join("notes.txt"), "default");
        assert!(no_directory.stacks().await.is_err());
    }
}
