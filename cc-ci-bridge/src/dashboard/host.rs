//! The host of `work`, as it showed itself last: its runs, and who holds what.

use std::collections::HashMap;

use cc_ci_core::sys::text::sanitize_line;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::runs::Time;
use crate::store::HostView;

/// Of what was written down longer ago, it is said that it may be different by now.
const FRESH: SignedDuration = SignedDuration::from_mins(3);

/// The document of `cc-ci runs`, as much of it as is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runs {
    runs: Vec<HostRun>,
}

/// A run of the host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct HostRun {
    pub run_id: String,
    pub recipe: String,
    pub domain: String,
    live: bool,
    verdict: Option<String>,
    /// What it does, or why it is not green.
    pub why: Option<String>,
}

/// The document of `cc-ci locks`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Locks {
    locks: Vec<LockLine>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LockLine {
    domain: String,
    holder: Option<Holder>,
    waiting: u64,
    since: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Holder {
    pid: i64,
    description: Option<Description>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Description {
    run_id: Option<String>,
    recipe: Option<String>,
    phase: String,
}

/// A lock that somebody holds.
#[derive(Debug, Clone)]
pub struct Held {
    pub domain: String,
    pub holder: String,
    pub since: Option<Time>,
    pub waiting: u64,
}

/// What a page shows of the host.
#[derive(Debug, Clone)]
pub struct Host {
    pub at: Time,
    pub stale: bool,
    /// Those that live, by their ids.
    pub live: HashMap<String, HostRun>,
    /// Those that were killed: with a verdict, what they left was removed.
    pub killed: Vec<(HostRun, bool)>,
    pub held: Vec<Held>,
}

impl Host {
    /// Returns what a view shows. What can't be read of it is not shown.
    pub fn new(view: &HostView, now: Timestamp) -> Self {
        let runs: Runs = serde_json::from_str(&view.runs).unwrap_or_default();
        let locks: Locks = serde_json::from_str(&view.locks).unwrap_or_default();
        let runs = runs.runs.into_iter().map(HostRun::harmless);
        let (live, over): (Vec<_>, Vec<_>) = runs.partition(|run| run.live);
        let was_killed = |run: &HostRun| run.verdict.is_none() || run.verdict.as_deref() == Some("killed");
        Self {
            at: Time(view.at),
            stale: now.duration_since(view.at) > FRESH,
            live: live.into_iter().map(|run| (run.run_id.clone(), run)).collect(),
            killed: over
                .into_iter()
                .filter(was_killed)
                .map(|run| (run.clone(), run.verdict.is_some()))
                .collect(),
            held: locks.locks.into_iter().map(held).collect(),
        }
    }
}

impl HostRun {
    fn harmless(self) -> Self {
        let [run_id, recipe, domain] =
            [&self.run_id, &self.recipe, &self.domain].map(|text| sanitize_line(text));
        Self { run_id, recipe, domain, why: self.why.as_deref().map(sanitize_line), ..self }
    }
}

fn held(lock: LockLine) -> Held {
    let holder = match lock.holder {
        None => "not known".to_owned(),
        Some(Holder { pid, description: None }) => format!("process {pid}"),
        Some(Holder { pid, description: Some(Description { run_id, recipe, phase }) }) => {
            let who = run_id.map_or_else(|| format!("process {pid}"), |run| format!("run {run}"));
            let of = recipe.map_or(String::new(), |recipe| format!(" of {recipe}"));
            format!("{who}{of}: {phase}")
        }
    };
    Held {
        domain: sanitize_line(&lock.domain),
        holder: sanitize_line(&holder),
        since: lock.since.map(Time),
        waiting: lock.waiting,
    }
}
