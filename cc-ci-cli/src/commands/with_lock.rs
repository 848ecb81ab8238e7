//! `cc-ci with-lock`: a command that owns an app while it runs.
//!
//! It ends what a dead owner left running on the app, and removes nothing: its user may want to look.

use std::env;
use std::io::IsTerminal as _;
use std::sync::Arc;

use cc_ci_core::exit::Exit;
use cc_ci_core::janitor::end_orphans;
use cc_ci_core::lifetime::{
    Bounds, ChildrenEnded, Command, Output, RunLifetime, RunLifetimeExt as _, ScopeEnd, SpawnError, Stdin,
    TakenOver,
};
use cc_ci_core::lock::{AcquireError, AppGuard, AppLock as _, Description, Wait};
use cc_ci_core::names::RunId;
use cc_ci_core::process::{Marker, MarkerOwner};

use crate::app::{self, Base};
use crate::args;
use crate::foreground;
use crate::overtime;
use crate::terminal::Terminal;
use cc_ci_core::Failure;

/// cc-ci's own failure, as env(1) and its kin have it.
const OWN_FAILURE: u8 = 125;
/// The command can't be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// What the command exits with: whoever wraps one must be able to tell its failures from ours.
pub fn status(end: Result<Exit, Failure>, terminal: &Terminal) -> Result<Exit, Failure> {
    match end {
        Err(failure) if matches!(failure.fault().into(), Exit::Harness | Exit::Usage) => {
            terminal.error(&failure);
            Ok(Exit::Status(OWN_FAILURE))
        }
        end => end,
    }
}

pub fn with_lock(
    args: &args::WithLock,
    settings: &args::Settings,
    base: &Base,
    taken: TakenOver,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let bounds = Bounds { deadline: None, teardown: base.config.teardown_budget };
    let lifetime: Arc<dyn RunLifetime> = app::start(taken, settings, bounds, terminal)?;
    let work = async {
        // Outside of the scope: the lock goes after the last child.
        let mut guard = None;
        let mut recovered = false;
        let mut pid = None;
        let (end, children) = lifetime
            .scope(async {
                let held = guard.insert(acquire(args, base, lifetime.as_ref()).await?);
                held.describe(&Description { run_id: None, recipe: None, phase: "with-lock".to_owned() });
                recover(held, base).await?;
                recovered = true;
                execute(args, lifetime.as_ref(), &mut pid, terminal).await
            })
            .await;
        // Whatever ended it: the shell above reads on.
        foreground::take_back(pid);
        if !children.left.is_empty() {
            return Err(Failure::host(format!("processes of the command are left: {:?}", children.left)));
        }
        if let Some(guard) = &guard
            && is_clean(recovered, &children)
        {
            guard.leave_clean();
        }
        match end {
            ScopeEnd::Returned(end) => {
                let has_left = children.groups + children.escaped > 0 || children.left_in_group;
                if end.is_ok() && has_left {
                    terminal
                        .warn("the command left processes behind: they were ended, before the lock is free");
                    terminal.hint("what is to stay is started outside, e.g. with systemd-run");
                }
                end
            }
            ScopeEnd::Cancelled(cause) => Err(Failure::cancelled(cause)),
            ScopeEnd::Panicked(panic) => std::panic::resume_unwind(panic),
        }
    };
    overtime::bounded(&lifetime, None, terminal, || app::block_on(work))
}

/// Whether the next holder has nobody to look for: what a dead owner had left was ended, and so was what this one started.
fn is_clean(recovered: bool, children: &ChildrenEnded) -> bool {
    recovered && !children.is_at_work()
}

async fn acquire(
    args: &args::WithLock,
    base: &Base,
    lifetime: &dyn RunLifetime,
) -> Result<AppGuard, Failure> {
    let wait = Wait::Until(base.config.run.lock_timeout);
    base.locks.acquire(&args.domain, wait, lifetime.cancellation(), base.reporter.as_ref()).await.map_err(
        |error| match error {
            AcquireError::Cancelled { cause, .. } => Failure::cancelled(cause),
            error => Failure::from(error).context("can't get the app's lock"),
        },
    )
}

/// Ends what a dead owner left running, unless the one before left nothing.
async fn recover(guard: &AppGuard, base: &Base) -> Result<(), Failure> {
    if guard.was_left_clean() {
        return Ok(());
    }
    let domain = guard.domain();
    let failures = end_orphans(base.host.as_ref(), domain).await.failures;
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::host(format!("can't recover {domain}: {}", failures.join("; "))))
}

/// Runs the command, and tells its pid.
async fn execute(
    args: &args::WithLock,
    lifetime: &dyn RunLifetime,
    pid: &mut Option<i32>,
    shown: &Terminal,
) -> Result<Exit, Failure> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::configuration("no command"));
    };
    let cwd = env::current_dir()
        .map_err(|error| Failure::host("the working directory is gone").with_source(error))?;
    let owner =
        MarkerOwner::Run { run_id: RunId::manual(std::process::id()), owner: lifetime.owner().clone() };
    let terminal = std::io::stdin().is_terminal();
    let command = Command::new(program, cwd)
        .args(rest)
        .envs(env::vars_os())
        .marker(Marker { domain: args.domain.clone(), owner })
        .stdin(if terminal { Stdin::Terminal } else { Stdin::Inherit })
        .output(Output::Inherit);
    let mut child = match lifetime.spawn(command).await {
        Ok(child) => child,
        Err(error) => {
            let status = match &error {
                SpawnError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
                SpawnError::Io { .. } => NOT_EXECUTABLE,
                _ => OWN_FAILURE,
            };
            let doing = format!("can't run {}", program.to_string_lossy());
            shown.error(&Failure::host(doing).with_source(error));
            return Ok(Exit::Status(status));
        }
    };
    let child_pid = child.pid();
    *pid = Some(child_pid);
    let ended = if terminal {
        tokio::select! {
            ended = child.wait() => ended,
            followed = foreground::follow(child_pid) => match followed {
                Err(error) => return Err(Failure::host("can't follow the command's stops").with_source(error)),
            },
        }
    } else {
        child.wait().await
    };
    Ok(ended.shell_code().and_then(|code| u8::try_from(code).ok()).map_or(Exit::Harness, Exit::Status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_left_clean_by_who_has_looked_before_and_after() {
        let ended = ChildrenEnded::default();
        assert!(is_clean(true, &ended));
        assert!(!is_clean(false, &ended), "a dead owner's processes may be there");
        let unseen = ChildrenEnded { search_failed: true, ..ended.clone() };
        let there = ChildrenEnded { left: vec![17], ..ended };
        assert!(!is_clean(true, &unseen) && !is_clean(true, &there));
    }
}
