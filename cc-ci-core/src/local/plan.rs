//! From a recipe's files to what its services need on this host.
//!
//! Everything here is made before the first service starts: volumes, configs, networks, ports, and a copy of the
//! recipe's files that the services work from, so that a later checkout can't change what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use sha2::{Digest as _, Sha256};

use super::LocalExecutor;
use super::ports;
use super::state_dir::{ServiceRecord, StateDir};
use crate::engine::{App, Confined, Failure, RunContext};
use crate::lifetime::{Sandbox, User};
use crate::model::cancellation::Cancellation;
use crate::recipe::{Compose, LOCAL_KEY, Mode, MountKind, Recipe, RecipeError, Service, interpolate};
use crate::sys::beneath::read_beneath;
use crate::sys::files::Dir;
use crate::sys::text::hex;
use crate::workspace::copy_entries;

/// git's own part of a checkout.
const GIT: &str = ".git";

/// Swarm's own bound for a config or secret is half of this.
const FILE_LIMIT: u64 = 1 << 20;

/// A service, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub name: String,
    pub digest: String,
    pub version: Option<String>,
    pub replicas: u32,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub port: Option<u16>,
    pub health: Option<String>,
    pub stop_grace: Duration,
    pub directory: PathBuf,
    /// The directories of its volumes.
    pub volumes: Vec<PathBuf>,
    /// The directories that its secrets and configs are in.
    pub files: Vec<PathBuf>,
}

impl Planned {
    /// Where the service and what is executed in it are confined: it sees its copy of the recipe, its volumes, and the app's secrets
    /// and configs, and reaches what the host reaches. `scratch` is its own.
    pub fn sandbox(&self, confined: &Confined, user: User, scratch: &Path) -> Sandbox {
        let sandbox = confined.sandbox(user).host_network().read_private(&self.directory).write(scratch);
        let sandbox = self.volumes.iter().fold(sandbox, Sandbox::write);
        self.files.iter().fold(sandbox, Sandbox::read_private)
    }
}

/// What an app's recipe says at its tree and `.env` now.
pub(super) fn read(app: &App) -> Result<(Compose, BTreeMap<String, String>), Failure> {
    let unreadable = |error: RecipeError| Failure::recipe("can't read the recipe").with_source(error);
    let recipe = Recipe::open(app.recipe.clone(), &app.tree).map_err(unreadable)?;
    let vars = recipe.vars(&app.env()?, &app.domain).map_err(unreadable)?;
    let compose = recipe.compose(&vars).map_err(unreadable)?;
    Ok((compose, vars))
}

/// Makes what the services stand on, and gives them in order.
pub(super) async fn planned(
    executor: &LocalExecutor,
    context: &RunContext,
    app: &App,
) -> Result<Vec<Planned>, Failure> {
    let (state_dir, app) = (executor.state_dir.clone(), app.clone());
    let cancellation = context.lifetime.cancellation().clone();
    context.lifetime.blocking_tasks().run(move || prepare(&state_dir, &app, &cancellation)).await
}

/// The same. Blocks.
fn prepare(state_dir: &StateDir, app: &App, cancellation: &Cancellation) -> Result<Vec<Planned>, Failure> {
    let (compose, vars) = read(app)?;
    let directory = Directory { state_dir, app };
    let tree = directory.tree(cancellation)?;
    directory.objects(&compose)?;
    let mut planned = Vec::new();
    let mut urls = BTreeMap::new();
    for (name, service) in &compose.services {
        let port = directory.port(name, service)?;
        if let Some(port) = port {
            urls.insert(variable("URL", name), format!("http://127.0.0.1:{port}"));
        }
        planned.push((name, service, port));
    }
    planned
        .into_iter()
        .map(|(name, service, port)| directory.service(&compose, &vars, &urls, &tree, name, service, port))
        .collect()
}

/// One app's part of the world.
struct Directory<'a> {
    state_dir: &'a StateDir,
    app: &'a App,
}

