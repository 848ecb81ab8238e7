//! The host of `work`, as it showed itself last: its runs, and who holds what.

use std::collections::HashMap;
use std::io;

use cc_ci_core::sys::text::sanitize_line;
use jiff::{SignedDuration, Timestamp};

use super::runs::Time;
use crate::listing::{Description, Holder, HostRun, Listing as _, Lock, Locks, Runs};
use crate::store::HostView;

/// Of what was written down longer ago, it is said that it may be different by now.
const FRESH: SignedDuration = SignedDuration::from_mins(3);

/// A lock that somebody holds.
#[derive(Debug, Clone)]
pub struct Held {
    pub domain: String,
    pub holder: String,
    pub since: Option<Time>,
    pub waiting: u64,
}

/// What became of what a killed run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It was removed.
    Removed,
    /// The janitor will remove it.
    Awaits,
    /// It is a warm app, which its next run brings back to what it was.
    Warm,
}

/// What a page shows of the host.
#[derive(Debug, Clone)]
pub struct Host {
    pub at: Time,
    pub stale: bool,
    /// What it does and has; `None`: it could not be read.
    pub view: Option<View>,
}

/// What a host does and has.
#[derive(Debug, Clone)]
pub struct View {
    /// Those that live, by their ids.
    pub live: HashMap<String, HostRun>,
    pub killed: Vec<(HostRun, Left)>,
    pub held: Vec<Held>,
}

impl Host {
    /// Returns what a view shows.
    pub fn new(view: &HostView, now: Timestamp) -> Self {
        let read = View::read(view)
            .inspect_err(|error| tracing::warn!("what the host says of its runs can't be read: {error}"));
        Self { at: Time(view.at), stale: now.duration_since(view.at) > FRESH, view: read.ok() }
    }
}

impl View {
    fn read(view: &HostView) -> io::Result<Self> {
        let (runs, locks) = (Runs::read(&view.runs)?, Locks::read(&view.locks)?);
        let (live, over): (Vec<_>, Vec<_>) = runs.runs.into_iter().map(harmless).partition(|run| run.live);
        let killed = over.into_iter().filter_map(|run| {
            let left = match run.verdict.as_deref() {
                Some("killed") => Left::Removed,
                None if run.lane == "cold" => Left::Awaits,
                None => Left::Warm,
                Some(_) => return None,
            };
            Some((run, left))
        });
        Ok(Self {
            live: live.into_iter().map(|run| (run.run_id.clone(), run)).collect(),
            killed: killed.collect(),
            held: locks.locks.into_iter().map(held).collect(),
        })
    }
}

fn harmless(run: HostRun) -> HostRun {
    let [run_id, recipe, domain] = [&run.run_id, &run.recipe, &run.domain].map(|text| sanitize_line(text));
    HostRun { run_id, recipe, domain, why: run.why.as_deref().map(sanitize_line), ..run }
}

fn held(lock: Lock) -> Held {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(runs: &str, locks: &str) -> HostView {
        HostView { at: Timestamp::UNIX_EPOCH, runs: runs.to_owned(), locks: locks.to_owned() }
    }

    #[test]
    fn what_a_killed_run_left_is_said_by_its_lane_and_what_cant_be_read_is_not_nothing() {
        let run = |id: &str, lane: &str, verdict: &str| {
            format!(
                r#"{{"run_id": "{id}", "recipe": "notes", "domain": "n.test", "lane": "{lane}", "live": false,
                 "verdict": {verdict}, "why": null}}"#
            )
        };
        let runs = [
            run("1", "cold", "null"),
            run("2", "quick", "null"),
            run("3", "warm", "null"),
            run("4", "cold", r#""killed""#),
            run("5", "cold", r#""green""#),
        ];
        let runs = format!(r#"{{"schema": "cc-ci.runs/v1", "runs": [{}]}}"#, runs.join(","));
        let locks = r#"{"schema": "cc-ci.locks/v1", "locks": []}"#;
        let read = View::read(&view(&runs, locks)).unwrap();
        let killed: Vec<_> = read.killed.iter().map(|(run, left)| (run.run_id.as_str(), *left)).collect();
        assert_eq!(killed, [("1", Left::Awaits), ("2", Left::Warm), ("3", Left::Warm), ("4", Left::Removed)]);
        for (runs, locks) in [("", locks), ("{}", locks), (runs.as_str(), "{}")] {
            assert!(Host::new(&view(runs, locks), Timestamp::UNIX_EPOCH).view.is_none());
        }
    }
}
