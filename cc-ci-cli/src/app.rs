//! From configuration to the parts of the library.

use std::error::Error;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, panic};

use cc_ci_abra::{Abra, AbraDeployer, Probe};
use cc_ci_core::blocking;
use cc_ci_core::engine::Deployer;
use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::lifetime::{Bounds, ParentWatch, ProcessMode, RunLifetime, TakeOverError, TakenOver};
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::lock::FlockLocks;
use cc_ci_core::names::{RunAppPattern, Suffix};
use cc_ci_core::run::{Harness, Places, Proxy, WarmApp};
use cc_ci_core::system_info::{KernelSystemInfo, SystemInfo};
use cc_ci_core::workspace::{KernelWorkspace, PulledImages, Settings as WorkspaceSettings};
use cc_ci_core::{CiHost, EnvFiles, Failure};
use cc_ci_docker::SwarmEngine;
use nix::errno::Errno;

use crate::args::{self, Parent};
use crate::config::Config;
use crate::engine::{self, Choice, Engine};
use crate::terminal::Terminal;

/// The server whose apps the local executor deploys.
const LOCAL_SERVER: &str = "local";

/// What the installed abra said of itself, in the runs directory: no run's id begins with a dot.
const ABRA_CACHE: &str = ".abra.json";

/// What ending the programs that were asked something may take.
const CHILDREN_LIMIT: Duration = Duration::from_secs(10);

/// What helps where the kernel starts no thread.
pub const FEW_THREADS: &str =
    "the host starts no more threads for this user: see ulimit -u, and pids.max of its cgroup";

/// As long as a thread for blocking work waits for more of it: longer than any command lasts.
const FOR_GOOD: Duration = Duration::from_hours(100 * 365 * 24);

/// What every command works with, whichever engine there is.
#[derive(Debug)]
pub struct Base {
    pub config: Config,
    pub host: Arc<dyn SystemInfo>,
    pub locks: Arc<FlockLocks>,
    pub reporter: Arc<dyn Reporter>,
}

impl Base {
    /// Puts the parts together; changes nothing.
    pub fn new(mut config: Config, terminal: &Terminal) -> Result<Self, Failure> {
        let host: Arc<dyn SystemInfo> = Arc::new(
            KernelSystemInfo::new().map_err(|error| Failure::host("can't read /proc").with_source(error))?,
        );
        let mut locks = FlockLocks::new(&config.lock_dir, host.clone())
            .with_trusted_owners(config.trusted_lock_owners.clone());
        if let Some(group) = config.lock_group {
            locks = locks.with_group(group);
        }
        let count = config.limit_runs;
        config.run.limits.places = (count > 0).then(|| Places::beside(&locks, count));
        Ok(Self { config, host, locks: Arc::new(locks), reporter: terminal.reporter() })
    }

    /// Everything, on the engine that is to be used; changes nothing but that the runs directory exists.
    pub async fn wire(self) -> Result<Parts, Failure> {
        let choice = engine::choose(&self.config).await?;
        blocking::run(move || self.wire_on(choice)).await
    }

    /// The same, where the choice is made. Blocks.
    pub fn wire_on(self, choice: Choice) -> Result<Parts, Failure> {
        let Self { config, host, locks, reporter } = self;
        let (suffix, servers, server, canonical) = match &choice.engine {
            Engine::Local => {
                // Apps of the local executor are no abra apps: without a canonical tree their files are its own.
                let servers = config.abra_dir.as_ref().unwrap_or(&config.local_root).join("servers");
                (config.local_suffix()?, servers, LOCAL_SERVER.to_owned(), config.abra_dir.clone())
            }
            Engine::Swarm(_) => {
                let tree = config.abra_tree()?;
                (config.swarm_suffix()?, servers_of(&tree, &config)?, config.server.to_string(), Some(tree))
            }
        };
        let pattern = pattern_of(suffix.clone(), &config)?;
        let env_files = EnvFiles::new(&servers, &server);
        let (engine, local): (Arc<dyn cc_ci_core::engine::Engine>, _) = match &choice.engine {
            Engine::Local => {
                let local = Arc::new(
                    LocalExecutor::new(config.local_root.clone(), host.clone())
                        .with_claim_limit(config.claim_timeout),
                );
                (local.clone(), Some(local))
            }
            Engine::Swarm(socket) => {
                let settings = cc_ci_docker::Settings {
                    socket: socket.clone(),
                    suffix: suffix.clone(),
                    sources: vec![Arc::new(env_files.clone())],
                    reporter: reporter.clone(),
                };
                let swarm = SwarmEngine::new(settings)
                    .with_credentials(config.pulls_with.clone())
                    .with_pulled_images(PulledImages::new(&config.runs_dir, host.clone()))
                    .with_nodes(config.nodes()?);
                (Arc::new(swarm), None)
            }
        };
        let runs = WorkspaceSettings::new(&config.runs_dir)
            .and_then(|settings| match &canonical {
                Some(canonical) => settings.canonical(canonical),
                None => Ok(settings),
            })
            .map(|settings| settings.catalogue(config.catalogue))
            .and_then(KernelWorkspace::new)
            .map_err(|error| {
                Failure::configuration("can't use the runs directory")
                    .with_source(error)
                    .with_hint("choose one that you can write: CCCI_RUNS_DIR")
            })?;
        let ci_host = CiHost { host, pattern, locks, engine, env_files, runs: Arc::new(runs), reporter };
        Ok(Parts { config, ci_host, choice, local })
    }
}

