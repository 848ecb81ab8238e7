//! `cc-ci with-lock`: a command that owns an app while it runs.
//!
//! It ends what a dead owner left running on the app, and removes nothing: its user may want to look.

use std::env;
use std::io::IsTerminal as _;
use std::sync::Arc;

use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::end_orphans;
use cc_ci_core::lifetime::{
    Bounds, Command, Output, RunLifetime, RunLifetimeExt as _, ScopeEnd, SpawnError, Stdin, TakenOver,
};
use cc_ci_core::lock::{AcquireError, AppLock as _, Description, Wait};
use cc_ci_core::names::RunId;
use cc_ci_core::process::{Marker, MarkerOwner};

use crate::args;
use crate::error::CliError;
use crate::foreground;
use crate::terminal::Terminal;
use crate::wiring::{self, Base};

/// cc-ci's own failure, as env(1) and its kin have it.
const OWN_FAILURE: u8 = 125;
/// The command can't be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

pub fn with_lock(
    args: &args::WithLock,
    settings: &args::Settings,
    base: &Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, CliError> {
    // Whoever wraps a command must be able to tell its failures from ours.
    run(args, settings, base, taken, terminal).map_err(|error| match error.exit {
        Exit::Harness | Exit::Usage => error.exiting(Exit::Status(OWN_FAILURE)),
        _ => error,
    })
}

fn run(
    args: &args::WithLock,
    settings: &args::Settings,
    base: &Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, CliError> {
    let bounds = Bounds { deadline: None, teardown: base.config.teardown_budget };
    let lifetime: Arc<dyn RunLifetime> = wiring::start(taken, settings, bounds, terminal)?;
    wiring::block_on(async {
        // Outside of the scope: the lock goes after the last child.
        let mut guard = None;
        let mut pid = None;
        let (end, children) = lifetime
            .scope(async {
                let held = guard.insert(acquire(args, base, lifetime.as_ref()).await?);
                held.describe(&Description { run_id: None, recipe: None, phase: "with-lock".to_owned() });
                let failures = end_orphans(base.host.as_ref(), &args.domain).await.failures;
                if !failures.is_empty() {
                    return Err(CliError::harness(format!(
                        "can't settle {}: {}",
                        args.domain,
                        failures.join("; ")
                    )));
                }
                execute(args, lifetime.as_ref(), &mut pid).await
            })
            .await;
        // Whatever ended it: the shell above reads on.
        foreground::take_back(pid);
        if !children.left.is_empty() {
            return Err(CliError::harness(format!("processes of the command are left: {:?}", children.left)));
        }
        match end {
            ScopeEnd::Returned(end) => end,
            ScopeEnd::Cancelled(cause) => Err(wiring::cancelled(cause)),
            ScopeEnd::Panicked(panic) => std::panic::resume_unwind(panic),
        }
    })
}

async fn acquire(
    args: &args::WithLock,
    base: &Base,
    lifetime: &dyn RunLifetime,
) -> Result<cc_ci_core::lock::AppGuard, CliError> {
    let wait = Wait::Until(base.config.run.lock_timeout);
    base.locks.acquire(&args.domain, wait, lifetime.cancellation(), base.reporter.as_ref()).await.map_err(
        |error| {
            let told = CliError::harness("can't get the app's lock").because(&error);
            match error {
                AcquireError::TimedOut { .. } => told.exiting(Exit::LockTimeout).hint(format!(
                    "see who holds it: cc-ci locks {}; or wait longer: --lock-timeout",
                    args.domain
                )),
                AcquireError::Cancelled { cause, .. } => wiring::cancelled(cause),
                _ => told,
            }
        },
    )
}

/// Runs the command, and tells its pid.
async fn execute(
    args: &args::WithLock,
    lifetime: &dyn RunLifetime,
    pid: &mut Option<i32>,
) -> Result<Exit, CliError> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(CliError::usage("no command"));
    };
    let cwd = env::current_dir()
        .map_err(|error| CliError::harness("the working directory is gone").because(&error))?;
    let owner =
        MarkerOwner::Run { run_id: RunId::manual(std::process::id()), owner: lifetime.owner().clone() };
    let terminal = std::io::stdin().is_terminal();
    let command = Command::new(program, cwd)
        .args(rest)
        .envs(env::vars_os())
        .marker(Marker { domain: args.domain.clone(), owner })
        .stdin(if terminal { Stdin::Terminal } else { Stdin::Inherit })
        .output(Output::Inherit);
    let failed = |error: &SpawnError| {
        let exit = match error {
            SpawnError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Exit::Status(NOT_FOUND)
            }
            SpawnError::Io { .. } => Exit::Status(NOT_EXECUTABLE),
            _ => Exit::Harness,
        };
        CliError::harness(format!("can't run {}", program.to_string_lossy())).because(error).exiting(exit)
    };
    let mut child = lifetime.spawn(command).await.map_err(|error| failed(&error))?;
    let child_pid = child.pid();
    *pid = Some(child_pid);
    let ended = if terminal {
        tokio::select! {
            ended = child.wait() => ended,
            followed = foreground::follow(child_pid) => match followed {
                Err(error) => return Err(CliError::harness("can't follow the command's stops").because(&error)),
            },
        }
    } else {
        child.wait().await
    };
    Ok(ended.shell_code().and_then(|code| u8::try_from(code).ok()).map_or(Exit::Harness, Exit::Status))
}
