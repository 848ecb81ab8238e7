//! The record of a run, as the page of its request shows it.

use std::time::Duration;

use cc_ci_core::run::RunRecord;
use cc_ci_core::sys::text::{sanitize, sanitize_line};

use super::runs::{Mark, mark_of_status};

/// So many lines of a list are shown.
const LINES: usize = 200;

/// A record.
#[derive(Debug)]
pub struct Report {
    pub run_id: String,
    pub domain: String,
    pub executor: String,
    pub took: Option<String>,
    pub deploys: u32,
    pub digest: Option<Digest>,
    pub tiers: Vec<Part>,
    /// How many things were removed, and what is left; `None`: nobody looked.
    pub receipt: Option<(usize, Vec<String>)>,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}

/// Why it is not green.
#[derive(Debug)]
pub struct Digest {
    pub what: String,
    pub cause: String,
    /// The service, and the end of its log.
    pub log: Option<(String, String)>,
    pub blame: String,
    pub evidence: String,
    pub next: Vec<String>,
}

/// A tier or a step.
#[derive(Debug)]
pub struct Part {
    pub name: String,
    pub mark: Mark,
    pub why: Option<String>,
    pub seconds: String,
    pub steps: Vec<Part>,
}

fn lines(list: &[String]) -> Vec<String> {
    list.iter().take(LINES).map(|line| sanitize_line(line)).collect()
}

fn seconds(seconds: f64) -> String {
    // What a record says may be no time at all.
    Duration::try_from_secs_f64(seconds)
        .map_or_else(|_| "?".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}

impl Report {
    /// Reads a record. One that can't be read is not shown.
    pub fn read(record: &str) -> Option<Self> {
        let record: RunRecord = serde_json::from_str(record).ok()?;
        let took = record.finished.map(|finished| finished.duration_since(record.started).as_secs_f64());
        let step = |step: &cc_ci_core::run::Step| Part {
            name: sanitize_line(&step.name),
            mark: mark_of_status(step.status.as_str()),
            why: step.detail.as_deref().map(sanitize),
            seconds: seconds(step.seconds),
            steps: Vec::new(),
        };
        let tier = |tier: &cc_ci_core::run::Tier| Part {
            name: match &tier.from {
                Some(from) => sanitize_line(&format!("{} from {from}", tier.name.as_str())),
                None => tier.name.as_str().to_owned(),
            },
            mark: mark_of_status(tier.status.as_str()),
            why: tier.reason.as_deref().map(sanitize),
            seconds: seconds(tier.seconds),
            steps: tier.steps.iter().take(LINES).map(step).collect(),
        };
        Some(Self {
            run_id: record.run_id.to_string(),
            domain: record.domain.to_string(),
            executor: sanitize_line(&record.executor),
            took: took.map(seconds),
            deploys: record.deploy_count,
            digest: record.digest.map(|digest| Digest {
                what: sanitize_line(&digest.what),
                cause: lines(&digest.cause).join("\n"),
                log: digest.log.map(|log| (sanitize_line(&log.service), lines(&log.lines).join("\n"))),
                blame: digest.blame.to_string(),
                evidence: sanitize_line(&digest.evidence),
                next: lines(&digest.next),
            }),
            tiers: record.tiers.iter().take(LINES).map(tier).collect(),
            receipt: record.receipt.map(|receipt| {
                let left = receipt.left.iter().take(LINES).map(|left| sanitize_line(&left.to_string()));
                (receipt.removed.len(), left.collect())
            }),
            errors: lines(&record.errors),
            warnings: lines(&record.warnings),
        })
    }
}
