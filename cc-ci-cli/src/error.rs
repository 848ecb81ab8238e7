//! Errors as the command tells them: what, why, and what helps.

use std::fmt::Write as _;

use cc_ci_core::engine::{EngineError, Fault};
use cc_ci_core::exit::Exit;

use crate::shown::indent;

/// An error that ends a command.
#[derive(Debug)]
pub struct CliError {
    /// How the command exits for it.
    pub exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// The call or the configuration is wrong; nothing was changed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The harness or the host failed.
    pub fn harness(message: impl Into<String>) -> Self {
        Self::new(Exit::Harness, message)
    }

    /// Ends with another exit.
    pub fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds an error and everything beneath it.
    pub fn because(mut self, error: &dyn std::error::Error) -> Self {
        self.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(error) = source {
            self.causes.push(error.to_string());
            source = error.source();
        }
        self
    }

    /// Adds the exact command or change that helps.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure of the engine, with what helps. Only what the configuration says wrong is a usage error.
    pub fn of_engine(message: impl Into<String>, error: &EngineError) -> Self {
        let told = match error.fault() {
            Fault::Configuration => Self::usage(message),
            Fault::Host | Fault::Recipe => Self::harness(message),
        };
        let told = told.because(error);
        match error.hint() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }

    /// Adds another way out.
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint = Some(self.hint.map_or_else(|| hint.to_owned(), |first| format!("{first}; or {hint}")));
        self
    }

    /// All of it in one line, and what helps.
    pub fn parts(&self) -> (String, Option<&str>) {
        let chain = self.causes.iter().fold(self.message.clone(), |line, cause| format!("{line}: {cause}"));
        (chain, self.hint.as_deref())
    }

    /// The lines to print.
    pub fn lines(&self) -> String {
        let mut text = format!("error: {}\n", indent(&self.message));
        if !self.causes.is_empty() {
            text.push_str("Caused by:\n");
            for cause in &self.causes {
                let _ = writeln!(text, "    {}", indent(cause));
            }
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "\nhint: {}", indent(hint));
        }
        text
    }
}
