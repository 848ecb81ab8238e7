//! `cc-ci warm`: the warm apps, restored to their baselines.

use std::sync::Arc;

use cc_ci_core::blocking;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{Bounds, RunLifetime, TakenOver};
use cc_ci_core::names::{RecipeName, RunId};
use cc_ci_core::run::WarmEnd;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::{self, Base};
use crate::args::{self, Format};
use crate::config::Config;
use crate::engine;
use crate::overtime;
use crate::render;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

pub fn reconcile(
    args: &args::Reconcile,
    settings: &args::Settings,
    mut base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let recipes = chosen(&args.apps, &base.config)?;
    let proxy = base.config.proxy()?;
    base.config.run.git_credentials = base.config.git_credentials()?;
    base.config.pulls_with = base.config.registry_credentials()?;
    let run_id: RunId = format!("warm-{}", std::process::id())
        .parse()
        .map_err(|error| Failure::host("a run id").with_source(error))?;
    let bounds = Bounds { deadline: None, teardown: base.config.teardown_budget };
    let lifetime: Arc<dyn RunLifetime> = app::start(taken, settings, bounds, terminal)?;
    let work = async {
        let choice = tokio::select! {
            biased;
            cause = lifetime.cancellation().cancelled() => return Err(Failure::cancelled(cause)),
            choice = engine::choose(&base.config) => choice?,
        };
        let parts = blocking::run(move || base.wire_on(choice)).await?;
        parts.tell_engine(terminal);
        let harness = tokio::select! {
            biased;
            cause = lifetime.cancellation().cancelled() => return Err(Failure::cancelled(cause)),
            harness = parts.harness(lifetime.clone(), proxy) => harness?,
        };
        if !args.dry_run {
            return Ok(harness.reconcile(&recipes, &run_id).await);
        }
        tokio::select! {
            biased;
            cause = lifetime.cancellation().cancelled() => Err(Failure::cancelled(cause)),
            ends = harness.plan_reconcile(&recipes) => Ok(ends),
        }
    };
    let shows = terminal.show_progress();
    let ends = overtime::bounded(&lifetime, None, terminal, || app::block_on(work))?;
    drop(shows);
    match settings.format {
        Format::Human => terminal.result(render::warm(&ends, terminal.detail)),
        Format::Json | Format::Ndjson => terminal.json(&document(args.dry_run, &ends)),
    }
    Ok(ends.iter().fold(Exit::Green, |exit, end| exit.or_graver(end.exit)))
}

/// What `cc-ci warm reconcile` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Warm<'e> {
    /// Whether nothing was changed.
    dry_run: bool,
    /// What became of each app.
    apps: &'e [WarmEnd],
}

pub fn document(dry_run: bool, apps: &[WarmEnd]) -> Document<Warm<'_>> {
    Document { schema: "cc-ci.warm/v1", content: Warm { dry_run, apps } }
}

/// The recipes whose warm apps are meant; all without a word.
fn chosen(words: &[String], config: &Config) -> Result<Vec<RecipeName>, Failure> {
    let warm = &config.run.warm;
    if warm.is_empty() {
        return Err(Failure::configuration("the configuration has no warm app")
            .with_hint("name one: [recipes.my-app] warm = \"my-app.example.org\""));
    }
    if words.is_empty() {
        return Ok(warm.keys().cloned().collect());
    }
    let mut recipes = Vec::new();
    for word in words {
        let named = warm.iter().find(|(recipe, app)| recipe.as_str() == word || app.domain.as_str() == word);
        let Some((recipe, _)) = named else {
            let known: Vec<String> = warm.values().map(|app| app.domain.to_string()).collect();
            return Err(Failure::configuration(format!("{word:?} is neither a warm app nor the recipe of one"))
                .with_hint(format!(
                    "the warm apps of the configuration: {}; one that was taken out of it is restored once it is in \
                     it again",
                    known.join(", ")
                )));
        };
        if !recipes.contains(recipe) {
            recipes.push(recipe.clone());
        }
    }
    Ok(recipes)
}
