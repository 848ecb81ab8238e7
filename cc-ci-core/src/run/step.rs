//! How a step of a tier ends, and how much of what it says is kept.

use crate::sys::text;

/// How a step, or a tier, ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepOutcome {
    /// What it checks holds.
    Passed,
    /// It does not apply, for this reason.
    Skipped(String),
}

impl StepOutcome {
    /// Returns that it does not apply, and why.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }
}

impl From<()> for StepOutcome {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

/// How long a text of the record may be: what a recipe says is in it.
const TEXT_LIMIT: usize = 8 << 10;

/// So many names are enough for a line.
const NAMES: usize = 10;

/// Returns `text`, redacted before, as long as one of the record may be.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > TEXT_LIMIT {
        let end = text.floor_char_boundary(TEXT_LIMIT);
        let more = text.len() - end;
        text.truncate(end);
        return format!("{text} … and {more} bytes more");
    }
    text
}

/// Returns the first of `names`, and how many more there are.
pub(super) fn first_few(names: &[String]) -> String {
    text::first_few(names.iter().map(|name| name.chars().take(80).collect::<String>()), NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_record_is_cut_between_characters_and_says_so() {
        assert_eq!(bounded("short".to_owned()), "short");
        let cut = bounded("ä€".repeat(1 << 16));
        assert!(cut.len() < TEXT_LIMIT + 64 && cut.ends_with("bytes more"), "{}", cut.len());
    }

    #[test]
    fn a_line_names_a_few_and_counts_the_rest() {
        let names: Vec<String> = (0..12).map(|number| format!("N{number}")).collect();
        assert_eq!(first_few(&names[..2]), "N0, N1");
        assert!(first_few(&names).ends_with("N9, and 2 more"));
        assert_eq!(first_few(&["x".repeat(1 << 20)]).len(), 80);
    }
}
