//! What this host shows of its runs and locks, for the dashboard: `serve` may look at neither.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::model::error_chain;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::config::Config;
use crate::listing::{Listing as _, Locks, Runs};
use crate::store::{HostView, Store};

/// How often it looks where something goes on.
const BUSY: Duration = Duration::from_secs(15);

/// How often it looks where nothing does, and writes down again what is as it was, so that it is known to be of today.
const IDLE: Duration = Duration::from_mins(1);

/// As long as a look may take.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// As much as is read of it.
const LIMIT: u64 = 4 << 20;

/// So many runs are shown.
const RUNS: &str = "--limit=50";

/// Has `command` say what runs and locks there are, and writes that down, for ever: where there is a dashboard that shows it.
/// `busy` says that a job runs, or became something else.
pub async fn publish(command: &Path, config: &Config, store: &Arc<Store>, busy: &Notify) {
    if config.dashboard().is_none() {
        return std::future::pending().await;
    }
    let mut last: Option<HostView> = None;
    loop {
        match look(command, config).await {
            Ok(view) => {
                let is_known = last.as_ref().is_some_and(|last| {
                    (&last.runs, &last.locks) == (&view.runs, &view.locks)
                        && view.at.duration_since(last.at).unsigned_abs() < IDLE
                });
                if !is_known {
                    let written = view.clone();
                    match store.run(move |store| store.show_host(&written)).await {
                        Ok(()) => last = Some(view),
                        Err(error) => tracing::warn!("{}", error_chain(&error)),
                    }
                }
            }
            Err(error) => tracing::info!("{} does not say what runs: {error}", command.display()),
        }
        tokio::time::sleep(BUSY).await;
        // Either is a reason to look.
        let _idle = tokio::time::timeout(IDLE.saturating_sub(BUSY), busy.notified()).await;
    }
}

async fn look(command: &Path, config: &Config) -> io::Result<HostView> {
    let at = Timestamp::now();
    let runs = Runs::read(&ask(command, config, &["runs", RUNS]).await?)?;
    let mut locks = Locks::read(&ask(command, config, &["locks"]).await?)?;
    // There may be thousands that nobody holds.
    locks.locks.retain(|lock| lock.held);
    Ok(HostView { at, runs: serde_json::to_string(&runs)?, locks: serde_json::to_string(&locks)? })
}

/// Returns the JSON that a call of the command says.
async fn ask(command: &Path, config: &Config, args: &[&str]) -> io::Result<String> {
    let mut command = Command::new(command);
    command.args(args).args(["--format", "json", "--config"]).arg(&config.file).current_dir("/");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(stdout) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        stdout.take(LIMIT).read_to_string(&mut text).map(|_| text)
    });
    let Ok(read) = tokio::time::timeout(LOOK_TIME, reading).await else {
        child.kill()?;
        child.wait()?;
        return Err(io::ErrorKind::TimedOut.into());
    };
    // It has closed its stdout: it is at its end.
    let (text, status) = (read??, child.wait()?);
    if status.success() { Ok(text) } else { Err(io::Error::other(status.to_string())) }
}
