//! What a stack declares besides services: volumes, secrets, configs and networks.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

use serde_json::{Map, Value};

use super::ComposeError;
use super::forms::labels;
use super::node::Node;
use super::privilege::digest;
use crate::names::Stack;

/// A declared volume, secret, config or network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Its full name in the engine.
    pub name: String,
    /// Whether it must be there before the stack is deployed.
    pub external: bool,
    /// The file that holds it, relative to the recipe; it doesn't lead out by its name.
    pub file: Option<PathBuf>,
    /// The template language that Swarm applies to it, e.g. `golang`.
    pub template_driver: Option<String>,
    /// The driver that makes it, where the engine's own does not.
    pub driver: Option<String>,
    /// What that driver is told. They may hold a password.
    pub driver_opts: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What a network is besides: `attachable`, `internal`, and its `ipam`, by the files' keys.
    pub network: Map<String, Value>,
    /// Where a volume's driver or its options keep it, when that is not the engine: then its data outlives it.
    pub outside: Option<String>,
}

impl Object {
    pub(super) fn of_stack(stack: &Stack, key: &str) -> Self {
        Self {
            name: format!("{stack}_{key}"),
            external: false,
            file: None,
            template_driver: None,
            driver: None,
            driver_opts: BTreeMap::new(),
            labels: BTreeMap::new(),
            network: Map::new(),
            outside: None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ObjectLayer {
    name: Option<String>,
    external: Option<bool>,
    file: Option<PathBuf>,
    template_driver: Option<String>,
    driver: Option<String>,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    network: Map<String, Value>,
}

impl ObjectLayer {
    pub(super) fn parse(at: &Node<'_>, section: &str) -> Result<Self, ComposeError> {
        let mut layer = Self {
            name: at.field("name", Node::text)?,
            file: at.field("file", file)?,
            template_driver: at.field("template_driver", Node::text)?,
            driver: at.field("driver", Node::text)?,
            driver_opts: at.field("driver_opts", options)?.unwrap_or_default(),
            labels: at.field("labels", labels)?.unwrap_or_default(),
            network: network(at)?,
            external: None,
        };
        if let Some(external) = at.get("external")? {
            if external.is_map() {
                // The old form, `external: {name: …}`.
                layer.external = Some(true);
                let name = external.field("name", Node::text)?;
                if name.is_some() && layer.name.is_some() {
                    return Err(external.error("Docker wants one name: leave out that of `external:`"));
                }
                layer.name = name.or(layer.name);
            } else {
                layer.external = Some(external.boolean()?);
            }
        }
        let driven = layer.driver.as_ref().is_some_and(|driver| !driver.is_empty());
        let is_external = layer.external == Some(true);
        if section == "volumes" && is_external {
            let message = [
                ("driver", !driven),
                ("driver_opts", layer.driver_opts.is_empty()),
                ("labels", layer.labels.is_empty()),
            ];
            if let Some((key, _)) = message.into_iter().find(|(_, is_empty)| !is_empty) {
                return Err(at.error(format_args!("Docker takes no {key} of a volume that is external")));
            }
        }
        if driven && !is_external && layer.file.is_some() {
            return Err(at.error("Docker takes a file or a driver, not both"));
        }
        Ok(layer)
    }

    pub(super) fn finish(self, stack: &Stack, key: &str) -> Result<Object, &'static str> {
        let external = self.external.unwrap_or(false);
        let name = match &self.name {
            Some(name) => name.clone(),
            None if external => key.to_owned(),
            None => format!("{stack}_{key}"),
        };
        // It becomes a path for the local executor.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.len() > 200
            || !name.bytes().all(plain)
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            // Not shown: what a recipe interpolates into it could be a secret.
            return Err("a name is 1 to 200 of [A-Za-z0-9._-], first a letter or digit");
        }
        let outside = outside(self.driver.as_deref().unwrap_or_default(), &self.driver_opts);
        let Self { file, template_driver, driver, driver_opts, labels, network, .. } = self;
        Ok(Object { name, external, file, template_driver, driver, driver_opts, labels, network, outside })
    }
}

fn network(at: &Node<'_>) -> Result<Map<String, Value>, ComposeError> {
    let mut network = Map::new();
    for key in ["attachable", "internal"] {
        if at.field(key, Node::boolean)?.unwrap_or(false) {
            network.insert(key.to_owned(), Value::Bool(true));
        }
    }
    if let Some(ipam) = at.get("ipam")? {
        network.insert("ipam".to_owned(), ipam.value.clone());
    }
    Ok(network)
}

fn options(at: &Node<'_>) -> Result<BTreeMap<String, String>, ComposeError> {
    let options = at.entries()?.into_iter();
    options.map(|(key, at)| Ok((key.to_owned(), at.scalar()?.unwrap_or_default()))).collect()
}

/// Where the engine would keep a volume with these, if not itself or in memory.
fn outside(driver: &str, options: &BTreeMap<String, String>) -> Option<String> {
    let option = |name: &str| options.get(name).map_or("", |value| value.trim());
    // They say where too, and may hold a password.
    let all: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let with_options = if all.is_empty() {
        String::new()
    } else {
        format!(", with the options {}", digest(&all.join("\n")))
    };
    if !matches!(driver, "" | "local") {
        return Some(format!("by the driver {driver}{with_options}"));
    }
    let in_memory = option("type") == "tmpfs" && option("device") == "tmpfs";
    // With these, the kernel takes the device for a directory of the host, whatever the type says.
    let bound = option("o").split(',').any(|word| matches!(word.trim(), "bind" | "rbind"));
    (bound || !(in_memory || option("device").is_empty()))
        .then(|| format!("at {}{with_options}", option("device")))
}

/// A file of the recipe, by a name that does not lead out of it.
pub(super) fn file(at: &Node<'_>) -> Result<PathBuf, ComposeError> {
    let text = at.text()?;
    let path = PathBuf::from(&text);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if text.is_empty() || text.contains('\0') || !path.components().all(inside) {
        return Err(at.error("a file is a relative path inside the recipe"));
    }
    Ok(path)
}
