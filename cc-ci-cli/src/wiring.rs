//! From configuration to the parts of the library.

use std::future::Future;
use std::sync::Arc;

use cc_ci_core::cancellation::Cause;
use cc_ci_core::executor::local::LocalExecutor;
use cc_ci_core::exit::Exit;
use cc_ci_core::host::{Host, SystemHost};
use cc_ci_core::lifetime::{Bounds, Owning, ParentWatch, RunLifetime, TakeOverError, TakenOver};
use cc_ci_core::lock::FlockLocks;
use cc_ci_core::names::RunAppPattern;
use cc_ci_core::run::Harness;
use cc_ci_core::workspace::{KernelWorkspace, Settings as WorkspaceSettings};
use cc_ci_core::{ClaimError, EnvFiles, LookError, Site};

use crate::args::{self, Parent};
use crate::config::Config;
use crate::error::CliError;
use crate::terminal::Terminal;

/// The server whose apps the local executor deploys.
const LOCAL_SERVER: &str = "local";

/// Everything that a command works with.
#[derive(Debug)]
pub struct Wired {
    pub config: Config,
    pub site: Site,
    pub executor: Arc<LocalExecutor>,
}

impl Wired {
    /// Puts the parts together; changes nothing but that the runs directory exists.
    pub fn new(config: Config, terminal: &Terminal) -> Result<Self, CliError> {
        let host: Arc<dyn Host> = Arc::new(
            SystemHost::new().map_err(|error| CliError::harness("can't read /proc").because(&error))?,
        );
        let mut locks = FlockLocks::new(&config.lock_dir, host.clone())
            .with_trusted_owners(config.trusted_lock_owners.clone());
        if let Some(group) = config.lock_group {
            locks = locks.with_group(group);
        }
        let runs = WorkspaceSettings::new(&config.runs_dir)
            .and_then(|settings| match &config.abra_dir {
                Some(canonical) => settings.canonical(canonical),
                None => Ok(settings),
            })
            .map(|settings| settings.catalogue(config.catalogue))
            .and_then(KernelWorkspace::new)
            .map_err(|error| {
                CliError::usage("can't use the runs directory")
                    .because(&error)
                    .hint("choose one that you can write: CCCI_RUNS_DIR")
            })?;
        // Apps of the local executor are no abra apps: without a canonical tree their files are its own.
        let servers =
            config.abra_dir.as_ref().map_or_else(|| config.local_root.clone(), Clone::clone).join("servers");
        let executor = Arc::new(LocalExecutor::new(config.local_root.clone(), host.clone()));
        let site = Site {
            host,
            pattern: RunAppPattern::new(config.suffix.clone(), config.protect.clone()),
            locks: Arc::new(locks),
            engine: executor.clone(),
            env_files: EnvFiles::new(&servers, LOCAL_SERVER),
            runs: Arc::new(runs),
            reporter: terminal.reporter(),
        };
        Ok(Self { config, site, executor })
    }

    /// All that a run needs.
    pub fn harness(&self, lifetime: Arc<dyn RunLifetime>) -> Harness {
        Harness {
            site: self.site.clone(),
            deployer: self.executor.clone(),
            lifetime,
            settings: self.config.run.clone(),
        }
    }
}

/// Starts the lifetime that `settings` ask for.
pub fn start(
    taken: TakenOver,
    settings: &args::Settings,
    bounds: Bounds,
    terminal: &Terminal,
) -> Result<Arc<Owning>, CliError> {
    let parent = match (settings.parent, settings.parent_pid) {
        (Some(Parent::None), _) => ParentWatch::None,
        (None, Some((pid, start_time))) => ParentWatch::Pid { pid, start_time },
        (None, None) => ParentWatch::Parent,
    };
    taken.start(parent, bounds, terminal.reporter()).map(Arc::new).map_err(|error| match error {
        TakeOverError::NoParent => CliError::usage("can't tell whose death should end this command")
            .because(&error)
            .hint("name the process with --parent-pid PID; in a systemd unit: --parent none"),
        error => CliError::harness("can't watch over the command").because(&error),
    })
}

/// A lifetime for commands that only look: whoever started them may be gone.
pub fn look(taken: TakenOver, terminal: &Terminal) -> Result<Arc<Owning>, CliError> {
    let bounds = Bounds { deadline: None, ..Bounds::default() };
    taken
        .start(ParentWatch::None, bounds, terminal.reporter())
        .map(Arc::new)
        .map_err(|error| CliError::harness("can't listen to signals").because(&error))
}

/// Runs `work` to its end on this thread. Blocking work that hangs in a system call does not keep the process.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::harness("can't start the runtime").because(&error))?;
    let end = runtime.block_on(work);
    runtime.shutdown_background();
    end
}

/// Runs `work` to its end; a cancellation ends it where it waits. For commands that change nothing.
pub fn block_on_look<T>(
    lifetime: &dyn RunLifetime,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    block_on(async {
        tokio::select! {
            biased;
            cause = lifetime.cancellation().cancelled() => Err(cancelled(cause)),
            end = work => end,
        }
    })
}

/// The error of a command that was ended.
pub fn cancelled(cause: Cause) -> CliError {
    CliError::harness(format!("ended by {cause}")).exiting(Exit::Cancelled(cause))
}

/// A host that could not be looked at.
pub fn look_failed(error: &LookError) -> CliError {
    CliError::harness("can't tell what exists").because(error)
}

/// Claims the engine for this command's lock space, before anything is changed.
pub async fn claim(site: &Site) -> Result<(), CliError> {
    site.claim().await.map_err(|error| match &error {
        ClaimError::Engine(engine) => {
            let told = CliError::usage("the engine is not ours to change").because(&error);
            match engine.hint() {
                Some(hint) => told.hint(hint),
                None => told,
            }
        }
        _ => CliError::usage("can't use the lock directory")
            .because(&error)
            .hint("choose one that you can write: CCCI_APP_LOCK_DIR"),
    })
}
