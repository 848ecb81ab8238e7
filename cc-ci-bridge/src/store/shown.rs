//! What only the dashboard reads.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::requests::{number, time};
use super::{Row, Store, StoreError};
use crate::names::{Key, Repo, Sha};

/// What `work` wrote down of its host: the JSON of `cc-ci runs` and `cc-ci locks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// When.
    pub at: Timestamp,
    /// Its runs.
    pub runs: String,
    /// Its locks.
    pub locks: String,
}

impl Store {
    /// Returns the last requests of a repository that were found to be valid, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn last_of(&self, repo: &Repo, most: u32) -> Result<Vec<Row>, StoreError> {
        let rest = "WHERE repo = ?1 AND phase NOT IN ('received', 'refused') ORDER BY id DESC LIMIT ?2";
        self.rows(rest, params![repo.as_str(), most])
    }

    /// Returns the commit of the newest valid request for a pull request.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn last_head(&self, repo: &Repo, pull: u64) -> Result<Option<Sha>, StoreError> {
        let rest = "WHERE repo = ?1 AND pull = ?2 AND json_extract(state, '$.head') IS NOT NULL ORDER BY id DESC LIMIT 1";
        let rows = self.rows(rest, params![repo.as_str(), number(pull)])?;
        Ok(rows.first().and_then(|row| row.request.state.head().cloned()))
    }

    /// Returns the record of a job's run.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn record_of(&self, key: &Key) -> Result<Option<String>, StoreError> {
        let record: Option<Option<String>> = self
            .lock()
            .prepare_cached("SELECT record FROM job WHERE key = ?1")?
            .query_row([key.as_str()], |row| row.get(0))
            .optional()?;
        Ok(record.flatten())
    }

    /// Writes down what this host shows.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn show_host(&self, view: &HostView) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO host (only, at, runs, locks) VALUES (1, ?1, ?2, ?3)",
                params![view.at.as_millisecond(), view.runs, view.locks],
            )?;
            Ok(())
        })
    }

    /// Returns what the host of `work` showed last.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn host(&self) -> Result<Option<HostView>, StoreError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT at, runs, locks FROM host")?;
        let view = |row: &rusqlite::Row<'_>| {
            Ok(HostView { at: time(row.get(0)?), runs: row.get(1)?, locks: row.get(2)? })
        };
        Ok(statement.query_row([], view).optional()?)
    }
}
