//! What can be said against a recipe before anything of it is deployed.

use std::path::Path;

use super::compose::{Compose, MountKind, Object};
use super::env_file::SecretSpec;
use super::tree::ReadError;

/// What a look at a recipe found, as lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// A deploy would fail, or touch what is not the app's own.
    pub problems: Vec<String>,
    /// It may work, but not as meant.
    pub warnings: Vec<String>,
}

/// Looks at what the files say together; `readable` tries to read a file of the recipe.
pub(super) fn check(
    compose: &Compose,
    secrets: &[SecretSpec],
    readable: impl Fn(&Path) -> Result<(), ReadError>,
) -> Findings {
    let mut found = Findings { problems: Vec::new(), warnings: compose.labels().warnings };
    for (kind, objects) in [
        ("volume", &compose.volumes),
        ("secret", &compose.secrets),
        ("config", &compose.configs),
        ("network", &compose.networks),
    ] {
        for (key, object) in objects {
            let mut problem = |what: String| found.problems.push(format!("{kind} {key}: {what}"));
            // Networks such as the proxy's are shared on purpose.
            if !(compose.stack.prefixes(&object.name) || kind == "network" && object.external) {
                problem(format!("its name {} is not of the app's stack", object.name));
            }
            if !matches!(kind, "secret" | "config") {
                continue;
            }
            if let Some(rule) = name_rule(&object.name) {
                problem(format!("its name {} {rule}", object.name));
            } else if kind == "secret" && object.external && !is_declared(compose, object, secrets) {
                problem(format!("no SECRET_<NAME>_VERSION in the .env says {}", object.name));
            }
            if let Some((file, Err(error))) = object.file.as_deref().map(|file| (file, readable(file))) {
                problem(format!("reading its file {}: {error}", file.display()));
            }
        }
    }
    for (key, service) in &compose.services {
        for port in service.ports.iter().filter_map(|port| port.published) {
            found.warnings.push(format!("service {key}: publishes the host's port {port}"));
        }
        for mount in service.volumes.iter().filter(|mount| mount.kind == MountKind::Bind) {
            let source = mount.source.as_deref().unwrap_or_default();
            found.warnings.push(format!("service {key}: mounts {source} of the host"));
        }
    }
    found.warnings.extend(compose.unset.iter().map(|name| format!("{name} is not set, so it is empty")));
    found
}

/// Swarm's rule for the names of secrets and configs.
fn name_rule(name: &str) -> Option<&'static str> {
    if name.len() > 64 {
        Some("has more than 64 characters")
    } else if name.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        None
    } else {
        Some("does not end with a letter or digit: is its version set?")
    }
}

fn is_declared(compose: &Compose, object: &Object, secrets: &[SecretSpec]) -> bool {
    secrets.iter().any(|spec| object.name == format!("{}_{}_{}", compose.stack, spec.name, spec.version))
}
