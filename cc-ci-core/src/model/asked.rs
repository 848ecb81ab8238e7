//! What a run was asked for, so that the same can be asked for again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the command was called with, where the run's record does not say it elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// Where the recipe is: an absolute path, an address, or a name in the canonical tree.
    pub source: String,
    /// The commit, branch or tag; the source's `HEAD` without.
    pub revision: Option<String>,
    /// How long the run may take, in seconds, where the call says so.
    pub deadline_seconds: Option<f64>,
    /// The operator's tests, where the call names them.
    pub tests_dir: Option<String>,
    /// Whether the commit itself is deployed, without an earlier release.
    pub fresh: bool,
    /// The releases to upgrade from, where the call names them.
    pub upgrade_from: Vec<String>,
    /// Whether the canonical tree's recipe is copied and nothing fetched.
    pub skip_fetch: bool,
    /// Whether the call asks only to be warned of privileges that are not granted.
    pub report_only: bool,
    /// How long a red app is kept up for a person to look, in seconds, where the call says so.
    #[serde(default)]
    pub keep_on_red_seconds: Option<f64>,
}
