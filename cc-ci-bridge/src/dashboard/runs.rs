//! Requests as pages show them.

use std::collections::HashMap;

use cc_ci_core::sys::text::sanitize_line;
use jiff::Timestamp;

use crate::explain;
use crate::names::Sha;
use crate::request::{Outcome, State, Verdict};
use crate::store::Row;
use crate::trigger::Trigger;

/// A word, and how it looks: a class of the style and a sign, so that nothing is told by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub word: &'static str,
    pub class: &'static str,
    pub sign: &'static str,
}

const fn mark(word: &'static str, class: &'static str, sign: &'static str) -> Mark {
    Mark { word, class, sign }
}

pub const GREEN: Mark = mark("green", "good", "✓");
pub const RED: Mark = mark("red", "bad", "✗");
pub const NOT_RUN: Mark = mark("not run", "off", "○");
const NO_VERDICT: Mark = mark("no verdict", "warn", "!");
const CANCELLED: Mark = mark("cancelled", "off", "–");
const WAITING: Mark = mark("waiting", "live", "…");
const RUNNING: Mark = mark("running", "live", "▶");
const REFUSED: Mark = mark("refused", "off", "–");
const UNKNOWN: Mark = mark("not known here", "off", "?");

/// Returns how a state looks.
pub fn mark_of(state: &State) -> Mark {
    match state {
        State::Started { job, .. } if job.running_since.is_some() => RUNNING,
        State::Received | State::Queued { .. } | State::Intent { .. } | State::Started { .. } => WAITING,
        State::Refused { .. } => REFUSED,
        State::Superseded { .. } => NOT_RUN,
        State::Ended { outcome, .. } => match outcome.verdict {
            Verdict::Green => GREEN,
            Verdict::Red => RED,
            Verdict::Cancelled => CANCELLED,
            Verdict::NotStarted | Verdict::NothingRun | Verdict::Refused => NOT_RUN,
            Verdict::HarnessFailed | Verdict::Residue | Verdict::LockTimeout | Verdict::Lost => NO_VERDICT,
        },
    }
}