impl Directory<'_> {
    fn of(&self, kind: &str) -> PathBuf {
        self.state_dir.of(&self.app.domain, kind)
    }

    /// The recipe's files, copied once for each content.
    fn tree(&self, cancellation: &Cancellation) -> Result<PathBuf, Failure> {
        let io = |error: io::Error| Failure::host("can't copy the recipe's files").with_source(error);
        let trees = self.of("trees");
        // What is asked for in a service comes often, and is mostly there already.
        let mut digest = Sha256::new();
        let tree = Dir::open(&self.app.tree).map_err(io)?;
        hash_tree(&tree, Path::new("."), GIT, &mut digest).map_err(io)?;
        let named = trees.join(hex_name(&digest.finalize()));
        if self.state_dir.dir().is_ok_and(|root| root.has(&named)) {
            return Ok(named);
        }
        self.state_dir.make(&trees).map_err(io)?;
        let fresh = trees.join(crate::sys::files::new_id().map_err(io)?);
        self.state_dir.make(&fresh).map_err(io)?;
        copy_entries(&self.app.tree, &fresh, GIT, cancellation).map_err(io)?;
        let mut digest = Sha256::new();
        let root = self.state_dir.dir().map_err(|error| io(error.into()))?;
        root.sub(&fresh).and_then(|copy| hash_tree(&copy, Path::new("."), "", &mut digest)).map_err(io)?;
        let named = trees.join(hex_name(&digest.finalize()));
        if root.has(&named) {
            self.state_dir.remove(&fresh).map_err(io)?;
        } else {
            root.rename(&fresh, &named).map_err(io)?;
        }
        Ok(named)
    }

    /// Volumes, configs, secrets and networks.
    fn objects(&self, compose: &Compose) -> Result<(), Failure> {
        let io = |error: io::Error| Failure::host("can't make the app's files").with_source(error);
        for volume in compose.volumes.values().filter(|volume| !volume.external) {
            self.state_dir.make(&self.of("volumes").join(&volume.name)).map_err(io)?;
        }
        for network in compose.networks.values().filter(|network| !network.external) {
            self.state_dir.make(&self.of("networks")).map_err(io)?;
            self.state_dir.write(&self.of("networks").join(&network.name), b"", 0o600).map_err(io)?;
        }
        for config in compose.configs.values() {
            if let (false, Some(file)) = (config.external, &config.file) {
                let content = self.file(file)?;
                self.config(&config.name, &content)?;
            }
        }
        for (key, secret) in &compose.secrets {
            let path = self.of("secrets").join(&secret.name);
            if let (false, Some(file)) = (secret.external, &secret.file) {
                let content = self.file(file)?;
                self.state_dir.make(&self.of("secrets")).map_err(io)?;
                self.state_dir.write(&path, &content, 0o600).map_err(io)?;
            } else if !self.state_dir.has(&path) && used(compose, key) {
                return Err(Failure::recipe(format!("secret not generated: {}", secret.name)));
            }
        }
        Ok(())
    }

    /// Like Swarm's, a config never changes under its name.
    fn config(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let io = |error: io::Error| Failure::host(format!("can't make the config {name}")).with_source(error);
        let path = self.of("configs").join(name);
        match self.state_dir.read(&path, FILE_LIMIT) {
            Ok(found) if found == content => Ok(()),
            Ok(_) => Err(Failure::recipe(format!(
                "the config {name} changed its content, but not its name: raise its version in abra.sh"
            ))),
            Err(error) if error.is_not_found() => {
                self.state_dir.make(&self.of("configs")).map_err(io)?;
                self.state_dir.write(&path, content, 0o600).map_err(io)
            }
            Err(error) => Err(io(io::Error::other(error))),
        }
    }

    fn file(&self, relative: &Path) -> Result<Vec<u8>, Failure> {
        read_beneath(&self.app.tree, relative, FILE_LIMIT).map_err(|error| {
            Failure::recipe(format!("can't use the file {}", relative.display())).with_source(error)
        })
    }

    /// A service keeps its port for life.
    fn port(&self, name: &str, service: &Service) -> Result<Option<u16>, Failure> {
        if service.local.as_ref().is_none_or(|local| local.health.is_none()) {
            return Ok(None);
        }
        let io = |error: io::Error| Failure::host("can't take a port").with_source(error);
        let records = self.state_dir.records::<ServiceRecord>(&self.app.domain, "services").map_err(io)?;
        let kept = records.into_iter().find(|(known, _)| known == name).and_then(|(_, record)| record.port);
        match kept {
            Some(port) => {
                // It may be stopped and started anew. Whoever holds it meanwhile will not get it: it is in use.
                let _held = self.state_dir.held_ports().hold(port).map_err(io)?;
                Ok(Some(port))
            }
            None => ports::take(self.state_dir, &self.app.domain, name).map(Some).map_err(io),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are what one service is made of")]
    fn service(
        &self,
        compose: &Compose,
        vars: &BTreeMap<String, String>,
        urls: &BTreeMap<String, String>,
        tree: &Path,
        name: &str,
        service: &Service,
        port: Option<u16>,
    ) -> Result<Planned, Failure> {
        let local = service.local.as_ref().ok_or_else(|| Failure::recipe(no_local(name)))?;
        let mut vars = vars.clone();
        vars.extend(urls.clone());
        vars.insert("CCCI_RECIPE_DIR".to_owned(), tree.display().to_string());
        vars.extend(port.map(|port| ("CCCI_PORT".to_owned(), port.to_string())));
        let (mut volumes, mut files) = (Vec::new(), BTreeSet::new());
        let mut path_of = |kind: &str, directory: &str, key: &str, name: &str| {
            let path = self.of(directory).join(name);
            vars.insert(variable(kind, key), path.display().to_string());
            match kind {
                "VOLUME" => volumes.push(path),
                _ => drop(files.insert(self.of(directory))),
            }
        };
        for mount in service.volumes.iter().filter(|mount| mount.kind == MountKind::Volume) {
            if let Some((key, volume)) =
                mount.source.as_ref().and_then(|key| compose.volumes.get_key_value(key))
            {
                path_of("VOLUME", "volumes", key, &volume.name);
            }
        }
        for (kind, directory, reference, objects) in [
            ("SECRET", "secrets", &service.secrets, &compose.secrets),
            ("CONFIG", "configs", &service.configs, &compose.configs),
        ] {
            for (key, object) in
                reference.iter().filter_map(|reference| objects.get_key_value(&reference.source))
            {
                path_of(kind, directory, key, &object.name);
            }
        }
        let resolve = |text: &str| {
            interpolate(text, &vars).map(|done| done.text).map_err(|error| {
                Failure::recipe(format!("services.{name}.x-cc-ci-local of {:?}", compose.stack.as_str()))
                    .with_source(error)
            })
        };
        let command = local.command.iter().map(|word| resolve(word)).collect::<Result<Vec<_>, _>>()?;
        let mut environment: BTreeMap<String, String> = service
            .environment
            .iter()
            .filter_map(|(name, value)| {
                Some((name.clone(), value.clone().or_else(|| vars.get(name).cloned())?))
            })
            .collect();
        for (name, value) in &local.environment {
            environment.insert(name.clone(), resolve(value)?);
        }
        if service.mode.is_job() {
            return Err(Failure::configuration(format!(
                "the executor local runs no jobs, and {name} is one"
            ))
            .with_hint("test it on a Swarm: --executor abra"));
        }
        let replicas = match service.mode {
            Mode::Replicated(replicas) => replicas.min(1),
            _ => 1,
        };
        let mut digest = Sha256::new();
        digest
            .update(format!("{:?}", (&service.image, &command, &environment, replicas, &local.health, tree)));
        Ok(Planned {
            name: name.to_owned(),
            digest: hex_name(&digest.finalize()),
            version: service.labels.get(&format!("coop-cloud.{}.version", compose.stack)).cloned(),
            replicas,
            command,
            environment,
            port,
            health: local.health.clone(),
            stop_grace: service.stop_grace_period,
            directory: tree.to_owned(),
            volumes,
            files: files.into_iter().collect(),
        })
    }
}

fn used(compose: &Compose, secret: &str) -> bool {
    compose.services.values().flat_map(|service| &service.secrets).any(|reference| reference.source == secret)
}

/// `CCCI_VOLUME_DB_DATA` for the volume `db-data`.
fn variable(kind: &str, key: &str) -> String {
    let key: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("CCCI_{kind}_{key}")
}

/// Adds what is beneath `directory` of `tree`: each name, what it is, its mode, and what a file or link says; without the entry
/// `skipped` at its top. The same for a tree and for its copy.
fn hash_tree(tree: &Dir, directory: &Path, skipped: &str, digest: &mut Sha256) -> io::Result<()> {
    for name in tree.names(directory)? {
        if name == *skipped {
            continue;
        }
        let path = directory.join(name);
        let found = tree.find(&path)?.ok_or(io::ErrorKind::NotFound)?;
        // A copied directory is its owner's to write.
        let mode = found.mode & 0o777 | if found.kind == FileType::Directory { 0o700 } else { 0 };
        let mut entry = |length: u64| {
            digest.update(path.as_os_str().as_bytes());
            digest.update(format!("\0{:?}\0{mode:o}\0{length}\0", found.kind));
        };
        match found.kind {
            FileType::RegularFile => {
                let mut file = tree.open_file(&path, OFlags::RDONLY, 0)?;
                entry(file.metadata()?.len());
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match file.read(&mut buffer)? {
                        0 => break,
                        read => digest.update(&buffer[..read]),
                    }
                }
            }
            FileType::Symlink => {
                let target = tree.read_link(&path)?;
                entry(target.as_os_str().len() as u64);
                digest.update(target.as_os_str().as_bytes());
            }
            FileType::Directory => {
                entry(0);
                hash_tree(tree, &path, "", digest)?;
            }
            _ => entry(0),
        }
    }
    Ok(())
}

