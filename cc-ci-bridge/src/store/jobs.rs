//! The outbox of a host without a CI: what `serve` orders and `work` runs.

use jiff::Timestamp;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::requests::number;
use super::{Store, StoreError};
use crate::names::{Key, Repo, Sha};
use crate::request::Outcome;

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The request's key: one job of each.
    pub key: Key,
    /// The recipe's repository.
    pub repo: Repo,
    /// The pull request.
    pub pull: u64,
    /// The commit.
    pub head: Sha,
    /// Whether the quick lane is asked for.
    pub quick: bool,
}

/// An order, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its row.
    pub id: u64,
    /// The order.
    pub job: NewJob,
    /// What became of it.
    pub state: JobState,
    /// Whether it is to be ended.
    pub cancel: bool,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum JobState {
    /// It waits.
    Waiting,
    /// It runs, since then.
    Running {
        /// In seconds since the epoch.
        since: i64,
    },
    /// It is over.
    Over {
        /// How it ended.
        outcome: Outcome,
    },
}

impl JobState {
    const fn phase(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running { .. } => "running",
            Self::Over { .. } => "over",
        }
    }
}

impl Store {
    /// Orders a job, unless there is one with its key: then that one stays as it is.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn order(&self, job: &NewJob, now: Timestamp) -> Result<JobRow, StoreError> {
        let waiting = serde_json::to_string(&JobState::Waiting)?;
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO job (key, repo, pull, head, quick, phase, state, created) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (key) DO NOTHING",
                params![
                    job.key.as_str(),
                    job.repo.as_str(),
                    number(job.pull),
                    job.head.as_str(),
                    job.quick,
                    JobState::Waiting.phase(),
                    waiting,
                    now.as_millisecond()
                ],
            )?;
            Ok(())
        })?;
        self.job(&job.key)?.ok_or(StoreError::Changed)
    }

    /// Returns the job with a key.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn job(&self, key: &Key) -> Result<Option<JobRow>, StoreError> {
        Ok(self.jobs("WHERE key = ?1", [key.as_str()])?.into_iter().next())
    }

    /// Returns the jobs that are not over, in their order.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn open_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.jobs("WHERE phase <> 'over' ORDER BY id", [])
    }

    /// Asks for a job's end.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn cancel_job(&self, key: &Key) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("UPDATE job SET cancel = 1 WHERE key = ?1", [key.as_str()])?;
            Ok(())
        })
    }

    /// Writes down since when a job runs. What is over stays as it is.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn job_runs(&self, key: &Key, since: i64) -> Result<(), StoreError> {
        self.set_job(key, &JobState::Running { since }, None)
    }

    /// Writes down how a job ended, and the run's record where there is one. What is over stays as it is.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn end_job(&self, key: &Key, outcome: Outcome, record: Option<&str>) -> Result<(), StoreError> {
        self.set_job(key, &JobState::Over { outcome }, record)
    }

    fn set_job(&self, key: &Key, state: &JobState, record: Option<&str>) -> Result<(), StoreError> {
        let text = serde_json::to_string(state)?;
        self.write(|transaction| {
            transaction.execute(
                "UPDATE job SET phase = ?1, state = ?2, record = ?3 WHERE key = ?4 AND phase <> 'over'",
                params![state.phase(), text, record, key.as_str()],
            )?;
            Ok(())
        })
    }

    fn jobs(&self, rest: &str, values: impl rusqlite::Params) -> Result<Vec<JobRow>, StoreError> {
        let connection = self.lock();
        let sql = format!("SELECT id, key, repo, pull, head, quick, state, cancel FROM job {rest}");
        let mut statement = connection.prepare_cached(&sql)?;
        let raws = statement
            .query_map(values, |row| {
                let texts: [String; 4] = [row.get(1)?, row.get(2)?, row.get(4)?, row.get(6)?];
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(3)?, row.get(5)?, row.get(7)?, texts))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let read =
            |(id, pull, quick, cancel, [key, repo, head, state]): (i64, i64, bool, bool, [String; 4])| {
                // The names were checked when they were written, and are again: another process may have been at it.
                let invalid =
                    |error: crate::names::InvalidName| StoreError::Row(serde::de::Error::custom(error));
                let job = NewJob {
                    key: key.parse().map_err(invalid)?,
                    repo: repo.parse().map_err(invalid)?,
                    pull: pull.unsigned_abs(),
                    head: head.parse().map_err(invalid)?,
                    quick,
                };
                Ok(JobRow { id: id.unsigned_abs(), job, state: serde_json::from_str(&state)?, cancel })
            };
        raws.into_iter().map(read).collect()
    }
}
