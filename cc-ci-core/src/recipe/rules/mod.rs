//! `recipe check`: every rule that can be judged by looking at a recipe, without deploying it.
//!
//! `compose.yml` is judged alone, then with each `compose.*.yml` over it, with the values of `.env.sample`; an overlay
//! is taken to be used as the sample's comments say. What an overlay adds is told at the overlay. Releases come from
//! outside (see [`crate::inspect`]): here files are read and nothing runs.
//!
//! # Limitations
//! Lines are looked for in the text: see `lines`. An overlay that works only on top of another is tried with
//! each other one.

mod files;
mod finding_sink;
mod layout;
mod lines;
mod previous_release;
pub(super) mod table;
mod variables;
mod version;

use schemars::JsonSchema;
use serde::Serialize;

use crate::names::{Domain, RecipeName, Subject, Suffix, UnfitTag, Version};

pub(crate) use files::{check, fingerprint};
pub(crate) use layout::LayoutError;
pub(crate) use previous_release::PreviousRelease;
pub use table::{RULES, Rule, Severity};

/// The suffix of the domain that names are judged with.
const SUFFIX: &str = "ci.example.org";

/// What breaks a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// The file, relative to the recipe.
    pub file: String,
    /// The line, from 1, where it can be told.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// How to mend it.
    pub mend: &'static str,
}

/// What `recipe check` found.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Report {
    /// The recipe.
    pub recipe: RecipeName,
    /// The domain that names were judged with.
    pub judged_as: Domain,
    /// The release that the files were compared with.
    pub compared_with: Option<Version>,
    /// What could not be judged, and why.
    pub skipped: Vec<String>,
    /// What breaks a rule, by file and line.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings weigh so much.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// What a repository says of a recipe.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The release that the files are, where nothing was changed since.
    pub(crate) is_release: Option<Version>,
    /// Tags that look like a release and are none.
    pub(crate) unfit: Vec<UnfitTag>,
    /// The release before.
    pub(crate) previous: Option<PreviousRelease>,
}

/// The domain that a recipe is judged as: one as a run gives it.
pub(crate) fn domain_of(recipe: &RecipeName) -> Option<Domain> {
    let suffix = SUFFIX.parse::<Suffix>().ok()?;
    Some(Domain::of_run(recipe, &Subject::reference("recipe-check"), &suffix))
}

#[cfg(test)]
mod tests;
