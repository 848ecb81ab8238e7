//! The tables of recipes: `[recipes.X]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cc_ci_core::Failure;
use cc_ci_core::names::{Domain, RecipeName, Version};
use cc_ci_core::recipe::PRIVILEGE_KEYS;
use cc_ci_core::run::WarmApp;
use cc_ci_core::workspace::RecipeSource;
use serde::Deserialize;

use super::source::Source;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Network {
    #[default]
    App,
    Host,
}

/// A recipe's table, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    depends: Vec<String>,
    warm: Option<Domain>,
    warm_version: Option<Version>,
    source: Option<String>,
    allow: Vec<String>,
    network: Network,
    warm_api: bool,
    fixtures: Option<PathBuf>,
}

/// What the tables of recipes say, by what it is.
#[derive(Debug, Default)]
pub struct OfRecipes {
    pub granted: BTreeMap<RecipeName, Vec<String>>,
    pub sources: BTreeMap<RecipeName, RecipeSource>,
    pub fixtures: BTreeMap<RecipeName, PathBuf>,
    pub host_network: BTreeSet<RecipeName>,
    pub warm_api: BTreeSet<RecipeName>,
    pub dependencies: BTreeMap<RecipeName, Vec<RecipeSource>>,
    pub warm: BTreeMap<RecipeName, WarmApp>,
}

impl OfRecipes {
    pub fn new(recipes: BTreeMap<RecipeName, Recipe>, file: &Source) -> Result<Self, Failure> {
        let mut all = Self::default();
        for (name, recipe) in recipes {
            if recipe.network == Network::Host {
                all.host_network.insert(name.clone());
            }
            if recipe.warm_api {
                all.warm_api.insert(name.clone());
            }
            if let Some(directory) = &recipe.fixtures {
                if !directory.is_absolute() {
                    return Err(file.relative(&format!("recipes.{name}.fixtures"), directory));
                }
                all.fixtures.insert(name.clone(), directory.clone());
            }
            let depends =
                recipe.depends.iter().map(|text| source(file, &format!("recipes.{name}.depends"), text));
            let is_known = |privilege: &&String| {
                privilege.split_once('=').is_some_and(|(key, _)| PRIVILEGE_KEYS.contains(&key))
            };
            if let Some(strange) = recipe.allow.iter().find(|privilege| !is_known(privilege)) {
                let what = format!("{strange:?} is no privilege");
                return Err(file.wrong(&format!("recipes.{name}.allow"), what).with_hint(
                    "write key=value, as the run that was refused says it: allow = [\"port=2222\"]",
                ));
            }
            all.granted.insert(name.clone(), recipe.allow.clone());
            if let Some(source) = source_of(&name, &recipe, file)? {
                all.sources.insert(name.clone(), source);
            }
            all.dependencies.insert(name.clone(), depends.collect::<Result<Vec<_>, _>>()?);
            if let Some(app) = warm_app(&name, &recipe, file)? {
                if let Some((other, _)) = all.warm.iter().find(|(_, other)| other.domain == app.domain) {
                    let what = format!("{} is the warm app of {other}", app.domain);
                    return Err(file.wrong(&format!("recipes.{name}.warm"), what));
                }
                all.warm.insert(name, app);
            }
        }
        Ok(all)
    }
}

/// What the configuration says of a recipe's warm app.
fn warm_app(name: &RecipeName, recipe: &Recipe, file: &Source) -> Result<Option<WarmApp>, Failure> {
    let Some(domain) = recipe.warm.clone() else {
        let needless = [("warm_version", recipe.warm_version.is_some()), ("warm_api", recipe.warm_api)];
        if let Some((key, _)) = needless.into_iter().find(|(_, is_set)| *is_set) {
            return Err(file
                .wrong(&format!("recipes.{name}.{key}"), "the recipe has no warm app")
                .with_hint(format!("name the app: warm = \"{name}.example.org\"")));
        }
        return Ok(None);
    };
    Ok(Some(WarmApp { domain, version: recipe.warm_version.clone(), source: source_of(name, recipe, file)? }))
}

/// Where the configuration says that a recipe's releases come from.
fn source_of(name: &RecipeName, recipe: &Recipe, file: &Source) -> Result<Option<RecipeSource>, Failure> {
    let Some(text) = &recipe.source else { return Ok(None) };
    let key = format!("recipes.{name}.source");
    let source = source(file, &key, text)?;
    let named = source.recipe_name().map_err(|error| file.wrong(&key, error))?;
    if named != *name {
        return Err(file.wrong(&key, format!("it is of the recipe {named}")));
    }
    Ok(Some(source))
}

/// A recipe that the configuration's `key` names.
pub(super) fn source(file: &Source, key: &str, text: &str) -> Result<RecipeSource, Failure> {
    let source = text.parse::<RecipeSource>();
    match source.map_err(|error| file.wrong(key, error))? {
        RecipeSource::Path(path) if !path.is_absolute() => Err(file.relative(key, &path)),
        source => Ok(source),
    }
}
