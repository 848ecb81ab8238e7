//! What the bridge knows, in `SQLite`: one file, one writer a process, each change one transaction.
//!
//! The file is in WAL mode with full synchronisation: what a call returned from is on the disk. A database that is full or
//! locked is an error that says so, and nothing of the change is there. It is brought to this version's schema when it is
//! opened; one of a newer version is refused. A backup is a file ([`Store::backup`]) that is put in its place.
//!
//! # Limitations
//! `SQLite` opens its files by their names. So the directory must be the operator's own: it is made for nobody else's eyes,
//! one that others may write to is refused, and no symbolic link is followed in it.

mod changes;
mod error;
mod jobs;
mod migrations;
mod requests;
mod shown;
#[cfg(test)]
mod store_tests;
mod telling;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub use changes::News;
pub use error::StoreError;
pub use jobs::{JobRow, JobState, NewJob};
pub use requests::{HistoryLine, Recorded, Row};
pub use shown::HostView;
pub use telling::Told;

/// How long another process's transaction is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The database of one forge's requests.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Store {
    /// Opens the database of the forge at the address `forge`, and makes it where there is none.
    ///
    /// # Errors
    /// When it can't be opened, is a newer version's, another program's or another forge's.
    pub fn open(path: &Path, forge: &str) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Directory { path: path.to_owned(), source };
        let parent = path.parent().filter(|parent| parent.is_absolute());
        let parent = parent.ok_or_else(|| unusable(std::io::Error::other("it is no absolute path")))?;
        let name = path.file_name().ok_or_else(|| unusable(std::io::Error::other("it names no file")))?;
        if !parent.exists() {
            cc_ci_core::files::private_directory(parent).map_err(unusable)?;
        }
        // The way to the directory is the operator's; in it, nothing leads elsewhere.
        let parent = parent.canonicalize().map_err(unusable)?;
        if parent.metadata().map_err(unusable)?.mode() & 0o002 != 0 {
            return Err(unusable(std::io::Error::other(
                "everybody may write to its directory: chmod o-w it",
            )));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = parent.join(name);
        let mut connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        migrations::migrate(&mut connection, forge)?;
        Ok(Self { connection: Mutex::new(connection), path })
    }

    /// Does `work` on a thread that may block.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Panicked(error.to_string())),
        }
    }

    /// Writes a copy of the whole database to `path`, which is not there yet: while others read and write.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn backup(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_str().ok_or_else(|| StoreError::Directory {
            path: path.to_owned(),
            source: std::io::Error::other("its name is no UTF-8"),
        })?;
        self.lock().execute("VACUUM INTO ?1", [name])?;
        Ok(())
    }

    /// The connection. A panic while it was held has rolled its transaction back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` in one transaction, of which all is there afterwards, or nothing; and tells who waits for news.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        // At once as a writer: a reader that becomes one could not wait for another.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        drop(connection);
        changes::touch(&self.path);
        Ok(result)
    }
}
