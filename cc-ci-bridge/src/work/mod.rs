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
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::Failure;
use cc_ci_core::model::error_chain;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, WorkConfig};
use crate::names::Key;
use crate::request::{Outcome, Verdict};
use crate::store::{JobRow, JobState, Store, StoreError};
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
    cc_ci_core::files::private_directory(&worker.work.state_dir)
        .map_err(|error| Failure::host("can't make the jobs' directory").with_source(error))?;
    let mut orders = worker.store.revisions();
    let mut children = signal(SignalKind::child())
        .map_err(|error| Failure::host("can't wait for ended jobs").with_source(error))?;
    let (command, shown) = (worker.work.command.clone(), worker.store.clone());
    let publishing = publish::publish(&command, config, &shown);
    let mut publishing = std::pin::pin!(publishing);
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        let pause = match worker.pass().await {
            Ok(is_busy) => {
                if is_busy {
                    BUSY
                } else {
                    IDLE
                }
            }
            Err(error) => {
                tracing::error!("{}", error_chain(&error));
                BUSY
            }
        };
        tokio::select! {
            Ok(()) = orders.changed() => {}
            _ = children.recv() => {}
            _ = tidy.tick() => directory::tidy(&worker.work.state_dir, config.settings.keep),
            () = tokio::time::sleep(pause) => {}
            () = publishing.as_mut() => {}
            _ = end.wait_for(|end| *end) => return Ok(()),
        }
    }
}

struct Worker<'c> {
    config: &'c Config,
    work: WorkConfig,
    store: Arc<Store>,
    /// Those that this process started: they are reaped here.
    supervisors: BTreeMap<Key, Child>,
}

impl Worker<'_> {
    /// Takes each job one step further, and says whether one of them runs.
    async fn pass(&mut self) -> Result<bool, StoreError> {
        // One that has ended is no zombie for long.
        self.supervisors.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        let jobs = self.store.run(Store::open_jobs).await?;
        let mut busy = jobs.iter().filter(|row| row.state != JobState::Waiting).count();
        for row in jobs {
            let waits = row.state == JobState::Waiting;
            if waits && busy >= self.config.settings.at_once && !row.cancel {
                continue;
            }
            match self.advance(&row) {
                Ok(Some(state)) => {
                    busy += usize::from(waits && !matches!(state, JobState::Over { .. }));
                    if state != row.state {
                        let key = row.job.key.clone();
                        let record =
                            matches!(state, JobState::Over { .. }).then(|| self.directory(&key).record());
                        let record = record.flatten();
                        self.store.run(move |store| store.set_job(&key, &state, record.as_deref())).await?;
                    }
                }
                Ok(None) => busy += usize::from(waits),
                // Whether it runs is not known: it keeps its place.
                Err(error) => {
                    busy += usize::from(waits);
                    tracing::warn!("job {}: {error}", row.job.key);
                }
            }
        }
        Ok(busy > 0)
    }

    fn directory(&self, key: &Key) -> JobDir {
        JobDir::of(&self.work.state_dir, key)
    }

    /// Returns what became of a job by now; starts it where it was not begun.
    fn advance(&mut self, row: &JobRow) -> std::io::Result<Option<JobState>> {
        let dir = self.directory(&row.job.key);
        match dir.progress()? {
            Progress::New if !self.config.settings.repos.contains(&row.job.repo) => {
                // The database is written by a process with less rights than this one's.
                let outcome = Outcome::new(Verdict::Refused)
                    .with_note(format!("{} is none of this host's repositories", row.job.repo));
                Ok(Some(JobState::Over { outcome }))
            }
            Progress::New if row.cancel => {
                Ok(Some(JobState::Over { outcome: Outcome::new(Verdict::Cancelled) }))
            }
            Progress::New => {
                if !self.supervisors.contains_key(&row.job.key) {
                    dir.make()?;
                    let child = self.start(row)?;
                    self.supervisors.insert(row.job.key.clone(), child);
                }
                Ok(None)
            }
            Progress::Alive { run, since } => {
                if row.cancel {
                    directory::cancel(run.as_ref())?;
                }
                Ok(Some(JobState::Running { since: since.unwrap_or_else(|| Timestamp::now().as_second()) }))
            }
            Progress::Over(outcome) => Ok(Some(JobState::Over { outcome })),
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
