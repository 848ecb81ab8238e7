//! Runs that are over, and why they are not green, as people read them.

use std::fmt::Write as _;
use std::time::Duration;

use cc_ci_core::names::RunId;
use cc_ci_core::run::{Digest, RunRecord, Verdict};
use cc_ci_core::sys::text::sanitize_line;
use jiff::Timestamp;

use crate::commands::past::Row;
use crate::shown::indent;

/// So much of a reason fits beside the rest of a line.
const WHY: usize = 100;

/// Runs, one a line, the newest first.
pub fn runs(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return "no run\n".to_owned();
    }
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let state = match (row.live, row.verdict) {
                (true, _) => "live",
                // Whoever takes down what it left says how it ended.
                (false, None) => "dead",
                (false, verdict) => Verdict::word(verdict),
            };
            let until = row.finished.or_else(|| row.live.then_some(now));
            let took = until.and_then(|until| Duration::try_from(until.duration_since(row.started)).ok());
            let took =
                took.map(|took| humantime::format_duration(Duration::from_secs(took.as_secs())).to_string());
            [
                row.run_id.to_string(),
                state.to_owned(),
                format!("{:.0}", row.started),
                took.unwrap_or_else(|| "?".to_owned()),
                format!("{} {}", row.recipe, row.subject),
            ]
        })
        .collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for (row, cells) in rows.iter().zip(cells) {
        let line: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let why: String =
            row.why.iter().filter_map(|why| why.lines().next()).flat_map(str::chars).take(WHY).collect();
        let _ = writeln!(text, "{}", format!("{}  {why}", line.join("  ")).trim_end());
    }
    text
}

/// A run that has ended, in one line.
pub fn ended(record: &RunRecord) -> String {
    let receipt = record.receipt.as_ref().map(|receipt| receipt.in_words(record.lane, record.owned));
    let receipt = receipt.map(|words| format!("; {words}")).unwrap_or_default();
    format!("run {} ended: {}{receipt}\n", record.run_id, Verdict::word(record.verdict))
}

/// The names of a run's logs.
pub fn log_names(run: &RunId, names: &[String]) -> String {
    if names.is_empty() {
        return format!("run {run} has no logs\n");
    }
    lines(names).join("\n") + "\n"
}

/// Each name in one line: whoever wrote there named it.
pub fn lines(names: &[String]) -> Vec<String> {
    names.iter().map(|name| sanitize_line(name)).collect()
}

/// Logs, each with its name where there are several.
pub fn logs(names: &[String], texts: &[String]) -> String {
    let mut shown = String::new();
    for (name, text) in names.iter().zip(texts) {
        if names.len() > 1 {
            let _ = writeln!(shown, "==== {}", sanitize_line(name));
        }
        shown.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            shown.push('\n');
        }
    }
    shown
}

/// Why a run is not green. It comes last: that is what a terminal, or the log of a CI system, shows first.
pub fn digest(digest: &Digest) -> String {
    let mut text = format!("\nwhy: {}\n", indent(&digest.what));
    for line in &digest.cause {
        let _ = writeln!(text, "     {}", indent(line));
    }
    if let Some(log) = &digest.log {
        let _ = writeln!(text, "log of {} (the end of {}):", indent(&log.service), indent(&log.file));
        for line in &log.lines {
            let _ = writeln!(text, "     {}", indent(line));
        }
    }
    let _ = writeln!(text, "blame: {}: {}", digest.blame, indent(&digest.evidence));
    for next in &digest.next {
        let _ = writeln!(text, "next: {}", indent(next));
    }
    text
}
