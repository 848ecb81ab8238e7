//! The tables of recipes: `[recipes.X]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cc_ci_core::Failure;
use cc_ci_core::names::{Domain, RecipeName, Version};
use cc_ci_core::recipe::PRIVILEGE_KEYS;
use cc_ci_core::run::WarmApp;
use cc_ci_core::workspace::RecipeSource;
use serde::Deserialize;

use super::{ABSOLUTE, absolute};

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
    pub fn new(recipes: BTreeMap<RecipeName, Recipe>) -> Result<Self, Failure> {
        let mut all = Self::default();
        for (name, recipe) in recipes {
            if recipe.network == Network::Host {
                all.host_network.insert(name.clone());
            }
            if recipe.warm_api {
                all.warm_api.insert(name.clone());
            }
            if let Some(directory) = recipe.fixtures.clone() {
                all.fixtures.insert(name.clone(), absolute("a directory of fixtures", directory)?);
            }
            let depends = recipe.depends.iter().map(|text| source(&format!("recipes.{name}.depends"), text));
            let is_known = |privilege: &&String| {
                privilege.split_once('=').is_some_and(|(key, _)| PRIVILEGE_KEYS.contains(&key))
            };
            if let Some(strange) = recipe.allow.iter().find(|privilege| !is_known(privilege)) {
                return Err(Failure::configuration(format!(
                    "the configuration's recipes.{name}.allow: {strange:?} is no privilege"
                ))
                .with_hint("write key=value, as the run that was refused says it: allow = [\"port=2222\"]"));
            }
            all.granted.insert(name.clone(), recipe.allow.clone());
            if let Some(source) = source_of(&name, &recipe)? {
                all.sources.insert(name.clone(), source);
            }
            all.dependencies.insert(name.clone(), depends.collect::<Result<Vec<_>, _>>()?);
            if let Some(app) = warm_app(&name, &recipe)? {
                if let Some((other, _)) = all.warm.iter().find(|(_, other)| other.domain == app.domain) {
                    return Err(Failure::configuration(format!(
                        "the configuration's recipes.{name}.warm: {} is the warm app of {other}",
                        app.domain
                    )));
                }
                all.warm.insert(name, app);
            }
        }
        Ok(all)
    }
}

/// What the configuration says of a recipe's warm app.
fn warm_app(name: &RecipeName, recipe: &Recipe) -> Result<Option<WarmApp>, Failure> {
    let Some(domain) = recipe.warm.clone() else {
        let needless = [("warm_version", recipe.warm_version.is_some()), ("warm_api", recipe.warm_api)];
        if let Some((key, _)) = needless.into_iter().find(|(_, is_set)| *is_set) {
            let text = format!("the configuration's recipes.{name} has {key}, and no warm app");
            return Err(Failure::configuration(text)
                .with_hint(format!("name the app: warm = \"{name}.example.org\"")));
        }
        return Ok(None);
    };
    Ok(Some(WarmApp { domain, version: recipe.warm_version.clone(), source: source_of(name, recipe)? }))
}

/// Where the configuration says that a recipe's releases come from.
fn source_of(name: &RecipeName, recipe: &Recipe) -> Result<Option<RecipeSource>, Failure> {
    let Some(text) = &recipe.source else { return Ok(None) };
    let key = format!("recipes.{name}.source");
    let source = source(&key, text)?;
    let named = source
        .recipe_name()
        .map_err(|error| Failure::configuration(format!("the configuration's {key}")).with_source(error))?;
    if named != *name {
        return Err(Failure::configuration(format!("the configuration's {key} is of the recipe {named}")));
    }
    Ok(Some(source))
}

/// A recipe that the configuration's `key` names.
pub(super) fn source(key: &str, text: &str) -> Result<RecipeSource, Failure> {
    let source = text.parse::<RecipeSource>();
    match source
        .map_err(|error| Failure::configuration(format!("the configuration's {key}")).with_source(error))?
    {
        RecipeSource::Path(path) if !path.is_absolute() => {
            let text = format!("the configuration's {key} is no absolute path: {}", path.display());
            Err(Failure::configuration(text).with_hint(ABSOLUTE))
        }
        source => Ok(source),
    }
}
