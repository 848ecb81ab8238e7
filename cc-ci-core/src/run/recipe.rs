//! What the recipe's tree and the app's `.env` say together, read anew each time: a checkout, an install step or a test
//! may have changed either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::state::Run;
use super::step::first_few;
use crate::engine::{App, Order, Resource};
use crate::model::failure::Failure;
use crate::model::record::Lane;
use crate::recipe::{Compose, EnvFile, Findings, Labels, Policy, Recipe, Service};

/// So many findings are told, of each kind.
const SHOWN: usize = 50;

/// A run app asks for no certificate.
const ACME: &str = "LETS_ENCRYPT_ENV";

/// What the recipe at an app's tree says, with the app's `.env`.
pub(super) struct LoadedRecipe {
    pub compose: Compose,
    pub labels: Labels,
}

/// Loads the recipe at the app's tree as it is now.
pub(super) async fn load(run: &Run<'_>, app: &App) -> Result<LoadedRecipe, Failure> {
    let app = app.clone();
    let load = move || {
        let (_, _, compose) = read(&app, &app.env()?)?;
        Ok(LoadedRecipe { labels: compose.labels(), compose })
    };
    run.context.lifetime.blocking_tasks().run(load).await
}

/// The recipe at the app's tree, its variables with this `.env`, and its compose files with those. Blocks.
fn read(app: &App, env: &EnvFile) -> Result<(Recipe, BTreeMap<String, String>, Compose), Failure> {
    let recipe = Recipe::open(app.recipe.clone(), &app.tree)?;
    let vars = recipe.vars(env, &app.domain)?;
    let compose = recipe.compose(&vars)?;
    Ok((recipe, vars, compose))
}

/// The sample of the recipe at the app's tree. Blocks.
fn sample(app: &App) -> Result<EnvFile, Failure> {
    Ok(Recipe::open(app.recipe.clone(), &app.tree)?.sample()?)
}

/// What a deployer was told to deploy, as the app's tree and `.env` say it now; `before` it, this was there of the app.
pub(super) async fn order(run: &Run<'_>, app: &App, before: BTreeSet<Resource>) -> Result<Order, Failure> {
    let app = app.clone();
    let order = move || {
        let (recipe, vars, compose) = read(&app, &app.env()?)?;
        let read = |file: &Path| {
            let cannot = |error| Failure::recipe(format!("can't read {}", file.display())).with_source(error);
            recipe.read(file).map_err(cannot)
        };
        let mut env_files = BTreeMap::new();
        for file in compose.services.values().flat_map(Service::env_files) {
            env_files.insert(file.to_owned(), String::from_utf8_lossy(&read(file)?).into_owned());
        }
        let mut config_files = BTreeMap::new();
        let configs = compose.configs.values().filter(|config| !config.external);
        for file in configs.filter_map(|config| config.file.as_ref()) {
            config_files.insert(file.clone(), Sha256::digest(read(file)?).into());
        }
        Ok(Order { compose, vars, root: app.tree.clone(), env_files, config_files, before })
    };
    run.context.lifetime.blocking_tasks().run(order).await
}

/// What is deployed is what was ordered, and nothing else.
pub(super) async fn check_order(run: &Run<'_>, app: &App, order: &Order) -> Result<(), Failure> {
    let drift = run.harness.ci_host.engine.drift(&app.domain, order).await?;
    for remark in shortened(&drift.remarks) {
        run.warn_once(&format!("{}: {remark}", app.domain));
    }
    if run.harness.settings.report_only {
        for difference in shortened(&drift.differences) {
            run.warn_once(&format!(
                "{} is deployed otherwise, red but for --report-only: {difference}",
                app.domain
            ));
        }
        return Ok(());
    }
    if drift.differences.is_empty() {
        return Ok(());
    }
    run.unfit.store(true, Ordering::Relaxed);
    let differences = shortened(&drift.differences).join("; ");
    Err(Failure::recipe(format!("{} is not deployed as its files were judged: {differences}", app.domain))
        .with_hint(
            "write what is named here in its plainest form; if it is right as it is, report it as a fault of cc-ci, and go on \
             with --report-only",
        ))
}

/// The variables of the app's `.env` as it is now.
pub(super) async fn variables(run: &Run<'_>, app: &App) -> Result<BTreeMap<String, String>, Failure> {
    let app = app.clone();
    run.context.lifetime.blocking_tasks().run(move || Ok(app.env()?.vars().clone())).await
}

/// What its compose files say with the sample alone; nothing where that does not suffice.
pub(super) async fn with_sample(run: &Run<'_>, app: &App) -> Option<Compose> {
    let app = app.clone();
    let read = move || read(&app, &sample(&app)?);
    run.context.lifetime.blocking_tasks().run(read).await.ok().map(|(_, _, compose)| compose)
}

/// Checks it: what would fail a deploy, touch what is not the app's own, or needs what the operator has not granted, is
/// red before anything is done with it.
pub(super) async fn check(run: &Run<'_>, app: &App) -> Result<(), Failure> {
    let ungranted = check_deployed(run, app).await?;
    let message: Vec<String> = ungranted.iter().map(|(what, _)| what.clone()).collect();
    let message = shortened(&message);
    let wanted: BTreeSet<&str> =
        ungranted.iter().map(|(_, privilege)| privilege.as_str()).take(SHOWN).collect();
    // A text of JSON is one of TOML.
    let wanted = serde_json::to_string(&wanted).unwrap_or_default();
    if ungranted.is_empty() {
        return Ok(());
    }
    if run.harness.settings.report_only {
        for what in message {
            run.warn_once(&format!("not granted, so refused but for --report-only: {what}"));
        }
        return Ok(());
    }
    // The older release is of the pull request's own choice, too.
    let older = if run.request.fresh {
        ""
    } else {
        " (the release that is upgraded from is asked too: --fresh leaves it out)"
    };
    Err(Failure::recipe(format!(
        "the operator has not granted what it asks for, [recipes.{}] allow = {wanted}: {}{older}",
        app.recipe,
        message.join("; "),
    )))
}