/// Which domains are run apps. A warm app that looks like one is refused by every command: a janitor would remove it.
fn pattern_of(suffix: Suffix, config: &Config) -> Result<RunAppPattern, Failure> {
    let pattern = RunAppPattern::new(suffix, config.protect.clone());
    match config.run.warm.values().find(|warm| pattern.is_run_app(&warm.domain)) {
        None => Ok(pattern),
        Some(WarmApp { domain, .. }) => Err(Failure::configuration(format!(
            "the warm app {domain} has the name of a run app: any janitor would remove it"
        ))
        .with_hint(format!("choose another domain for it, or protect it: protect = [\"{domain}\"]"))),
    }
}

/// abra's `servers/`, where this engine's server must be: without its `.env` files nobody knows all stacks of the
/// engine, and what of a run's is left behind.
pub fn servers_of(tree: &Path, config: &Config) -> Result<PathBuf, Failure> {
    let servers = tree.join("servers");
    let entries = fs::read_dir(&servers).map_err(|error| {
        Failure::configuration(format!("{} is no abra tree", tree.display())).with_source(error).with_hint(
            "name the one that has this engine's apps: ABRA_DIR, or `abra_dir` in the configuration",
        )
    })?;
    let mut known: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    known.sort();
    if known.iter().any(|name| name == config.server.as_str()) {
        return Ok(servers);
    }
    let message = format!("{} has no server {}", servers.display(), config.server);
    let names = known.join(", ");
    Err(Failure::configuration(message).with_hint(if known.is_empty() {
        format!("add it: abra server add {}", config.server)
    } else {
        format!("say which of abra's servers this engine is ({names}): --server NAME, or `server` in the configuration")
    }))
}

/// Everything that a command works with.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    pub ci_host: CiHost,
    pub choice: Choice,
    /// Where the engine is the local executor.
    local: Option<Arc<LocalExecutor>>,
}

impl Parts {
    /// Says which engine this is, where that may be a surprise.
    pub fn tell_engine(&self, terminal: &Terminal) {
        if self.choice.announce {
            terminal.progress(format!("executor: {}\n", self.choice.line()));
        }
    }

    /// Which engine this is, in one line.
    pub fn engine_line(&self) -> String {
        let line = self.choice.line();
        match &self.local {
            Some(local) => format!("{line}: processes on this host, below {}", local.root().display()),
            None => format!("{line}: {}", self.ci_host.engine),
        }
    }

    /// All that a run needs; `proxy` is what the configuration [says](Config::proxy): whoever forgot it would ask apps
    /// elsewhere than the operator wants. An abra that is missing, or lacks what is needed, is told before anything is
    /// touched.
    pub async fn harness(
        &self,
        lifetime: Arc<dyn RunLifetime>,
        proxy: Option<Proxy>,
    ) -> Result<Harness, Failure> {
        let deployer: Arc<dyn Deployer> = match (&self.choice.engine, &self.local) {
            (Engine::Swarm(socket), _) => Arc::new(self.abra(socket, lifetime.as_ref()).await?),
            (Engine::Local, Some(local)) => local.clone(),
            (Engine::Local, None) => return Err(Failure::host("the local executor was not made")),
        };
        let why_executor = self.choice.why.clone();
        let settings = cc_ci_core::run::Settings { why_executor, proxy, ..self.config.run.clone() };
        Ok(Harness { ci_host: self.ci_host.clone(), deployer, lifetime, settings })
    }

    async fn abra(&self, socket: &Path, lifetime: &dyn RunLifetime) -> Result<AbraDeployer, Failure> {
        let failed = |failure: Failure| failure.context("can't deploy with abra").not_the_recipes();
        let cache = self.config.runs_dir.join(ABRA_CACHE);
        let config = self.config.clone();
        let probe = blocking::run(move || engine::abra_probe(&config)).await?;
        let abra = Abra::probe(lifetime, Probe { cache: Some(cache), ..probe }).await.map_err(failed)?;
        let mut docker_host = OsString::from("unix://");
        docker_host.push(socket);
        let settings = cc_ci_abra::Settings {
            abra,
            server: self.config.server.to_string(),
            docker_host,
            engine: self.ci_host.engine.clone(),
            backups: self.config.backups,
        };
        AbraDeployer::new(settings).await.map_err(failed)
    }
}

