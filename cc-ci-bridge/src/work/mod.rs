//! `work`: runs what `serve` ordered, on a host without a CI. The two know each other through the database alone.
//!
//! Each job has a directory, and a supervisor of its own: a process that holds the directory's lock for life, notes that the
//! job was begun before it begins it, starts `cc-ci run`, and notes how it ended. So `work` may be killed and started again
//! at any moment. While the lock is held, the job is alive; once it is free, the notes say what became of it; and a job that
//! was begun is never begun again.

mod directory;
mod publish;
mod supervise;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::Failure;
use cc_ci_core::blocking;
use cc_ci_core::model::error_chain;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::config::{Config, WorkConfig};
use crate::names::Key;
use crate::request::{Outcome, Verdict};
use crate::store::{JobRow, JobState, News, Store, StoreError};
use directory::{JobDir, Progress};

pub use supervise::supervise;

/// How often jobs are looked at that run. That one has ended is told by the kernel only to whoever started its supervisor, and that
/// it was begun to nobody.
const BUSY: Duration = Duration::from_secs(1);

/// How often the outbox is looked at where nothing runs: what is ordered is known at once.
const IDLE: Duration = Duration::from_mins(1);

/// How often old directories are looked for.
const TIDY: Duration = Duration::from_hours(6);

/// Runs jobs until `end` says so. What runs then goes on.
pub async fn work(config: &Config, store: Arc<Store>, mut end: watch::Receiver<bool>) -> Result<(), Failure> {
    let mut worker = Worker { work: config.work()?, config, store, supervisors: BTreeMap::new() };
    let state_dir = worker.work.state_dir.clone();
    let made = blocking::run(move || cc_ci_core::files::private_directory(&state_dir)).await;
    made.map_err(|error| {
        Failure::host(format!("can't use the jobs' directory {}", worker.work.state_dir.display()))
            .with_source(error)
            .with_hint("make it for the user who makes the runs, as StateDirectory= in the unit does, or name another: `state_dir` in [bridge.work]")
    })?;
    let mut orders = worker.store.news(News::Jobs);
    let mut children = signal(SignalKind::child())
        .map_err(|error| Failure::host("can't wait for ended jobs").with_source(error))?;
    let (places, shown) = (worker.work.clone(), worker.store.clone());
    let busy = Notify::new();
    let beside = futures_util::future::join(
        publish::publish(&places.command, config, &shown, &busy),
        tidy(&places.state_dir, config.settings.keep, &shown),
    );
    let mut beside = std::pin::pin!(beside);
    loop {
        let pause = match worker.pass().await {
            Ok(Pass { is_busy, has_changed }) => {
                if is_busy || has_changed {
                    busy.notify_one();
                }
                if is_busy { BUSY } else { IDLE }
            }
            Err(error) => {
                tracing::error!("{}", error_chain(&error));
                BUSY
            }
        };
        tokio::select! {
            Ok(()) = orders.changed() => {}
            _ = children.recv() => {}
            () = tokio::time::sleep(pause) => {}
            _ = beside.as_mut() => {}
            _ = end.wait_for(|end| *end) => return Ok(()),
        }
    }
}

/// Removes old directories, for ever.
async fn tidy(state_dir: &Path, keep: Duration, store: &Arc<Store>) {
    loop {
        let dir = state_dir.to_owned();
        let tidied = store.run(move |store| {
            directory::tidy(&dir, keep, store);
            Ok(())
        });
        if let Err(error) = tidied.await {
            tracing::warn!("can't remove old directories: {}", error_chain(&error));
        }
        tokio::time::sleep(TIDY).await;
    }
}

/// What became of a job by now.
#[derive(Debug)]
enum Now {
    /// It is being begun.
    Begins,
    /// It runs.
    Running {
        /// Since when, in seconds since the epoch.
        since: i64,
    },
    /// It is over.
    Over {
        /// How it ended.
        outcome: Outcome,
        /// What the run wrote of itself.
        record: Option<String>,
    },
}

/// What a pass found.
#[derive(Debug)]
struct Pass {
    /// A job runs.
    is_busy: bool,
    /// A job became something else.
    has_changed: bool,
}

struct Worker<'c> {
    config: &'c Config,
    work: WorkConfig,
    store: Arc<Store>,
    /// Those that this process started: they are reaped here.
    supervisors: BTreeMap<Key, Child>,
}

impl Worker<'_> {
    /// Takes each job one step further.
    async fn pass(&mut self) -> Result<Pass, StoreError> {
        // One that has ended is no zombie for long.
        self.supervisors.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        let jobs = self.store.run(Store::open_jobs).await?;
        let mut has_changed = false;
        let mut busy = jobs.iter().filter(|row| row.state != JobState::Waiting).count();
        for row in jobs {
            let waits = row.state == JobState::Waiting;
            if waits && busy >= self.config.settings.at_once && !row.cancel {
                continue;
            }
            let key = row.job.key.clone();
            match self.advance(&row).await {
                Ok(Now::Over { outcome, record }) => {
                    has_changed = true;
                    self.store.run(move |store| store.end_job(&key, outcome, record.as_deref())).await?;
                }
                Ok(Now::Running { since }) => {
                    busy += usize::from(waits);
                    if row.state != (JobState::Running { since }) {
                        has_changed = true;
                        self.store.run(move |store| store.job_runs(&key, since)).await?;
                    }
                }
                Ok(Now::Begins) => busy += usize::from(waits),
                // Whether it runs is not known: it keeps its place.
                Err(error) => {
                    busy += usize::from(waits);
                    tracing::warn!("job {}: {error}", row.job.key);
                }
            }
        }
        Ok(Pass { is_busy: busy > 0, has_changed })
    }

    /// Returns what became of a job by now; starts it where it was not begun.
    async fn advance(&mut self, row: &JobRow) -> std::io::Result<Now> {
        let dir = JobDir::of(&self.work.state_dir, &row.job.key);
        // A record may be long.
        let looked = tokio::task::spawn_blocking(move || (dir.progress(), dir)).await;
        let (progress, dir) = looked.map_err(std::io::Error::other)?;
        match progress? {
            Progress::New if !self.config.settings.repos.contains(&row.job.repo) => {
                // The database is written by a process with less rights than this one's.
                let outcome = Outcome::new(Verdict::Refused)
                    .with_note(format!("{} is none of this host's repositories", row.job.repo));
                Ok(Now::Over { outcome, record: None })
            }
            Progress::New if row.cancel => {
                Ok(Now::Over { outcome: Outcome::new(Verdict::Cancelled), record: None })
            }
            Progress::New => {
                if !self.supervisors.contains_key(&row.job.key) {
                    dir.make()?;
                    let child = self.start(row)?;
                    self.supervisors.insert(row.job.key.clone(), child);
                }
                Ok(Now::Begins)
            }
            Progress::Alive { run, since } => {
                if row.cancel {
                    directory::cancel(run.as_ref())?;
                }
                Ok(Now::Running { since: since.unwrap_or_else(|| Timestamp::now().as_second()) })
            }
            Progress::Over { outcome, record } => Ok(Now::Over { outcome, record }),
        }
    }

    /// Starts the supervisor. Whether it was started already is found out by itself: it takes the lock, or ends.
    fn start(&self, row: &JobRow) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(&self.config.file).arg("run-job").arg(row.job.key.as_str());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/").spawn()
    }
}
