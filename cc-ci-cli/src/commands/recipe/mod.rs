//! `cc-ci recipe check`: what can be said against a recipe without deploying it. Needs neither engine nor abra, and no
//! configuration.

pub mod sarif;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cc_ci_core::exit::Exit;
use cc_ci_core::files::TemporaryDirectory;
use cc_ci_core::inspect::{InspectError, inspect};
use cc_ci_core::lifetime::{Bounds, RunLifetime, RunLifetimeExt as _, ScopeEnd, TakenOver};
use cc_ci_core::names::RunId;
use cc_ci_core::recipe::rules::{Report, Severity};
use cc_ci_core::sys::text::sanitize_line;
use cc_ci_core::workspace::{AbraWorkspace as _, FetchError, KernelWorkspace, Settings as Scratch};
use owo_colors::Style;

use crate::app;
use crate::args::{self, Format, RecipeCheck};
use crate::commands::recipe_source;
use crate::config::Config;
use crate::shown::Shown;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

/// What git may take to bring the releases.
const FETCH_LIMIT: Duration = Duration::from_mins(2);
const BOUNDS: Bounds = Bounds { deadline: Some(Duration::from_mins(5)), teardown: Duration::from_secs(30) };

pub fn check(
    check: &RecipeCheck,
    settings: &args::Settings,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let tree = || Config::load(settings).and_then(|config| config.abra_tree());
    let path = recipe_source::directory(&check.recipe, tree)?;
    // What a CI step starts ends with the step.
    let lifetime = app::start(taken, settings, BOUNDS, terminal)?;
    let report = report(&path, lifetime.as_ref())?;
    if check.sarif {
        terminal.json(&sarif::log(&report));
    } else {
        match settings.format {
            Format::Human => terminal.result(text(&report, terminal.colour)),
            Format::Json | Format::Ndjson => terminal.json(&document(&report)),
        }
    }
    Ok(if report.count(Severity::Error) == 0 { Exit::Green } else { Exit::Red })
}

pub fn document(report: &Report) -> Document<&Report> {
    Document { schema: "cc-ci.recipe-check/v1", content: report }
}

/// Checks the recipe through a directory of its own, which is gone afterwards.
pub fn report(path: &Path, lifetime: &dyn RunLifetime) -> Result<Report, Failure> {
    let directory = TemporaryDirectory::new("cc-ci-check-").map_err(no_scratch)?;
    let scratch = Scratch::new(directory.path())
        .and_then(KernelWorkspace::new)
        .and_then(|runs| runs.create(&RunId::manual(std::process::id())))
        .map_err(no_scratch)?;
    let (end, _ended) =
        app::block_on(async { Ok(lifetime.scope(inspect(path, &scratch, lifetime, FETCH_LIMIT)).await) })?;
    match end {
        ScopeEnd::Returned(report) => report.map_err(refused),
        ScopeEnd::Cancelled(cause) => Err(Failure::cancelled(cause)),
        ScopeEnd::Panicked(panic) => std::panic::resume_unwind(panic),
    }
}

fn no_scratch(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::host("can't make a temporary directory").with_source(error).with_hint("name another one: TMPDIR")
}

fn refused(error: InspectError) -> Failure {
    const DOING: &str = "can't check the recipe";
    match error {
        InspectError::NoRecipe { .. } => Failure::configuration(DOING)
            .with_source(error)
            .with_hint("name the directory that has the compose.yml: cc-ci recipe check PATH"),
        InspectError::Name(_) | InspectError::Fetch(FetchError::Source(_)) => Failure::configuration(DOING)
            .with_source(error)
            .with_hint("a recipe is named like its directory: call the directory by the recipe's name"),
        _ => Failure::host(DOING).with_source(error),
    }
}

/// Each finding with its place; what is the same for all of a rule once.
pub fn text(report: &Report, colour: bool) -> Shown {
    let mut shown = Shown::default();
    let mut message = BTreeSet::new();
    for finding in &report.findings {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let word = finding.severity.as_str();
        let style = match finding.severity {
            Severity::Error => Style::new().red(),
            Severity::Warning => Style::new().yellow(),
            Severity::Note => Style::new(),
        };
        shown.push(&format!("{}{line}: ", sanitize_line(&finding.file)));
        shown.paint(word, colour.then(|| style.bold()));
        shown.push(&format!(": {} [{}]\n", sanitize_line(&finding.what), finding.rule));
        if message.insert(finding.rule) {
            shown.push(&format!("    why: {}\n    mend: {}\n", finding.why, finding.mend));
        }
    }
    for skipped in &report.skipped {
        shown.push(&format!("skipped: {}\n", sanitize_line(skipped)));
    }
    let counted = |severity: Severity| match report.count(severity) {
        1 => format!("1 {}", severity.as_str()),
        count => format!("{count} {}s", severity.as_str()),
    };
    let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(counted);
    let compared = report.compared_with.as_ref().map(|version| format!(", compared with {version}"));
    shown.push(&format!(
        "{}: {errors}, {warnings}, {notes}; names as at {}{}\n",
        report.recipe,
        report.judged_as,
        compared.unwrap_or_default()
    ));
    shown
}
