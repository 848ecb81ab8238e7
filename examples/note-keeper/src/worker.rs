//! The second service: counts the notes and keeps the count as `stats.json` in a volume of its own.

use std::io;
use std::path::{Path, PathBuf};

use tokio::time::MissedTickBehavior;

use crate::output;
use crate::serve::{Stop, in_runtime};
use crate::settings::Settings;
use crate::store::{Format, Store, StoreError, files};

pub(crate) const STATS_FILE: &str = "stats.json";

/// Why the worker didn't count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error("write the count to {}", dir.display())]
    Write { dir: PathBuf, source: io::Error },
}

/// Counts until SIGTERM or SIGINT.
///
/// What can't be read or written is reported once and tried again: the app may be about to convert its notes, and a
/// restore empties the volumes beneath both.
pub(crate) fn run(settings: Settings) -> Result<(), WorkerError> {
    in_runtime(|stop| work(settings, stop)).map_err(WorkerError::Runtime)
}

async fn work(settings: Settings, mut stop: Stop) {
    let mut ticks = tokio::time::interval(settings.stats_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Reads whatever format it finds, so it names none.
    let store = Store::new(settings.data_dir, Format::Json);
    let mut complaint = String::new();
    output::say("counting");
    loop {
        tokio::select! {
            _ = stop.wait_for(|&stop| stop) => return,
            _ = ticks.tick() => {}
        }
        // Nothing else runs in this process, so blocking it holds up no one.
        match renew(&store, &settings.stats_dir) {
            Ok(()) => complaint.clear(),
            Err(error) if error.to_string() != complaint => {
                output::complain(&error);
                complaint = error.to_string();
            }
            Err(_) => {}
        }
    }
}

fn renew(store: &Store, stats_dir: &Path) -> Result<(), WorkerError> {
    keep(stats_dir, &count(store)?).map_err(|source| WorkerError::Write { dir: stats_dir.to_owned(), source })
}

fn count(store: &Store) -> Result<String, StoreError> {
    let (format, notes) = store.read_any()?;
    let format = format.map(Format::name);
    Ok(format!("{}\n", serde_json::json!({ "notes": notes.notes.len(), "format": format })))
}

/// Writes only what changed, so that an idle app leaves its volumes alone.
fn keep(dir: &Path, stats: &str) -> io::Result<()> {
    if files::read(dir, STATS_FILE)?.as_deref() == Some(stats) {
        return Ok(());
    }
    files::replace(dir, STATS_FILE, stats.as_bytes())
}
