//! What a record says, as text that is harmless and bounded.

use jiff::Timestamp;

use crate::model::record::Tier;
use crate::sys::text::{sanitize, sanitize_line};

/// How much of a text is shown, in bytes.
const TEXT: usize = 16 << 10;

/// And of one line.
const LINE: usize = 400;

/// A tier as people tell it from others of its name.
pub(super) fn tier_name(tier: &Tier) -> String {
    let version = tier.version.as_ref().map(|version| format!(" to {version}")).unwrap_or_default();
    match &tier.from {
        Some(from) => format!("{} from {from}{version}", tier.name),
        None => tier.name.to_string(),
    }
}

/// Text of several lines, harmless and bounded.
pub(super) fn text(text: &str) -> String {
    cut(text, TEXT, sanitize)
}

/// The same of one line.
pub(super) fn line(text: &str) -> String {
    cut(text, LINE, sanitize_line)
}

fn cut(text: &str, limit: usize, harmless: impl Fn(&str) -> String) -> String {
    match text.floor_char_boundary(limit) {
        end if end < text.len() => harmless(&text[..end]) + "…",
        _ => harmless(text),
    }
}

/// A time, to the second.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.0}").replace('T', " ").replace('Z', " UTC")
}

/// How long something took, as people say it; seconds with so many digits after the point.
pub(super) fn took(seconds: f64, digits: usize) -> String {
    // What a record may not say is shown as nothing.
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default().as_secs();
    match whole {
        0..60 => format!("{:.digits$}s", seconds.clamp(0.0, 60.0)),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
    }
}
