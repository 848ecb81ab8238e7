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

#[cfg(test)]
mod tests;
mod trash;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::held_ports::HeldPorts;
use crate::engine::{Failure, Inventory, Kind, Resource};
use crate::names::Domain;
use crate::sys::beneath::{BeneathError, read_in};
use crate::sys::files::{Dir, RootError, RootKind, check_root, claim_root};
use crate::sys::process::ProcessIdentity;

/// The longest record that is read, in bytes.
const RECORD_LIMIT: u64 = 1 << 20;

/// The world of one root.
#[derive(Debug, Clone)]
pub(super) struct StateDir {
    root: PathBuf,
    /// The root, once it is known to be ours.
    claimed: Arc<OnceLock<Dir>>,
    held_ports: HeldPorts,
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
    /// When it was started.
    #[serde(default)]
    pub started: Option<Timestamp>,
}

/// The process of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub service: String,
    pub process: ProcessIdentity,
}

/// The directories of the root.
const TOPS: [&str; 3] = [APPS, PORTS, TRASH];
const APPS: &str = "apps";
const PORTS: &str = "ports";
const TRASH: &str = "trash";

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

impl StateDir {
    pub fn new(root: PathBuf) -> Self {
        Self { root, claimed: Arc::default(), held_ports: HeldPorts::default() }
    }

    /// The root, to be changed: it is ours.
    pub fn dir(&self) -> Result<&Dir, RootError> {
        if self.claimed.get().is_none() {
            let dir = claim_root(&self.root, RootKind::Local, 0o700)?;
            // Whoever was faster opened the same one.
            let _same = self.claimed.set(dir);
        }
        self.claimed.get().ok_or_else(|| RootError::missing(&self.root))
    }

    /// The root, to be looked at: the very one that is changed, whatever its path names since. `None` where there is none.
    pub fn look(&self) -> io::Result<Option<Dir>> {
        if let Some(dir) = self.claimed.get() {
            return Ok(Some(dir.clone()));
        }
        match Dir::open(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Whether anything is at `path`. What can't be looked at is not called gone.
    pub fn has(&self, path: &Path) -> bool {
        match self.look() {
            Ok(root) => root.is_some_and(|root| root.has(path)),
            Err(_) => true,
        }
    }

    /// Whether the root is ours to change. Changes nothing.
    pub fn check(&self) -> Result<(), RootError> {
        check_root(&self.root, RootKind::Local)
    }

    /// Makes a directory, and those above it, for nobody else's eyes.
    pub fn make(&self, directory: &Path) -> io::Result<()> {
        self.dir()?.make_private(directory).map(drop)
    }

    /// Writes a file: whole or not at all.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        self.dir()?.write(path, content, mode)
    }

    /// Reads a regular file of at most `limit` bytes, through no link and on the root's own mount.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, BeneathError> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let root = self.look().and_then(|root| root.ok_or_else(|| io::ErrorKind::NotFound.into()));
        read_in(
            &root.map_err(|source| BeneathError::Io { path: self.root.clone(), source })?,
            relative,
            limit,
        )
    }

