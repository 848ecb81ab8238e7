//! `cc-ci run`: the main job.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cc_ci_core::blocking;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::{Bounds, RunLifetime, TakenOver};
use cc_ci_core::names::{InvalidName, RunId, Subject};
use cc_ci_core::run::{Asked, Request, UpgradeFrom};

use crate::app::{self, Base};
use crate::args::{self, Format};
use crate::commands::{past, recipe_source};
use crate::engine;
use crate::overtime;
use crate::render::{self, Detail};
use crate::terminal::Terminal;
use cc_ci_core::Failure;

/// Where CI systems keep their build number.
pub const BUILD_NUMBERS: [&str; 2] = ["DRONE_BUILD_NUMBER", "CI_PIPELINE_NUMBER"];

pub fn run(
    args: args::Run,
    settings: &args::Settings,
    base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let subject = match (args.pr, &args.commit) {
        (Some(number), _) => Subject::PullRequest(number),
        (None, Some(revision)) => Subject::reference(revision.as_str()),
        (None, None) => Subject::reference("HEAD"),
    };
    recipe_source::refuse_ambiguous(&args.recipe, base.config.abra_tree().ok().as_deref())?;
    start(args, subject, settings, base, taken, terminal)
}

/// Tests what is asked for, as the `subject` of its recipe.
pub fn start(
    args: args::Run,
    subject: Subject,
    settings: &args::Settings,
    mut base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    if args.quick && (args.fresh || !args.upgrade_from.is_empty()) {
        return Err(Failure::configuration("--quick upgrades the warm app, from its baseline alone")
            .with_hint("leave --fresh and --upgrade-from out; CCCI_FRESH and CCCI_UPGRADE_FROM count too"));
    }
    if args.quick && args.keep_on_red.is_some_and(|time| !time.is_zero()) {
        return Err(Failure::configuration(
            "--quick rolls the warm app back, red or not: people use it, and it is not kept as the commit under test left it",
        )
        .with_hint("leave --keep-on-red out; CCCI_KEEP_ON_RED counts too. The cold lane keeps a red app of its own"));
    }
    let asked = asked(&args)?;
    let run_id = match args.id {
        Some(run_id) => run_id,
        None => build_number()?.unwrap_or_else(|| RunId::manual(std::process::id())),
    };
    let request = Request::new(args.recipe, subject, run_id)
        .map_err(|error| Failure::configuration("can't tell the recipe's name").with_source(error))?;
    let upgrade_from = match args.upgrade_from.as_slice() {
        [] => UpgradeFrom::default(),
        _ if args.fresh => {
            return Err(Failure::configuration(
                "--fresh upgrades from no release, and --upgrade-from names some",
            )
            .with_hint("leave one of the two out; CCCI_FRESH and CCCI_UPGRADE_FROM count too"));
        }
        named => named
            .join(",")
            .parse()
            .map_err(|error: InvalidName| Failure::configuration("in --upgrade-from").with_source(error))?,
    };
    let request = Request {
        revision: args.commit,
        fresh: args.fresh,
        upgrade_from,
        skip_fetch: args.skip_fetch,
        asked,
        ..request
    };
    if let Some(tests_dir) = args.tests_dir {
        base.config.run.operator_tests = Some(tests_dir);
    }
    if let Some(tests_dir) = &mut base.config.run.operator_tests {
        *tests_dir = absolute(tests_dir)?;
    }
    base.config.run.report_only |= args.report_only;
    if let Some(keep) = args.keep_on_red {
        base.config.run.keep_on_red = keep;
    }
    let proxy = base.config.proxy()?;
    base.config.run.git_credentials = base.config.git_credentials()?;
    base.config.pulls_with = base.config.registry_credentials()?;
    let deadline = Some(args.deadline.unwrap_or(base.config.deadline));
    let bounds = Bounds { deadline, teardown: base.config.teardown_budget };
    let lifetime: Arc<dyn RunLifetime> = app::start(taken, settings, bounds, terminal)?;
    let runs_dir = base.config.runs_dir.clone();
    let work = async {
        let chosen = async {
            let choice = engine::choose(&base.config).await?;
            let parts = blocking::run(move || base.wire_on(choice)).await?;
            parts.harness(lifetime.clone(), proxy).await
        };
        // Boxed: it holds all that choosing an executor asks.
        let harness = Box::pin(app::until_cancelled(lifetime.as_ref(), chosen)).await;
        let harness = match harness {
            Ok(harness) => harness,
            Err(error) => {
                app::end_children(lifetime.as_ref()).await;
                return Err(error);
            }
        };
        Ok(if args.quick { harness.run_quick(&request).await } else { harness.run_cold(&request).await })
    };
    let shows = terminal.show_progress();
    let end = overtime::bounded(&lifetime, None, terminal, || app::block_on(work))?;
    drop(shows);
    let directory = runs_dir.join(end.record.run_id.as_str());
    match settings.format {
        Format::Human => {
            let page = past::page_in(&directory);
            terminal.result(render::run(&end.record, page.as_deref(), terminal.colour));
            if let Some(receipt) = end.record.receipt.as_ref().filter(|_| terminal.detail == Detail::All) {
                terminal.result(render::removed(&receipt.removed));
            }
        }
        Format::Json | Format::Ndjson => terminal.json(&end.record),
    }
    if let Some(hint) = end.hint {
        terminal.hint(&hint);
    }
    Ok(end.exit)
}

/// What the record says of the call; nothing where that can't be written down.
fn asked(args: &args::Run) -> Result<Option<Asked>, Failure> {
    let Some(source) = args.recipe.in_writing() else { return Ok(None) };
    let tests_dir = args.tests_dir.as_deref().map(absolute).transpose()?;
    Ok(Some(Asked {
        source,
        revision: args.commit.as_ref().map(ToString::to_string),
        deadline_seconds: args.deadline.map(|deadline| deadline.as_secs_f64()),
        tests_dir: tests_dir.map(|directory| directory.to_string_lossy().into_owned()),
        fresh: args.fresh,
        upgrade_from: args.upgrade_from.clone(),
        skip_fetch: args.skip_fetch,
        report_only: args.report_only,
        keep_on_red_seconds: args.keep_on_red.map(|keep| keep.as_secs_f64()),
    }))
}

/// The tests directory wherever its tests run.
fn absolute(tests_dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(tests_dir)
        .map_err(|error| Failure::configuration("can't use the tests directory").with_source(error))
}

fn build_number() -> Result<Option<RunId>, Failure> {
    for variable in BUILD_NUMBERS {
        if let Some(number) = env::var_os(variable).filter(|number| !number.is_empty()) {
            let number = number.to_string_lossy().parse::<RunId>();
            return number
                .map(Some)
                .map_err(|error| Failure::configuration(format!("in {variable}")).with_source(error));
        }
    }
    Ok(None)
}
