//! A report as SARIF 2.1.0, which forges and editors show beside the lines.

use cc_ci_core::recipe::rules::{Finding, RULES, Report, Rule};
use serde_json::{Value, json};

/// What relative paths are relative to: the recipe's directory.
const BASE: &str = "%SRCROOT%";

pub fn log(report: &Report) -> Value {
    let notices: Vec<Value> = report
        .skipped
        .iter()
        .map(|why| json!({"level": "note", "message": {"text": format!("skipped: {why}")}}))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "cc-ci recipe check",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": notices}],
            "results": report.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": format!("{}: {}.", rule.summary, rule.why)},
        "help": {
            "text": format!("Why: {}.\nTo mend it: {}.", rule.why, rule.mend),
            "markdown": format!("**Why**: {}.\n\n**To mend it**: {}.", rule.why, rule.mend),
        },
        "defaultConfiguration": {"level": rule.severity.as_str()},
    })
}

fn result(finding: &Finding) -> Value {
    let mut place = json!({"artifactLocation": {"uri": finding.file, "uriBaseId": BASE}});
    if let Some(line) = finding.line {
        place["region"] = json!({"startLine": line});
    }
    json!({
        "ruleId": finding.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.id == finding.rule),
        "level": finding.severity.as_str(),
        "message": {"text": finding.what},
        "locations": [{"physicalLocation": place}],
    })
}
