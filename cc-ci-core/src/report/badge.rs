//! A badge: two words beside each other, as a small SVG image.

use askama::Template;

/// Of a run that has no level.
pub(super) const NONE: &str = "#59636e";

/// From red over amber to green. White text on each is read easily: a contrast of 4.5 at least.
const LEVELS: [&str; 9] =
    ["#cf222e", "#b93815", "#a34b00", "#8a5a00", "#766200", "#5b6b00", "#3f7300", "#1f7a1f", "#1a7f37"];

pub(super) fn of_level(level: usize) -> &'static str {
    LEVELS.get(level).copied().unwrap_or(NONE)
}

#[derive(Debug, Template)]
#[template(path = "badge.svg", escape = "html")]
struct Badge<'a> {
    label: &'a str,
    text: &'a str,
    colour: &'a str,
    label_width: usize,
    text_width: usize,
}

impl Badge<'_> {
    fn width(&self) -> usize {
        self.label_width + self.text_width
    }
}

/// A badge with any two words, and a colour as CSS has it, e.g. `#1a7f37`.
pub fn badge_of(label: &str, text: &str, colour: &str) -> String {
    let badge = Badge { label, text, colour, label_width: width(label), text_width: width(text) };
    // Writing to a string can't fail.
    badge.render().unwrap_or_default()
}

/// How wide a word is drawn, with its margins. The image says it, so that every font is as wide.
fn width(word: &str) -> usize {
    const MARGINS: usize = 12;
    let narrow = |c: char| matches!(c, 'i' | 'l' | 'j' | 't' | 'f' | ' ' | '-' | '.');
    MARGINS + word.chars().map(|c| if narrow(c) { 4 } else { 7 }).sum::<usize>()
}
