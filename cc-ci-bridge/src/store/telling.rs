//! What the forge was told, and how far its comments were read.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::requests::{number, time};
use super::{Store, StoreError};
use crate::names::Repo;
use crate::request::RequestId;
use crate::request::told::Status;

/// What the forge was told of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Whether the comment has our reaction.
    pub seen: bool,
    /// The last status.
    pub status: Option<Status>,
    /// Our comment.
    pub comment: Option<u64>,
    /// Its text.
    pub text: Option<String>,
    /// Who else posted a status in our name.
    pub foreigner: Option<String>,
    /// When it is to be looked at again.
    pub due: Timestamp,
    /// How often in a row telling failed.
    pub failures: u32,
}

impl Store {
    /// Returns what the forge was told of a request.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn told(&self, id: RequestId) -> Result<Told, StoreError> {
        let connection = self.lock();
        let row = connection
            .prepare_cached(
                "SELECT seen, status, comment, text, foreigner, due, failures FROM told WHERE request = ?1",
            )?
            .query_row([id.0], |row| {
                let status: Option<String> = row.get(1)?;
                let comment: Option<i64> = row.get(2)?;
                let told = Told {
                    seen: row.get(0)?,
                    status: None,
                    comment: comment.and_then(|comment| u64::try_from(comment).ok()),
                    text: row.get(3)?,
                    foreigner: row.get(4)?,
                    due: time(row.get(5)?),
                    failures: row.get(6)?,
                };
                Ok((told, status))
            })
            .optional()?;
        let Some((told, status)) = row else { return Ok(Told::default()) };
        let status = status.map(|status| serde_json::from_str(&status)).transpose()?;
        Ok(Told { status, ..told })
    }

    /// Writes down what the forge was told.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn tell(&self, id: RequestId, told: &Told) -> Result<(), StoreError> {
        let status = told.status.as_ref().map(serde_json::to_string).transpose()?;
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO told (request, seen, status, comment, text, foreigner, due, failures) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    id.0,
                    told.seen,
                    status,
                    told.comment.map(number),
                    told.text,
                    told.foreigner,
                    told.due.as_millisecond(),
                    told.failures
                ])?;
            Ok(())
        })
    }

    /// Returns up to when the comments of a repository were read, by the forge's clock.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn cursor(&self, repo: &Repo) -> Result<Option<Timestamp>, StoreError> {
        let since: Option<i64> = self
            .lock()
            .prepare_cached("SELECT since FROM cursor WHERE repo = ?1")?
            .query_row([repo.as_str()], |row| row.get(0))
            .optional()?;
        Ok(since.map(time))
    }

    /// Writes down up to when the comments of a repository were read. It never goes back.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub fn advance(&self, repo: &Repo, since: Timestamp) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO cursor (repo, since) VALUES (?1, ?2) ON CONFLICT (repo) DO UPDATE SET since = max(since, ?2)",
                params![repo.as_str(), since.as_millisecond()],
            )?;
            Ok(())
        })
    }
}
