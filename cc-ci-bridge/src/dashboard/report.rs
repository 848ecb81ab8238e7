//! The record of a run: what the page of its request shows of it, and the run's own page.

use cc_ci_core::report;
use cc_ci_core::run::RunRecord;
use cc_ci_core::sys::text::sanitize_line;

/// So many lines of a list are shown.
const LINES: usize = 200;

/// What a request's page shows of a record; the run's own page has all of it.
#[derive(Debug)]
pub struct Report {
    pub digest: Option<Digest>,
    /// What it removed and left, in a line.
    pub receipt: Option<String>,
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
}

fn lines(list: &[String]) -> String {
    list.iter().take(LINES).map(|line| sanitize_line(line)).collect::<Vec<_>>().join("\n")
}

impl Report {
    /// Reads a record. One that can't be read is not shown.
    pub fn read(record: &str) -> Option<Self> {
        let record: RunRecord = serde_json::from_str(record).ok()?;
        let receipt = record.receipt.as_ref().map(|receipt| receipt.in_words(record.lane, record.owned));
        Some(Self {
            receipt: receipt.map(|words| sanitize_line(&words)),
            digest: record.digest.map(|digest| Digest {
                what: sanitize_line(&digest.what),
                cause: lines(&digest.cause),
                log: digest.log.map(|log| (sanitize_line(&log.service), lines(&log.lines))),
                blame: digest.blame.to_string(),
                evidence: sanitize_line(&digest.evidence),
            }),
        })
    }
}

/// Returns the page of a run. Of a record that can't be read there is none.
pub fn page(record: &str) -> Option<String> {
    Some(report::html(&serde_json::from_str(record).ok()?, &[]))
}
