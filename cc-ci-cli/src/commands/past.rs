//! `cc-ci runs`, `cc-ci report` and `cc-ci logs`: what runs were, from their directories. Nothing is locked or changed.

use std::path::{Path, PathBuf};

use cc_ci_core::PastRuns;
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::TakenOver;
use cc_ci_core::names::{Domain, RecipeName, RunId, Subject};
use cc_ci_core::report;
use cc_ci_core::run::{Lane, RunRecord, Verdict};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::Base;
use crate::args::{self, Format, State};
use crate::render;
use crate::terminal::{Document, Terminal};
use cc_ci_core::Failure;

/// A run in the list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    pub run_id: RunId,
    pub recipe: RecipeName,
    pub subject: Subject,
    pub domain: Domain,
    pub lane: Lane,
    /// Whether its process lives, and has not concluded.
    pub live: bool,
    pub verdict: Option<Verdict>,
    pub exit_code: Option<u8>,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    /// What it does, or why it is not green.
    pub why: Option<String>,
}

impl Row {
    pub fn new(record: RunRecord, is_alive: bool) -> Self {
        let doing = record.doing.filter(|_| record.verdict.is_none());
        Self {
            run_id: record.run_id,
            recipe: record.recipe,
            subject: record.subject,
            domain: record.domain,
            lane: record.lane,
            live: is_alive && record.verdict.is_none(),
            verdict: record.verdict,
            exit_code: record.exit_code,
            started: record.started,
            finished: record.finished,
            why: record.digest.map(|digest| digest.what).or_else(|| doing.map(|doing| doing.to_string())),
        }
    }

    fn is_in(&self, state: State) -> bool {
        match state {
            State::Live => self.live,
            State::Dead => !self.live && self.verdict.is_none(),
            State::Green => self.verdict == Some(Verdict::Green),
            State::Red => self.verdict == Some(Verdict::Red),
            State::Refused => self.verdict == Some(Verdict::Refused),
            State::HarnessFailed => self.verdict == Some(Verdict::HarnessFailed),
            State::Residue => self.verdict == Some(Verdict::Residue),
            State::LockTimeout => self.verdict == Some(Verdict::LockTimeout),
            State::Cancelled => self.verdict == Some(Verdict::Cancelled),
            State::Killed => self.verdict == Some(Verdict::Killed),
        }
    }
}

/// Does what only looks, as a program that any signal ends, and then waits for whoever reads the result: a pager takes its time, and
/// nothing is held meanwhile.
pub fn at_leisure(
    taken: TakenOver,
    terminal: &Terminal,
    look: impl FnOnce() -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    taken.give_back().map_err(|error| Failure::host("can't give the process back").with_source(error))?;
    let exit = look()?;
    terminal.wait_for_reader();
    Ok(exit)
}

pub fn runs(
    args: &args::Runs,
    settings: &args::Settings,
    base: &Base,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let (boot, now) = (base.host.boot_id(), base.host.now());
    let since = args.since.and_then(|since| now.checked_sub(since).ok());
    let rows = PastRuns::new(base.config.runs_dir.clone()).all()?.into_iter().map(|record| {
        let is_alive = record.owner.is_alive(&boot);
        Row::new(record, is_alive)
    });
    let wanted = rows.filter(|row| {
        args.recipe.as_ref().is_none_or(|recipe| row.recipe == *recipe)
            && (args.verdict.is_empty() || args.verdict.iter().any(|state| row.is_in(*state)))
            && since.is_none_or(|since| row.started >= since)
    });
    let rows: Vec<Row> = wanted.take(args.limit.unwrap_or(usize::MAX)).collect();
    match settings.format {
        Format::Human => terminal.result(render::past::runs(&rows, now)),
        Format::Json | Format::Ndjson => terminal.json(&document(&rows)),
    }
    Ok(Exit::Green)
}

/// What `cc-ci runs` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Runs<'r> {
    /// Those that were asked for, the newest first.
    runs: &'r [Row],
}

pub fn document(runs: &[Row]) -> Document<Runs<'_>> {
    Document { schema: "cc-ci.runs/v1", content: Runs { runs } }
}