/// A name for what has this digest.
fn hex_name(digest: &[u8]) -> String {
    hex(digest.get(..16).unwrap_or(digest))
}

/// What the local executor says of a service that is not meant for it.
pub(super) fn no_local(service: &str) -> String {
    format!("the service {service} has no {LOCAL_KEY}, so the local executor can't run it")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn digest_of(tree: &Path) -> String {
        let mut digest = Sha256::new();
        hash_tree(&Dir::open(tree).unwrap(), Path::new("."), "", &mut digest).unwrap();
        hex_name(&digest.finalize())
    }

    #[test]
    fn a_copy_is_known_by_each_name_mode_content_and_target() {
        type Change = fn(&Path) -> std::io::Result<()>;
        let changes: [Change; 6] = [
            |tree| fs::write(tree.join("inner/file"), "other"),
            |tree| fs::rename(tree.join("inner/file"), tree.join("inner/renamed")),
            |tree| fs::set_permissions(tree.join("inner/file"), fs::Permissions::from_mode(0o755)),
            |tree| fs::create_dir(tree.join("inner/empty")),
            |tree| fs::remove_file(tree.join("link")).and_then(|()| symlink("outside", tree.join("link"))),
            // The same letters in another file.
            |tree| fs::write(tree.join("inner/file"), "on").and_then(|()| fs::write(tree.join("z"), "e")),
        ];
        let make = || {
            let tree = tempfile::tempdir().unwrap();
            fs::create_dir(tree.path().join("inner")).unwrap();
            fs::write(tree.path().join("inner/file"), "one").unwrap();
            fs::write(tree.path().join("z"), "").unwrap();
            symlink("inner/file", tree.path().join("link")).unwrap();
            tree
        };
        let plain = digest_of(make().path());
        assert_eq!(digest_of(make().path()), plain);
        let mut seen = BTreeSet::from([plain]);
        for (number, change) in changes.iter().enumerate() {
            let tree = make();
            change(tree.path()).unwrap();
            assert!(seen.insert(digest_of(tree.path())), "change {number} is not seen");
        }
    }
}
