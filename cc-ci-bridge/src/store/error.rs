//! What can go wrong with a database, and what helps.

use std::path::PathBuf;

use cc_ci_core::Failure;
use rusqlite::ErrorCode;

/// The database did not do what was asked. Nothing of the change is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Its place is of no use.
    #[error("can't use {path:?} as a database")]
    Directory {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A newer version wrote it.
    #[error("the database has version {found} and this program knows up to {known}")]
    Newer {
        /// Its version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// It is another program's.
    #[error("the database is another program's")]
    NotOurs,
    /// It is another forge's.
    #[error("the database is of the forge {found}, and the configuration names {wanted}")]
    OtherForge {
        /// Of which it is.
        found: String,
        /// Of which it should be.
        wanted: String,
    },
    /// There is no room for it.
    #[error("the database's disk is full")]
    Full(#[source] rusqlite::Error),
    /// Another process held it for too long.
    #[error("the database is locked by another process")]
    Locked(#[source] rusqlite::Error),
    /// Another task changed the request meanwhile.
    #[error("the request was changed by somebody else")]
    Changed,
    /// What is in a row can't be read.
    #[error("the database has a row that can't be read")]
    Row(#[source] serde_json::Error),
    /// The work ended in a panic.
    #[error("work on the database panicked: {0}")]
    Panicked(String),
    /// Anything else.
    #[error("the database failed")]
    Sql(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(error),
            Some(ErrorCode::NotADatabase) => Self::NotOurs,
            _ => Self::Sql(error),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Row(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::Newer { .. } => Some(
                "run the newer cc-ci-bridge again, or put a backup from before it in the database's place",
            ),
            StoreError::Full(_) => {
                Some("make room: nothing is lost, and what was not written is tried again")
            }
            StoreError::Locked(_) => {
                Some("find who holds it, e.g. with fuser(1): a sqlite3 shell with an open transaction?")
            }
            StoreError::OtherForge { .. } | StoreError::NotOurs => {
                Some("name another `database` in the configuration's [bridge]")
            }
            _ => None,
        };
        Self::host("can't work with the bridge's database").with_source(error).with_any_hint(hint)
    }
}
