//! Knowing at once that the database was changed: the kernel tells when its files are written, whoever does it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::{Store, StoreError};

/// How often it is looked where the kernel does not tell.
const UNTOLD: Duration = Duration::from_secs(1);

/// How often it is looked even where it does.
const TOLD: Duration = Duration::from_mins(1);

/// Returns what the kernel tells of the files in a directory.
fn written(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let told = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&told, directory, WatchFlags::MODIFY | WatchFlags::CREATE)?;
    #[expect(
        deprecated,
        reason = "the successor is unsafe because a type's descriptor may change; this one can't"
    )]
    AsyncFd::with_interest(told, Interest::READABLE)
}

impl Store {
    /// Returns a number that is another one once somebody else has changed the database: another process, or another
    /// [`Store`] of this one.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn revision(&self) -> Result<i64, StoreError> {
        Ok(self.lock().pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// Returns a channel that has the revision at any time, as long as somebody listens.
    pub fn revisions(self: &Arc<Self>) -> watch::Receiver<i64> {
        let (sender, receiver) = watch::channel(0);
        let written = written(&self.directory)
            .inspect_err(|error| {
                tracing::warn!("the kernel does not tell of changes to the database: {error}");
            })
            .ok();
        let store = self.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                match store.run(Self::revision).await {
                    Ok(revision) => {
                        sender.send_if_modified(|known| std::mem::replace(known, revision) != revision);
                    }
                    Err(error) => tracing::warn!("{}", cc_ci_core::model::error_chain(&error)),
                }
                tokio::select! {
                    () = next(written.as_ref()) => {}
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

/// Waits until something was written, or until it is time to look all the same.
async fn next(written: Option<&AsyncFd<OwnedFd>>) {
    let Some(written) = written else { return tokio::time::sleep(UNTOLD).await };
    if let Ok(Ok(mut ready)) = tokio::time::timeout(TOLD, written.readable()).await {
        // All that was told until now is one change.
        while rustix::io::read(ready.get_inner(), &mut [0; 4096]).is_ok() {}
        ready.clear_ready();
    }
}
