//! What the ends of a job's parts say of the whole.

use crate::request::{Outcome, Verdict};

/// A part of a job: what a CI calls a stage, a workflow or a step.
#[derive(Debug, Clone)]
pub struct Part {
    /// What the CI says of it.
    pub status: String,
    /// Its exit code.
    pub exit_code: i64,
    /// Whether it is made of others.
    pub has_parts: bool,
}

/// Returns how a job ended that the CI says `status` of; `None`: it has not ended.
pub fn outcome(status: &str, parts: &[Part]) -> Option<Outcome> {
    let steps = || parts.iter().filter(|part| !part.has_parts);
    match status {
        "success" => {
            // The CI may call a job a success of which nothing was to be run: then nothing is said of the commit.
            let ran = steps().any(|step| step.status == "success" && step.exit_code == 0);
            let whole = parts.iter().all(|part| part.status != "failure" && part.status != "error");
            let verdict = if ran && whole { Verdict::Green } else { Verdict::NothingRun };
            Some(Outcome { exit_code: (verdict == Verdict::Green).then_some(0), ..Outcome::new(verdict) })
        }
        "failure" | "error" => {
            let code = steps().map(|step| step.exit_code).find(|code| *code != 0);
            let code = code.and_then(|code| u8::try_from(code).ok());
            let verdict =
                code.filter(|_| status == "failure").map_or(Verdict::HarnessFailed, Verdict::of_exit);
            Some(Outcome { exit_code: code, ..Outcome::new(verdict) })
        }
        "killed" | "canceled" | "cancelled" => Some(Outcome::new(Verdict::Cancelled)),
        "skipped" => Some(Outcome::new(Verdict::NothingRun)),
        "declined" => Some(Outcome::new(Verdict::NotStarted).with_note("somebody declined it in the CI")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(status: &str, exit_code: i64) -> Part {
        Part { status: status.to_owned(), exit_code, has_parts: false }
    }

    #[test]
    fn green_is_what_was_run_and_ended_with_0() {
        let verdict = |status: &str, parts: &[Part]| outcome(status, parts).map(|outcome| outcome.verdict);
        let stage = |status: &str| Part { has_parts: true, ..step(status, 0) };
        let cases = [
            ("success", vec![stage("success"), step("success", 0)], Some(Verdict::Green)),
            ("success", vec![stage("success"), step("skipped", 0), step("success", 0)], Some(Verdict::Green)),
            ("success", vec![], Some(Verdict::NothingRun)),
            ("success", vec![stage("skipped")], Some(Verdict::NothingRun)),
            ("success", vec![stage("success"), step("skipped", 0)], Some(Verdict::NothingRun)),
            // Whose failure is ignored in the CI.
            (
                "success",
                vec![stage("success"), step("failure", 1), step("success", 0)],
                Some(Verdict::NothingRun),
            ),
            ("failure", vec![stage("failure"), step("success", 0), step("failure", 1)], Some(Verdict::Red)),
            ("failure", vec![step("failure", 4)], Some(Verdict::Residue)),
            ("failure", vec![step("failure", 143)], Some(Verdict::Cancelled)),
            ("failure", vec![step("failure", 256)], Some(Verdict::HarnessFailed)),
            ("failure", vec![], Some(Verdict::HarnessFailed)),
            ("error", vec![step("error", 1)], Some(Verdict::HarnessFailed)),
            ("killed", vec![], Some(Verdict::Cancelled)),
            ("declined", vec![], Some(Verdict::NotStarted)),
            ("skipped", vec![], Some(Verdict::NothingRun)),
            ("pending", vec![], None),
            ("running", vec![step("success", 0)], None),
            ("blocked", vec![], None),
            ("a word of the future", vec![], None),
        ];
        for (status, parts, expected) in cases {
            assert_eq!(verdict(status, &parts), expected, "{status} {parts:?}");
        }
    }
}
