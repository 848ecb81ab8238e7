//! What the rules of `recipe check` say of the commit under test: a part of its result, and never what ends a run.

use super::state::Run;
use super::step::bounded;
use crate::inspect::check_checkout;
use crate::model::error_chain;
use crate::model::record::Lint;
use crate::recipe::rules::{Finding, Severity};
use crate::workspace::{RecipeTree, Release, Releases};

/// Judges the commit that `tree` shows; it shows it afterwards, too.
pub(super) async fn check(run: &Run<'_>, tree: &RecipeTree, releases: &Releases, before: Option<&Release>) {
    let lifetime = run.context.lifetime.as_ref();
    match check_checkout(tree, releases, before, lifetime).await {
        Ok(report) => {
            // What was not judged is not clean.
            let skipped = report.skipped.iter().map(|what| format!("warning: not judged: {what}"));
            let findings = skipped.chain(report.findings.iter().map(line)).take(Lint::FINDINGS);
            run.record().lint = Some(Lint {
                errors: report.count(Severity::Error),
                warnings: report.count(Severity::Warning) + report.skipped.len(),
                findings: findings.map(|finding| run.text(&finding)).collect(),
            });
        }
        Err(error) => run.note(bounded(format!("the files are not judged: {}", error_chain(&error)))),
    }
}

fn line(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let Finding { severity, file, rule, what, .. } = finding;
    format!("{}: {file}{line}: {rule}: {what}", severity.as_str())
}
