//! What goes wrong with an engine, and whose fault it is.

use std::error::Error;
use std::fmt;

/// Whose fault a failure is: it decides between red, a harness failure, and a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The recipe's: the run is red.
    Recipe,
    /// The host's, the engine's or ours.
    Host,
    /// The configuration's: nothing was changed.
    Configuration,
}

/// A call to a deployer or an engine failed.
#[derive(Debug)]
pub struct EngineError {
    fault: Fault,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl EngineError {
    /// A failure with its message: lower case, what was being done and what is wrong.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), hint: None, source: None }
    }

    /// The recipe's fault.
    pub fn recipe(message: impl Into<String>) -> Self {
        Self::new(Fault::Recipe, message)
    }

    /// The host's fault.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(Fault::Host, message)
    }

    /// The configuration's fault.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(Fault::Configuration, message)
    }

    /// Adds what lies beneath.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the exact command or change that helps.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What helps.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
