//! What a record says, as text that is harmless and bounded.

use jiff::Timestamp;

use crate::model::record::Tier;
use crate::sys::text::{cut, sanitize, sanitize_line};

/// How much of a text is shown, in bytes.
const TEXT: usize = 16 << 10;

/// And of one line.
const LINE: usize = 400;

/// A tier as people tell it from others of its name.
pub(super) fn tier_name(tier: &Tier) -> String {
    let version = tier.version.as_ref().filter(|_| tier.from.is_some());
    tier.label() + &version.map(|version| format!(" to {version}")).unwrap_or_default()
}

/// Text of several lines, harmless and bounded.
pub(super) fn text(text: &str) -> String {
    sanitize(&cut(text, TEXT))
}

/// The same of one line.
pub(super) fn line(text: &str) -> String {
    sanitize_line(&cut(text, LINE))
}

/// A time, to the second.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.0}").replace('T', " ").replace('Z', " UTC")
}
