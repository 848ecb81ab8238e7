//! What a run tests: a recipe, at a pull request or a ref.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidName, string_name};

/// The name of a recipe: the last part of its repository's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct RecipeName(String);
string_name!(RecipeName);

impl FromStr for RecipeName {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if value.len() > 64 || !starts_well || !value.chars().all(plain) {
            let rule = "1 to 64 of [A-Za-z0-9._-], first a letter, a digit or _";
            return Err(InvalidName::new("recipe name", value, rule));
        }
        Ok(Self(value.to_owned()))
    }
}

/// What of the recipe is tested; with the recipe's name it determines the run's domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A pull request, by number.
    PullRequest(u64),
    /// Anything else: a branch, a tag, a commit, or what a dependency serves.
    Ref(String),
}

impl Subject {
    /// The subject of a run without a pull request.
    pub fn reference(name: impl Into<String>) -> Self {
        Self::Ref(name.into())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullRequest(number) => write!(f, "pr-{number}"),
            Self::Ref(name) => write!(f, "ref-{name}"),
        }
    }
}
