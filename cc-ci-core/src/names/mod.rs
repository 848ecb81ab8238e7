//! The words of the field, validated once at the edge.
//!
//! Every type here can only hold a valid value, so that nothing behind the edge checks again: a name from a
//! pull request that reached a path, a label or a lock file has passed through one of these.

mod domain;
mod pattern;
mod recipe;
mod run_id;
mod tag;
mod version;

pub use domain::{Domain, Stack, Suffix};
pub use pattern::{AppKind, RunAppPattern};
pub use recipe::{RecipeName, Subject};
pub use run_id::RunId;
pub use tag::{TagFault, UnfitTag};
pub use version::Version;

/// A value from outside that breaks a rule: it names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {rule}")]
#[non_exhaustive]
pub struct InvalidName {
    /// What the value was meant to be, in the field's word.
    pub what: &'static str,
    /// The value as it came, cut at 80 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), rule }
    }
}

/// Gives a validated string type its `FromStr`-based serde, `Display` and `as_str`.
macro_rules! string_name {
    ($name:ident) => {
        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = $crate::names::InvalidName;
            fn try_from(value: String) -> Result<Self, Self::Error> {
                value.parse()
            }
        }
    };
}
pub(crate) use string_name;
