//! What the runs' directories tell of their runs.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use crate::contained::read_contained;
use crate::names::{Domain, RecipeName, RunId};
use crate::process::ProcessIdentity;
use crate::run::Verdict;
use crate::site::{LookError, Site};
use crate::workspace::{RUN_RECORD, RUN_TREE};

/// A record names steps, and says why they failed.
const RECORD_LIMIT: u64 = 64 << 20;

/// A run, as its directory and the kernel tell. Everything but whether it lives is its own word: it explains.
#[derive(Debug, Clone)]
pub struct RunTrace {
    /// Its id.
    pub id: RunId,
    /// Its directory.
    pub path: PathBuf,
    /// The process that runs it.
    pub owner: ProcessIdentity,
    /// Whether that one is alive.
    pub alive: bool,
    /// Whether something of its tree is there.
    pub tree: bool,
    /// All domains of the run, in the order of their locks.
    pub domains: Vec<Domain>,
    /// What it tests.
    pub recipe: Option<RecipeName>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// How it ended, if it did.
    pub verdict: Option<Verdict>,
}

/// What a look needs of `run.json`, whatever else its schema says.
#[derive(serde::Deserialize)]
struct Owned {
    owner: ProcessIdentity,
    domains: Vec<Domain>,
}

impl Site {
    /// Every run that has a directory, in the order of their ids. Whether one lives is asked of the process that it
    /// names: a look takes no lock.
    pub fn traces(&self) -> Result<Vec<RunTrace>, LookError> {
        let boot = self.host.boot_id();
        let mut traces = Vec::new();
        for id in self.runs.run_ids()? {
            let path = self.runs.runs_dir().join(id.as_str());
            // A run without a readable record has not begun, or is being removed: nothing of any domain. What a
            // recipe's test may have put in its place is not waited for.
            let Ok(text) = read_contained(&path, RUN_RECORD, RECORD_LIMIT) else { continue };
            let Ok(Owned { owner, domains }) = serde_json::from_slice(&text) else { continue };
            let told: Value = serde_json::from_slice(&text).unwrap_or_default();
            traces.push(RunTrace {
                alive: owner.is_alive(&boot),
                tree: RUN_TREE.iter().any(|part| path.join(part).symlink_metadata().is_ok()),
                recipe: serde_json::from_value(told["recipe"].clone()).ok(),
                started: serde_json::from_value(told["started"].clone()).ok(),
                verdict: serde_json::from_value(told["verdict"].clone()).ok(),
                id,
                path,
                owner,
                domains,
            });
        }
        Ok(traces)
    }

    /// The dead runs of which a tree is left.
    pub(crate) fn dead_trees(&self) -> Result<Vec<RunTrace>, LookError> {
        let mut traces = self.traces()?;
        traces.retain(|run| run.tree && !run.alive);
        Ok(traces)
    }
}
