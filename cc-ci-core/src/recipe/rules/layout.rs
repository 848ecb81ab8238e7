//! Which files of a recipe's tree rules look at.

use std::io;
use std::path::Path;

pub(super) use crate::recipe::{ABRA_SH, SAMPLE};

pub(super) const COMPOSE: &str = "compose.yml";

/// How many overlays are judged.
const MAX_OVERLAYS: usize = 32;
/// How many entries a directory may have.
const MAX_ENTRIES: usize = 10_000;

/// The compose files of a tree.
#[derive(Debug, Default)]
pub(super) struct ComposeFiles {
    /// `compose.yml` first.
    pub(super) names: Vec<String>,
    /// Why not all.
    pub(super) skipped: Vec<String>,
}

/// What a look can't go on without.
#[derive(Debug)]
pub(crate) enum Look {
    /// There is no `compose.yml`.
    NoRecipe,
    /// The directory can't be read.
    Io(io::Error),
}

pub(super) fn compose_files(root: &Path) -> Result<ComposeFiles, Look> {
    if root.join(COMPOSE).symlink_metadata().is_err() {
        return Err(Look::NoRecipe);
    }
    let mut found = ComposeFiles::default();
    let mut strange = 0;
    for entry in std::fs::read_dir(root).map_err(Look::Io)?.take(MAX_ENTRIES) {
        let name = entry.map_err(Look::Io)?.file_name();
        let name = name.to_string_lossy();
        if name == COMPOSE || !name.starts_with("compose.") || !name.ends_with(".yml") {
            continue;
        }
        // COMPOSE_FILE separates names by colons, and a name is shown.
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            found.names.push(name.into_owned());
        } else {
            strange += 1;
        }
    }
    found.names.sort();
    if strange > 0 {
        found.skipped.push(format!("{strange} compose files whose names are not [A-Za-z0-9._-]"));
    }
    if found.names.len() > MAX_OVERLAYS {
        let more = found.names.len() - MAX_OVERLAYS;
        found.skipped.push(format!("{more} overlays: at most {MAX_OVERLAYS} are judged"));
        found.names.truncate(MAX_OVERLAYS);
    }
    found.names.insert(0, COMPOSE.to_owned());
    Ok(found)
}

/// The names of a tree's release notes.
pub(super) fn release_notes(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("release")).into_iter().flatten().take(MAX_ENTRIES);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}
