//! The one error of the parts that work for a run: whose fault it is, what happened, what helps, and what lies beneath.

use std::error::Error;
use std::fmt;

use super::cancellation::Cause;
use super::digest::Blame;
use crate::sys::files::PrivateFileError;

/// Whose fault a failure is. It decides how the command exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The recipe's: the run is red.
    Recipe,
    /// The host's, the engine's or ours.
    Host,
    /// The engine's, by chance: the same again may do it.
    Transient,
    /// The call's or the configuration's: nothing was changed.
    Configuration,
    /// Nobody's: another run held an app's lock for too long.
    LockTimeout,
    /// Nobody's: the run was ended early.
    Cancelled(Cause),
}

/// Something that was asked for was not done.
#[derive(Debug)]
pub struct Failure {
    fault: Fault,
    message: String,
    hint: Option<String>,
    blame: Option<Blame>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Returns a failure with its message: lower case, what was being done and what is wrong.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), hint: None, blame: None, source: None }
    }

    /// Returns a failure that is the recipe's.
    pub fn recipe(message: impl Into<String>) -> Self {
        Self::new(Fault::Recipe, message)
    }

    /// Returns a failure of the host, the engine or cc-ci.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(Fault::Host, message)
    }

    /// Returns a failure of the call or the configuration: nothing was changed.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(Fault::Configuration, message)
    }

    /// Returns the end of a run from outside.
    pub fn cancelled(cause: Cause) -> Self {
        Self::new(Fault::Cancelled(cause), format!("ended by {cause}"))
    }

    /// Adds what lies beneath.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the exact command or change that helps.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what helps, where something does.
    pub fn with_any_hint(self, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into).or(self.hint), ..self }
    }

    /// Adds who is to blame, where whoever fails knows more than whose fault it is.
    pub fn with_blame(self, blame: Blame) -> Self {
        Self { blame: Some(blame), ..self }
    }

    /// The same, where that is known.
    pub fn with_any_blame(self, blame: Option<Blame>) -> Self {
        Self { blame: blame.or(self.blame), ..self }
    }

    /// Adds another way out.
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint = Some(self.hint.map_or_else(|| hint.to_owned(), |first| format!("{first}; or {hint}")));
        self
    }

    /// Returns the failure of `doing`, which this one is the cause of. Whose fault it is and what helps stay.
    pub fn context(self, doing: impl Into<String>) -> Self {
        Self {
            fault: self.fault,
            message: doing.into(),
            hint: self.hint.clone(),
            blame: self.blame,
            source: Some(Box::new(self)),
        }
    }

    /// Blames the host for what would be the recipe's fault: what was at work is not what is tested.
    pub fn not_the_recipes(self) -> Self {
        let fault = if self.fault == Fault::Recipe { Fault::Host } else { self.fault };
        Self { fault, ..self }
    }

    /// Returns whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Returns who is to blame, where that is known.
    pub fn blame(&self) -> Option<Blame> {
        self.blame
    }

    /// Returns what helps.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns what happened and everything beneath it, in one line.
    pub fn chain(&self) -> String {
        super::error_chain(self)
    }
}

impl From<PrivateFileError> for Failure {
    fn from(error: PrivateFileError) -> Self {
        Self::configuration(super::error_chain(&error)).with_any_hint(error.hint())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beneath_stays_with_whose_fault_it_is_and_what_helps() {
        let failure = Failure::recipe("no such image")
            .with_hint("push it")
            .with_source(std::io::Error::other("404"))
            .context("can't deploy");
        assert_eq!(failure.chain(), "can't deploy: no such image: 404");
        assert_eq!((failure.fault(), failure.hint()), (Fault::Recipe, Some("push it")));
        let blamed = failure.or_hint("ask").not_the_recipes();
        assert_eq!(blamed.hint(), Some("push it; or ask"));
        assert_eq!((blamed.fault(), blamed.to_string().as_str()), (Fault::Host, "can't deploy"));
    }
}