/// Returns how what became of a tier or a step looks.
pub fn mark_of_status(status: &str) -> Mark {
    match status {
        "passed" => mark("passed", "good", "✓"),
        "failed" => mark("failed", "bad", "✗"),
        "skipped" => mark("skipped", "off", "–"),
        "not run" => NOT_RUN,
        _ => UNKNOWN,
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Run {
    pub repo: String,
    pub pull: u64,
    pub comment: u64,
    pub author: String,
    /// The commit, whole; empty where it is not known.
    pub commit: String,
    /// When it was asked for.
    pub asked: Time,
    pub quick: bool,
    pub mark: Mark,
    /// Whether a later commit of the pull request is known: of that, the verdict says nothing.
    pub stale: bool,
    pub level: Option<String>,
    /// How each tier ended, where that is known.
    pub tiers: Vec<(String, Mark)>,
}

impl Run {
    pub fn new(row: &Row, stale: bool) -> Self {
        let asked = &row.request.asked;
        let outcome = match &row.request.state {
            State::Ended { outcome, .. } => Some(outcome),
            _ => None,
        };
        let mark = mark_of(&row.request.state);
        let tiers = outcome.iter().flat_map(|outcome| &outcome.tiers);
        Self {
            repo: asked.repo.to_string(),
            pull: asked.pull,
            comment: asked.comment,
            author: sanitize_line(&asked.author),
            commit: row.request.state.head().map(Sha::to_string).unwrap_or_default(),
            asked: Time(asked.created),
            quick: asked.trigger == Some(Trigger::Quick),
            mark,
            stale: stale && [GREEN, RED, NO_VERDICT].contains(&mark),
            level: outcome.and_then(Outcome::level_in_words),
            tiers: tiers.map(|tier| (sanitize_line(&tier.name), mark_of_status(&tier.status))).collect(),
        }
    }

    /// The beginning of the commit.
    pub fn short(&self) -> &str {
        self.commit.get(..10).unwrap_or(&self.commit)
    }

    /// How a tier of that name ended.
    pub fn tier(&self, name: &str) -> Mark {
        let tier = self.tiers.iter().find(|(known, _)| known == name);
        match tier {
            Some((_, mark)) => *mark,
            None if [WAITING, RUNNING].contains(&self.mark) => WAITING,
            None if self.tiers.is_empty() && self.mark != NOT_RUN => UNKNOWN,
            None => NOT_RUN,
        }
    }

    /// What it is, in words.
    pub fn words(&self) -> String {
        let stale = if self.stale { ", stale" } else { "" };
        format!("{}{stale}", self.mark.word)
    }
}

/// Returns requests of one repository, which come the newest first, as runs.
pub fn of_repository(rows: &[Row]) -> Vec<Run> {
    let mut heads: HashMap<u64, &Sha> = HashMap::new();
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        let state = &row.request.state;
        let newest = state.head().map(|head| *heads.entry(row.request.asked.pull).or_insert(head));
        runs.push(Run::new(row, is_later_known(state, newest)));
    }
    runs
}

/// Whether a later commit than a request's is known, where `newest` is that of the newest request for its pull request.
pub fn is_later_known(state: &State, newest: Option<&Sha>) -> bool {
    let moved = matches!(state, State::Ended { moved: Some(_), .. });
    state.head().is_some_and(|head| moved || newest.is_some_and(|newest| newest != head))
}

/// Returns what became of a request, for everybody: where the pull request is silent, a page does not say why.
pub fn public_state(state: &State) -> String {
    match state {
        State::Refused { why } if !why.is_said() => "refused".to_owned(),
        state => explain::state(state),
    }
}

/// A moment, to the minute.
#[derive(Debug, Clone, Copy)]
pub struct Time(pub Timestamp);

impl Time {
    /// For machines.
    pub fn exact(&self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// For people.
    pub fn shown(&self) -> String {
        self.0.strftime("%F %H:%M UTC").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Asked, Request, RequestId, Via};

    fn row(comment: u64, pull: u64, state: State) -> Row {
        let asked = Asked {
            repo: "recipes/notes".parse().unwrap(),
            pull,
            comment,
            author: "maintainer\u{202e}".to_owned(),
            trigger: Some(Trigger::Cold),
            created: Timestamp::UNIX_EPOCH,
            via: Via::Hook,
            received: Timestamp::UNIX_EPOCH,
        };
        let request = Request { id: RequestId(1), asked, state };
        Row { request, version: 0, due: Timestamp::UNIX_EPOCH, failures: 0, started: None, ended: None }
    }

    fn head(digit: &str) -> Sha {
        digit.repeat(40).parse().unwrap()
    }

    fn ended(digit: &str, verdict: Verdict, moved: Option<&str>) -> State {
        let (outcome, moved) = (Outcome::new(verdict), moved.map(head));
        State::Ended { head: head(digit), job: None, outcome, moved }
    }

    #[test]
    fn a_verdict_is_stale_once_a_later_commit_of_its_pull_request_is_known() {
        let rows = [
            row(9, 2, ended("c", Verdict::Green, None)),
            row(8, 1, State::Queued { head: head("b") }),
            row(7, 1, ended("b", Verdict::Red, None)),
            row(6, 1, ended("a", Verdict::Green, None)),
            row(5, 3, ended("a", Verdict::Green, Some("d"))),
        ];
        let runs = of_repository(&rows);
        let words: Vec<String> = runs.iter().map(Run::words).collect();
        assert_eq!(words, ["green", "waiting", "red", "green, stale", "green, stale"]);
        assert!(!runs[0].author.contains('\u{202e}'));
        // However many came since.
        let stale = |state: &State, newest: &str| is_later_known(state, Some(&head(newest)));
        assert!(stale(&rows[3].request.state, "b") && !stale(&rows[2].request.state, "b"));
        assert!(stale(&rows[4].request.state, "a"), "it had moved");
    }

    #[test]
    fn what_was_not_run_looks_like_nothing_else_and_a_tier_nobody_knows_of_is_none_that_was_not_run() {
        let superseded = State::Superseded { by: 9, head: None };
        for state in
            [superseded, ended("a", Verdict::NothingRun, None), ended("a", Verdict::NotStarted, None)]
        {
            let run = Run::new(&row(1, 1, state), false);
            assert_eq!((run.mark, run.tier("install"), run.level), (NOT_RUN, NOT_RUN, None));
        }
        for verdict in [Verdict::Green, Verdict::Red, Verdict::Cancelled, Verdict::Lost, Verdict::Residue] {
            let run = Run::new(&row(1, 1, ended("a", verdict, None)), false);
            assert!(run.mark != NOT_RUN && run.tier("install") == UNKNOWN, "{verdict:?}");
        }
    }
}
