//! What a run gives its engine: a session, and its app.

use std::sync::Arc;

use cc_ci_core::engine::{self, Engine as _, RecipeCode, RunContext};
use cc_ci_core::event::Silent;
use cc_ci_core::lifetime::{Bounds, EmbeddedMode};
use tempfile::TempDir;

use crate::support::App;

/// A run's part of the calls.
#[derive(Debug)]
pub struct Run {
    pub context: RunContext,
    pub app: engine::App,
    tmp: TempDir,
}

impl Run {
    /// A run whose app is `app`; it has neither a tree nor an `.env`.
    pub fn of(app: &App<'_>) -> Self {
        let tmp = tempfile::tempdir().expect("there is room");
        let lifetime =
            EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).expect("there is a thread left");
        let context = RunContext {
            run_id: "manual-1".parse().expect("a run id"),
            lifetime: Arc::new(lifetime),
            reporter: Arc::new(Silent),
            environment: Vec::new(),
            tmp: tmp.path().to_owned(),
            redactor: app.swarm.redactor(),
            recipe_code: RecipeCode::Unconfined("nothing of a recipe runs here".into()),
        };
        let app = engine::App {
            domain: app.domain.clone(),
            recipe: "test".parse().expect("a recipe's name"),
            tree: tmp.path().join("tree"),
            env_file: tmp.path().join("env"),
        };
        Self { context, app, tmp }
    }

    /// Where its copies go.
    pub fn copies(&self) -> std::path::PathBuf {
        self.tmp.path().join("copies")
    }
}