/// Checks what is deployed already, whatever the operator grants by now; gives what it asks for beyond that.
pub(super) async fn check_deployed(run: &Run<'_>, app: &App) -> Result<Vec<(String, String)>, Failure> {
    let settings = &run.harness.settings;
    let granted = settings.granted.get(&app.recipe).cloned().unwrap_or_default();
    let is_main = run.main_app().domain == app.domain;
    let (app, networks) = (app.clone(), settings.shared_networks.clone());
    let operators = operators(run, &app);
    let look = move || {
        let operators = operators.map(|app| app.env()).transpose()?;
        findings(&app, &app.env()?, &networks, &granted, operators.as_ref())
    };
    let found = run.context.lifetime.blocking_tasks().run(look).await?;
    for warning in shortened(&found.warnings) {
        run.warn_once(&warning);
    }
    if !found.problems.is_empty() {
        return Err(Failure::recipe(shortened(&found.problems).join("; ")));
    }
    if is_main {
        run.record().granted.extend(found.granted);
    }
    Ok(found.ungranted)
}

/// The app with the `.env` that a person wrote of it, where it is a long-lived one: that is no fault of the recipe's.
fn operators(run: &Run<'_>, app: &App) -> Option<App> {
    run.lane()
        .is_warm()
        .then(|| App { env_file: run.harness.ci_host.env_files.path(&app.domain), ..app.clone() })
}

/// What can be said against the app of this `.env`. Blocks.
fn findings(
    app: &App,
    env: &EnvFile,
    networks: &[String],
    granted: &[String],
    operators: Option<&EnvFile>,
) -> Result<Findings, Failure> {
    let policy = Policy { domain: &app.domain, networks, granted, operators };
    let (recipe, _, compose) = read(app, env)?;
    Ok(recipe.check(env, &compose, &policy)?)
}

/// Judges a fresh install of what the app's tree shows, without one: an upgrade keeps the variables and secrets that a new
/// sample lacks. What install steps have set, `set_by_steps`, they would set again.
pub(super) async fn check_fresh(
    run: &Run<'_>,
    app: &App,
    set_by_steps: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let settings = &run.harness.settings;
    let granted = settings.granted.get(&app.recipe).cloned().unwrap_or_default();
    let (app, networks, report_only) = (app.clone(), settings.shared_networks.clone(), settings.report_only);
    let set_by_steps = set_by_steps.clone();
    let operators = operators(run, &app);
    let look = move || {
        let operators = operators.map(|app| app.env()).transpose()?;
        let mut env = sample(&app)?;
        env.set("DOMAIN", app.domain.as_str())?;
        if env.get(ACME).is_some() {
            env.set(ACME, "")?;
        }
        for (name, value) in &set_by_steps {
            env.set(name, value)?;
        }
        findings(&app, &env, &networks, &granted, operators.as_ref())
    };
    let found = run.context.lifetime.blocking_tasks().run(look).await?;
    let mut problems = found.problems;
    if !report_only {
        problems.extend(found.ungranted.into_iter().map(|(what, _)| what));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::recipe(format!("with its own .env.sample: {}", shortened(&problems).join("; "))))
}

/// Adds the variables that the recipe's sample has and the app's `.env` has not, and says which.
pub(super) async fn add_new_variables(run: &Run<'_>, app: &App) -> Result<(), Failure> {
    let (app, is_run_app) = (app.clone(), run.lane() == Lane::Cold);
    let added = run.context.lifetime.blocking_tasks().run(move || add_missing(&app, is_run_app)).await?;
    if !added.is_empty() {
        run.note(format!("new variables, with their sample's values: {}", first_few(&added)));
    }
    Ok(())
}

/// Adds them, and gives their names. Blocks.
pub(super) fn add_missing(app: &App, is_run_app: bool) -> Result<Vec<String>, Failure> {
    let mut env = app.env()?;
    let added = env.add_missing(&sample(app)?)?;
    if is_run_app && added.iter().any(|name| name == ACME) {
        env.set(ACME, "")?;
    }
    if !added.is_empty() {
        app.set_env(&env)?;
    }
    Ok(added)
}

/// What the app gets to come up: what its recipe asks for, as far as the operator lets it.
pub(super) fn converge_limit(run: &Run<'_>, app: &App, labels: &Labels) -> Duration {
    let settings = &run.harness.settings;
    let (limit, most) = (settings.converge_limit, settings.converge_max.max(settings.converge_limit));
    match labels.timeout {
        Some(asked) if asked > most => {
            run.warn_once(&format!(
                "{} asks for {asked:?} to come up; it gets {most:?} at the most (converge_max)",
                app.recipe
            ));
            most
        }
        asked => asked.unwrap_or(limit),
    }
}

/// The first of `findings`, and how many more there are: a recipe may have thousands.
fn shortened(findings: &[String]) -> Vec<String> {
    let mut shortened: Vec<String> = findings.iter().take(SHOWN).cloned().collect();
    if findings.len() > SHOWN {
        shortened.push(format!("and {} more", findings.len() - SHOWN));
    }
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_thousands_of_findings_fifty_are_told() {
        let findings: Vec<String> = (0..3000).map(|number| format!("finding {number}")).collect();
        assert_eq!(shortened(&findings[..50]), findings[..50]);
        let message = shortened(&findings);
        assert_eq!((message.len(), message[50].as_str()), (51, "and 2950 more"));
    }
}
