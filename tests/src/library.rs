//! The parts of the library, in a test's world.

use std::path::Path;
use std::sync::Arc;

use cc_ci_core::event::{Event, Reporter, Silent};
use cc_ci_core::lifetime::RunLifetime;
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::lock::FlockLocks;
use cc_ci_core::names::{Domain, RunAppPattern, Subject};
use cc_ci_core::run::{Harness, RecipeScripts, Request, Settings};
use cc_ci_core::system_info::{KernelSystemInfo, SystemInfo};
use cc_ci_core::workspace::{KernelWorkspace, RecipeSource, Settings as WorkspaceSettings};
use cc_ci_core::{CiHost, EnvFiles};

use crate::world::World;

/// A reporter that hands every event to a function.
pub struct OnEvent<F>(pub F);

impl<F> std::fmt::Debug for OnEvent<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnEvent")
    }
}

impl<F: Fn(&Event) + Send + Sync> Reporter for OnEvent<F> {
    fn report(&self, event: &Event) {
        (self.0)(event);
    }
}

impl World {
    /// The real host.
    pub fn host(&self) -> Arc<dyn SystemInfo> {
        Arc::new(KernelSystemInfo::new().expect("/proc can be read"))
    }

    /// The local executor of this world, on `host`.
    pub fn executor(&self, host: Arc<dyn SystemInfo>) -> Arc<LocalExecutor> {
        Arc::new(LocalExecutor::new(self.local_root(), host))
    }

    /// What the command would work with, on `host`.
    pub fn ci_host_on(
        &self,
        host: Arc<dyn SystemInfo>,
        protected: impl IntoIterator<Item = Domain>,
    ) -> CiHost {
        let runs = WorkspaceSettings::new(self.runs()).and_then(KernelWorkspace::new);
        CiHost {
            pattern: RunAppPattern::new(self.suffix().clone(), protected),
            locks: Arc::new(FlockLocks::new(self.locks(), host.clone())),
            engine: self.executor(host.clone()),
            env_files: EnvFiles::new(&self.local_root().join("servers"), "local"),
            runs: Arc::new(runs.expect("the world can be written")),
            reporter: Arc::new(Silent),
            host,
        }
    }

    /// What the command would work with.
    pub fn ci_host(&self) -> CiHost {
        self.ci_host_on(self.host(), [])
    }

    /// All that a run needs.
    pub fn harness(&self, lifetime: Arc<dyn RunLifetime>) -> Harness {
        let ci_host = self.ci_host();
        let deployer = self.executor(ci_host.host.clone());
        // Its recipes' services are programs of the tests, wherever those were built.
        let settings = Settings { recipe_scripts: RecipeScripts::Unconfined, ..Settings::default() };
        Harness { ci_host, deployer, lifetime, settings }
    }

    /// A run of pull request `number` of the recipe at `path`.
    pub fn request(&self, path: &Path, number: u64, run_id: &str) -> Request {
        let source = RecipeSource::Path(path.to_owned());
        let run_id = run_id.parse().expect("a run id");
        Request::new(source, Subject::PullRequest(number), run_id).expect("a recipe's path names it")
    }
}
