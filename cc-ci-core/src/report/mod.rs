//! A run as a page, a badge, and a JUnit file: pure functions of its record and the ends of its logs.
//!
//! The page is one file that needs nothing else: no script, no network, nothing beside it. It opens from `file://`, and may be
//! served by whoever shows runs. Its Content-Security-Policy allows its own style sheet and nothing more.
//!
//! All text is a recipe's, an app's or an engine's word. It is made harmless as it is for a terminal ([`sanitize`]), cut at a
//! bound, and escaped by the template; in the page none of it becomes an attribute.
//!
//! [`sanitize`]: crate::sys::text::sanitize

mod badge;
mod junit;
mod log;
mod outcome;
mod page;
mod timeline;
mod words;

use askama::Template as _;

use crate::model::level::Level;
use crate::model::record::RunRecord;

pub use badge::badge_of;
pub use log::Log;

/// The page of a run: HTML, the same for the same record and logs.
pub fn html(record: &RunRecord, logs: &[Log]) -> String {
    // Nothing in the template can fail, and neither does writing to a string.
    page::Page::new(record, logs).render().unwrap_or_default()
}

/// The badge of a recipe's level, an SVG image. Of a run without a level it says how the run ended.
pub fn badge(record: &RunRecord) -> String {
    let (text, colour) = match Level::of(record) {
        Some(level) => (format!("level {}", level.reached), badge::of_level(level.reached)),
        None => (outcome::of_verdict(record.verdict).word.to_owned(), badge::NONE),
    };
    badge_of("cc-ci", &text, colour)
}

/// The run as a JUnit file, for CI systems that show tests. A tier is a suite and a step a test.
///
/// What was skipped is skipped there. What was *not run* is an error: it says nothing of the recipe, and no CI may take it for
/// passed. The test `verdict` of the suite `run` says how the run as a whole ended.
pub fn junit(record: &RunRecord) -> String {
    junit::report(record)
}

#[cfg(test)]
mod tests;
