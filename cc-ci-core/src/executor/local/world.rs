//! The files of the `local` executor: what exists, and nothing about why.
//!
//! ```text
//! <root>/apps/<domain>/services/<name>.json     a service: desired state
//!                      tasks/<id>.json          one start of it
//!                      containers/<id>.json     the process of a task, recorded before it executes
//!                      volumes/<name>/  secrets/<name>  configs/<name>  networks/<name>
//!                      trees/<id>/              the recipe's files that a deploy works from: its "image"
//!                      logs/  scratch/
//! <root>/ports/<port> -> <domain>               a port that is taken
//! <root>/trash/<domain>/<id>/                   what is being removed
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cancellation::Cancellation;
use crate::executor::{Inventory, Kind, Residue};
use crate::files::{new_id, private_directory, read_regular, write_whole};
use crate::names::Domain;
use crate::process::ProcessIdentity;
use crate::workspace::{copy_tree, remove_tree};

/// The world of one root.
#[derive(Debug, Clone)]
pub(super) struct World {
    root: PathBuf,
}

/// A service, as it is meant to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ServiceRecord {
    pub id: String,
    pub created: String,
    pub digest: String,
    pub replicas: u32,
    pub port: Option<u16>,
    pub health: Option<String>,
    pub stop_grace_seconds: f64,
    #[serde(default)]
    pub version: Option<String>,
}

/// One start of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    pub service: String,
}

/// The process of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub service: String,
    pub process: ProcessIdentity,
}

/// The kinds that are files or directories of an app.
const KINDS: [(&str, Kind); 7] = [
    ("services", Kind::Service),
    ("tasks", Kind::Task),
    ("containers", Kind::Container),
    ("volumes", Kind::Volume),
    ("secrets", Kind::Secret),
    ("configs", Kind::Config),
    ("networks", Kind::Network),
];

impl World {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// What tells this world's processes from another's: marks are seen all over the host. It is the directory that
    /// counts, by whatever name it is called.
    pub fn id(&self) -> String {
        let path = std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone());
        let digest = match fs::metadata(&path) {
            Ok(root) => Sha256::digest(format!("{}:{}", root.dev(), root.ino())),
            Err(_) => Sha256::digest(path.as_os_str().as_encoded_bytes()),
        };
        digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn app(&self, domain: &Domain) -> PathBuf {
        self.root.join("apps").join(domain.as_str())
    }

    pub fn ports(&self) -> PathBuf {
        self.root.join("ports")
    }

    /// The directory of one kind of an app.
    pub fn of(&self, domain: &Domain, kind: &str) -> PathBuf {
        self.app(domain).join(kind)
    }

    /// The records of one kind, by name. One that is half-written or goes away meanwhile is left out: the
    /// inventory lists the file all the same.
    pub fn records<T: DeserializeOwned>(&self, domain: &Domain, kind: &str) -> io::Result<Vec<(String, T)>> {
        let mut records = Vec::new();
        for name in if_usable(names(&self.of(domain, kind)))?.unwrap_or_default() {
            let Some(stem) = name.strip_suffix(".json") else { continue };
            let Ok(text) = read_regular(&self.of(domain, kind).join(&name)) else { continue };
            if let Ok(record) = serde_json::from_slice(&text) {
                records.push((stem.to_owned(), record));
            }
        }
        Ok(records)
    }

    /// Writes a record: whole or not at all.
    pub fn write_record(
        &self,
        domain: &Domain,
        kind: &str,
        name: &str,
        record: &impl Serialize,
    ) -> io::Result<()> {
        let directory = self.of(domain, kind);
        private_directory(&directory)?;
        let text = serde_json::to_vec_pretty(record)?;
        write_whole(&directory.join(format!("{name}.json")), &text, 0o600)
    }

    pub fn remove_record(&self, domain: &Domain, kind: &str, name: &str) -> io::Result<()> {
        not_found_is_fine(fs::remove_file(self.of(domain, kind).join(format!("{name}.json"))))
    }

    /// The domains of which there is a directory, a port or trash.
    pub fn domains(&self) -> io::Result<Vec<Domain>> {
        let mut domains: Vec<Domain> = Vec::new();
        for directory in ["apps", "trash"] {
            domains.extend(names(&self.root.join(directory))?.iter().filter_map(|name| name.parse().ok()));
        }
        domains.extend(self.taken_ports()?.into_iter().map(|(_, domain)| domain));
        domains.sort();
        domains.dedup();
        Ok(domains)
    }

