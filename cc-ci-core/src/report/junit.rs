//! A run as JUnit XML.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::outcome;
use super::words::{line, text, tier_name};
use crate::model::record::{RunRecord, Status, Step, Tier, Verdict};

pub(super) fn report(record: &RunRecord) -> String {
    let mut report = Report::new(line(&format!("cc-ci {} {}", record.recipe, record.subject)));
    report.add_test_suites(record.tiers.iter().map(suite));
    report.add_test_suite(of_run(record));
    // What is no text of XML is escaped by the writer; writing to a string can't fail.
    report.to_string().unwrap_or_default()
}

fn suite(tier: &Tier) -> TestSuite {
    let mut suite = TestSuite::new(line(&tier_name(tier)));
    suite.set_time(duration(tier.seconds));
    suite.add_test_cases(tier.steps.iter().map(case));
    let is_told = tier.steps.iter().any(|step| step.status == tier.status);
    if !is_told && tier.status != Status::Passed {
        // What no step of it says: that it was skipped, or never begun.
        suite.add_test_case(test("tier", tier.status, tier.reason.as_deref(), tier.seconds));
    }
    suite
}

fn case(step: &Step) -> TestCase {
    test(&step.name, step.status, step.detail.as_deref(), step.seconds)
}

fn test(name: &str, status: Status, why: Option<&str>, seconds: f64) -> TestCase {
    let why = text(why.unwrap_or_default());
    let mut status = match status {
        Status::Passed => TestCaseStatus::success(),
        Status::Skipped => TestCaseStatus::skipped(),
        Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Status::NotRun => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("not_run");
            status
        }
    };
    let first = why.lines().next().unwrap_or_default();
    if !first.is_empty() {
        status.set_message(first);
        status.set_description(why.as_str());
    }
    let mut case = TestCase::new(line(name), status);
    case.set_time(duration(seconds));
    case
}

/// How the run as a whole ended.
fn of_run(record: &RunRecord) -> TestSuite {
    let outcome = outcome::of_verdict(record.verdict);
    let what = record.digest.as_ref().map_or(outcome.word, |digest| digest.what.as_str());
    let status = match record.verdict {
        Some(Verdict::Green) => Status::Passed,
        Some(Verdict::Red | Verdict::Residue) => Status::Failed,
        _ => Status::NotRun,
    };
    let seconds = record.finished.map_or(0.0, |end| end.duration_since(record.started).as_secs_f64());
    let mut suite = TestSuite::new("run");
    suite.add_test_case(test("verdict", status, Some(what), seconds));
    suite
}

/// What a record says, and no record can make the writer fail by.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
