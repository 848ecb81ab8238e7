//! What people see on stdout: text from anywhere, made harmless, and the command's own colours.

use cc_ci_core::sys::text::sanitize;
use owo_colors::{OwoColorize as _, Style};

/// Text that is harmless by construction. Colour codes in what is pushed are escaped like everything else.
#[derive(Debug, Default)]
pub struct Shown(String);

impl Shown {
    /// Adds text.
    pub fn push(&mut self, text: &str) {
        self.0.push_str(&sanitize(text));
    }

    /// Adds a word of the command's own, in `style` where there is one.
    pub fn paint(&mut self, word: &str, style: Option<Style>) {
        let word = sanitize(word);
        match style {
            Some(style) => self.0.push_str(&word.style(style).to_string()),
            None => self.0.push_str(&word),
        }
    }

    /// The bytes for the terminal.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self(sanitize(&text))
    }
}

/// Text of several lines within one of the command's: what follows a line feed begins no line that looks like the
/// command's own.
pub fn indent(text: &str) -> String {
    text.replace('\n', "\n      ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_commands_own_words_have_colour() {
        let mut shown = Shown::default();
        shown.paint("red", Some(Style::new().red()));
        shown.push(": \u{1b}[31mx\n::add-mask::y\n");
        assert_eq!(shown.into_text(), "\u{1b}[31mred\u{1b}[0m: \\u{1b}[31mx\n\\::add-mask::y\n");
        assert_eq!(Shown::from("\u{1b}[2J".to_owned()).into_text(), "\\u{1b}[2J");
    }
}