    /// Adds what the files say exists of `domain`.
    pub fn inventory(
        &self,
        domain: &Domain,
        ports: &[(u16, Domain)],
        inventory: &mut Inventory,
    ) -> io::Result<()> {
        let app = self.app(domain);
        let mut empty = true;
        for (directory, kind) in KINDS {
            let path = app.join(directory);
            let Some(names) = if_usable(names(&path))? else {
                inventory.add(domain, Residue::new(kind, path.display().to_string()));
                empty = false;
                continue;
            };
            for name in names {
                let name = name.strip_suffix(".json").map_or(name.as_str(), |stem| stem);
                inventory.add(domain, Residue::new(kind, name));
                empty = false;
            }
        }
        for (port, _) in ports.iter().filter(|(_, owner)| owner == domain) {
            inventory.add(domain, Residue::new(Kind::Network, format!("port {port}")));
        }
        // A directory with nothing in it that counts is residue all the same.
        let bare = if empty { Some(app) } else { None };
        for directory in bare.into_iter().chain([self.trash(domain)]) {
            if directory.symlink_metadata().is_ok() {
                inventory.add(domain, Residue::new(Kind::Volume, directory.display().to_string()));
            }
        }
        Ok(())
    }

    /// The ports that are taken, and by whom.
    pub fn taken_ports(&self) -> io::Result<Vec<(u16, Domain)>> {
        let mut taken = Vec::new();
        for name in names(&self.ports())? {
            let owner = fs::read_link(self.ports().join(&name)).ok();
            let owner = owner.and_then(|owner| owner.to_str()?.parse().ok());
            if let (Ok(port), Some(owner)) = (name.parse::<u16>(), owner)
                // Only what can be given back by its number.
                && port.to_string() == name
            {
                taken.push((port, owner));
            }
        }
        Ok(taken)
    }

    /// Takes the app's files out of the way at once, so that a removal which outlives its caller can't touch what
    /// the next owner makes; what it gives is to be removed with [`World::empty_trash`].
    pub fn trash_app(&self, domain: &Domain) -> io::Result<()> {
        let app = self.app(domain);
        if app.symlink_metadata().is_err() {
            return Ok(());
        }
        let trash = self.trash(domain);
        private_directory(&trash)?;
        not_found_is_fine(fs::rename(&app, trash.join(new_id()?)))
    }

    /// Takes one thing of the app's out of the way.
    pub fn trash_one(&self, domain: &Domain, kind: &str, name: &str) -> io::Result<()> {
        let trash = self.trash(domain);
        private_directory(&trash)?;
        not_found_is_fine(fs::rename(self.of(domain, kind).join(name), trash.join(new_id()?)))
    }

    /// Removes what [`World::trash_app`] and [`World::trash_one`] took away.
    pub fn empty_trash(&self, domain: &Domain) -> io::Result<()> {
        remove_tree(&self.trash(domain))
    }

    /// Gives the app's ports back.
    pub fn free_ports(&self, domain: &Domain) -> io::Result<()> {
        for (port, owner) in self.taken_ports()? {
            if owner == *domain {
                self.free_port(port)?;
            }
        }
        Ok(())
    }

    pub fn free_port(&self, port: u16) -> io::Result<()> {
        not_found_is_fine(fs::remove_file(self.ports().join(port.to_string())))
    }

    fn trash(&self, domain: &Domain) -> PathBuf {
        self.root.join("trash").join(domain.as_str())
    }
}

/// Copies what is in the directory `from`, but for the entry `skipped`, into the directory `to`.
pub(super) fn copy_entries(
    from: &Path,
    to: &Path,
    skipped: &str,
    cancellation: &Cancellation,
) -> io::Result<()> {
    for name in names(from)?.iter().filter(|name| *name != skipped) {
        copy_tree(&from.join(name), &to.join(name), cancellation)
            .map_err(|(path, error)| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// The names in a directory, in order; none when it is not there.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// `None` for what an app's own service may have put in the place of a directory. It must not keep anybody from
/// looking at the other apps.
fn if_usable(names: io::Result<Vec<String>>) -> io::Result<Option<Vec<String>>> {
    match names {
        Ok(names) => Ok(Some(names)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
                || error.raw_os_error() == Some(nix::libc::ELOOP) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn not_found_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
