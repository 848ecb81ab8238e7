//! How something ended, as the page shows it: a mark, a word, and a class of the style sheet.

use crate::model::level::Met;
use crate::model::record::{Status, Verdict};

/// A mark says nothing without its word: colour alone, or a sign alone, is not read by everybody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub mark: &'static str,
    pub word: &'static str,
    pub class: &'static str,
}

pub(super) const PASSED: Outcome = Outcome { mark: "✓", word: "passed", class: "passed" };
pub(super) const FAILED: Outcome = Outcome { mark: "✗", word: "failed", class: "failed" };

pub(super) fn of_verdict(verdict: Option<Verdict>) -> Outcome {
    let word = Verdict::word(verdict);
    match verdict {
        Some(Verdict::Green) => Outcome { word, ..PASSED },
        Some(Verdict::Red | Verdict::Residue) => Outcome { word, ..FAILED },
        Some(_) => Outcome { mark: "!", word, class: "warned" },
        None => Outcome { mark: "…", word, class: "quiet" },
    }
}

pub(super) fn of_status(status: Status) -> Outcome {
    let word = status.as_str();
    match status {
        Status::Passed => PASSED,
        Status::Failed => FAILED,
        Status::Skipped => Outcome { mark: "–", word, class: "quiet" },
        Status::NotRun => Outcome { mark: "○", word, class: "quiet" },
    }
}

pub(super) fn of_rule(met: Met) -> Outcome {
    match met {
        Met::Yes => Outcome { word: "met", ..PASSED },
        Met::NotApplicable => Outcome { mark: "–", word: "does not apply", class: "quiet" },
        Met::No => Outcome { mark: "○", word: "not met", class: "quiet" },
    }
}
