//! What every call of one run shares.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::lifetime::{Command, InTeardown, Line, RunLifetime};
use crate::model::event::Reporter;
use crate::names::{Domain, RunId};
use crate::sys::process::{Marker, MarkerOwner};

/// A run, as deployers and tests see it: whose children to start, in which environment, and what to hide.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// The run.
    pub run_id: RunId,
    /// Starts and ends the children.
    pub lifetime: Arc<dyn RunLifetime>,
    /// Takes events.
    pub reporter: Arc<dyn Reporter>,
    /// The whole environment of a child, but for its mark.
    pub environment: Vec<(OsString, OsString)>,
    /// Scratch space of the run; goes with its tree.
    pub tmp: PathBuf,
    /// What no output may show.
    pub redactor: Redactor,
}

impl RunContext {
    /// A child of this run that works on `domain`: marked, with the run's environment.
    pub fn command(&self, domain: &Domain, program: impl AsRef<std::ffi::OsStr>, cwd: &Path) -> Command {
        Command::new(program, cwd)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .marker(self.marker(domain))
    }

    /// The same run in its teardown: what it starts now is part of that, and what ended the run does not end it.
    pub fn in_teardown(&self) -> Self {
        Self { lifetime: Arc::new(InTeardown::new(self.lifetime.clone())), ..self.clone() }
    }

    /// The mark of the children that work on `domain`.
    pub fn marker(&self, domain: &Domain) -> Marker {
        let owner = MarkerOwner::Run { run_id: self.run_id.clone(), owner: self.lifetime.owner().clone() };
        Marker { domain: domain.clone(), owner }
    }
}

/// Takes the run's secrets out of text. Clones share what they hide.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Mutex<BTreeSet<String>>>);

impl Redactor {
    /// Hides `secret` from now on. Shorter than 4 characters it would hide half of every text, and hides nothing.
    pub fn hide(&self, secret: &str) {
        let mut hidden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hidden.extend(secret.lines().map(str::trim).filter(|line| line.len() >= 4).map(str::to_owned));
    }

    /// `text` without the secrets.
    pub fn redact(&self, text: &str) -> String {
        let hidden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Longest first, so that no secret survives in part because another one is its prefix.
        let mut secrets: Vec<&String> = hidden.iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[secret]"))
    }

    /// A line without the secrets, and without the beginning of one where the line was cut.
    pub fn redact_line(&self, line: &Line) -> String {
        let mut text = self.redact(&line.text);
        if line.text.len() >= Line::MAX {
            let hidden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = |secret: &String| {
                let ends = secret.char_indices().map(|(end, _)| end).rev();
                ends.take_while(|end| *end > 0).find(|end| text.ends_with(&secret[..*end]))
            };
            let half = hidden.iter().filter_map(begun).max().unwrap_or(0);
            text.truncate(text.len() - half);
        }
        text
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
}
