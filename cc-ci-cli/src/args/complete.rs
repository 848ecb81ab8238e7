//! Completions for shells, with what there is on this host: `source <(COMPLETE=bash cc-ci)`.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use cc_ci_core::PastRuns;
use cc_ci_core::lock::{AppLock as _, FlockLocks};
use cc_ci_core::names::RecipeName;
use cc_ci_core::run::RunRecord;
use cc_ci_core::system_info::{BootId, KernelSystemInfo};
use clap::ValueEnum as _;
use clap_complete::CompleteEnv;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};

use super::topics::Topic;
use super::{command, parsed};
use crate::config::Config;

/// So many are offered.
const OFFERED: usize = 50;

/// Completes where a shell asks for it: by the environment, without arguments for its script, and with `--` before the
/// line that is being written. All else is a command of somebody who has such a variable for another program.
pub fn complete(args: impl IntoIterator<Item = OsString>) -> Option<Result<(), String>> {
    let args: Vec<OsString> = args.into_iter().collect();
    let has_line = args.get(1).is_some_and(|first| first == "--");
    if args.len() > 1 && !has_line {
        return None;
    }
    match CompleteEnv::with_factory(command).try_complete(args, None) {
        Ok(false) => None,
        Ok(true) => Some(Ok(())),
        // Whoever asks for what can't be completed sees nothing: the line is still being written.
        Err(_) if has_line => Some(Err(String::new())),
        Err(error) => Some(Err(error.to_string())),
    }
}

/// What holds for a command without flags; nothing is told where that is wrong.
fn config() -> Option<Config> {
    Config::load(&parsed(["cc-ci", "status"].map(OsString::from)).ok()?.settings).ok()
}

/// The commands.
pub fn commands() -> Vec<CompletionCandidate> {
    command().get_subcommands().map(|command| CompletionCandidate::new(command.get_name())).collect()
}

/// What there is help on.
pub fn topics_and_commands() -> Vec<CompletionCandidate> {
    let topics = Topic::value_variants().iter().filter_map(Topic::to_possible_value);
    let mut all: Vec<_> = topics.map(|topic| CompletionCandidate::new(topic.get_name().to_owned())).collect();
    // One of them is both.
    let others = commands()
        .into_iter()
        .filter(|command| all.iter().all(|topic| topic.get_value() != command.get_value()));
    let others: Vec<_> = others.collect();
    all.extend(others);
    all
}

/// The newest runs.
pub fn runs() -> Vec<CompletionCandidate> {
    runs_that(|_| true)
}

/// The runs that go on.
pub fn live_runs() -> Vec<CompletionCandidate> {
    let Ok(boot) = BootId::current() else { return Vec::new() };
    runs_that(|record| record.verdict.is_none() && record.owner.is_alive(&boot))
}

fn runs_that(are_wanted: impl Fn(&RunRecord) -> bool) -> Vec<CompletionCandidate> {
    let runs = config().and_then(|config| PastRuns::new(config.runs_dir).all().ok()).unwrap_or_default();
    runs.iter().filter(|record| are_wanted(record)).take(OFFERED).map(run).collect()
}

fn run(record: &RunRecord) -> CompletionCandidate {
    let what = format!("{}, {:.0}", record.recipe, record.started);
    CompletionCandidate::new(record.run_id.as_str()).help(Some(what.into()))
}

/// The apps that have a lock file.
pub fn domains() -> Vec<CompletionCandidate> {
    let known = || {
        let host = Arc::new(KernelSystemInfo::new().ok()?);
        FlockLocks::new(&config()?.lock_dir, host).domains().ok()
    };
    let domains = known().unwrap_or_default().into_iter().take(OFFERED);
    domains.map(|domain| CompletionCandidate::new(domain.as_str())).collect()
}

/// The recipes of the canonical tree, and directories.
pub fn recipes(current: &OsStr) -> Vec<CompletionCandidate> {
    let known = || std::fs::read_dir(config()?.abra_tree().ok()?.join("recipes")).ok();
    let entries = known().into_iter().flatten();
    // Whatever else a directory is called, a shell would show it as it is.
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RecipeName>().ok());
    let begun = names.filter(|name| name.as_str().as_bytes().starts_with(current.as_encoded_bytes()));
    let candidates = begun.map(|name| CompletionCandidate::new(name.as_str().to_owned()));
    let mut all: Vec<CompletionCandidate> = candidates.take(OFFERED).collect();
    all.extend(PathCompleter::dir().complete(current));
    all
}