pub fn report(
    args: &args::Report,
    settings: &args::Settings,
    base: &Base,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let runs = PastRuns::new(base.config.runs_dir.clone());
    if args.html {
        terminal.result(runs.page(&args.run)?);
        return Ok(Exit::Green);
    }
    let record = runs.record(&args.run)?;
    match settings.format {
        _ if args.junit => terminal.result(report::junit(&record)),
        _ if args.badge => terminal.result(report::badge(&record)),
        Format::Human => {
            let page = page_in(&runs.directory(&args.run));
            terminal.result(render::run(&record, page.as_deref(), terminal.colour));
        }
        Format::Json | Format::Ndjson => terminal.json(&record),
    }
    Ok(Exit::Green)
}

/// The page of a run, where there is one: not yet of a run that goes on, nor of one that died, and none of older ones.
pub fn page_in(directory: &Path) -> Option<PathBuf> {
    Some(directory.join("report.html")).filter(|page| page.is_file())
}

pub fn logs(
    args: &args::Logs,
    settings: &args::Settings,
    base: &Base,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let runs = PastRuns::new(base.config.runs_dir.clone());
    let names = runs.logs(&args.run)?;
    let Some(wanted) = &args.of else {
        match settings.format {
            Format::Human => terminal.result(render::past::log_names(&args.run, &names)),
            Format::Json | Format::Ndjson => terminal.json(&logs_document(&args.run, &names, None)),
        }
        return Ok(Exit::Green);
    };
    let found = matching(&names, wanted);
    if found.is_empty() {
        let known =
            if names.is_empty() { "it has none".to_owned() } else { render::past::lines(&names).join(", ") };
        return Err(Failure::configuration(format!("run {} has no log of {wanted}", args.run))
            .with_hint(format!("its logs: {known}")));
    }
    let mut texts = Vec::new();
    for name in &found {
        texts.push(runs.log(&args.run, name)?);
    }
    match settings.format {
        Format::Human => terminal.result(render::past::logs(&found, &texts)),
        Format::Json | Format::Ndjson => terminal.json(&logs_document(&args.run, &found, Some(&texts))),
    }
    Ok(Exit::Green)
}

/// What `cc-ci logs` writes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Logs<'l> {
    /// Whose they are.
    run_id: &'l RunId,
    /// Those that were asked for; all, where only the names were.
    logs: Vec<Log<'l>>,
}

/// A log of a run.
#[derive(Debug, Serialize, JsonSchema)]
struct Log<'l> {
    /// Its name: `service-<name>`, or `<tier>-<test>`.
    name: &'l str,
    /// All of it, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'l str>,
}

pub fn logs_document<'l>(
    run_id: &'l RunId,
    names: &'l [String],
    texts: Option<&'l [String]>,
) -> Document<Logs<'l>> {
    let text = |place: usize| Some(texts?.get(place)?.as_str());
    let log = |(place, name): (usize, &'l String)| Log { name, text: text(place) };
    let logs = names.iter().enumerate().map(log).collect();
    Document { schema: "cc-ci.logs/v1", content: Logs { run_id, logs } }
}

/// The logs that are meant by `wanted`: the one of that name, that of the service, those of the test.
fn matching(names: &[String], wanted: &str) -> Vec<String> {
    let exact = [wanted.to_owned(), format!("service-{wanted}")];
    let of_test = [format!("-recipe-{wanted}"), format!("-operator-{wanted}")];
    let mut found: Vec<String> = names.iter().filter(|name| exact.contains(name)).cloned().collect();
    if found.is_empty() {
        let is_of_test = |name: &&String| of_test.iter().any(|end| name.ends_with(end.as_str()));
        found = names.iter().filter(is_of_test).cloned().collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_meant_by_its_name_its_service_or_its_test() {
        let names =
            ["custom-recipe-custom-a", "from-1.0-custom-recipe-custom-a", "service-app", "service-custom-a"];
        let names = names.map(str::to_owned);
        assert_eq!(matching(&names, "app"), ["service-app"]);
        assert_eq!(matching(&names, "custom-recipe-custom-a"), ["custom-recipe-custom-a"]);
        assert_eq!(matching(&names, "custom-a"), ["service-custom-a"]);
        assert_eq!(matching(&names[..3], "custom-a"), names[..2]);
        assert_eq!(matching(&names, "a"), [""; 0]);
    }
}
