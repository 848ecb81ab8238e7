//! Takes secrets out of text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lifetime::Line;
use crate::model::secret::Secret;

/// Shorter than so many bytes a secret would hide half of every text, and hides nothing.
const SHORTEST: usize = 4;

/// Takes secrets out of text. Clones share what they hide.
///
/// A run has one [of its own](Self::of_run): what it hides is hidden in the engine's messages too for as long as the run
/// lasts, and not in another run's output.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Hidden>);

#[derive(Default)]
struct Hidden {
    /// How often each is hidden here: two runs may have the same.
    secrets: Mutex<BTreeMap<Secret, usize>>,
    engine: Option<Redactor>,
}

impl Redactor {
    /// Returns that of one run, on an engine whose own is this one.
    pub fn of_run(&self) -> Self {
        Self(Arc::new(Hidden { secrets: Mutex::default(), engine: Some(self.clone()) }))
    }

    /// Hides each line of `secret` from now on.
    pub fn hide(&self, secret: &str) {
        for line in secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST) {
            let line = Secret::new(line.to_owned());
            let is_new = {
                let mut secrets = self.secrets();
                let count = secrets.entry(line.clone()).or_default();
                *count += 1;
                *count == 1
            };
            if let Some(engine) = self.0.engine.as_ref().filter(|_| is_new) {
                engine.hide(line.expose());
            }
        }
    }

    /// Returns `text` without the secrets.
    pub fn redact(&self, text: &str) -> String {
        let hidden = self.secrets();
        // Longest first, so that no secret survives in part because another one is its prefix.
        let mut secrets: Vec<&str> = hidden.keys().map(Secret::expose).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
    }

    /// Returns a line without the secrets, and without the beginning of one where the line was cut.
    pub fn redact_line(&self, line: &Line) -> String {
        let mut text = self.redact(&line.text);
        if line.text.len() >= Line::MAX {
            let hidden = self.secrets();
            let begun = |secret: &Secret| {
                let secret = secret.expose();
                let ends = secret.char_indices().map(|(end, _)| end).rev();
                ends.take_while(|end| *end > 0).find(|end| text.ends_with(&secret[..*end]))
            };
            let half = hidden.keys().filter_map(begun).max().unwrap_or(0);
            text.truncate(text.len() - half);
        }
        text
    }

    fn forget(&self, secret: &Secret) {
        let mut secrets = self.secrets();
        if let Some(count) = secrets.get_mut(secret) {
            *count -= 1;
            if *count == 0 {
                secrets.remove(secret);
            }
        }
    }

    fn secrets(&self) -> MutexGuard<'_, BTreeMap<Secret, usize>> {
        self.0.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let Some(engine) = &self.engine else { return };
        for secret in self.secrets.get_mut().unwrap_or_else(PoisonError::into_inner).keys() {
            engine.forget(secret);
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetime::Stream;

    #[test]
    fn secrets_leave_no_part_of_themselves() {
        let redactor = Redactor::default();
        redactor.hide("hunter22\n");
        redactor.hide("hunter22-and-more");
        redactor.hide("ab");
        assert_eq!(redactor.redact("x hunter22-and-more y hunter22 ab"), "x [secret] y [secret] ab");
        assert!(!format!("{redactor:?}").contains("hunter"));
    }

    #[test]
    fn where_a_line_was_cut_no_half_of_a_secret_is_left() {
        let redactor = Redactor::default();
        redactor.hide("hunter22-and-more");
        redactor.hide("hunger");
        let line = |text: String| redactor.redact_line(&Line { stream: Stream::Stdout, text });
        let cut = |end: &str| "x".repeat(Line::MAX - end.len()) + end;
        for (end, left) in [("hunter22-and-mor", ""), ("hu", ""), ("hung", ""), ("y hunter22", "y ")] {
            assert_eq!(line(cut(end)), "x".repeat(Line::MAX - end.len()) + left, "{end}");
        }
        assert_eq!(line(cut("hunger")), "x".repeat(Line::MAX - 6) + "[secret]");
        // A whole line ends as it ends.
        assert_eq!(line("x hunter22".to_owned()), "x hunter22");
    }

    #[test]
    fn what_a_run_hides_is_hidden_in_the_engines_messages_until_it_ends_and_never_in_another_run() {
        let engine = Redactor::default();
        let (one, other) = (engine.of_run(), engine.of_run());
        one.hide("hunter22");
        one.hide("hunter22");
        other.hide("shared-22");
        one.clone().hide("shared-22");
        let text = "hunter22 shared-22";
        assert_eq!(engine.redact(text), "[secret] [secret]");
        assert_eq!(other.redact(text), "hunter22 [secret]");
        drop(one);
        assert_eq!(engine.redact(text), "hunter22 [secret]");
        drop(other);
        assert_eq!(engine.redact(text), text);
    }
}
