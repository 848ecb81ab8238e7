//! Which files of a recipe's tree rules look at.

use std::io;
use std::path::Path;

pub(super) use crate::recipe::{ABRA_SH, SAMPLE};
use crate::recipe::{TestFile, tree};

pub(super) const COMPOSE: &str = "compose.yml";

const TESTS: &str = "tests";

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
pub(crate) enum LayoutError {
    /// There is no `compose.yml`.
    NoRecipe,
    /// The directory can't be read.
    Io(io::Error),
}

pub(super) fn compose_files(root: &Path) -> Result<ComposeFiles, LayoutError> {
    if root.join(COMPOSE).symlink_metadata().is_err() {
        return Err(LayoutError::NoRecipe);
    }
    let mut found = ComposeFiles::default();
    let mut strange = 0;
    for entry in std::fs::read_dir(root).map_err(LayoutError::Io)?.take(MAX_ENTRIES) {
        let name = entry.map_err(LayoutError::Io)?.file_name();
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
    let sample = tree::read_text(root, Path::new(SAMPLE)).unwrap_or_default();
    for name in named(&sample) {
        if is_path(name) {
            found.names.push(name.to_owned());
        } else if !name.contains('$') {
            strange += 1;
        }
    }
    found.names.sort();
    found.names.dedup();
    if strange > 0 {
        found
            .skipped
            .push(format!("{strange} compose files whose names are not [A-Za-z0-9._-], or lead elsewhere"));
    }
    if found.names.len() > MAX_OVERLAYS {
        let more = found.names.len() - MAX_OVERLAYS;
        found.skipped.push(format!("{more} overlays: at most {MAX_OVERLAYS} are judged"));
        found.names.truncate(MAX_OVERLAYS);
    }
    found.names.insert(0, COMPOSE.to_owned());
    Ok(found)
}

/// The overlays that a sample takes into use, or says in a comment how to: other names, or in a folder.
fn named(sample: &str) -> impl Iterator<Item = &str> {
    let lines = sample.lines().map(|line| line.trim_start_matches(['#', ' ', '\t']));
    let values =
        lines.filter_map(|line| line.strip_prefix("export ").unwrap_or(line).strip_prefix("COMPOSE_FILE="));
    values
        .filter_map(|value| value.trim_start_matches(['"', '\'']).split(['"', '\'', ' ', '\t', '\r']).next())
        .flat_map(|value| value.split(':'))
        .map(|name| name.strip_prefix("./").unwrap_or(name))
        .filter(|name| !name.is_empty() && *name != COMPOSE)
}

/// Whether a name is a file's below the recipe, that can be shown.
fn is_path(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
    name.len() <= 200 && name.split('/').all(is_part)
}

/// What of `tests/` makes a run red, each with why: files that are meant to be run and can't be, links, which a run does not take,
/// and `tests` itself where it is none. Submodules are left to the run.
pub(super) fn unfit_tests(root: &Path) -> io::Result<Vec<(String, &'static str)>> {
    const LINK: &str = "it is a symbolic link, and no run takes one: put the file itself there";
    if std::fs::symlink_metadata(root.join(TESTS)).is_ok_and(|tests| tests.is_symlink()) {
        return Ok(vec![(TESTS.to_owned(), LINK)]);
    }
    let entries = match std::fs::read_dir(root.join(TESTS)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(vec![(TESTS.to_owned(), "it is a file, and no directory of tests")]);
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            found.push((format!("{TESTS}/{}", name.to_string_lossy()), LINK));
        }
        if !kind.is_file() {
            continue;
        }
        // Who may not read it here can't run it either, as a test that is none.
        let Ok(file) = tree::open(root, &Path::new(TESTS).join(&name)) else { continue };
        if let TestFile::Unfit(why) = TestFile::of(&name, &file)? {
            found.push((format!("{TESTS}/{}", name.to_string_lossy()), why));
        }
    }
    found.sort();
    Ok(found)
}

/// The names of a tree's release notes.
pub(super) fn release_notes(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("release")).into_iter().flatten().take(MAX_ENTRIES);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}
