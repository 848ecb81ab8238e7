//! Generated secrets: files that only their owner reads.

use std::collections::BTreeMap;

use super::state_dir::{StateDir, host};
use crate::engine::{App, Failure, Secret};

/// Generates what the `.env` names and is not there yet. Blocks.
pub(super) fn generate(state_dir: &StateDir, app: &App) -> Result<BTreeMap<String, Secret>, Failure> {
    let specs = app
        .env()?
        .secrets()
        .map_err(|error| Failure::recipe("can't read the secrets of the .env file").with_source(error))?;
    let directory = state_dir.of(&app.domain, "secrets");
    let mut generated = BTreeMap::new();
    for spec in specs.into_iter().filter(|spec| spec.generate) {
        let path = directory.join(format!("{}_{}_{}", app.domain.stack(), spec.name, spec.version));
        if path.exists() {
            continue;
        }
        state_dir.make(&directory).map_err(host)?;
        let value = spec.random_value().map_err(host)?;
        state_dir.write(&path, value.expose().as_bytes(), 0o600).map_err(host)?;
        generated.insert(spec.name, value);
    }
    Ok(generated)
}
