//! A recipe's compose files, as `docker stack deploy` would read them.
//!
//! `COMPOSE_FILE` names the files, colon-separated; each is read within bounds, interpolated and checked by itself, so
//! that an error names the file and the key. Then later files are laid over earlier ones as docker/cli lays them: a volume,
//! network, secret or config is replaced whole; mounts merge by target, secrets and configs of a service by source, ports
//! by what they publish, variables and labels by name, where an empty one replaces nothing; a command is replaced. What
//! stands under [`LOCAL_KEY`] is never interpolated here.
//!
//! # Limitations
//! Keys are those of docker/cli's schema, and `extends` and `include` are none. The files that configs, secrets and
//! `env_file` name are not opened.

mod environment;
mod forms;
mod interpolation;
mod local;
mod node;
mod object;
mod passed_on;
pub(in crate::recipe) mod privilege;
mod schema;
mod service;
mod short;
mod types;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::Path;

pub(in crate::recipe) use environment::fault as env_file_fault;
use interpolation::Variables;
use node::Node;
use object::ObjectLayer;
use service::ServiceLayer;

use super::interpolate::InterpolateError;
use super::tree::{self, ReadError};
use super::yaml;
use crate::names::{InvalidName, Stack};

pub use local::{LOCAL_KEY, LocalService};
pub use object::Object;
pub use passed_on::says_nothing;
pub use privilege::{KEYS as PRIVILEGE_KEYS, Privilege};
pub use types::{FileReference, Healthcheck, Mode, Mount, MountKind, MountOptions, Port, Protocol, Service};

/// How many files one recipe may lay over each other.
const MAX_FILES: usize = 32;
/// How many services a file may have.
const MAX_SERVICES: usize = 256;
/// How many ports the services of a file may publish together.
const MAX_PORTS: usize = 4096;

/// A recipe's compose files could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// `STACK_NAME` is missing or no stack's name.
    #[error("reading STACK_NAME")]
    Stack(#[source] InvalidName),
    /// `COMPOSE_FILE` names too many files.
    #[error("COMPOSE_FILE names more than {MAX_FILES} files")]
    TooManyFiles,
    /// One of its files has no name.
    #[error(
        "COMPOSE_FILE names a file without a name, which readers take in different ways: write no colon too many"
    )]
    NoName,
    /// A file can't be read.
    #[error("reading {file}")]
    Read {
        /// Which, as `COMPOSE_FILE` names it.
        file: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A file is no acceptable YAML.
    #[error("{file}, line {line}: {detail}")]
    Yaml {
        /// Which.
        file: String,
        /// Where, from 1; 0 if unknown.
        line: u64,
        /// The parser's words.
        detail: String,
    },
    /// A value can't be interpolated.
    #[error("{file}: {path}")]
    Interpolate {
        /// In which file.
        file: String,
        /// The key path of the value.
        path: String,
        /// Why.
        #[source]
        source: InterpolateError,
    },
    /// A value breaks a rule.
    #[error("{file}: {path}: {rule}")]
    Invalid {
        /// In which file, or in which files together.
        file: String,
        /// The key path of the value.
        path: String,
        /// The rule.
        rule: String,
    },
}

impl ComposeError {
    /// The file that it is about; of several together, all with colons between them.
    pub(in crate::recipe) fn file(&self) -> Option<&str> {
        match self {
            Self::Stack(_) | Self::TooManyFiles | Self::NoName => None,
            Self::Read { file, .. }
            | Self::Yaml { file, .. }
            | Self::Interpolate { file, .. }
            | Self::Invalid { file, .. } => Some(file),
        }
    }

    /// The line, where the parser tells it.
    pub(in crate::recipe) fn line(&self) -> Option<usize> {
        match self {
            Self::Yaml { line, .. } => usize::try_from(*line).ok().filter(|line| *line > 0),
            _ => None,
        }
    }

