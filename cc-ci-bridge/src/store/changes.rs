//! Knowing at once that the database says something else: whoever has written it touches it after that, and the kernel tells.
//!
//! That the files are written tells nothing: `SQLite` has a change seen only after it was written. And much of what is written
//! is nobody's news.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::{Store, StoreError};

/// How often it is looked where the kernel does not tell.
const UNTOLD: Duration = Duration::from_secs(1);

/// How often it is looked even where it does.
const TOLD: Duration = Duration::from_mins(1);

/// What is news to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// That a job was ordered, is to be ended, runs or is over.
    Jobs,
    /// What pages show.
    Shown,
}

impl News {
    /// Asks for a text that is another one after each change that is news.
    const fn query(self) -> &'static str {
        match self {
            Self::Jobs => {
                "SELECT printf('%d %d %d %d', (SELECT max(id) FROM job), \
                 (SELECT count(*) FROM job WHERE phase = 'waiting'), (SELECT count(*) FROM job WHERE phase = 'running'), \
                 (SELECT sum(cancel) FROM job WHERE phase IN ('waiting', 'running')))"
            }
            // A state that is another one has a line in its request's history.
            Self::Shown => {
                "SELECT printf('%d %d %d %d %d', (SELECT max(id) FROM request), (SELECT max(id) FROM history), \
                 (SELECT sum(failures) FROM request WHERE open), (SELECT count(foreigner) FROM told), (SELECT at FROM host))"
            }
        }
    }
}

/// Tells all who wait for news. Never by opening the file: to close it would end the locks that `SQLite` has there.
pub(super) fn touch(database: &Path) {
    // Both: one of them alone would be told as that it was read or written.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    if let Err(error) = utimensat(CWD, database, &times, AtFlags::SYMLINK_NOFOLLOW) {
        tracing::warn!("nobody is told of a change to the database: {error}");
    }
}

/// Returns what the kernel tells of touches.
fn touches(database: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let told = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&told, database, WatchFlags::ATTRIB | WatchFlags::DONT_FOLLOW)?;
    #[expect(
        deprecated,
        reason = "the successor is unsafe because a type's descriptor may change; this one can't"
    )]
    AsyncFd::with_interest(told, Interest::READABLE)
}

impl Store {
    /// What makes news: another text of it is some.
    pub(super) fn digest(&self, news: News) -> Result<String, StoreError> {
        Ok(self.lock().prepare_cached(news.query())?.query_row([], |row| row.get(0))?)
    }

    /// Returns a channel that is changed once there is news, whoever wrote it, and at the beginning; as long as somebody listens.
    pub fn news(self: &Arc<Self>, news: News) -> watch::Receiver<String> {
        let (sender, receiver) = watch::channel(String::new());
        let touches = touches(&self.path)
            .inspect_err(|error| {
                tracing::warn!("the kernel does not tell of changes to the database: {error}");
            })
            .ok();
        let store = self.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                match store.run(move |store| store.digest(news)).await {
                    Ok(digest) => {
                        sender.send_if_modified(|known| {
                            let is_news = *known != digest;
                            *known = digest;
                            is_news
                        });
                    }
                    Err(error) => tracing::warn!("{}", cc_ci_core::model::error_chain(&error)),
                }
                tokio::select! {
                    () = next(touches.as_ref()) => {}
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

/// Waits until something was written, or until it is time to look all the same.
async fn next(touches: Option<&AsyncFd<OwnedFd>>) {
    let Some(touches) = touches else { return tokio::time::sleep(UNTOLD).await };
    if let Ok(Ok(mut ready)) = tokio::time::timeout(TOLD, touches.readable()).await {
        // All that was told until now is one change.
        while rustix::io::read(ready.get_inner(), &mut [0; 4096]).is_ok() {}
        ready.clear_ready();
    }
}
