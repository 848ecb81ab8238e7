//! `cc-ci rerun`: asks for what a recorded run was asked for, at the same commit.

use std::time::Duration;

use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::run::{Lane, RunRecord};
use cc_ci_core::workspace::{RecipeSource, Revision};
use cc_ci_core::{Failure, PastRuns, error_chain};
use clap::ValueEnum as _;

use super::run;
use crate::app::Base;
use crate::args::{self, Executor};
use crate::terminal::Terminal;

pub fn rerun(
    args: args::Rerun,
    settings: &args::Settings,
    mut base: Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let record = PastRuns::new(base.config.runs_dir.clone()).record(&args.run)?;
    let again = args::Run { id: args.id, ..again(&record)? };
    if settings.executor.is_none() {
        base.config.executor = executor(&record)?;
    }
    terminal.progress(told(&record, &again, base.config.executor));
    run::start(again, record.subject, settings, base, taken, terminal)
}

/// The call that asks for it.
fn again(record: &RunRecord) -> Result<args::Run, Failure> {
    let id = &record.run_id;
    let Some(asked) = &record.asked else {
        let hint = match record.lane {
            Lane::Warm => "restore warm apps again: cc-ci warm reconcile",
            _ => "name its recipe again: cc-ci run RECIPE",
        };
        return Err(Failure::configuration(format!(
            "the record of run {id} does not say what it was asked for"
        ))
        .with_hint(hint));
    };
    let unreadable = |what: &str, error: &dyn std::error::Error| {
        Failure::configuration(format!("the record of run {id} has no {what}: {}", error_chain(error)))
    };
    let recipe: RecipeSource = asked.source.parse().map_err(|error| unreadable("recipe", &error))?;
    let revision = record.commit.as_ref().or(asked.revision.as_ref()).map(|revision| revision.parse());
    let commit: Option<Revision> = revision.transpose().map_err(|error| unreadable("commit", &error))?;
    let deadline = asked.deadline_seconds.map(Duration::try_from_secs_f64).transpose();
    let deadline = deadline.map_err(|error| unreadable("deadline", &error))?;
    let keep_on_red = asked.keep_on_red_seconds.map(Duration::try_from_secs_f64).transpose();
    let keep_on_red = keep_on_red.map_err(|error| unreadable("time to keep a red app", &error))?;
    Ok(args::Run {
        recipe,
        commit,
        pr: None,
        id: None,
        deadline,
        tests_dir: asked.tests_dir.as_ref().map(Into::into),
        fresh: asked.fresh,
        upgrade_from: asked.upgrade_from.clone(),
        skip_fetch: asked.skip_fetch,
        report_only: asked.report_only,
        keep_on_red,
        quick: record.lane == Lane::Quick,
    })
}

/// What it was deployed with.
fn executor(record: &RunRecord) -> Result<Executor, Failure> {
    Executor::from_str(&record.executor, false).map_err(|_| {
        let (id, executor) = (&record.run_id, &record.executor);
        Failure::configuration(format!(
            "run {id} was of the executor {executor}, which is none of cc-ci's own"
        ))
        .with_hint("choose one: --executor local, --executor abra")
    })
}

/// What is repeated, in one line.
fn told(record: &RunRecord, again: &args::Run, executor: Executor) -> String {
    let at = match (&record.commit, &again.commit) {
        (Some(commit), _) => commit.get(..10).unwrap_or(commit).to_owned(),
        (None, Some(revision)) => format!("{revision} (it had fetched no commit)"),
        (None, None) => "its HEAD (it had fetched no commit)".to_owned(),
    };
    let mut flags = vec![format!("--executor {}", format!("{executor:?}").to_lowercase())];
    let set = [
        ("--quick", again.quick),
        ("--fresh", again.fresh),
        ("--skip-fetch", again.skip_fetch),
        ("--report-only", again.report_only),
    ];
    flags.extend(set.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag).to_owned()));
    if !again.upgrade_from.is_empty() {
        flags.push(format!("--upgrade-from {}", again.upgrade_from.join(",")));
    }
    let times = [("--deadline", again.deadline), ("--keep-on-red", again.keep_on_red)];
    let times = times.iter().filter_map(|(flag, time)| Some((flag, (*time)?)));
    let times = times.map(|(flag, time)| format!("{flag} {}", humantime::format_duration(time)));
    let tests_dir = again.tests_dir.as_ref().map(|directory| format!("--tests-dir {}", directory.display()));
    flags.extend(times.chain(tests_dir));
    let (id, subject, flags) = (&record.run_id, &record.subject, flags.join(" "));
    format!("== again what run {id} did: {} at {at}, as {subject}, {flags} ==\n", again.recipe)
}