    /// The key path, where there is one.
    pub(in crate::recipe) fn path(&self) -> Option<&str> {
        match self {
            Self::Interpolate { path, .. } | Self::Invalid { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// What a recipe's compose files say together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Compose {
    /// The stack that the names belong to.
    pub stack: Stack,
    /// The services, by key.
    pub services: BTreeMap<String, Service>,
    /// The volumes, by key.
    pub volumes: BTreeMap<String, Object>,
    /// The secrets, by key.
    pub secrets: BTreeMap<String, Object>,
    /// The configs, by key.
    pub configs: BTreeMap<String, Object>,
    /// The networks, by key; `default` too where a service names none.
    pub networks: BTreeMap<String, Object>,
    /// What the files ask for that is not the app's own, but for mounts of the host, published ports and the proxy.
    pub privileges: Vec<Privilege>,
    /// The variables that the files used.
    pub used: BTreeSet<String>,
    /// Those of them without a default that were not set.
    pub unset: BTreeSet<String>,
}

/// One file, or several merged, before the rules that hold for the whole.
#[derive(Debug, Default)]
struct Layer {
    /// The version that the file names: 3 and so much.
    minor: u8,
    services: BTreeMap<String, ServiceLayer>,
    objects: [BTreeMap<String, ObjectLayer>; 4],
    privileges: Vec<Privilege>,
}

const OBJECT_SECTIONS: [&str; 4] = ["volumes", "secrets", "configs", "networks"];

impl Compose {
    /// Reads the files that `COMPOSE_FILE` names (`compose.yml` without it) below `root`.
    ///
    /// `vars` are the app's variables: its `.env`, the versions from `abra.sh` and `STACK_NAME`.
    ///
    /// # Errors
    /// No stack name; a file that is missing, leaves `root`, is too big or no YAML; a value that breaks a rule.
    pub fn load(root: &Path, vars: &BTreeMap<String, String>) -> Result<Self, ComposeError> {
        let stack = vars.get("STACK_NAME").map_or("", String::as_str);
        let stack = stack.parse::<Stack>().map_err(ComposeError::Stack)?;
        let named = vars.get("COMPOSE_FILE").map_or("", String::as_str);
        let files: Vec<&str> =
            if named.is_empty() { vec!["compose.yml"] } else { named.split(':').collect() };
        if files.contains(&"") {
            return Err(ComposeError::NoName);
        }
        if files.len() > MAX_FILES {
            return Err(ComposeError::TooManyFiles);
        }
        let mut merged: Option<Layer> = None;
        let mut variables = Variables::default();
        for file in &files {
            let text = tree::read_text(root, Path::new(file))
                .map_err(|source| ComposeError::Read { file: (*file).to_owned(), source })?;
            let layer = Layer::parse(file, &text, vars, &mut variables)?;
            match &mut merged {
                None => merged = Some(layer),
                Some(base) if base.minor != layer.minor => {
                    return Err(ComposeError::Invalid {
                        file: (*file).to_owned(),
                        path: "version".to_owned(),
                        rule: format!(
                            "Docker wants the same version in all files, and takes 3.13 where there is none: it is 3.{}, and \
                             3.{} before",
                            layer.minor, base.minor
                        ),
                    });
                }
                Some(base) => base.merge(layer),
            }
        }
        merged.unwrap_or_default().finish(&files.join(":"), stack, vars, variables)
    }
}

impl Layer {
    fn parse(
        file: &str,
        text: &str,
        vars: &BTreeMap<String, String>,
        variables: &mut Variables,
    ) -> Result<Self, ComposeError> {
        let mut value = yaml::parse(text).map_err(|fault| ComposeError::Yaml {
            file: file.to_owned(),
            line: fault.line.unwrap_or(0),
            detail: fault.detail,
        })?;
        let minor = schema::check(&Node::root(file, &value), false)?;
        for section in ["services"].iter().chain(&OBJECT_SECTIONS) {
            if let Some(value) = value.get_mut(section) {
                interpolation::run(file, section, value, vars, variables)?;
            }
        }
        let root = Node::root(file, &value);
        schema::check(&root, true)?;
        let mut layer = Self {
            minor,
            privileges: privilege::asked(&value, vars.get("STACK_NAME").map_or("", String::as_str)),
            ..Self::default()
        };
        if let Some(services) = root.get("services")? {
            let entries = services.entries()?;
            if entries.len() > MAX_SERVICES {
                return Err(services.error(format_args!("a file has at most {MAX_SERVICES} services")));
            }
            let mut ports = 0;
            for (key, service) in entries {
                check_key(&service, key)?;
                let read = ServiceLayer::parse(&service)?;
                ports += read.ports();
                if ports > MAX_PORTS {
                    let rule = format_args!("the services of a file publish at most {MAX_PORTS} ports");
                    return Err(service.error(rule));
                }
                layer.services.insert(key.to_owned(), read);
            }
        }
        for (section, objects) in OBJECT_SECTIONS.iter().zip(&mut layer.objects) {
            if let Some(entries) = root.get(section)? {
                for (key, object) in entries.entries()? {
                    check_key(&object, key)?;
                    objects.insert(key.to_owned(), ObjectLayer::parse(&object, section)?);
                }
            }
        }
        Ok(layer)
    }

    fn merge(&mut self, over: Self) {
        for (key, service) in over.services {
            match self.services.entry(key) {
                Entry::Occupied(mut base) => base.get_mut().merge(service),
                Entry::Vacant(place) => drop(place.insert(service)),
            }
        }
        // The later entry takes the place of the earlier one, whatever that said: its name and `external:` too.
        for (base, over) in self.objects.iter_mut().zip(over.objects) {
            base.extend(over);
        }
        self.privileges.extend(over.privileges);
    }

    fn finish(
        self,
        files: &str,
        stack: Stack,
        vars: &BTreeMap<String, String>,
        Variables { used, unset }: Variables,
    ) -> Result<Compose, ComposeError> {
        let invalid =
            |path: String, rule: String| ComposeError::Invalid { file: files.to_owned(), path, rule };
        let mut services = BTreeMap::new();
        for (key, layer) in self.services {
            let service =
                layer.finish(vars).map_err(|(at, rule)| invalid(format!("services.{key}{at}"), rule))?;
            services.insert(key, service);
        }
        if services.is_empty() {
            return Err(invalid("services".to_owned(), "a recipe has at least one service".to_owned()));
        }
        let objects = |section: &str, layers: BTreeMap<String, ObjectLayer>| {
            let finish = |(key, layer): (String, ObjectLayer)| match layer.finish(&stack, &key) {
                Ok(object) => Ok((key, object)),
                Err(rule) => Err(invalid(format!("{section}.{key}.name"), rule.to_owned())),
            };
            layers.into_iter().map(finish).collect::<Result<BTreeMap<_, _>, _>>()
        };
        let [volumes, secrets, configs, networks] = self.objects;
        let (volumes, secrets) = (objects("volumes", volumes)?, objects("secrets", secrets)?);
        let (configs, mut networks) = (objects("configs", configs)?, objects("networks", networks)?);
        if services.values().any(|service| service.networks.contains("default")) {
            networks.entry("default".to_owned()).or_insert_with(|| Object::of_stack(&stack, "default"));
        }
        let privileges = self.privileges;
        let compose =
            Compose { stack, services, volumes, secrets, configs, networks, privileges, used, unset };
        compose.check_references().map_err(|(path, rule)| invalid(path, rule))?;
        Ok(compose)
    }
}

impl Compose {
    /// Returns the full names of the volumes that services mount.
    pub fn mounted_volumes(&self) -> BTreeSet<&str> {
        let mounts = self.services.values().flat_map(|service| &service.volumes);
        mounts
            .filter(|mount| mount.kind == MountKind::Volume)
            .filter_map(|mount| Some(self.volumes.get(mount.source.as_ref()?)?.name.as_str()))
            .collect()
    }

    fn check_references(&self) -> Result<(), (String, String)> {
        for (section, objects) in [
            ("volumes", &self.volumes),
            ("secrets", &self.secrets),
            ("configs", &self.configs),
            ("networks", &self.networks),
        ] {
            let mut made: BTreeMap<&str, &str> = BTreeMap::new();
            for (key, object) in objects.iter().filter(|(_, object)| !object.external) {
                if let Some(other) = made.insert(&object.name, key) {
                    let rule = format!("{other} has the same name, and Docker makes the one or the other");
                    return Err((format!("{section}.{key}.name"), rule));
                }
            }
        }
        for (key, service) in &self.services {
            let volumes = service.volumes.iter().filter(|mount| mount.kind == MountKind::Volume);
            let volumes: Vec<&String> = volumes.filter_map(|mount| mount.source.as_ref()).collect();
            for (section, used, declared) in [
                ("volumes", volumes, &self.volumes),
                (
                    "secrets",
                    service.secrets.iter().map(|reference| &reference.source).collect(),
                    &self.secrets,
                ),
                (
                    "configs",
                    service.configs.iter().map(|reference| &reference.source).collect(),
                    &self.configs,
                ),
                ("networks", service.networks.iter().collect(), &self.networks),
            ] {
                if let Some(name) = used.into_iter().find(|name| !declared.contains_key(*name)) {
                    let rule = format!("{name:?} is not declared under {section}");
                    return Err((format!("services.{key}.{section}"), rule));
                }
            }
        }
        Ok(())
    }
}

/// Keys become parts of names and of paths.
fn check_key(at: &Node<'_>, key: &str) -> Result<(), ComposeError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if key.len() <= 128 && key.bytes().all(plain) && !key.starts_with(['.', '-']) && !key.is_empty() {
        return Ok(());
    }
    Err(at.error("a key is 1 to 128 of [A-Za-z0-9._-], first a letter, a digit or _"))
}

#[cfg(test)]
pub(in crate::recipe) mod tests;
