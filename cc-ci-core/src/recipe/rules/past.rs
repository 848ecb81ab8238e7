//! What of a release the files are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::files::{self, COMPOSE};
use super::variables;
use crate::names::{Domain, Version};
use crate::recipe::{Compose, Recipe, tree, yaml};

/// The SHA-256 of a file.
type Digest = [u8; 32];

/// A release, as far as later files are compared with it.
#[derive(Debug)]
pub(crate) struct Past {
    pub(super) version: Version,
    /// The variables that its compose files need, and those that its sample has.
    pub(super) known: BTreeSet<String>,
    /// What its configs and secrets from files hold, by their names.
    pub(super) contents: BTreeMap<String, Digest>,
    /// Its release notes.
    pub(super) notes: BTreeSet<String>,
}

impl Past {
    /// Reads what a release's tree says. A file that can't be read says nothing: it was judged in its time.
    pub(crate) fn read(recipe: &Recipe, version: Version, domain: &Domain) -> Self {
        let root = recipe.root();
        let mut known = BTreeSet::new();
        let mut contents = BTreeMap::new();
        let sample = recipe.sample().unwrap_or_default();
        known.extend(sample.vars().keys().cloned());
        let found = files::compose_files(root).unwrap_or_default();
        for file in &found.names {
            let value = tree::read_text(root, Path::new(file)).ok().and_then(|text| yaml::parse(&text).ok());
            known.extend(value.as_ref().map(variables::needed).unwrap_or_default());
        }
        let text = tree::read_text(root, Path::new(files::SAMPLE)).unwrap_or_default();
        let env = variables::uncommented(&sample, &text);
        let mut digests = Digests::default();
        for file in &found.names {
            let named = if file == COMPOSE { COMPOSE.to_owned() } else { format!("{COMPOSE}:{file}") };
            let Ok(mut vars) = recipe.vars(&env, domain) else { break };
            vars.insert("COMPOSE_FILE".to_owned(), named);
            let Ok(compose) = recipe.compose(&vars) else { continue };
            contents.extend(digests.of(recipe, &compose).into_iter().map(|held| (held.name, held.digest)));
        }
        Self { version, known, contents, notes: files::release_notes(root).into_iter().collect() }
    }
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
