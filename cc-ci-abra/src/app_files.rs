//! What abra reads and writes of an app: its recipe's sample, its `.env`, its compose files.

use cc_ci_core::engine::{App, Failure};
use cc_ci_core::recipe::{Compose, Recipe, RecipeError};

/// Refuses a sample that can't be read, or leads out of the tree: abra would follow it, and copy what is there. Blocks.
pub(crate) fn sample(app: &App) -> Result<(), Failure> {
    let read = Recipe::open(app.recipe.clone(), &app.tree).and_then(|recipe| recipe.sample());
    read.map(drop).map_err(|error| Failure::recipe("can't use the recipe's .env.sample").with_source(error))
}

/// Makes the `.env` that abra wrote a run app's: its own domain, and no certificates asked for. Blocks.
pub(crate) fn adapt(app: &App) -> Result<(), Failure> {
    if !app.env_file.exists() {
        let path = app.env_file.display();
        return Err(Failure::host(format!("abra says that it made {}, and there is no {path}", app.domain))
            .with_hint("see that ABRA_DIR and --server name the tree and the server that abra uses"));
    }
    let mut env = app.env()?;
    let mut changed = false;
    let has_acme = env.get("LETS_ENCRYPT_ENV").is_some();
    for (name, value, applies) in [("DOMAIN", app.domain.as_str(), true), ("LETS_ENCRYPT_ENV", "", has_acme)]
    {
        if applies && env.get(name) != Some(value) {
            env.set(name, value)
                .map_err(|error| Failure::recipe("can't change the .env file").with_source(error))?;
            changed = true;
        }
    }
    if changed { app.set_env(&env) } else { Ok(()) }
}

/// What the recipe's compose files say, as its tree and the app's `.env` are now. Blocks.
pub(crate) fn compose(app: &App) -> Result<Compose, Failure> {
    let env = app.env()?;
    let read = || {
        let recipe = Recipe::open(app.recipe.clone(), &app.tree)?;
        recipe.compose(&recipe.vars(&env, &app.domain)?)
    };
    read().map_err(|error: RecipeError| Failure::recipe("can't read the recipe").with_source(error))
}