    /// Removes a file or a directory with all that is in it.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(self.dir()?.remove(path, &|| false)?)
    }

    /// What tells this world's processes from another's: marks are seen all over the host. It is the directory that
    /// counts, by whatever name it is called.
    pub fn id(&self) -> String {
        let path = std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone());
        let named = self.look().ok().flatten().and_then(|root| root.device_and_inode().ok());
        let digest = match named {
            Some((device, inode)) => Sha256::digest(format!("{device}:{inode}")),
            None => Sha256::digest(path.as_os_str().as_encoded_bytes()),
        };
        digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn app(&self, domain: &Domain) -> PathBuf {
        self.root.join(APPS).join(domain.as_str())
    }

    pub fn ports(&self) -> PathBuf {
        self.root.join(PORTS)
    }

    /// The directory of one kind of an app.
    pub fn of(&self, domain: &Domain, kind: &str) -> PathBuf {
        self.app(domain).join(kind)
    }

    /// Each task has a log of its own: what an earlier one logged explains nothing.
    pub fn log_of(&self, domain: &Domain, task: &str) -> PathBuf {
        self.of(domain, "logs").join(format!("{task}.log"))
    }

    /// The path that the kernel has for the root by now; `None` where there is none.
    pub fn real_path(&self) -> io::Result<Option<PathBuf>> {
        self.look()?.map(|root| root.real_path()).transpose()
    }

    /// Of which app and task `file` is the log in the root `real`, both as the kernel names them; its directory may be in the
    /// trash by now, or gone.
    pub fn owner_of_log(real: &Path, file: &Path) -> Option<(Domain, String)> {
        let inner = file.strip_prefix(real).ok()?;
        let mut names = inner.iter().map(|name| name.to_str());
        let top = names.next()??;
        let domain = names.next()??.parse().ok()?;
        if top == TRASH {
            names.next()??;
        } else if top != APPS {
            return None;
        }
        let (logs, log) = (names.next()??, names.next()??);
        let (task, _) = log.split_once(".log")?;
        (logs == "logs" && names.next().is_none()).then(|| (domain, task.to_owned()))
    }

    /// The names in a directory of this world, in order; none where it is missing. No link leads out of the root.
    pub fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let Some(root) = self.look()? else { return Ok(Vec::new()) };
        Ok(root.names(directory)?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// The names in one of the [`TOPS`]; none where something else is in its place. An error says which one it is.
    fn names_at_top(&self, top: &str) -> io::Result<Vec<String>> {
        Ok(self.list_top(top)?.unwrap_or_default())
    }

    fn list_top(&self, top: &str) -> io::Result<Option<Vec<String>>> {
        let directory = self.root.join(top);
        if_usable(self.names(&directory)).map_err(|error| {
            io::Error::new(error.kind(), format!("can't list {}: {error}", directory.display()))
        })
    }

    /// Whether something else is in the place of one of the [`TOPS`]: nothing of an app is beneath it.
    fn is_replaced(&self, top: &str) -> bool {
        matches!(self.list_top(top), Ok(None))
    }

    /// What is in the place of a directory of this world, and can't be used as one, in words.
    pub fn in_the_way(&self) -> Vec<String> {
        let replaced = TOPS.into_iter().filter(|top| self.is_replaced(top));
        replaced
            .map(|top| {
                let path = self.root.join(top);
                format!(
                    "{} is no directory of this executor's, and what it is stays; hint: move it away, cc-ci makes its own",
                    path.display()
                )
            })
            .collect()
    }

    /// The records of one kind, by name. One that is half-written or goes away meanwhile is left out: the
    /// inventory lists the file all the same.
    pub fn records<T: DeserializeOwned>(&self, domain: &Domain, kind: &str) -> io::Result<Vec<(String, T)>> {
        let mut records = Vec::new();
        for name in if_usable(self.names(&self.of(domain, kind)))?.unwrap_or_default() {
            let Some(stem) = name.strip_suffix(".json") else { continue };
            let Ok(text) = self.read(&self.of(domain, kind).join(&name), RECORD_LIMIT) else { continue };
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
        self.make(&directory)?;
        let text = serde_json::to_vec_pretty(record)?;
        self.write(&directory.join(format!("{name}.json")), &text, 0o600)
    }

    pub fn remove_record(&self, domain: &Domain, kind: &str, name: &str) -> io::Result<()> {
        self.dir()?.unlink(&self.of(domain, kind).join(format!("{name}.json")))
    }

    /// The domains of which there is a directory, a port or trash.
    pub fn domains(&self) -> io::Result<Vec<Domain>> {
        let mut domains: Vec<Domain> = Vec::new();
        for top in [APPS, TRASH] {
            let names = self.names_at_top(top)?;
            domains.extend(names.iter().filter_map(|name| name.parse().ok()));
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
            let Some(names) = if_usable(self.names(&path))? else {
                inventory.add(domain, Resource::new(kind, path.display().to_string()));
                empty = false;
                continue;
            };
            for name in names {
                let name = name.strip_suffix(".json").map_or(name.as_str(), |stem| stem);
                inventory.add(domain, Resource::new(kind, name));
                empty = false;
            }
        }
        let mounts = self.look().ok().flatten().and_then(|root| root.mounts(&app).ok());
        for mount in mounts.unwrap_or_default() {
            inventory.add(domain, Resource::new(Kind::Volume, mount.display().to_string()));
        }
        for (port, _) in ports.iter().filter(|(_, owner)| owner == domain) {
            inventory.add(domain, Resource::new(Kind::Network, format!("port {port}")));
        }
        // A directory with nothing in it that counts is residue all the same.
        let bare = if empty { Some(app) } else { None };
        let trash = self.has_trash(domain).then(|| self.trash(domain));
        for directory in bare.into_iter().chain(trash) {
            if self.has(&directory) {
                inventory.add(domain, Resource::new(Kind::Volume, directory.display().to_string()));
            }
        }
        Ok(())
    }

    /// What keeps this root's ports from the executors of other roots.
    pub fn held_ports(&self) -> &HeldPorts {
        &self.held_ports
    }

    /// The ports that are taken, and by whom.
    pub fn taken_ports(&self) -> io::Result<Vec<(u16, Domain)>> {
        let mut taken = Vec::new();
        for name in self.names_at_top(PORTS)? {
            if let (Ok(port), Some(owner)) = (name.parse::<u16>(), self.port_owner(&name))
                // Only what can be given back by its number.
                && port.to_string() == name
            {
                taken.push((port, owner));
            }
        }
        Ok(taken)
    }

    /// Whether a port is taken by an app that is there, or whose files are yet to go.
    pub fn has_port_owner(&self, port: u16) -> bool {
        let owner = self.port_owner(&port.to_string());
        owner.is_some_and(|owner| self.has(&self.app(&owner)) || self.has_trash(&owner))
    }

    /// Whom the entry of a port names, if it names an app.
    fn port_owner(&self, name: &str) -> Option<Domain> {
        self.look().ok()??.read_link(&self.ports().join(name)).ok()?.to_str()?.parse().ok()
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
        self.held_ports.release(port);
        self.dir()?.unlink(&self.ports().join(port.to_string()))
    }
}

/// What it is when the files of this world fail.
pub(super) fn host(error: io::Error) -> Failure {
    Failure::host("can't use the local executor's files").with_source(error)
}

/// `None` for what an app's own service may have put, or mounted, in the place of a directory. It must not keep anybody from
/// looking at the other apps.
fn if_usable(names: io::Result<Vec<String>>) -> io::Result<Option<Vec<String>>> {
    match names {
        Ok(names) => Ok(Some(names)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
                || matches!(error.raw_os_error(), Some(nix::libc::ELOOP | nix::libc::EXDEV)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
