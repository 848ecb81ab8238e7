//! What a stack declares besides services: volumes, secrets, configs and networks.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

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
}

impl ObjectLayer {
    pub(super) fn parse(at: &Node<'_>) -> Result<Self, ComposeError> {
        let mut layer = Self {
            name: at.field("name", Node::text)?,
            file: at.field("file", file)?,
            template_driver: at.field("template_driver", Node::text)?,
            driver: at.field("driver", Node::text)?,
            driver_opts: at.field("driver_opts", options)?.unwrap_or_default(),
            labels: at.field("labels", labels)?.unwrap_or_default(),
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
        let Self { file, template_driver, driver, driver_opts, labels, .. } = self;
        Ok(Object { name, external, file, template_driver, driver, driver_opts, labels, outside })
    }
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
