//! Completions for shells, with what there is on this host: `source <(COMPLETE=bash cc-ci)`.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use cc_ci_core::PastRuns;
use cc_ci_core::lock::{AppLock as _, FlockLocks};
use cc_ci_core::run::RunRecord;
use cc_ci_core::system_info::KernelSystemInfo;
use clap::{CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};

use super::Cli;
use crate::config::Config;

/// So many are offered.
const OFFERED: usize = 50;

/// Completes where a shell asks for it, which it does by the environment. Gives whether it did.
pub fn complete(args: impl IntoIterator<Item = OsString>) -> bool {
    // Whoever asks for what can't be completed sees nothing: the line is still being written.
    CompleteEnv::with_factory(Cli::command).try_complete(args, None).unwrap_or(true)
}

/// What holds for a command without flags; nothing is told where that is wrong.
fn config() -> Option<Config> {
    Config::load(&Cli::try_parse_from(["cc-ci", "status"]).ok()?.settings).ok()
}

/// The newest runs.
pub fn runs() -> Vec<CompletionCandidate> {
    let runs = config().and_then(|config| PastRuns::new(config.runs_dir).all().ok()).unwrap_or_default();
    runs.iter().take(OFFERED).map(run).collect()
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
    let names = known().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let begun = names.filter(|name| {
        name.as_encoded_bytes().starts_with(current.as_encoded_bytes())
            && !name.as_encoded_bytes().starts_with(b".")
    });
    let mut all: Vec<CompletionCandidate> = begun.map(CompletionCandidate::new).take(OFFERED).collect();
    all.extend(PathCompleter::dir().complete(current));
    all
}
