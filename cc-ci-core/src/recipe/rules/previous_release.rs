//! What of a release the files are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::slice;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::layout::{self, COMPOSE};
use super::variables;
use crate::names::{Domain, Version};
use crate::recipe::interpolate::interpolate;
use crate::recipe::{Compose, Recipe, tree, yaml};

/// The SHA-256 of a file.
type Digest = [u8; 32];

/// A release, as far as later files are compared with it.
#[derive(Debug)]
pub(crate) struct PreviousRelease {
    pub(super) version: Version,
    /// The variables that its compose files need, and those that its sample has.
    pub(super) known: BTreeSet<String>,
    /// What its configs and secrets from files hold, by their names.
    pub(super) contents: BTreeMap<String, Digest>,
    /// Its release notes.
    pub(super) notes: BTreeSet<String>,
}

impl PreviousRelease {
    /// Reads what a release's tree says. A file that can't be read says nothing: it was judged in its time.
    pub(crate) fn read(recipe: &Recipe, version: Version, domain: &Domain) -> Self {
        let root = recipe.root();
        let mut known = BTreeSet::new();
        let mut contents = BTreeMap::new();
        let sample = recipe.sample().unwrap_or_default();
        known.extend(sample.vars().keys().cloned());
        let found = layout::compose_files(root).unwrap_or_default();
        for file in &found.names {
            let value = tree::read_text(root, Path::new(file)).ok().and_then(|text| yaml::parse(&text).ok());
            known.extend(value.as_ref().map(variables::needed).unwrap_or_default());
        }
        let mut digests = Digests::default();
        let mut vars = vars(recipe, domain);
        for file in &found.names {
            let Some(vars) = &mut vars else { break };
            let named = if file == COMPOSE { COMPOSE.to_owned() } else { format!("{COMPOSE}:{file}") };
            vars.insert("COMPOSE_FILE".to_owned(), named);
            let Ok(compose) = recipe.compose(vars) else { continue };
            contents.extend(digests.of(recipe, &compose).into_iter().map(|held| (held.name, held.digest)));
        }
        Self { version, known, contents, notes: layout::release_notes(root).into_iter().collect() }
    }
}

/// What the sample sets, its comments included.
fn vars(recipe: &Recipe, domain: &Domain) -> Option<BTreeMap<String, String>> {
    let sample = recipe.sample().unwrap_or_default();
    let text = tree::read_text(recipe.root(), Path::new(layout::SAMPLE)).unwrap_or_default();
    recipe.vars(&variables::uncommented(&sample, &text), domain).ok()
}

/// The files that configs, secrets and environments come from, whichever compose files are laid over each other.
pub(super) fn held_files(recipe: &Recipe, domain: &Domain, files: &[String]) -> BTreeSet<PathBuf> {
    let vars = vars(recipe, domain).unwrap_or_default();
    let mut found = BTreeSet::new();
    for file in files {
        let text = tree::read_text(recipe.root(), Path::new(file)).ok();
        let Some(value) = text.and_then(|text| yaml::parse(&text).ok()) else { continue };
        let below = |section: &str| value.get(section)?.as_object();
        let objects = ["configs", "secrets"].into_iter().filter_map(below).flat_map(Map::values);
        let mut named: Vec<&Value> = objects.filter_map(|object| object.get("file")).collect();
        let services = below("services").into_iter().flat_map(Map::values);
        for env_file in services.filter_map(|service| service.get("env_file")) {
            let listed = env_file.as_array().map_or_else(|| slice::from_ref(env_file), Vec::as_slice);
            named.extend(listed.iter().map(|one| one.get("path").unwrap_or(one)));
        }
        let paths =
            named.into_iter().filter_map(|named| Some(interpolate(named.as_str()?, &vars).ok()?.text));
        found.extend(paths.map(PathBuf::from));
    }
    found
}

/// A config or a secret that a file of the recipe holds.
pub(super) struct Held {
    pub(super) section: &'static str,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) digest: Digest,
}

/// The digests of a recipe's files, each read once.
#[derive(Debug, Default)]
pub(super) struct Digests(BTreeMap<PathBuf, Option<Digest>>);

impl Digests {
    pub(super) fn file(&mut self, recipe: &Recipe, file: &Path) -> Option<Digest> {
        *self
            .0
            .entry(file.to_owned())
            .or_insert_with(|| recipe.read(file).ok().map(|content| Sha256::digest(content).into()))
    }

    /// Of what a stack takes from files.
    pub(super) fn of(&mut self, recipe: &Recipe, compose: &Compose) -> Vec<Held> {
        let mut found = Vec::new();
        for (section, objects) in [("configs", &compose.configs), ("secrets", &compose.secrets)] {
            for (key, object) in objects.iter().filter(|(_, object)| !object.external) {
                let digest = object.file.as_deref().and_then(|file| self.file(recipe, file));
                let held = |digest| Held { section, key: key.clone(), name: object.name.clone(), digest };
                found.extend(digest.map(held));
            }
        }
        found
    }
}
