//! What the recipe's tree and the app's `.env` say together, read anew each time: a checkout, an install step or a test
//! may have changed either.

use std::path::PathBuf;

use super::drive::Running;
use super::guarded::some_of;
use super::tiers::StepError;
use crate::engine::App;
use crate::model::error_chain;
use crate::model::event::Event;
use crate::model::record::Lane;
use crate::recipe::{Allowed, Compose, Findings, Labels, Recipe, RecipeError};

/// So many findings are told, of each kind.
const TOLD: usize = 50;

/// A run app asks for no certificate.
const ACME: &str = "LETS_ENCRYPT_ENV";

/// What the recipe at the app's tree says, with the app's `.env`.
pub(super) struct Said {
    pub compose: Compose,
    pub labels: Labels,
}

impl Running<'_> {
    /// What the recipe at the app's tree says now.
    pub(super) async fn said(&self, app: &App) -> Result<Said, StepError> {
        let app = app.clone();
        self.session.lifetime.jobs().run(move || said(&app)).await
    }

    /// What would fail a deploy, or touch what is not the app's own, is red before anything is done with it.
    pub(super) async fn check_recipe(&self, app: &App) -> Result<(), StepError> {
        let (app, networks) = (app.clone(), self.harness.settings.shared_networks.clone());
        // What a person wrote of a long-lived app is no fault of the recipe's.
        let canonical = self.lane().is_warm().then(|| self.harness.site.env_files.path(&app.domain));
        let look = move || findings(&app, &networks, canonical);
        let Findings { problems, warnings, .. } = self.session.lifetime.jobs().run(look).await?;
        for warning in told(&warnings) {
            self.warn_once(&warning);
        }
        if problems.is_empty() { Ok(()) } else { Err(StepError::Failed(told(&problems).join("; "))) }
    }

    /// Adds the variables that the recipe's sample has and the app's `.env` has not.
    pub(super) async fn add_new_variables(&self, app: &App) -> Result<(), StepError> {
        let (app, is_run_app) = (app.clone(), self.lane() == Lane::Cold);
        let added = self.session.lifetime.jobs().run(move || add_new_variables(&app, is_run_app)).await?;
        if !added.is_empty() {
            let text = format!("new variables, with their sample's values: {}", some_of(&added));
            self.session.reporter.report(&Event::Note { text });
        }
        Ok(())
    }
}

/// What the recipe at the app's tree says now. Blocks.
fn said(app: &App) -> Result<Said, StepError> {
    let env = app.env()?;
    let said = || {
        let recipe = Recipe::open(app.recipe.clone(), &app.tree)?;
        let compose = recipe.compose(&recipe.vars(&env, &app.domain)?)?;
        Ok(Said { labels: compose.labels(), compose })
    };
    said().map_err(|error: RecipeError| StepError::Failed(error_chain(&error)))
}

fn findings(app: &App, networks: &[String], canonical: Option<PathBuf>) -> Result<Findings, StepError> {
    let env = app.env()?;
    let operators = canonical.map(|env_file| App { env_file, ..app.clone() }.env()).transpose()?;
    let allowed = Allowed { domain: &app.domain, networks, operators: operators.as_ref() };
    let checked = || {
        let recipe = Recipe::open(app.recipe.clone(), &app.tree)?;
        recipe.check(&env, &recipe.compose(&recipe.vars(&env, &app.domain)?)?, &allowed)
    };
    checked().map_err(|error: RecipeError| StepError::Failed(error_chain(&error)))
}

pub(super) fn add_new_variables(app: &App, is_run_app: bool) -> Result<Vec<String>, StepError> {
    let mut env = app.env()?;
    let failed = |error: &dyn std::error::Error| StepError::Failed(error_chain(error));
    let sample = Recipe::open(app.recipe.clone(), &app.tree)
        .and_then(|recipe| recipe.sample())
        .map_err(|error| failed(&error))?;
    let added = env.add_missing(&sample).map_err(|error| failed(&error))?;
    if is_run_app && added.iter().any(|name| name == ACME) {
        env.set(ACME, "").map_err(|error| failed(&error))?;
    }
    if !added.is_empty() {
        app.set_env(&env)?;
    }
    Ok(added)
}

/// The first of `findings`, and how many more there are: a recipe may have thousands.
fn told(findings: &[String]) -> Vec<String> {
    let mut told: Vec<String> = findings.iter().take(TOLD).cloned().collect();
    if findings.len() > TOLD {
        told.push(format!("and {} more", findings.len() - TOLD));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_thousands_of_findings_fifty_are_told() {
        let findings: Vec<String> = (0..3000).map(|number| format!("finding {number}")).collect();
        assert_eq!(told(&findings[..50]), findings[..50]);
        let told = told(&findings);
        assert_eq!((told.len(), told[50].as_str()), (51, "and 2950 more"));
    }
}