/// Starts the lifetime that `settings` ask for.
pub fn start(
    taken: TakenOver,
    settings: &args::Settings,
    bounds: Bounds,
    terminal: &Terminal,
) -> Result<Arc<ProcessMode>, Failure> {
    let parent = match (settings.parent, settings.parent_pid) {
        (Some(Parent::None), _) => ParentWatch::None,
        (None, Some((pid, start_time))) => ParentWatch::Pid { pid, start_time },
        (None, None) => ParentWatch::Parent,
    };
    taken.start(parent, bounds, terminal.reporter()).map(Arc::new).map_err(|error| match error {
        TakeOverError::NoParent => Failure::configuration("can't tell whose death should end this command")
            .with_source(error)
            .with_hint("name the process with --parent-pid PID; in a systemd unit: --parent none"),
        error => not_started("can't watch over the command", error),
    })
}

/// Starts the lifetime of a command that only looks: whoever started it may be gone, and nothing is torn down at its end.
pub fn start_read_only(taken: TakenOver, terminal: &Terminal) -> Result<Arc<ProcessMode>, Failure> {
    let bounds = Bounds { deadline: None, ..Bounds::default() };
    let reporter = Arc::new(WithoutTeardown(terminal.reporter()));
    let started = taken.start(ParentWatch::None, bounds, reporter).map(Arc::new);
    started.map_err(|error| not_started("can't listen to signals", error))
}

fn not_started(what: &'static str, error: TakeOverError) -> Failure {
    let hint = thread_hint(&error);
    Failure::host(what).with_any_hint(hint).with_source(error)
}

/// What helps where the kernel has refused a thread or a process.
pub fn thread_hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(Errno::EAGAIN as i32) {
            return Some(FEW_THREADS);
        }
        next = error.source();
    }
    None
}

/// Tells no teardown.
#[derive(Debug)]
struct WithoutTeardown(Arc<dyn Reporter>);

impl Reporter for WithoutTeardown {
    fn report(&self, event: &Event) {
        if !matches!(event, Event::Cancelled { .. } | Event::SignalSwallowed { .. }) {
            self.0.report(event);
        }
    }
}

/// Runs `work` to its end on this thread. Blocking work that hangs in a system call does not keep the process.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let failed =
        |error: io::Error| Failure::host("can't start the runtime").with_source(error).with_hint(FEW_THREADS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(FOR_GOOD)
        .build()
        .map_err(failed)?;
    // The runtime panics where its first thread for blocking work can't be started, and does without later ones. So the
    // first one is started before anything is changed, and stays. The panic is told as what it is, and by nobody else.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let first = panic::catch_unwind(|| drop(runtime.spawn_blocking(|| {})));
    panic::set_hook(hook);
    if let Err(said) = first {
        let said =
            said.downcast::<String>().map_or_else(|_| "no thread for blocking work".to_owned(), |said| *said);
        return Err(failed(io::Error::other(said)));
    }
    let end = {
        let _unblocked = blocking::Unblocked::begin();
        runtime.block_on(work)
    };
    runtime.shutdown_background();
    end
}

/// Runs `work` to its end; a cancellation ends it where it waits. For commands that change nothing.
pub fn block_on_read_only<T>(
    lifetime: &dyn RunLifetime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    block_on(async {
        let end = until_cancelled(lifetime, work).await;
        end_children(lifetime).await;
        end
    })
}

/// `work`, dropped where it waits when the command is ended.
pub async fn until_cancelled<T>(
    lifetime: &dyn RunLifetime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        cause = lifetime.cancellation().cancelled() => Err(Failure::cancelled(cause)),
        end = work => end,
    }
}

/// Ends what is left of the programs that a command asked something, and theirs: no run does it.
pub async fn end_children(lifetime: &dyn RunLifetime) {
    lifetime.begin_teardown();
    let ended = tokio::time::timeout(CHILDREN_LIMIT, lifetime.end_children()).await;
    match ended {
        Ok(ended) if ended.left.is_empty() => {}
        Ok(ended) => tracing::warn!(left = ?ended.left, "processes outlived their end"),
        // Work that hangs in a system call hangs there.
        Err(_) => tracing::warn!("ending what was started takes too long"),
    }
}

/// A host that could not be looked at, whatever the reason.
pub fn inspection_failed(failure: Failure) -> Failure {
    let hint = failure.hint().map(str::to_owned);
    Failure::host("can't tell what exists").with_any_hint(hint).with_source(failure)
}

#[cfg(test)]
mod tests {
    use cc_ci_core::Fault;

    use super::*;

    #[test]
    fn an_inspection_that_failed_is_the_hosts_fault_and_keeps_what_helps() {
        let failure = inspection_failed(Failure::configuration("no such engine").with_hint("start it"));
        assert_eq!((failure.fault(), failure.hint()), (Fault::Host, Some("start it")));
        assert_eq!(failure.chain(), "can't tell what exists: no such engine");
    }
}
